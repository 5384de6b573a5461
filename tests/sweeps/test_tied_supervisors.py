"""Supervisors on this machine: which runs are forked, and what becomes of a supervisor that is lost."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread

import psutil
import pytest
from support.processes import wait_until

from harness.sweeps import tied_supervisors
from harness.sweeps.launch import CONFIG, STOPPED, Start, launch_command, launch_config
from harness.sweeps.tied_supervisors import (
    ForkedSupervisor,
    ForkServer,
    LaunchedSupervisor,
    Supervisors,
    TiedSupervisor,
)
from harness.system.devices import Slot

ARGS = ["--task", "rte"]


def start_of(command: list[str], config: str, record: Path = Path("record.json")) -> Start:
    return Start(record, "none", record.with_suffix(".log"), ARGS, command, config, {})


class EndedServer:
    """A fork server that has ended: the other side of each connection is closed."""

    def fork(self, start: Start, environment: Mapping[str, str]) -> ForkedSupervisor:
        connection, other = socket.socketpair()
        other.close()
        return ForkedSupervisor(connection)


def never_forked(start: Start) -> TiedSupervisor:
    return TiedSupervisor(start, Slot(), {}, EndedServer())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "gpus, processes, threads, can_fork", [(0, 1, 2, True), (1, 1, 2, True), (0, 1, 3, False), (2, 2, 2, False)]
)
def test_run_in_one_process_is_forked(gpus: int, processes: int, threads: int, can_fork: bool) -> None:
    start = start_of(launch_command(Path(CONFIG), processes, threads, ARGS), launch_config(gpus))
    assert Supervisors(gpus, 2).can_fork(start) == can_fork


def test_run_with_another_command_or_configuration_is_launched() -> None:
    command = launch_command(Path(CONFIG), 1, 2, ARGS)
    assert not Supervisors(0, 2).can_fork(start_of([sys.executable, "fake_run.py"], launch_config(0)))
    assert not Supervisors(0, 2).can_fork(start_of(command, launch_config(1)))


def test_runs_are_launched_where_a_process_with_libraries_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    start = start_of(launch_command(Path(CONFIG), 1, 2, ARGS), launch_config(0))
    monkeypatch.setattr(tied_supervisors.sys, "platform", "darwin")
    assert not Supervisors(0, 2).can_fork(start)


def test_supervisor_that_was_never_forked_is_launched(tmp_path: Path) -> None:
    start = start_of([sys.executable, "-c", "raise SystemExit(3)"], launch_config(0), tmp_path / "record.json")
    supervisor = never_forked(start)
    assert supervisor.exit_code() is None
    assert isinstance(supervisor.process, LaunchedSupervisor)
    assert supervisor.process.process.wait(timeout=60) == supervisor.exit_code() == 3


def test_supervisor_that_was_never_forked_and_shall_stop_is_not_launched() -> None:
    supervisor = never_forked(start_of([], ""))
    supervisor.stop()
    assert supervisor.exit_code() == STOPPED
    assert isinstance(supervisor.process, ForkedSupervisor)


def test_supervisor_that_has_not_begun_is_not_waited_for(tmp_path: Path) -> None:
    """Its fork server may import libraries for many seconds."""
    connection, other = socket.socketpair()
    supervisor = never_forked(start_of([], ""))
    supervisor.process = ForkedSupervisor(connection)
    with other:
        assert supervisor.exit_code() is None
        supervisor.stop()
        assert supervisor.exit_code() == STOPPED
        assert other.recv(1) == b"", "it would stop its run at once"


SERVER = """
import socket, sys
_, (descriptor,), *_ = socket.recv_fds(socket.socket(fileno=0), 1, 1)
connection = socket.socket(fileno=descriptor)
with connection.makefile("rb") as file:
    size = len(file.readline() + file.readline())
connection.sendall(f"{size}\\n0\\n".encode())
"""
"""A fork server that answers one request with the size of what it has read, in place of a process number."""


def test_start_of_a_task_with_many_labels_is_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is larger than the buffer of a socket."""
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.setattr(tied_supervisors, "FORK_SERVER", tmp_path / "server.py")
    labels = {"labels": [f"label {number}" for number in range(100_000)]}
    start = start_of([], "")._replace(failure=labels)
    server, supervisors = ForkServer({}), list[ForkedSupervisor]()
    thread = Thread(target=lambda: supervisors.append(server.fork(start, {})), daemon=True)
    thread.start()
    thread.join(timeout=30)
    (supervisor,) = supervisors
    wait_until(lambda: supervisor.exit_code() is not None, 30)
    assert int(supervisor.received.split()[0]) == len(f"{{}}\n{start.to_json()}\n")


@pytest.mark.parametrize("written, code", [(b"12\n", -signal.SIGKILL), (b"12\n0\n", 0), (b"12\n75\n", 75)])
def test_exit_code_is_what_the_supervisor_has_written_and_negative_if_it_was_killed(written: bytes, code: int) -> None:
    connection, other = socket.socketpair()
    supervisor = ForkedSupervisor(connection)
    other.sendall(written)
    assert supervisor.exit_code() is None, "it has not ended"
    other.close()
    assert supervisor.exit_code() == code
    supervisor.stop()
    supervisor.kill()


LEADER = "import subprocess, sys; run = subprocess.Popen(['sleep', '60']); print(run.pid, flush=True); run.wait()"
"""A supervisor as the system sees it: the leader of a session, with the run as its child."""


def killed_fork(supervisor: TiedSupervisor) -> int:
    """Gives it a forked supervisor that is killed, and returns the process number of the run."""
    connection, other = socket.socketpair()
    leader = subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    with leader, other:
        run = int(leader.stdout.readline())
        other.sendall(f"{leader.pid}\n".encode())
        leader.kill()
    supervisor.process = ForkedSupervisor(connection)
    return run


def killed_launch(supervisor: TiedSupervisor) -> int:
    """Kills its launched supervisor, and returns the process number of the run."""
    supervisor.exit_code()
    assert isinstance(supervisor.process, LaunchedSupervisor)
    while "began" not in supervisor.output():
        assert supervisor.exit_code() is None, supervisor.output()
        time.sleep(0.02)
    run = int(supervisor.output().split()[-1])
    supervisor.process.process.kill()
    return run


@pytest.mark.parametrize("killed", [killed_fork, killed_launch])
def test_run_of_a_killed_supervisor_ends_before_its_device_is_free(
    killed: Callable[[TiedSupervisor], int], tmp_path: Path
) -> None:
    program = "import os, time; print('began', os.getpid(), flush=True); time.sleep(60)"
    supervisor = never_forked(start_of([sys.executable, "-c", program], launch_config(0), tmp_path / "record.json"))
    run = killed(supervisor)
    wait_until(lambda: supervisor.exit_code() is not None, 30)
    assert supervisor.exit_code() == -signal.SIGKILL
    assert "supervisor of this run was killed" in supervisor.output()
    assert not psutil.pid_exists(run) or psutil.Process(run).status() == psutil.STATUS_ZOMBIE
