"""An executor of runs, and a run that it has started, as the scheduler of a sweep knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from harness.sweeps.launch import Start
from harness.system.devices import Slot


class RunHandle(Protocol):
    """A run that an executor has started. No method blocks for long."""

    def location(self) -> str:
        """The device, or the job and its node."""

    def exit_code(self) -> int | None:
        """The exit code of the run's supervisor, or None until it has ended."""

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""

    def kill(self) -> None:
        """Kills all processes of the run."""

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB; at the end, what the executor knows about it."""


class Executor(Protocol):
    """A way to start runs."""

    slots: Sequence[Slot]
    """The devices of each run at a time."""
    device: str
    """The device as records name it; empty where it is not known before the start."""

    def start(self, start: Start, slot: Slot) -> RunHandle:
        """Starts a supervisor, which starts the run.

        Raises:
            UserError: the run cannot be started as requested.
        """


class ExecutorSettings(NamedTuple):
    """The settings of a sweep that executors know."""

    test_mode: bool = False
    jobs: int | None = None
    """Runs at the same time."""
    devices_per_run: int | None = None
    slurm: Mapping[str, str] = {}
    """Options of sbatch by their long names."""
