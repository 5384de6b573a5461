"""The launcher of one run on several nodes of a Slurm job: srun starts a task for each process of the run.

It is started as a file on the job's first node, with `--cpu` for runs without GPUs, then the script and its arguments.
SIGTERM goes to all processes, which save a checkpoint together. (Slurm's own answer to SIGTERM for srun is to kill
them.) Each task sets what torch.distributed needs and becomes the script.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

SIGNAL_SECONDS = 5.0
"""Seconds between two signals to the processes: one that starts late must get one, too."""

POLL_SECONDS = 0.1

ON_CPU = "--cpu"

TASK = "--task"


def several_nodes_command(script: str, args: Sequence[str], on_cpu: bool) -> list[str]:
    """The command that starts a run on all nodes of its job.

    The shell is the launcher as a supervisor knows it, and this program, which has the script's name among its
    arguments, the run that gets its signals.
    """
    program = [sys.executable, __file__, *([ON_CPU] if on_cpu else []), script, *args]
    return ["/bin/sh", "-c", '"$@"; exit $?', "sh", *program]


def launch(args: Sequence[str]) -> int:
    """Starts the processes of the run and returns the highest of their exit codes."""
    is_stopping, signalled_at = False, float("-inf")

    def request_stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
    with socket.socket() as server:  # the first process runs on this machine: a port that is free here is free for it
        server.bind(("", 0))
        variables = {"MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(server.getsockname()[1])}
    threads = os.environ.get("SLURM_CPUS_PER_TASK", "1")  # srun does not take it from the job
    # each node has a process that prints: only the first prints here
    srun = ["srun", "--kill-on-bad-exit=1", f"--cpus-per-task={threads}", "--output=0", "--error=all"]
    command = [*srun, sys.executable, __file__, TASK, json.dumps(args)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **variables})
    while process.poll() is None:
        if is_stopping and time.monotonic() > signalled_at + SIGNAL_SECONDS:
            signalled_at = time.monotonic()
            # to the processes of the job's steps, not to its batch script
            subprocess.run(["scancel", "--signal=TERM", os.environ["SLURM_JOB_ID"]], check=False)
        time.sleep(POLL_SECONDS)
    return process.returncode


def become_process(args: Sequence[str]) -> None:
    """Replaces this task of srun by a process of the run."""
    ranks = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    variables = {name: os.environ[value] for name, value in ranks.items()} | {"ACCELERATE_MIXED_PRECISION": "no"}
    if ON_CPU in args:
        variables["ACCELERATE_USE_CPU"] = "yes"
    command = [sys.executable, *(arg for arg in args if arg != ON_CPU)]
    os.execve(sys.executable, command, {**os.environ, **variables})


if __name__ == "__main__":
    if sys.argv[1] == TASK:
        become_process(json.loads(sys.argv[2]))
    sys.exit(launch(sys.argv[1:]))
