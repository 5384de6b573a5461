"""A sweep on the Slurm cluster of a test, and questions to the cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.fake_run import command_in
from support.slurm_cluster import reason_to_skip

from harness.commands.sweep import read_options
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors.slurm import SlurmExecutor
from harness.sweeps.jobs import Job
from harness.sweeps.plan import expand
from harness.sweeps.scheduler import Command, Event, Scheduler
from harness.system.signals import StopRequest

needs_slurm = pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip()))


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slurm(*args: str) -> str:
    return subprocess.run(args, capture_output=True, text=True, check=True, timeout=60).stdout


class Sweep:
    """A sweep of rte with fake runs, in steps: a test reads its events, and can act between them."""

    def __init__(
        self, folder: Path, seeds: int, flags: Sequence[str] = (), command: Command | None = None, **settings: Any
    ) -> None:
        self.folder, self.stop_request = folder, StopRequest()
        numbers = [str(seed) for seed in range(seeds)]
        args = ["--tasks", "rte", "--seeds", *numbers, "--test-mode", "--results", str(folder / "results"), *flags]
        jobs = [Job(run, None, 1.0, False, False) for run in expand(read_options(args)[1], lambda task, model: [{}])]
        executor = SlurmExecutor(ExecutorSettings(name="slurm", **settings), test_mode=True)
        self.scheduler = Scheduler(jobs, executor, command or command_in(folder))
        self.events = self.scheduler.events(self.stop_request)
        self.yielded: list[Event] = []

    def go_on(self, until: Callable[[], object] = lambda: False, seconds: float = 120) -> list[Event]:
        """Works until the condition is true, or to the end of the sweep."""
        deadline = time.monotonic() + seconds
        for event in self.events:
            self.yielded += [event] if event else []
            assert time.monotonic() < deadline, self.yielded
            if until():
                break
        return self.yielded

    def go_on_to_a_run_that_waits(self) -> None:
        """Lets the run start, and wait until its file is removed."""
        (self.folder / "rte-0").write_text("wait")
        self.go_on(until=lambda: len(self.starts()) == 1)

    def go_on_in_requeued_job(self) -> None:
        """Lets the run end well when its requeued job starts, at once instead of after Slurm's two minutes."""
        job, requeued_at = self.job(), list[float]()

        def has_started() -> bool:
            if "PENDING" in slurm("squeue", "--noheader", "--format=%T", "--job", job):
                requeued_at.append(time.monotonic())
            if requeued_at and time.monotonic() > requeued_at[0] + 5:  # a node refuses a job that returns at once
                subprocess.run(
                    ["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True, check=False
                )
                requeued_at.clear()
            return len(self.starts()) == 2

        self.go_on(until=has_started)
        (self.folder / "rte-0").unlink()
        self.go_on()

    def starts(self) -> list[str]:
        file = self.folder / "starts"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def job(self) -> str:
        return self.scheduler.running[0].handle.job.job  # type: ignore[attr-defined, no-any-return]
