"""Records of runs that died, and the leftovers of runs that were killed after their record."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.facts.run_files import checkpoint_folder, discard_checkpoints
from harness.sweeps.launch import Start, record_stamp, sweep_lock_path
from harness.system.atomic import write_atomically
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_path, progress_path
from harness.system.redaction import redact_secrets

if TYPE_CHECKING:
    from harness.sweeps.plan import PlannedRun

LAST_LINES = 30
"""Lines of a log that a failed record keeps."""

_LAUNCHER_STATUS = re.compile(
    r"returned non-zero exit status (\d+)\.|^\s*exitcode\s*: (\d+) \(pid|^srun: error: .* exit code (\d+)$",
    re.MULTILINE,
)
"""The exit code of a run in the last lines of `accelerate launch` and of torchrun, which end with 1 themselves, and of
srun, which ends with the code of a process that it has killed."""

_TORCH_REPORT = (
    (r"^[EIW]\d{4} \S+ \d+ \S*torch/distributed/elastic/.*\n", ""),
    (
        r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)*torch\.distributed\.\S*ChildFailedError: *\n={20,}\n"
        r"(?:.*\n)*?Root Cause .*\n(?:.*\n)*? *exitcode *: (-?\d+) .*\n(?:.*\n)*?={20,}$",
        r"(the launcher: exit code \1)",
    ),
)
"""The report that torchrun, and accelerate for several processes, print when a run ends: patterns and replacements."""

_LAUNCHER_LINES = ("(the launcher: ", "srun: ", "slurmstepd")

_USER_ERROR = re.compile(r"(\[process \d+\] )?error: ")
"""The beginning of a message that `exit_code_on_error` prints."""


def exit_code_of_run(code: int, output: str) -> int:
    """The exit code of the run itself, from that of its launcher and from the launcher's last lines."""
    statuses = [int("".join(groups)) for groups in _LAUNCHER_STATUS.findall(output)]
    return statuses[-1] if code and statuses else code


def is_finished(record: Path) -> bool:
    """True when the file is the record of a run that did not fail; the supervisor reads it without pydantic."""
    return _read(record).get("status") not in (None, "failed")


def write_failure(start: Start, output: str, started: datetime) -> None:
    """Writes the failed record of a run that died, with the last lines of its log.

    A failed record that the run itself has written gets these lines; a finished record stays as it is.

    Raises:
        OSError: the record cannot be written.
    """
    lines = last_lines(output)
    srun_errors = [line for line in lines if line.startswith("srun: error: ")]  # the first is about the cause
    with suppress(AlreadyLocked), hold_lock(lock_path(start.record)):  # locked: somebody has started it again
        progress_path(start.record).unlink(missing_ok=True)  # of a run that was killed
        if is_finished(start.record):
            return
        record = _read(start.record) if record_stamp(start.record) != start.stamp else {}
        if not record:
            record = {
                **start.failure,
                "error": f"the run died without a record: {(srun_errors[:1] or lines[-1:] or ['no output'])[0]}",
                "started": started.isoformat(),
                "finished": datetime.now(UTC).isoformat(),
            }
        record["notes"] = [*record.get("notes", []), "last lines of the log:\n" + "\n".join(lines)]
        write_atomically(start.record, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read(record: Path) -> dict[str, Any]:
    """The values of a record; none if there is no readable one."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def user_error(output: str) -> str:
    """The message of the mistake that ended a run, from its output."""
    lines = [line for line in last_lines(output) if not line.startswith(_LAUNCHER_LINES)]
    begins = [number for number, line in enumerate(lines) if _USER_ERROR.match(line)]
    return _USER_ERROR.sub("", "\n".join(lines[begins[-1] :] if begins else lines[-1:]), count=1)


def last_lines(output: str) -> list[str]:
    """The end of a run's output, without the launcher's own traceback, folders of this machine and secrets."""
    text = re.sub(
        r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*subprocess\.CalledProcessError: Command .*?"
        r"(returned non-zero exit status \d+|died with <[^>]*>)\.\s*$",
        r"(the launcher: \1)",
        output,
    )
    for pattern, short in _TORCH_REPORT:
        text = re.sub(pattern, short, text, flags=re.MULTILINE)
    home = os.path.expanduser("~")  # noqa: PTH111 (Path.home() raises where it is unknown)
    folders = {str(Path(__file__).resolve().parents[2]): "", str(Path.cwd()): "", home: "~"}
    for folder, short in folders.items():
        if folder != "/":
            text = text.replace(f"{folder}/", f"{short}/" if short else "")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    end = [line for line in lines if line.strip()][-LAST_LINES:]
    return [redact_secrets(line) for line in end]


def remove_leftovers(run: PlannedRun) -> None:
    """Removes unheld locks and checkpoints of a finished run that was killed after it had written its record.

    Those that may not be removed, such as another user's, stay.
    """
    if is_locked(sweep_lock_path(run.path)) or is_locked(lock_path(run.path)):  # the check removes an unheld lock
        return
    with suppress(OSError):
        progress_path(run.path).unlink(missing_ok=True)
    discard_checkpoints(checkpoint_folder(run.options.folder, run.task.name, run.run_id))
