"""One run in processes of its own, with its log; it stops when its sweep stops, and one process at a time works on it.

A sweep starts this file for each run and holds its standard input. When that closes, because the sweep stops or dies,
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
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_path

POLL_SECONDS = 0.1

LOCKED = 75
"""Exit code when another process works on the run."""

SCRIPT = Path(__file__).parents[1] / "run.py"
"""The script that the launcher starts."""

LOG_TAIL_BYTES = 65536
"""Bytes of a log's end that are read."""


def record_stamp(record: Path) -> str:
    """A stamp that changes whenever the record is written."""
    return str(record.stat().st_mtime_ns) if record.exists() else "none"


def sweep_lock_path(record: Path) -> Path:
    """The lock of the sweep that works on a run, held from before its start until all its processes have ended."""
    return record.with_name(f".{record.stem}-sweep.lock")


def launch_command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
    """The command of one run: accelerate's launcher with this interpreter, and the arguments of harness/run.py."""
    port = ["--main_process_port", "0"] if processes > 1 else []  # a free one: several runs share a machine
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)),
        *("--num_processes", str(processes), "--num_cpu_threads_per_process", str(threads), *port),
        *(str(SCRIPT), *args),
    ]


def launch_config(gpus: int) -> str:
    """A configuration for accelerate that keeps out the settings that `accelerate config` has made for other work."""
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


class RunProcess:
    """The sweep's handle of a run: a supervisor process, which starts the run and stops it."""

    def __init__(self, record: Path, stamp: str, log: Path, slot: Slot, command: Sequence[str]) -> None:
        """Starts the supervisor; `stamp` is the `record_stamp` from when the record was last read."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads), "PYTHONUNBUFFERED": "1"}
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self.log_start = log, log.stat().st_size if log.exists() else 0
        self.supervisor = subprocess.Popen(
            [sys.executable, __file__, str(record), stamp, str(log), *command],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        )

    def exit_code(self) -> int | None:
        """The exit code, or None while the run lasts."""
        code = self.supervisor.poll()
        if code is not None:
            self.stop()
        return code

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""
        assert self.supervisor.stdin is not None
        self.supervisor.stdin.close()

    def kill(self) -> None:
        """Kills all processes of the run."""
        self.supervisor.send_signal(signal.SIGUSR1)

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_start, size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")


def main(record: Path, stamp: str, log: Path, command: Sequence[str]) -> int:
    """Runs `command`, appends its output to `log`, and returns its exit code.

    Returns LOCKED instead if another process works on the run of this record or has written it since `stamp`.
    """
    try:
        with hold_lock(sweep_lock_path(record)):
            # only the holder of the sweep lock checks the run's lock: the check takes it for a moment
            return LOCKED if record_stamp(record) != stamp or is_locked(lock_path(record)) else _run(log, command)
    except AlreadyLocked:
        return LOCKED
    except UserError as error:
        _add(log, f"error: {error}\n")
        return 2


def _run(log: Path, command: Sequence[str]) -> int:
    stop_requested = False

    def request_stop(*_: object) -> None:
        nonlocal stop_requested
        stop_requested = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    _add(log, f"-- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    signal.signal(signal.SIGUSR1, lambda *_: _signal(_family(process), signal.SIGKILL))
    signalled: set[int] = set()
    while process.poll() is None or _leftover_runs():
        if stop_requested:
            # not the launcher: it would go without its run, which then could not be waited for
            family = _family(process)
            runs = [member for member in family if member.pid != process.pid and _is_run(member)]
            new = [member for member in runs or family if member.pid not in signalled]
            signalled |= {member.pid for member in new}
            _signal(new, signal.SIGTERM)
            time.sleep(POLL_SECONDS)
        elif select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            stop_requested = not os.read(sys.stdin.fileno(), 1)
    return process.returncode


def _signal(members: Sequence[psutil.Process], number: int) -> None:
    for member in members:
        with suppress(psutil.Error):
            member.send_signal(number)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The launcher and its descendants; when it is gone, the runs that it left."""
    try:
        launcher = psutil.Process(process.pid)
        return [*launcher.children(recursive=True), launcher]
    except psutil.Error:
        return _leftover_runs()


def _leftover_runs() -> list[psutil.Process]:
    """The runs of this process session, whatever their parent is now."""
    session, runs = os.getsid(0), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            is_ours = process.pid != os.getpid() and os.getsid(process.pid) == session
            if is_ours and process.status() != psutil.STATUS_ZOMBIE and _is_run(process):
                runs.append(process)
    return runs


def _is_run(process: psutil.Process) -> bool:
    """True for a run itself, False for a helper process that it or a library has started."""
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
