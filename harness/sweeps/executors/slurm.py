"""Runs as jobs of a Slurm cluster.

A run is one job, named after it, so a sweep that is started again finds the jobs of the earlier one. A run may be
longer than the time limit: its job is requeued. The results folder must be visible on the nodes.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings, RunHandle
from harness.sweeps.executors.slurm_client import LOST, Slurm, SlurmJob, gpu_options
from harness.sweeps.executors.slurm_workers import WorkerPool
from harness.sweeps.launch import SCRIPT, STOPPED, SUPERVISOR, SUPERVISOR_KILLED, Start, log_size, log_tail
from harness.sweeps.several_nodes import several_nodes_command
from harness.sweeps.worker_queue import queue_folder
from harness.system.devices import Slot

JOBS = 100
"""Default number of jobs in the queue at a time."""

MOST = 10_000
"""The largest number of jobs, of nodes and of GPUs on a node; no sweep has more runs."""

KILLED = 137
"""Exit code of a job whose supervisor got SIGKILL: 128 + 9."""


class SlurmExecutor:
    """Starts each run as a job of its own, or gives it to one of a few workers."""

    supported_settings: ClassVar = frozenset(
        {"max_jobs", "gpus_per_run", "nodes_per_run", "workers", "partition", "time", "slurm"}
    )
    has_queue = True

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when Slurm is missing, a number is too large or a setting is not for the user to set."""
        for name in ("max_jobs", "gpus_per_run", "nodes_per_run"):
            if (number := getattr(settings, name) or 0) > MOST:
                raise UserError(f"--{name.replace('_', '-')} {number}: expected at most {MOST:,}.")
        self.gpus = 0 if test_mode else settings.gpus_per_run or 0
        """GPUs of a run on each of its nodes."""
        self.nodes = settings.nodes_per_run or 1
        self.slurm = Slurm(settings, self.gpus)
        if not (self.gpus or test_mode) and (options := gpu_options(self.slurm.options)):
            raise UserError(f"--slurm {options[0]}: runs use the CPU without --gpus-per-run. Add it.")
        slot = Slot(tuple(map(str, range(self.gpus * self.nodes))), self.slurm.threads)
        self.slots: Sequence[Slot] = [slot] * (settings.max_jobs or JOBS)
        self.device = ""
        self.workers = settings.workers
        self.pool: WorkerPool | None = None

    def start(self, start: Start, slot: Slot) -> RunHandle:
        """Submits the job, finds the one that an earlier sweep has submitted, or gives the run to a worker."""
        if self.nodes == 1:
            options = {"nodes": "1", "ntasks": "1", "cpus-per-task": str(self.slurm.cpus)}
        else:
            tasks = str(max(1, self.gpus))
            options = {"nodes": str(self.nodes), "ntasks-per-node": tasks, "cpus-per-task": str(slot.threads)}
            command = several_nodes_command(str(SCRIPT), start.args, on_cpu=not self.gpus)
            start = start._replace(command=command)
        if self.workers:
            if self.pool is None:
                # in this working directory, with these devices: no other worker can do these runs
                setting = repr((Path.cwd(), self.gpus, sorted({**options, **self.slurm.options}.items())))
                folder = queue_folder(start.record.absolute()) / checksum(setting)
                name = f"harness-workers-{checksum(str(folder))}"
                self.pool = WorkerPool(self.slurm, self.workers, self.gpus, folder, name, options)
            return self.pool.add(start)
        name = f"{start.record.stem}-{checksum(str(start.record.absolute()))}"
        jobs = self.slurm.active(name)
        if not jobs:
            command, options = [sys.executable, str(SUPERVISOR)], {**options, "dependency": "singleton"}
            jobs = [self.slurm.submit(name, start.log, command, start.to_json(), options)]
        return SlurmRun(self.slurm, jobs[0], start.log)


def checksum(text: str) -> str:
    """A short text for a longer one, such as a path, so that jobs for other results folders have other names."""
    return f"{zlib.crc32(text.encode()):08x}"


class SlurmRun(SlurmJob):
    """The job of a run."""

    def __init__(self, slurm: Slurm, job: str, log: Path) -> None:
        super().__init__(slurm, job, log)
        self.log_start = log_size(log)
        self.code: int | None = None
        self.is_stopping = False

    def exit_code(self) -> int | None:
        """The exit code, or None until the job has ended for good.

        Raises:
            UserError: the job will never start, or its node does not see the results folder.
        """
        if self.code is None and (state := self.state()) is not None:
            self.code = self._exit_code(state)
        elif self.code is None and self.is_stopping and self.is_pending() and self.cancel():
            self.code = STOPPED  # Slurm had requeued it meanwhile
        elif self.code is None and self.is_stopping:
            super().stop()
        return self.code

    def _exit_code(self, state: str) -> int:
        if state in LOST or (state == "CANCELLED" and self.is_stopping):
            return STOPPED
        if state != "FAILED":
            return 0 if state in ("COMPLETED", "") else 1  # no longer listed: its record tells
        code, _ = self.exit_status()
        return int(code) if code.isdecimal() and int(code) else 1

    def stop(self) -> None:
        """Cancels a pending job; asks the run of a running one to save a checkpoint and end."""
        self.is_stopping = True
        super().stop()

    def kill(self) -> None:
        """Cancels the job."""
        self.is_stopping = True
        self.cancel()

    def output(self) -> str:
        """The output of the run so far; at the end, the state in which Slurm has left the job."""
        output = log_tail(self.log, self.log_start)
        if self.code == KILLED:
            return f"{output}\n{SUPERVISOR_KILLED}\n"
        if self.code is None or self.end in ("COMPLETED", "FAILED"):
            return output
        return f"{output}\nSlurm job {self.job}: {self.end or 'no longer listed by squeue'}\n"
