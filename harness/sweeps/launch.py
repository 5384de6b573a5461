"""One run as processes of its own: started with its log, stopped with whoever asked for it, one at a time everywhere.

A sweep starts this file for each run and holds its standard input. When that ends, because the sweep stops or is gone,
even by SIGKILL, the run is asked to stop and saves a checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file, as harness/run.py is
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import psutil

from harness.errors import UserError
from harness.system.devices import Slot
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_of

POLL_SECONDS = 0.1

IS_HELD = 75
"""Exit code when somebody else has the run in hand."""

SCRIPT = Path(__file__).parents[1] / "run.py"
"""What the launcher starts."""


MOST_READ = 65536
"""Bytes of a log's end that are looked at."""


def stamp(record: Path) -> str:
    """Another one whenever the record is written."""
    return str(record.stat().st_mtime_ns) if record.exists() else "none"


def sweep_lock_of(record: Path) -> Path:
    """The lock of the sweep that has a run in hand, from before its start until all of it has ended."""
    return record.with_name(f".{record.stem}-sweep.lock")


def launch_words(config: Path, processes: int, threads: int, words: Sequence[str]) -> list[str]:
    """The command of one run: accelerate's launcher with this interpreter, and the words for harness/run.py."""
    port = ["--main_process_port", "0"] if processes > 1 else []  # a free one: several runs share a machine
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)),
        *("--num_processes", str(processes), "--num_cpu_threads_per_process", str(threads), *port),
        *(str(SCRIPT), *words),
    ]


def launch_config(gpus: int) -> str:
    """A configuration for accelerate, so that what `accelerate config` has set for other work is not taken over."""
    return json.dumps(
        {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if gpus > 1 else "NO",
            "num_processes": max(1, gpus),
            "num_machines": 1,
            "use_cpu": gpus == 0,
            "mixed_precision": "no",
            "gpu_ids": "all",
            "debug": False,
        }
    )


class Launched:
    """A run that was started: the sweep's side of it."""

    def __init__(self, record: Path, seen: str, log: Path, slot: Slot, command: Sequence[str]) -> None:
        """`seen`: the `stamp` of the record when it was last read."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads), "PYTHONUNBUFFERED": "1"}
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self.log_start = log, log.stat().st_size if log.exists() else 0
        self.minder = subprocess.Popen(
            [sys.executable, __file__, str(record), seen, str(log), *command],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        )

    def ended(self) -> int | None:
        """The exit code, or None while it goes on."""
        code = self.minder.poll()
        if code is not None:
            self.stop()
        return code

    def stop(self) -> None:
        """Asks for a checkpoint and the end; `ended` says when that has come."""
        assert self.minder.stdin is not None
        self.minder.stdin.close()

    def kill(self) -> None:
        """Ends all of it at once."""
        self.minder.send_signal(signal.SIGUSR1)

    def printed(self) -> str:
        """What it has printed so far; of much, the end."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_start, size - MOST_READ))
            return file.read().decode(errors="replace")


def main(record: Path, seen: str, log: Path, command: Sequence[str]) -> int:
    """Runs `command`, adding what it prints to `log`, unless somebody else has the run of this `record` in hand, or
    has written it since it was `seen`.

    Gives the command's exit code, or IS_HELD.
    """
    try:
        with hold_lock(sweep_lock_of(record)):
            # only whoever holds the claim looks here: looking takes the lock for a moment
            return IS_HELD if stamp(record) != seen or is_locked(lock_of(record)) else _run(log, command)
    except AlreadyLocked:
        return IS_HELD
    except UserError as error:
        _add(log, f"error: {error}\n")
        return 2


def _run(log: Path, command: Sequence[str]) -> int:
    wishes = {"stop": False}
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wishes.update(stop=True))
    _add(log, f"-- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    signal.signal(signal.SIGUSR1, lambda *_: _signal(_family(process), signal.SIGKILL))
    asked: set[int] = set()
    while process.poll() is None or _left_over():
        if wishes["stop"]:
            # not the launcher: it would go without its run, which then could not be waited for
            family = _family(process)
            runs = [member for member in family if member.pid != process.pid and _is_run(member)]
            new = [member for member in runs or family if member.pid not in asked]
            asked |= {member.pid for member in new}
            _signal(new, signal.SIGTERM)
            time.sleep(POLL_SECONDS)
        elif select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            wishes["stop"] = not os.read(sys.stdin.fileno(), 1)
    return process.returncode


def _signal(members: Sequence[psutil.Process], number: int) -> None:
    for member in members:
        with suppress(psutil.Error):
            member.send_signal(number)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The launcher and all that it has started; when it is gone, the runs that it left."""
    try:
        launcher = psutil.Process(process.pid)
        return [*launcher.children(recursive=True), launcher]
    except psutil.Error:
        return _left_over()


def _left_over() -> list[psutil.Process]:
    """Runs of this session, whoever their parent is now."""
    session, found = os.getsid(0), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            is_ours = process.pid != os.getpid() and os.getsid(process.pid) == session
            if is_ours and process.status() != psutil.STATUS_ZOMBIE and _is_run(process):
                found.append(process)
    return found


def _is_run(process: psutil.Process) -> bool:
    """Not a helper that a run or a library of its has started."""
    try:
        return str(SCRIPT) in process.cmdline()
    except psutil.Error:
        return False


def _add(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
