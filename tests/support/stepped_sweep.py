"""A sweep of rte with fake runs on any executor, in steps: a test reads its events, and can act between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support.fake_run import command_in

from harness.commands.sweep import read_options
from harness.sweeps.estimates import Estimate
from harness.sweeps.executor import Executor
from harness.sweeps.jobs import Job
from harness.sweeps.plan import expand
from harness.sweeps.scheduler import Command, Event, Scheduler
from harness.system.signals import StopRequest


class SteppedSweep:
    """One run per seed, with records in the folder's `results`."""

    def __init__(
        self, folder: Path, executor: Executor, seeds: int, flags: Sequence[str] = (), command: Command | None = None
    ) -> None:
        self.folder, self.stop_request = folder, StopRequest()
        numbers = [str(seed) for seed in range(seeds)]
        args = ["--tasks", "rte", "--seeds", *numbers, "--test-mode", "--results", str(folder / "results"), *flags]
        jobs = [Job(run, Estimate(None, "", 0), 1.0, False, False) for run in expand(read_options(args)[1])]
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

    def go_on_to_runs_that_wait(self, number: int = 1, parallel: int | None = None) -> None:
        """Starts runs that wait for `release`, and returns once all of them run, or `parallel` of them."""
        for seed in range(number):
            (self.folder / f"rte-{seed}").write_text("wait")
        self.go_on(until=lambda: len(self.starts()) == (parallel or number))

    def release(self) -> None:
        """Lets the runs that wait end well."""
        for file in self.folder.glob("rte-*"):
            file.unlink()

    def starts(self) -> list[str]:
        file = self.folder / "starts"
        return file.read_text().split("\n")[:-1] if file.exists() else []
