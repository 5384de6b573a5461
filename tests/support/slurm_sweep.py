"""A sweep on the Slurm cluster of a test, and questions to the cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.stepped_sweep import SteppedSweep

from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors.slurm import SlurmExecutor
from harness.sweeps.scheduler import Command


def slurm(*args: str) -> str:
    return subprocess.run(args, capture_output=True, text=True, check=True, timeout=60).stdout


class Sweep(SteppedSweep):
    """A sweep on the Slurm cluster."""

    def __init__(
        self, folder: Path, seeds: int, flags: Sequence[str] = (), command: Command | None = None, **settings: Any
    ) -> None:
        executor = SlurmExecutor(ExecutorSettings(name="slurm", **settings), test_mode=True)
        super().__init__(folder, executor, seeds, flags, command)

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

    def job(self) -> str:
        return self.scheduler.running[0].handle.job  # type: ignore[attr-defined, no-any-return]
