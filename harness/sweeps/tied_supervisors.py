"""Supervisors on this machine, tied to this process: forked from a fork server, or launched where that cannot be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from harness.sweeps.launch import (
    CONFIG,
    FORK_SERVER,
    STOPPED,
    SUPERVISOR,
    SUPERVISOR_KILLED,
    TIED,
    Start,
    launch_command,
    launch_config,
    launch_environment,
    log_size,
    log_tail,
)
from harness.sweeps.supervisor import send_signal, session_members
from harness.system.devices import Slot


class Supervisors:
    """Starts the supervisors of runs that have the same number of threads and GPUs, each with its run."""

    def __init__(self, gpus: int, threads: int) -> None:
        """Nothing is started before the first run."""
        self.gpus, self.threads = gpus, threads
        self.server: ForkServer | None = None

    def start(self, start: Start, slot: Slot) -> TiedSupervisor:
        """Starts a supervisor, whose run has the devices of the slot."""
        environment = {**slot.environment, "OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1"}
        if not self.can_fork(start):
            return TiedSupervisor(start, slot, environment)
        if self.server is None:
            self.server = ForkServer({**environment, **launch_environment(self.gpus, self.threads)})
        return TiedSupervisor(start, slot, environment, self.server)

    def can_fork(self, start: Start) -> bool:
        """True for a run in one process that only accelerate's launcher would set up, on a system that forks."""
        launched = launch_command(Path(CONFIG), 1, self.threads, start.args), launch_config(self.gpus)
        return sys.platform == "linux" and self.gpus < 2 and (list(start.command), start.config) == launched


class TiedSupervisor:
    """The supervisor of one run, with the run; a forked one that never began is replaced by a launched one."""

    def __init__(
        self, start: Start, slot: Slot, environment: Mapping[str, str], server: ForkServer | None = None
    ) -> None:
        """Starts it, from the fork server if there is one; `environment` is added to that of this process."""
        self.start, self.slot, self.environment = start, slot, environment
        self.log_start = log_size(start.log)
        self.is_stopping = False
        self.was_killed = False
        self.process: ForkedSupervisor | LaunchedSupervisor
        self.process = server.fork(start, environment) if server else LaunchedSupervisor(start, environment)

    def location(self) -> str:
        """The GPUs, or the CPU."""
        return str(self.slot)

    def exit_code(self) -> int | None:
        """The exit code, or None until the supervisor has ended; negative if it was killed.

        A supervisor that is killed leaves its run, which is killed too before another run gets its devices.
        """
        if isinstance(self.process, ForkedSupervisor) and self.process.is_lost():
            if self.is_stopping:
                return STOPPED
            self.process = LaunchedSupervisor(self.start, self.environment)
        code = self.process.exit_code()
        if code is None or code >= 0:
            return code
        self.was_killed = True
        members = session_members(self.process.pid)
        send_signal(members, signal.SIGKILL)
        return None if members else code

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""
        self.is_stopping = True
        self.process.stop()

    def kill(self) -> None:
        """Kills all processes of the run."""
        self.is_stopping = True
        self.process.kill()

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB; at the end, that its supervisor was killed."""
        output = log_tail(self.start.log, self.log_start)
        return f"{output}\n{SUPERVISOR_KILLED}\n" if self.was_killed else output


class LaunchedSupervisor:
    """A supervisor in an interpreter of its own, which starts the command of the run."""

    def __init__(self, start: Start, environment: Mapping[str, str]) -> None:
        """Starts it."""
        self.process = subprocess.Popen(
            [sys.executable, str(SUPERVISOR), TIED],
            stdin=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        )
        self.pid = self.process.pid
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once, as its exit code tells
            self.process.stdin.write(f"{start.to_json()}\n".encode())
            self.process.stdin.flush()

    def exit_code(self) -> int | None:
        """The exit code, or None until it has ended."""
        code = self.process.poll()
        if code is not None:
            self.stop()
        return code

    def stop(self) -> None:
        """Closes its standard input, to which it is tied."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def kill(self) -> None:
        """Asks it to kill the run."""
        self.process.send_signal(signal.SIGUSR1)


class ForkedSupervisor:
    """A supervisor that a fork server forks, at the other end of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        self.received = b""
        self.has_ended = False

    def is_lost(self) -> bool:
        """True when the fork server has ended, or this one was stopped, before it could be forked."""
        self._receive()
        return self.has_ended and not self.received

    def exit_code(self) -> int | None:
        """The exit code, or None until it has ended; negative if it was killed."""
        self._receive()
        lines = self.received.split()
        return None if not self.has_ended else int(lines[1]) if len(lines) == 2 else -signal.SIGKILL

    @property
    def pid(self) -> int:
        """Its process number, which it has written first."""
        return int(self.received.split()[0])

    def stop(self) -> None:
        """Closes its standard input, to which it is tied; one that has not begun has ended with that."""
        self._receive()
        if not self.received:
            self.has_ended = True
            self.connection.close()
        with suppress(OSError):  # it has ended
            self.connection.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Asks it to kill the run."""
        self._receive()
        if self.has_ended:
            return
        if b"\n" in self.received:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
        else:
            self.stop()

    def _receive(self) -> None:
        """Reads its process number and exit code, as far as it has written them."""
        while not self.has_ended:
            try:
                text = self.connection.recv(64)
            except BlockingIOError:
                return
            except ConnectionResetError:
                text = b""
            self.received += text
            if not text:
                self.has_ended = True
                self.connection.close()


class ForkServer:
    """The process of `harness.sweeps.fork_server`; it ends with this object, its supervisors do not."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Starts it; importing the libraries of a run takes seconds, while supervisors may be requested already."""
        self.requests, other = socket.socketpair()
        with other:
            self.process = subprocess.Popen(
                [sys.executable, str(FORK_SERVER)],
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        weakref.finalize(self, _end, self.process, self.requests)

    def fork(self, start: Start, environment: Mapping[str, str]) -> ForkedSupervisor:
        """Requests a supervisor."""
        connection, other = socket.socketpair()
        with suppress(BrokenPipeError, ConnectionResetError):  # the fork server has ended: it is lost
            with other:
                socket.send_fds(self.requests, [b"\n"], [other.fileno()])
            # afterwards, since a start may be larger than the buffer of a socket that nobody reads
            connection.sendall(f"{json.dumps(dict(environment))}\n{start.to_json()}\n".encode())
        return ForkedSupervisor(connection)


def _end(process: subprocess.Popen[bytes], requests: socket.socket) -> None:
    requests.close()
    process.kill()
    process.wait()
