"""The lines of a sweep that is stopped."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console
from support.fake_run import command_in

from harness.commands.sweep import read_options
from harness.sweeps.estimates import Estimate
from harness.sweeps.jobs import Job, SweepPlan
from harness.sweeps.launch import STOPPED, Start
from harness.sweeps.plan import expand
from harness.sweeps.session import run_jobs
from harness.system.devices import Slot


class PendingJob:
    """A job that waits in the queue of a cluster, in which the sweep is stopped."""

    code: int | None = None

    def location(self) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "the queue"

    def exit_code(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.code = STOPPED

    def kill(self) -> None:
        raise AssertionError

    def output(self) -> str:
        return ""


class Cluster:
    """An executor of one run."""

    supported_settings, slots, device = frozenset[str](), (Slot(),), ""

    def __init__(self, has_queue: bool) -> None:
        self.has_queue = has_queue

    def start(self, start: Start, slot: Slot) -> PendingJob:
        return PendingJob()


@pytest.mark.parametrize("has_queue", [False, True])
def test_stopped_sweep_announces_the_end_of_jobs_in_a_queue(has_queue: bool, tmp_path: Path) -> None:
    args = ["--tasks", "rte", "--test-mode", "--results", str(tmp_path / "results")]
    jobs = [Job(run, Estimate(None, "", 0), 1.0, False, False) for run in expand(read_options(args)[1])]
    output = io.StringIO()
    code = run_jobs(
        SweepPlan(jobs, [], [], [], []), Cluster(has_queue), Console(file=output), command_in(tmp_path), False
    )
    assert code == 128 + signal.SIGTERM
    (line,) = (line for line in output.getvalue().split("\n") if line.startswith("stopping: "))
    assert ("cancelled" in line) == has_queue
