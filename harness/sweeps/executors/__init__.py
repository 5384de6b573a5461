"""Executors, the ways to start the runs of a sweep: each is one module, and one line of `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import UserError, did_you_mean
from harness.sweeps.executor import Executor, ExecutorSettings
from harness.sweeps.executors.local import LocalExecutor
from harness.sweeps.executors.ray import RayExecutor
from harness.sweeps.executors.slurm import SlurmExecutor

EXECUTORS: Mapping[str, type[Executor]] = {"local": LocalExecutor, "slurm": SlurmExecutor, "ray": RayExecutor}
"""The executors by name."""

DETACHABLE = ("slurm",)
"""Executors whose runs continue when the sweep has ended."""


def make_executor(settings: ExecutorSettings, test_mode: bool) -> Executor:
    """The executor that the settings name.

    Raises:
        UserError: there is no such executor, it is missing here, or a setting is invalid or not one of its own.
    """
    name = settings.name
    if name not in EXECUTORS:
        known = ", ".join(EXECUTORS)
        raise UserError(f"--executor {name}: unknown executor.{did_you_mean(name, EXECUTORS)} Known: {known}.")
    known_here = EXECUTORS[name].supported_settings | {"name"}
    foreign = sorted(settings.model_fields_set - known_here)
    if setting := next((each for each in foreign if getattr(settings, each)), None):
        other = next((other for other, executor in EXECUTORS.items() if setting in executor.supported_settings), None)
        advice = f"; add --executor {other}" if other else ""
        raise UserError(f"--{setting.replace('_', '-')}: unsupported by the executor {name}{advice}.")
    return EXECUTORS[name](settings, test_mode)
