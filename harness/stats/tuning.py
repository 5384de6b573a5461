"""The tuning budget of an entry: the points and the device-hours spent on the choice of its hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.facts.choices import GridSearch
from harness.facts.records import RunRecord
from harness.stats.groups import Group


class TuningBudget(NamedTuple):
    """The sum over the grids that chose an entry's hyperparameters."""

    grids: tuple[str, ...]
    """The files of the choices, relative to the results folder."""
    points: int
    """Points tried."""
    runs: int
    uncounted: int
    """Runs whose cost is unknown: no readable record, or a failed one without a cost."""
    device_seconds: float
    """Seconds times processes, over all runs of the grids, those of the chosen point included."""


def tuning_budget(groups: Sequence[Group], searches: Iterable[GridSearch]) -> TuningBudget | None:
    """The budget of the grids that chose the recipe of one of these groups; None if none did."""
    own = [search for search in searches if any(has_chosen(search, group) for group in groups)]
    return budget_of(own) if own else None


def budget_of(own: Sequence[GridSearch]) -> TuningBudget:
    """The budget of these grids; a run of several of them counts once."""
    runs = {run.run_id: run for search in own for run in search.records}
    costs = [run.cost for run in runs.values() if run.cost]
    missing = sum(search.missing for search in own)
    return TuningBudget(
        grids=tuple(search.path for search in own),
        points=sum(search.choice.number_of_points for search in own),
        runs=len(runs) + missing,
        uncounted=missing + len(runs) - len(costs),
        device_seconds=sum(cost.device_seconds for cost in costs),
    )


def has_chosen(search: GridSearch, group: Group) -> bool:
    """True where the group has the model and the chosen values of the grid, and a task that the choice is for.

    A rung before the last has them, too, but it is a part of the search.
    """
    choice, recipe = search.choice, group.spec.recipe
    if choice.chosen is None or (choice.per == "task" and group.spec.task not in choice.tasks):
        return False
    if choice.rejected_runs & {run.run_id for run in group.runs}:
        return False
    has_values = all(getattr(recipe, name, ...) == value for name, value in choice.chosen.items())
    return has_values and bool({_model(run) for run in search.records} & {_model(run) for run in group.runs})


def _model(run: RunRecord) -> tuple[str, str, bool]:
    """The model at its commit; a folder is known by the hash of its files alone."""
    is_folder = run.spec.revision.startswith("sha256:")
    commit = run.model.commit if run.model else None
    return "" if is_folder else run.spec.model, commit or run.spec.revision, run.spec.test_mode
