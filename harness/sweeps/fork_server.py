"""A process that has imported the libraries of a run, and forks a supervisor and its run in a fraction of a second.

Standard input is a socket. Each byte from it brings a socket of its own for one supervisor. The supervisor reads two
lines of JSON from it, its environment and the `Start`, and writes its process number, then its exit code at its end; it
stops its run when the other side closes. When standard input ends, this process ends; supervisors and runs continue.

The process starts no thread of Python and does not touch a GPU: neither survives a fork.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file, as harness/run.py is
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import threading
import warnings
from contextlib import suppress
from types import ModuleType

from harness.sweeps import supervisor
from harness.sweeps.launch import SCRIPT, Start
from harness.system.exit_codes import exit_code_on_error

LIBRARIES = ("datasets", "evaluate", "sklearn.metrics")
"""Libraries that a run imports late, besides those of the engine's modules."""


def main() -> None:
    """Forks a supervisor for each byte that comes; in the forked processes, it ends with them."""
    run = import_run()
    requests = socket.socket(fileno=sys.stdin.fileno())
    signal.signal(signal.SIGCHLD, _forget_ended)
    gc.freeze()  # a collection in a fork would write to every object, and so copy its memory
    while True:
        _, descriptors, *_ = socket.recv_fds(requests, 1, 1)
        if not descriptors:
            return
        if fork() == 0:
            requests.detach()
            _supervise(descriptors[0], run)
        os.close(descriptors[0])


def import_run() -> ModuleType:
    """The module of a run, after everything that a run imports.

    Raises:
        AssertionError: a library has started a thread, or has begun to use a GPU.
    """
    run = importlib.import_module("harness.run")
    engine = importlib.import_module("harness.engine")
    for module in pkgutil.walk_packages(engine.__path__, f"{engine.__name__}."):
        importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("harness.engine.provenance").code_facts()
    assert threading.active_count() == 1, threading.enumerate()
    assert not importlib.import_module("torch").cuda.is_initialized()
    return run


def _forget_ended(*_: object) -> None:
    """Waits for the supervisors that have ended, so that none becomes a zombie and their seconds are counted."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork() -> int:
    """Forks without Python's warning: threads of libraries, such as that of jemalloc in pyarrow, are safe to fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _supervise(connection: int, run: ModuleType) -> None:
    """Ends this process as the supervisor of one run, or a fork of it as the run."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(connection, 0)
    os.close(connection)
    with suppress(OSError):  # the sweep is gone
        os.write(0, f"{os.getpid()}\n".encode())
    os.environ.update(json.loads(sys.stdin.readline()))
    start = Start.from_json(json.loads(sys.stdin.readline()))
    process = ForkedRun(start, run)
    try:
        with exit_code_on_error():
            sys.exit(supervisor.main(start, process, is_tied=True))
    except SystemExit as end:
        with suppress(OSError):  # the sweep is gone
            os.write(0, f"{end.code}\n".encode())
        os._exit(int(end.code or 0))


class ForkedRun:
    """A run as a fork of its supervisor.

    It is forked early, from a process without locks and open files, and waits until it is started.
    """

    def __init__(self, start: Start, run: ModuleType) -> None:
        """Forks; in the new process, it ends with the run."""
        waiting, self.started = os.pipe()
        self.pid, self.is_stopping = fork(), False
        self.code: int | None = None
        if self.pid == 0:
            os.close(self.started)
            _become_run(waiting, start, run)
        os.close(waiting)

    def start(self, start: Start) -> None:
        """Lets the run begin."""
        os.write(self.started, b"\n")

    def exit_code(self) -> int | None:
        """The exit code, or None until the run has ended; negative for the signal that killed it."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def stop(self) -> None:
        """Sends SIGTERM, once."""
        if not self.is_stopping:
            self.is_stopping = True
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the run and to all processes that it has started."""
        supervisor.send_signal(supervisor.family_of(self.pid), signal.SIGKILL)


def _become_run(waiting: int, start: Start, run: ModuleType) -> None:
    """Ends this process as the run, in the state of a launched one, or without a word if its supervisor ends first."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if not os.read(waiting, 1):
        os._exit(0)
    log = os.open(start.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    sys.argv = [str(SCRIPT), *start.args]
    try:
        run.main(start.args)
    except SystemExit as end:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(int(end.code or 0))  # Python would first take apart every module, for 0.7 s


if __name__ == "__main__":
    main()
