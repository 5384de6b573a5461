"""Executors, the ways to start the runs of a sweep: each is one module, and one line of `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import UserError, did_you_mean
from harness.sweeps.executor import Executor, ExecutorSettings
from harness.sweeps.executors.local import LocalExecutor
from harness.sweeps.executors.slurm import SlurmExecutor

EXECUTORS: Mapping[str, Callable[[ExecutorSettings], Executor]] = {"local": LocalExecutor, "slurm": SlurmExecutor}
"""The executors by name."""


def make_executor(name: str, settings: ExecutorSettings) -> Executor:
    """The executor of that name with its settings.

    Raises:
        UserError: there is no such executor, it is missing here, or a setting is invalid.
    """
    if name not in EXECUTORS:
        known = ", ".join(EXECUTORS)
        raise UserError(f"--executor {name}: unknown executor.{did_you_mean(name, EXECUTORS)} Known: {known}.")
    if settings.slurm and name != "slurm":
        raise UserError(f"{min(settings.slurm)}: a setting of Slurm jobs; add --executor slurm.")
    return EXECUTORS[name](settings)


def option_values(flags: Mapping[str, str | None], assignments: tuple[str, ...]) -> dict[str, str]:
    """Options of sbatch, from flags of their own and from `KEY=VALUE` of --slurm."""
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key or not equals:
            raise UserError(f"--slurm {assignment}: expected an option of sbatch and its value, as in account=nlp.")
        values[key] = value
    return values | {key: value for key, value in flags.items() if value is not None}
