"""The supervisor of one run, on the run's machine.

It holds the sweep's lock, starts, logs and stops the run, and writes the record of a run that dies.

It reads a `Start` as one line of JSON from standard input. With `--tied` the end of standard input asks the run to save
a checkpoint and end: so runs end with a sweep on this machine, even by SIGKILL. Without it, as in a batch job whose
standard input is empty, only SIGTERM does.
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
from tempfile import TemporaryDirectory
from typing import Protocol

import psutil

from harness.errors import UserError
from harness.sweeps.failures import exit_code_of_run, is_finished, write_failure
from harness.sweeps.launch import (
    CONFIG,
    LOCKED,
    MISTAKE,
    SCRIPT,
    STOPPED,
    TIED,
    Start,
    log_tail,
    record_stamp,
    sweep_lock_path,
)
from harness.system.exit_codes import exit_code_on_error
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_path

POLL_SECONDS = 0.1

CHANGED = (
    "the run ended well, but its task, its rows or its model have changed since it was planned: its record has another "
    "run ID. Run the same command again, which finds it."
)


class RunProcess(Protocol):
    """A run in its process, or in those of its launcher."""

    def start(self, start: Start) -> None:
        """Starts the run; its output goes to the end of its log."""

    def exit_code(self) -> int | None:
        """The exit code, or None until all processes of the run have ended; negative for the signal that killed it."""

    def stop(self) -> None:
        """Sends SIGTERM, but to no process twice: one that comes later may need it too."""

    def kill(self) -> None:
        """Sends SIGKILL to the run and to all processes that it has started."""


def main(start: Start, process: RunProcess, is_tied: bool) -> int:
    """Does the run, unless another process works on it or has done it, and returns the exit code.

    0: the record is finished. LOCKED: another process works on the run. STOPPED: the run was asked to stop and will
    resume. MISTAKE: the run found a mistake of the user and has no record, or it has written another record. Any other:
    the run failed, and its failed record is written.
    """
    try:
        with hold_lock(sweep_lock_path(start.record)):
            if record_stamp(start.record) != start.stamp:  # another sweep has done it
                return 0 if is_finished(start.record) else 1
            # only the holder of the sweep lock checks the run's lock: the check takes it for a moment
            return LOCKED if is_locked(lock_path(start.record)) else _run(start, process, is_tied)
    except AlreadyLocked:
        return LOCKED
    except UserError as error:
        _append(start.log, f"error: {error}\n")
        return MISTAKE


def _run(start: Start, process: RunProcess, is_tied: bool) -> int:
    started = datetime.now(UTC)
    _append(start.log, f"-- {started:%Y-%m-%d %H:%M:%S} UTC\n")
    log_start = start.log.stat().st_size
    code, is_stopped = _supervise(start, process, is_tied)
    if is_finished(start.record) and record_stamp(start.record) != start.stamp:
        return 0
    if is_stopped:
        return STOPPED
    if is_locked(lock_path(start.record)):  # somebody has started it by hand
        return LOCKED
    if code == 0:
        _append(start.log, f"error: {CHANGED}\n")
        return MISTAKE
    if code < 0:
        _append(start.log, f"\n(killed by {signal.Signals(-code).name})\n")
    output = log_tail(start.log, log_start)
    if exit_code_of_run(code, output) == MISTAKE:
        return MISTAKE
    write_failure(start, output, started)
    return min(max(code, 1), 127)  # a larger code is that of a supervisor which was killed


def _supervise(start: Start, process: RunProcess, is_tied: bool) -> tuple[int, bool]:
    """The exit code of the run once all its processes have ended, and whether it was asked to stop."""
    stop_requested = False

    def request_stop(*_: object) -> None:
        nonlocal stop_requested
        stop_requested = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    process.start(start)
    signal.signal(signal.SIGUSR1, lambda *_: process.kill())
    while (code := process.exit_code()) is None:
        if stop_requested:
            process.stop()
        if stop_requested or not is_tied:
            time.sleep(POLL_SECONDS)
        elif select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            stop_requested = _has_input_ended()
    return code, stop_requested


def _has_input_ended() -> bool:
    """Reads a byte of standard input, which may be a socket, and tells whether the other side is gone."""
    try:
        return not os.read(sys.stdin.fileno(), 1)
    except ConnectionResetError:  # it was killed before it had read all that came from here
        return True


class LaunchedRun:
    """The command of a run: accelerate's launcher, and the runs that it starts."""

    def start(self, start: Start) -> None:
        """Starts the command, with accelerate's configuration in a file."""
        self.folder = TemporaryDirectory()
        config = Path(self.folder.name) / "launch.json"
        config.write_text(start.config)
        command = [str(config) if arg == CONFIG else arg for arg in start.command]
        with start.log.open("ab") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        self.signalled: set[int] = set()

    def exit_code(self) -> int | None:
        """The exit code of the launcher, or None until it and all its runs have ended."""
        if self.process.poll() is None or _leftover_runs():
            return None
        self.folder.cleanup()
        return self.process.returncode

    def stop(self) -> None:
        """Sends SIGTERM to the runs.

        Not to the launcher: it would go without its run, which then could not be waited for.
        """
        family = self._family()
        runs = [member for member in family if member.pid != self.process.pid and _is_run(member)]
        new = [member for member in runs or family if member.pid not in self.signalled]
        self.signalled |= {member.pid for member in new}
        send_signal(new, signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the launcher and its descendants."""
        send_signal(self._family(), signal.SIGKILL)

    def _family(self) -> list[psutil.Process]:
        """The launcher and its descendants; when it is gone, the runs that it left."""
        return family_of(self.process.pid) or _leftover_runs()


def send_signal(members: Sequence[psutil.Process], number: int) -> None:
    """Sends a signal to those of the processes that still live."""
    for member in members:
        with suppress(psutil.Error):
            member.send_signal(number)


def family_of(pid: int) -> list[psutil.Process]:
    """The descendants of a process and the process itself; none if it is gone."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.Error:
        return []


def session_members(session: int) -> list[psutil.Process]:
    """The living processes of a process session, whatever their parent is now."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _leftover_runs() -> list[psutil.Process]:
    """The runs in the process session of this process."""
    return [each for each in session_members(os.getsid(0)) if each.pid != os.getpid() and _is_run(each)]


def _is_run(process: psutil.Process) -> bool:
    """True for a run itself, False for a helper process that it or a library has started."""
    try:
        return str(SCRIPT) in process.cmdline()
    except psutil.Error:
        return False


def _append(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    with exit_code_on_error():
        sys.exit(main(Start.from_json(json.loads(sys.stdin.readline())), LaunchedRun(), TIED in sys.argv[1:]))
