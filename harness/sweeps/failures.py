"""Records of runs that died, and the leftovers of runs that were killed after their record."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from harness.facts.outcome import task_facts
from harness.facts.records import RunRecord, write_record
from harness.sweeps.launch import sweep_lock_path
from harness.sweeps.plan import PlannedRun
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_path
from harness.system.redaction import redact_command, redact_secrets

LAST_LINES = 30
"""Lines of a log that a failed record keeps."""


def write_failure(run: PlannedRun, output: str, started: datetime) -> RunRecord:
    """Writes the failed record of a run that died, with the last lines of its log, and returns it.

    A finished record of an earlier run stays as it is.

    Raises:
        UserError: the record cannot be written.
    """
    lines = last_lines(output)
    record = run.record()
    if record is None or record.finished < started:
        record = RunRecord(
            run_id=run.run_id,
            status="failed",
            error=f"the run died without a record: {lines[-1] if lines else 'no output'}",
            spec=run.spec,
            recipe_changes=run.changes,
            task=task_facts(run.task),
            parent_group_key=run.parent_group_key,
            command=redact_command(["harness/run.py", *run.args]),
            started=started,
            finished=datetime.now(UTC),
        )
    if record.is_finished:  # it was good before, and the repeat of it failed
        return record.model_copy(update={"status": "failed", "error": lines[-1] if lines else None})
    note = "last lines of the log:\n" + "\n".join(lines)
    record = record.model_copy(update={"notes": [*record.notes, note]})
    with suppress(AlreadyLocked), hold_lock(lock_path(run.path)):  # locked: somebody has started it again
        write_record(record, run.options.folder)
    return record


def last_lines(output: str) -> list[str]:
    """The end of a run's output, without the launcher's own traceback, folders of this machine and secrets."""
    text = re.sub(
        r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*subprocess\.CalledProcessError: Command .*?"
        r"(returned non-zero exit status \d+|died with <[^>]*>)\.\s*$",
        r"(the launcher: \1)",
        output,
    )
    folders = {str(Path(__file__).resolve().parents[2]): "", str(Path.cwd()): "", str(Path.home()): "~"}
    for folder, short in folders.items():
        if folder != "/":
            text = text.replace(f"{folder}/", f"{short}/" if short else "")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [redact_secrets(line) for line in lines if line.strip()][-LAST_LINES:]


def remove_leftovers(run: PlannedRun) -> None:
    """Removes unheld locks and checkpoints of a finished run that was killed after it had written its record."""
    if is_locked(sweep_lock_path(run.path)) or is_locked(lock_path(run.path)):  # the check removes an unheld lock
        return
    folder = run.options.folder / "checkpoints" / run.task.name / run.run_id
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):  # other runs have theirs there
            parent.rmdir()
