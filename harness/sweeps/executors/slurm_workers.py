"""Workers on a Slurm cluster: a few jobs that do many runs, for clusters that count jobs.

A worker is submitted when more runs are queued than workers are left, and ends by itself. When a sweep dies, its
workers finish the queue; a sweep that is started again finds them by their name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.sweeps.executor import SubmissionRefused
from harness.sweeps.executors.slurm_client import ENDED, Slurm, SlurmJob
from harness.sweeps.failures import last_lines
from harness.sweeps.launch import STOPPED, Start, log_size, log_tail
from harness.sweeps.worker_queue import QueuedRun

WORKER = Path(__file__).parents[1] / "worker.py"

LIST_SECONDS = 2.0
"""Seconds between two listings of the queue."""

FAULTS = ("OUT_OF_MEMORY", "TIMEOUT", "DEADLINE")
"""States of workers that have ended because of their run. The run of any other lost worker is done by the next one."""


class WorkerPool:
    """The workers of a results folder."""

    def __init__(self, slurm: Slurm, size: int, gpus: int, folder: Path, name: str, options: Mapping[str, str]) -> None:
        self.slurm, self.size, self.gpus = slurm, size, gpus
        self.folder, self.name, self.options = folder, name, options
        self.workers: dict[str, SlurmJob] = {}
        self.waiting: set[Path] = set()
        """The starts of this sweep that have not ended."""
        self.is_stopping = False
        self.listed: set[Path] = set()
        self.listed_at = float("-inf")

    def files(self) -> set[Path]:
        """The files of the queue, listed at most every two seconds."""
        if time.monotonic() - self.listed_at > LIST_SECONDS:
            self.listed, self.listed_at = set(self.folder.iterdir()), time.monotonic()
        return self.listed

    def add(self, start: Start) -> WorkerRun:
        """Puts a run into the queue, and submits a worker if one is missing."""
        queued = QueuedRun(self.folder, start.record.stem)
        queued.put(start)
        self.listed.add(queued.start_file)
        self.waiting.add(queued.start_file)
        self.fill()
        return WorkerRun(self, queued, start.log)

    def fill(self) -> None:
        """Submits the workers that are missing.

        Raises:
            UserError: a worker will never start, does not see the results folder, or has failed.
        """
        if self.is_stopping:
            return
        active = self.slurm.active(self.name)
        for job in active:
            self.workers.setdefault(job, self.worker_job(job))
        for job, worker in list(self.workers.items()):
            if worker.state() is None:
                continue
            del self.workers[job]
            if worker.end == "FAILED" and worker.exit_status()[0] != str(STOPPED):
                lines = last_lines(log_tail(worker.log, 0)) or ["no output"]
                raise UserError(f"--executor slurm: the worker in job {worker.job} failed: {lines[-1]}: {worker.log}")
        for _ in range(min(self.size, len(self.waiting)) - len(active)):
            command = [sys.executable, str(WORKER), str(self.folder), str(self.gpus)]
            try:
                job = self.slurm.submit(self.name, self.folder / "%j.log", command, "", self.options)
            except SubmissionRefused:
                if not self.workers:
                    raise
                self.size = len(self.workers)  # these do all runs, more slowly
                return
            self.workers[job] = self.worker_job(job)

    def worker_job(self, job: str) -> SlurmJob:
        """The job of a worker, by its number."""
        return SlurmJob(self.slurm, job, self.folder / f"{job}.log")

    def stop(self) -> None:
        """Asks all workers to stop their runs and end; pending ones are cancelled."""
        if not self.is_stopping:
            self.is_stopping, self.listed_at = True, float("-inf")
        for job in self.slurm.active(self.name):
            self.workers.setdefault(job, self.worker_job(job)).stop()

    def cancel(self) -> None:
        """Cancels all workers."""
        self.is_stopping = True
        for job in self.slurm.active(self.name):
            self.worker_job(job).cancel()


class WorkerRun:
    """A run that a worker does."""

    def __init__(self, pool: WorkerPool, queued: QueuedRun, log: Path) -> None:
        self.pool, self.queued = pool, queued
        self.log, self.log_start = log, log_size(log)
        self.code: int | None = None
        self.fault = ""
        """The end of the worker's job that has ended the run."""
        self.is_stopping = False

    def location(self) -> str:
        """The job of its worker and the node; the queue while it has none."""
        job = self._job()
        return self.pool.worker_job(job).location() if job else f"the queue of {self.pool.size} workers"

    def exit_code(self) -> int | None:
        """The exit code, or None until the run has ended.

        Raises:
            UserError: a worker will never start, does not see the results folder, or has failed.
        """
        if self.code is None:
            self.code = self._exit_code()
            if self.code is not None:
                self.queued.forget()
                self.pool.waiting.discard(self.queued.start_file)
        return self.code

    def _exit_code(self) -> int | None:
        files, job = self.pool.files(), self._job()
        if self.queued.exit_file in files and (code := self.queued.exit_code()) is not None:
            return code
        listed = self.pool.slurm.jobs().get(job)
        has_worker = listed is not None and listed.state not in ENDED
        if self.is_stopping:
            self.pool.stop()  # again after an outage of Slurm
            return None if has_worker else STOPPED
        if self.queued.start_file not in files and not has_worker:  # it ended during the listing,
            return self.queued.exit_code() or 0  # or another sweep has read its exit code, and its record tells
        if listed is not None and listed.state in FAULTS:
            self.fault = f"Slurm job {job} of its worker: {listed.state}"
            return 1
        self.pool.fill()
        return None

    def _job(self) -> str:
        return self.queued.job() if self.queued.job_file in self.pool.files() else ""

    def stop(self) -> None:
        """Takes the run out of the queue; the worker that does it lets it save a checkpoint and end."""
        self.is_stopping = True
        self.queued.withdraw()
        self.pool.stop()

    def kill(self) -> None:
        """Takes the run out of the queue and cancels the workers."""
        self.is_stopping = True
        self.queued.withdraw()
        self.pool.cancel()

    def output(self) -> str:
        """The output of the run so far, and the end of its worker if that was the run's end."""
        output = log_tail(self.log, self.log_start)
        return f"{output}\n{self.fault}\n" if self.fault else output
