"""A task of Ray that holds the supervisor of a run on the node where Ray has put it.

Ray pickles this module by value, so a node needs no harness that Ray could import: only the files that `needed` names.

Ray kills a worker's direct children, and a run must save a checkpoint first. So a guard process is between the worker
and the supervisor, which has a session of its own and knows the worker by the pipe at its standard input alone: when
the worker is gone, for whatever reason, the pipe ends, and the run saves a checkpoint and ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

POLL_SECONDS = 0.1

MISTAKE = 2
"""Exit code for a node that does not have the files of a run."""

NODE = "-- Ray node "
"""The beginning of the line in a run's log that names its node."""

GUARD = """
import contextlib, os, signal, subprocess, sys
process = subprocess.Popen(sys.argv[1:], start_new_session=True)
signal.signal(signal.SIGUSR1, lambda *_: process.send_signal(signal.SIGUSR1))
code = process.wait()
if code < 0:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    print("\\nthe supervisor of this run was killed, and the run with it")  # launch.SUPERVISOR_KILLED, which nodes lack
sys.exit(code)
"""
"""The program of the guard: it starts the supervisor, forwards SIGUSR1, which kills the run, and the exit code.

The run of a supervisor that was killed is killed, too."""


FOLLOWER = """
import subprocess, sys, threading
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.read()
    process.terminate()
threading.Thread(target=end, daemon=True).start()
sys.exit(process.wait())
"""
"""A program that starts a command and ends it at the end of its own standard input."""

ADDRESS, PORT = "RENDEZVOUS_ADDRESS", "RENDEZVOUS_PORT"
"""Placeholders in a command for the endpoint at which the processes of several nodes meet."""


class Work(NamedTuple):
    """A command that a task starts, and the setting that it finds there."""

    command: Sequence[str]
    input: str
    """The first line of its standard input, which then stays open as long as the task."""
    cwd: str
    variables: Mapping[str, str]
    """Environment variables, besides those of the node."""
    log: str
    needed: Mapping[str, str]
    """Paths that the node must have, and the file or folder that the message about a missing one names."""


def free_endpoint() -> tuple[str, int]:
    """The address of this node and a port that is free now."""
    with socket.socket() as server:
        server.bind(("", 0))
        return import_module("ray").util.get_node_ip_address(), server.getsockname()[1]


def hold(work: Work, endpoint: tuple[str, int] = ("", 0)) -> tuple[int, str]:
    """The exit code of the command, and a message when it could not be started here.

    `endpoint` replaces the placeholders, also in a command that is part of the input.

    Ray interrupts the task twice at most: the first time to stop the run, the second to kill it.
    """
    ray = import_module("ray")
    node = ray.util.get_node_ip_address()
    for path, name in work.needed.items():
        if not Path(path).exists():
            return MISTAKE, (
                f"error: Ray node {node}: {name} not found. Every node needs the results folder, the working "
                "directory, and Python with the harness at the same paths as here: use a file system that all share."
            )
    *command, text = (
        text.replace(ADDRESS, endpoint[0]).replace(PORT, str(endpoint[1])) for text in (*work.command, work.input)
    )
    gpus = ", ".join(ray.get_runtime_context().get_accelerator_ids().get("GPU", ()))
    with Path(work.log).open("ab", buffering=0) as log:
        log.write(f"{NODE}{node}{f', GPU {gpus}' if gpus else ''}\n".encode())
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=work.cwd,
            env={**os.environ, **work.variables},
            start_new_session=True,  # signals to the worker and its group are not for the guard
        )
    assert guard.stdin is not None
    try:
        guard.stdin.write(f"{text}\n".encode())
        guard.stdin.flush()
        _wait(guard)
    except KeyboardInterrupt:
        guard.stdin.close()
        try:
            _wait(guard)
        except KeyboardInterrupt:
            guard.send_signal(signal.SIGUSR1)
            _wait(guard)
    return guard.returncode, ""


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits in steps: Ray can interrupt a task only between them."""
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
