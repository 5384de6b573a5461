"""An executor of runs, and a run that it has started, as the scheduler of a sweep knows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BeforeValidator, Field, model_validator

from harness.errors import UserError
from harness.facts.yaml_file import KeysOfFile
from harness.sweeps.launch import Start
from harness.system.devices import Slot


class SubmissionRefused(UserError):
    """The executor takes no job now; while others of the sweep run, it may take it later."""


class RunHandle(Protocol):
    """A run that an executor has started. No method blocks for long."""

    def location(self) -> str:
        """The device, or the job and its node."""

    def exit_code(self) -> int | None:
        """The exit code of the run's supervisor, or None until it has ended.

        Raises:
            UserError: no run of this executor can be done as requested. It is raised once; the next call tells the end.
        """

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""

    def kill(self) -> None:
        """Kills all processes of the run."""

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB; at the end, what the executor knows about it."""


class Executor(Protocol):
    """A way to start runs."""

    supported_settings: ClassVar[frozenset[str]]
    """Names of the `ExecutorSettings` that it knows, besides its own name."""
    has_queue: bool
    """True if a run that was started may first wait in a queue, so that the time left is unknown."""
    slots: Sequence[Slot]
    """The devices of each run at a time."""
    device: str
    """The device as records name it; empty where it is not known before the start."""

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when the executor is missing here, or a setting is invalid."""

    def start(self, start: Start, slot: Slot) -> RunHandle:
        """Starts a supervisor, which starts the run.

        Raises:
            SubmissionRefused: no job can be started now.
            UserError: the run cannot be started as requested.
        """


def _count(value: Any) -> Any:
    if isinstance(value, (int, float)) and value < 1:
        raise ValueError(f"expected 1 or more, got {value}")
    return value


def _texts(value: Any) -> Any:
    if isinstance(value, dict) and (empty := [name for name, each in value.items() if each in (None, "")]):
        raise ValueError(f"{empty[0]}: empty, perhaps an unset variable; give it a value, or drop it")
    return {str(name): str(each) for name, each in value.items()} if isinstance(value, dict) else value


Count = Annotated[int, BeforeValidator(_count)]
Text = Annotated[str, Field(min_length=1), BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A text that may look like a number, such as a time limit in minutes."""


class ExecutorSettings(KeysOfFile):
    """The executor of a sweep and its settings: flags of a sweep, and keys below `executor:` in its file."""

    name: str = "local"
    """The way to start runs: one of `EXECUTORS`."""
    max_jobs: Count | None = None
    """Runs at the same time, or jobs in the queue of a cluster."""
    gpus_per_run: Count | None = None
    """GPUs of a run on each of its nodes."""
    runs_per_device: Count | None = None
    """Runs that share a GPU."""
    nodes_per_run: Count | None = None
    """Nodes of a cluster that do a run together."""
    workers: Count | None = None
    """Slurm jobs that each do many runs."""
    partition: Text | None = None
    """The partition of Slurm jobs."""
    time: Text | None = None
    """The time limit of Slurm jobs."""
    slurm: Annotated[Mapping[str, str], BeforeValidator(_texts)] = {}
    """Further options of sbatch by their long names."""
    ray_address: Text | None = None
    """The address of a Ray cluster."""

    @model_validator(mode="before")
    @classmethod
    def _share_gpus(cls, values: Any) -> Any:
        """Takes a fraction of a GPU per run, as Ray writes it, for the number of runs that share one."""
        gpus = values.get("gpus_per_run") if isinstance(values, dict) else None
        if isinstance(gpus, float) and 0 < gpus < 1 and math.isfinite(1 / gpus) and not values.get("runs_per_device"):
            return {**values, "gpus_per_run": None, "runs_per_device": int(1 / gpus)}
        return values

    def replaced_by(self, flags: ExecutorSettings) -> ExecutorSettings:
        """These settings with those that `flags` set; `flags` alone if they name another executor."""
        if "name" in flags.model_fields_set and flags.name != self.name:
            return flags
        values = {name: getattr(flags, name) for name in flags.model_fields_set}
        return self.model_copy(update=values | {"slurm": {**self.slurm, **flags.slurm}})
