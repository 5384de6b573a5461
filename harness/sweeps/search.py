"""The search of a grid: its points with the first seed, a choice, and the chosen points with every seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console

from harness.errors import UserError
from harness.facts.choices import Per, write_choice
from harness.facts.tasks import load_task
from harness.stats.entries import assignments
from harness.sweeps.grid import Choice, choose, grid_choice, protocol_of, sweep_file_lines
from harness.sweeps.halving import half, number_of_rungs, rung_epochs
from harness.sweeps.plan import PlannedRun, Point, SweepRequest, expand, points_of


class SearchSettings(NamedTuple):
    """The flags of a grid."""

    per: Per
    select_on_reported: bool
    is_halved: bool
    """Successive halving: all points train for few epochs, the better half for twice as many, and so on."""
    is_dry_run: bool


Finish = Callable[[Sequence[PlannedRun], bool], int]
"""Runs these runs, or shows them in a dry run, and returns the exit code; the flag says that runs may diverge."""


def search_grid(request: SweepRequest, settings: SearchSettings, finish: Finish, console: Console) -> int:
    """Runs or shows the whole search and returns the exit code: 1 if a run has no score or nothing was chosen.

    Raises:
        UserError: the grid cannot be run, or cannot be halved.
    """
    grid = _Grid(request, settings)
    points, seed = grid.points, grid.requested[0].spec.seed
    console.print(f"Grid of {len(points)} points, seed {seed}:")
    choices: dict[_Key, Choice] = {}
    survivors: dict[_Key, list[Point]] = {key: [*points] for key in grid.rungs}
    code, epochs = 0, dict[str, int]()
    for rung in range(1, max(grid.rungs.values()) + 1):
        runs = grid.expand_rung(rung, survivors)
        if not runs:
            break
        requested = [run for run in runs if run.is_requested]
        epochs |= {run.run_id: run.spec.recipe.epochs for run in requested}
        if settings.is_halved:
            console.print(_rung_title(rung, grid, survivors, requested), soft_wrap=True)
        code = max(code, finish(runs, True))  # a point that diverges is only not chosen
        if code > 1:
            return code
        records = {run.run_id: record for run in requested if (record := run.record()) is not None}
        for choice in choose(requested, points, records, settings.per, rung):
            key = _key(settings.per, choice.tasks[0], choice.model)
            better: list[Point] = [point.values for point in choice.better_half()]
            if settings.is_dry_run and not choice.points:  # their number counts, not which they are
                better = survivors[key][: half(len(survivors[key]))]
            elif rung < grid.rungs[key] and not settings.is_dry_run:
                names = f"{', '.join(choice.tasks)}, {choice.model}"
                to_next = "; ".join(map(assignments, better)) or "none"
                console.print(f"rung {rung} for {names}: kept {to_next} ({choice.scores_text()})", soft_wrap=True)
            earlier = choices[key].points if key in choices else []
            choices[key] = choice._replace(points=[*earlier, *choice.points])
            survivors[key] = better if rung < grid.rungs[key] else []
    if settings.is_dry_run:
        if settings.is_halved:
            every = sum(run.spec.recipe.epochs for run in grid.requested)
            console.print(f"The rungs train for {sum(epochs.values()):,} epochs; the whole grid for {every:,}.")
        rest = expand(request, lambda task, model: [grid.with_protocol(task, points[0])])
        number = sum(run.is_requested for run in rest)
        console.print(f"Then the chosen points with all seeds: {number} runs, including those of the grid.")
        return code
    for choice in choices.values():
        console.print(str(choice), soft_wrap=True)
        if choice.chosen is not None:
            facts = grid_choice(choice, settings.per, seed, settings.select_on_reported, settings.is_halved)
            console.print(f"written to {write_choice(facts, grid.requested[0].options.folder)}", soft_wrap=True)
    console.print("For a sweep file:\n" + sweep_file_lines([*choices.values()], settings.per), soft_wrap=True)
    runs = grid.expand_chosen([*choices.values()])
    return max(code, finish(runs, False)) if runs else 1


_Key = tuple[str, str]
"""The model and the task of a choice; the task is empty for one over all tasks."""


def _key(per: Per, task: str, model: str) -> _Key:
    return model, task if per == "task" else ""


class _Grid:
    """The points of a grid for each choice, and their runs at full length."""

    def __init__(self, request: SweepRequest, settings: SearchSettings) -> None:
        self.request, self.settings = request, settings
        self.points = points_of(request.sweep.grid)
        runs = self._expand(lambda task, model: self.points)
        self.requested = [run for run in runs if run.is_requested]
        if settings.is_halved:
            self._check_halving()
        self.full = {(run.task.name, run.spec.model): run.spec.recipe.epochs for run in self.requested}
        self.rungs: dict[_Key, int] = {}
        for (task, model), epochs in self.full.items():
            key = _key(settings.per, task, model)
            number = number_of_rungs(len(self.points), epochs) if settings.is_halved else 1
            self.rungs[key] = max(number, self.rungs.get(key, 1))
        if settings.is_halved and set(self.rungs.values()) == {1}:
            raise UserError("--grid-halving: every run trains for one epoch, which cannot be halved; drop the flag.")

    def _check_halving(self) -> None:
        if len(self.points) < 2:
            raise UserError("--grid-halving: expected a grid of two or more points, got 1. Give more values to try.")
        if run := next((run for run in self.requested if run.spec.recipe.max_steps is not None), None):
            raise UserError(
                f"--grid-halving: halves epochs, but {run.task.name} trains for max_steps={run.spec.recipe.max_steps}; "
                "give --epochs instead, or drop one of the two."
            )

    def _expand(self, points: Callable[[str, str], Sequence[Point]]) -> list[PlannedRun]:
        def protected(task: str, model: str) -> list[Point]:
            return [self.with_protocol(task, point) for point in points(task, model)]

        return expand(self.request, protected, first_seed_only=True)

    def with_protocol(self, task: str, point: Point) -> Point:
        return {**point, **protocol_of(load_task(task), self.settings.select_on_reported)}

    def _model(self, task: str, model: str) -> str:
        """The model's name in the runs: the task's own where `model` is empty."""
        return model or next(run.spec.model for run in self.requested if run.task.name == task)

    def expand_rung(self, rung: int, survivors: dict[_Key, list[Point]]) -> list[PlannedRun]:
        """The runs of the points that each choice has in this rung."""

        def points(task: str, model: str) -> list[Point]:
            name = load_task(task).name
            model = self._model(name, model)
            key = _key(self.settings.per, name, model)
            if not self.settings.is_halved or not survivors[key]:
                return survivors[key]
            epochs = rung_epochs(rung, self.rungs[key], self.full[name, model])
            return [{**point, "epochs": epochs} for point in survivors[key]]

        return self._expand(points)

    def expand_chosen(self, choices: Sequence[Choice]) -> list[PlannedRun]:
        """The runs of the chosen points with every seed."""
        chosen = {(task, each.model): each.chosen.values for each in choices if each.chosen for task in each.tasks}

        def points(task: str, model: str) -> list[Point]:
            name = load_task(task).name
            point = chosen.get((name, self._model(name, model)))
            return [] if point is None else [self.with_protocol(task, point)]

        return expand(self.request, points)


def _rung_title(rung: int, grid: _Grid, survivors: dict[_Key, list[Point]], runs: Sequence[PlannedRun]) -> str:
    """`Rung 2 of 3: 4 of 8 points, 2 epochs`, with the extremes where choices differ."""
    numbers = [len(points) for points in survivors.values() if points]
    epochs = [run.spec.recipe.epochs for run in runs]
    return (
        f"Rung {rung} of {max(grid.rungs.values())}: {_range(numbers)} of {len(grid.points)} points, "
        f"{_range(epochs)} epoch{'' if max(epochs) == 1 else 's'}:"
    )


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
