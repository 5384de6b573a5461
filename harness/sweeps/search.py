"""The search of a grid: its points with the first seed, a choice, and the chosen points with every seed.

With successive halving, the points train twice as long in each rung, and the better half advances: Jamieson and
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1, with epochs as
the resource. A rung is a run of its own with a whole schedule over its epochs, not a run that is stopped: a linear or
cosine decay over more epochs has another learning rate at every step, so that a longer run is no continuation of a
shorter one. The epochs are in the run_id, and no rung needs the checkpoints of another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from rich.console import Console

from harness.errors import UserError
from harness.facts.choices import GridChoice, Per, TriedPoint, write_choice
from harness.facts.records import RunRecord
from harness.facts.tasks import TaskSpec, load_task
from harness.metrics.registry import format_score
from harness.metrics.scoring import main_score
from harness.stats.entries import assignments
from harness.sweeps.plan import PlannedRun, Point, SweepRequest, expand, points_of

RULE = (
    "highest mean of the main metrics on the selection split (negated where lower is better) among the runs with the "
    "first seed; ties go to the earlier point; a point whose run diverged or has an undefined metric is never chosen"
)

HALVING_RULE = (
    "successive halving: every rung is a run of its own over its epochs, the better half of its points advances, and "
    "the last rung, with all epochs, decides"
)

Finish = Callable[[Sequence[PlannedRun], bool], int]
"""Runs these runs, or shows them in a dry run, and returns the exit code; the flag says that runs may diverge."""

ChoiceKey = tuple[str, str]
"""The model and the task of a choice; the task is empty for one over all tasks."""


class SearchSettings(NamedTuple):
    """The flags of a grid."""

    per: Per
    select_on_reported: bool
    is_halved: bool
    """Successive halving: all points train for few epochs, the better half for twice as many, and so on."""
    is_dry_run: bool

    def key(self, task: str, model: str) -> ChoiceKey:
        """The choice that a run of this task and model is for."""
        return model, task if self.per == "task" else ""


def search_grid(request: SweepRequest, settings: SearchSettings, finish: Finish, console: Console) -> int:
    """Runs or shows the whole search and returns the exit code: 1 if a run has no score or nothing was chosen.

    Raises:
        UserError: the grid cannot be run, or cannot be halved.
    """
    search, code = _Search(request, settings), 0
    number = len(search.points)
    console.print(f"Grid of {number} point{'s' * (number > 1)}, seed {search.full_length[0].spec.seed}:")
    for rung in range(1, search.last_rung + 1):
        runs = search.expand_rung(rung)
        if not runs:
            break
        if settings.is_halved:
            console.print(search.rung_title(rung, runs), soft_wrap=True)
        code = max(code, finish(runs, True))  # a point that diverges is only not chosen
        if code > 1:
            return code
        for line in search.update_choices(rung, runs):
            console.print(line, soft_wrap=True)
    if settings.is_dry_run:
        for line in search.forecast():
            console.print(line)
        return code
    choices = list(search.choices.values())
    for choice in choices:
        console.print(choice_text(choice), soft_wrap=True)
        if choice.chosen is not None:
            path = write_choice(choice, search.full_length[0].options.folder)
            console.print(f"written to {path}", soft_wrap=True)
    runs = search.expand_chosen()
    if not runs:
        return 1
    console.print("For a sweep file:\n" + sweep_file_lines(choices, search.full_length), soft_wrap=True)
    return max(code, finish(runs, False))


class _Search:
    """A grid, the points of each choice that are left in a rung, and the choices so far."""

    def __init__(self, request: SweepRequest, settings: SearchSettings) -> None:
        self.request, self.settings = request, settings
        self.points = points_of(request.sweep.grid)
        self.own_models: dict[str, str] = {}
        """The model of each task in a sweep that names no models."""
        self.full_length = [run for run in self._expand(lambda task, model: self.points) if run.is_requested]
        """The runs of all points with the epochs of the last rung."""
        self.own_models = {run.task.name: run.spec.model for run in self.full_length}
        if settings.is_halved:
            self._check_halving()
        self.epochs = {(run.task.name, run.spec.model): run.spec.recipe.epochs for run in self.full_length}
        """The epochs of the last rung, by task and model."""
        self.rungs: dict[ChoiceKey, int] = {}
        for (task, model), epochs in self.epochs.items():
            key = settings.key(task, model)
            number = number_of_rungs(len(self.points), epochs) if settings.is_halved else 1
            self.rungs[key] = max(number, self.rungs.get(key, 1))
        self.last_rung = max(self.rungs.values())
        if settings.is_halved and self.last_rung == 1:
            raise UserError("--grid-halving: every run trains for one epoch, which cannot be halved; drop the flag.")
        self.points_left: dict[ChoiceKey, list[Point]] = {key: [*self.points] for key in self.rungs}
        """The points of each choice in the next rung; none after its last."""
        self.choices: dict[ChoiceKey, GridChoice] = {}
        self.epochs_of_rungs: dict[str, int] = {}
        """The epochs of each run in a rung so far, by run_id."""

    def _check_halving(self) -> None:
        if len(self.points) < 2:
            raise UserError("--grid-halving: expected a grid of two or more points, got 1. Give more values to try.")
        if run := next((run for run in self.full_length if run.spec.recipe.max_steps is not None), None):
            raise UserError(
                f"--grid-halving: halves epochs, but {run.task.name} trains for max_steps={run.spec.recipe.max_steps}; "
                "give --epochs instead, or drop one of the two."
            )

    def _expand(self, points: Callable[[str, str], Sequence[Point]], first_seed_only: bool = True) -> list[PlannedRun]:
        """The runs of `points(task, model)`, with the names that records have, under the protocol of the grid."""

        def protected(name_or_path: str, model: str) -> list[Point]:
            task = load_task(name_or_path)
            protocol = protocol_of(task, self.settings.select_on_reported)
            return [{**point, **protocol} for point in points(task.name, model or self.own_models.get(task.name, ""))]

        return expand(self.request, protected, first_seed_only)

    def expand_rung(self, rung: int) -> list[PlannedRun]:
        """The runs of the points that each choice has in this rung."""

        def points(task: str, model: str) -> list[Point]:
            key = self.settings.key(task, model)
            if not self.settings.is_halved or not self.points_left[key]:
                return self.points_left[key]
            epochs = rung_epochs(rung, self.rungs[key], self.epochs[task, model])
            return [{**point, "epochs": epochs} for point in self.points_left[key]]

        return self._expand(points)

    def rung_title(self, rung: int, runs: Sequence[PlannedRun]) -> str:
        """`Rung 2 of 3: 4 of 8 points, 2 epochs`, with the extremes where choices differ."""
        numbers = [len(points) for points in self.points_left.values() if points]
        epochs = [run.spec.recipe.epochs for run in runs if run.is_requested]
        return (
            f"Rung {rung} of {self.last_rung}: {_range(numbers)} of {len(self.points)} points, "
            f"{_range(epochs)} epoch{'' if max(epochs) == 1 else 's'}:"
        )

    def update_choices(self, rung: int, runs: Sequence[PlannedRun]) -> list[str]:
        """Updates the choices and the points left after a rung; returns a line per choice with the points kept."""
        settings, requested = self.settings, [run for run in runs if run.is_requested]
        lines = []
        self.epochs_of_rungs |= {run.run_id: run.spec.recipe.epochs for run in requested}
        records = {run.run_id: record for run in requested if (record := run.record()) is not None}
        for choice in choose(requested, self.points, records, settings, rung):
            key = settings.key(choice.tasks[0], choice.model)
            is_last, better = rung >= self.rungs[key], better_half(choice)
            if settings.is_dry_run and not choice.points:  # their number counts, not which they are
                better = self.points_left[key][: half(len(self.points_left[key]))]
            elif not is_last and not settings.is_dry_run:
                to_next = "; ".join(map(assignments, better)) or "none"
                lines.append(f"rung {rung} for {names_text(choice)}: kept {to_next} ({scores_text(choice, better)})")
            earlier = self.choices[key].points if key in self.choices else []
            self.choices[key] = choice.model_copy(update={"points": [*earlier, *choice.points]})
            self.points_left[key] = [] if is_last else better
        return lines

    def forecast(self) -> Iterator[str]:
        """The lines of a dry run about the rungs, and about the runs after them."""
        if self.settings.is_halved:
            every = sum(run.spec.recipe.epochs for run in self.full_length)
            yield f"The rungs train for {sum(self.epochs_of_rungs.values()):,} epochs; the whole grid for {every:,}."
        rest = self._expand(lambda task, model: self.points[:1], first_seed_only=False)
        number = sum(run.is_requested for run in rest)
        yield f"Then the chosen points with all seeds: {number} run{'s' * (number > 1)}, including those of the grid."

    def expand_chosen(self) -> list[PlannedRun]:
        """The runs of the chosen points with every seed."""
        choices = [choice for choice in self.choices.values() if choice.chosen is not None]
        chosen = {(task, choice.model): choice.chosen for choice in choices for task in choice.tasks}

        def points(task: str, model: str) -> list[Point]:
            point = chosen.get((task, model))
            return [] if point is None else [point]

        return self._expand(points, first_seed_only=False)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def number_of_rungs(points: int, epochs: int) -> int:
    """1, and one for each time that points and epochs can be halved, rounded up, until one is left of either."""
    return 1 + min((points - 1).bit_length(), (epochs - 1).bit_length())


def rung_epochs(rung: int, rungs: int, epochs: int) -> int:
    """Epochs in a rung, counted from 1: all of them in the last, half of the next one's in every other, rounded up."""
    return -(-epochs // (1 << (rungs - rung)))


def half(points: int) -> int:
    """Points that advance from a rung: half of them, rounded up."""
    return -(-points // 2)


def better_half(choice: GridChoice) -> list[Point]:
    """The points with a score in the better half, rounded up, in the order of the grid; of equals the earlier."""
    scored = [point for point in choice.points if point.score is not None]
    best_first = sorted(scored, key=lambda point: -(point.score or 0.0))
    better = best_first[: half(len(choice.points))]
    return [point.values for point in choice.points if point in better]


# -- the choice --------------------------------------------------------------------------------------------------------


def protocol_of(task: TaskSpec, select_on_reported: bool) -> dict[str, str]:
    """The protocol of a grid's runs: `holdout` keeps selection off the reported rows, or the record says otherwise.

    A task that reports another split than it selects on needs no protocol.
    """
    if task.select_on not in task.report:
        return {}
    return {"protocol": "tuned_on_reported" if select_on_reported else "holdout"}


def selection_score(record: RunRecord) -> float | None:
    """The main score on the selection split, higher is better; None if a main metric is undefined."""
    return main_score(record.task.main_metrics, record.metrics.get(record.task.select_on, {}))


def choose(
    runs: Sequence[PlannedRun],
    points: Sequence[Point],
    records: Mapping[str, RunRecord],
    settings: SearchSettings,
    rung: int,
) -> list[GridChoice]:
    """One choice per task and model, or per model over all of its tasks.

    `runs` has the points of this rung with one seed, `records` their records by run_id. If the run of a point is
    missing or has failed, the choice has no points and nothing is chosen: it could have been the best.
    """
    by_choice: dict[ChoiceKey, list[PlannedRun]] = {}
    for run in runs:
        by_choice.setdefault(settings.key(run.task.name, run.spec.model), []).append(run)
    choices = []
    for (model, _), members in by_choice.items():
        records_of = [records.get(run.run_id) for run in members]
        have_ended = all(record is not None and record.is_finished for record in records_of)
        by_point = [(point, [run for run in members if _is_at(run, point)]) for point in points] if have_ended else []
        tried = [_tried(point, at_point, records, rung) for point, at_point in by_point if at_point]
        scored = [point for point in tried if point.score is not None]
        best = max(scored, key=lambda point: point.score or 0.0, default=None)
        choices.append(
            GridChoice(
                model=model,
                tasks=list(dict.fromkeys(run.task.name for run in members)),
                per=settings.per,
                seed=members[0].spec.seed,
                rule=f"{RULE}; {HALVING_RULE}" if settings.is_halved else RULE,
                selected_on="the reported split" if settings.select_on_reported else "rows that are not reported",
                points=tried,
                chosen=None if best is None else best.values,
            )
        )
    return choices


def _is_at(run: PlannedRun, point: Point) -> bool:
    return all(getattr(run.spec.recipe, name) == value for name, value in point.items())


def _tried(point: Point, runs: Sequence[PlannedRun], records: Mapping[str, RunRecord], rung: int) -> TriedPoint:
    scores = {run.task.name: selection_score(records[run.run_id]) for run in runs}
    known = [score for score in scores.values() if score is not None]
    return TriedPoint(
        values=dict(point),
        runs={run.task.name: run.run_id for run in runs},
        scores=scores,
        score=fmean(known) if len(known) == len(scores) else None,
        rung=rung,
    )


def choice_text(choice: GridChoice) -> str:
    """The chosen point with the scores of all, in a line."""
    if choice.chosen is None:
        return f"grid for {names_text(choice)}: no point has a score, none is chosen"
    return (
        f"grid for {names_text(choice)}: chosen {assignments(choice.chosen)} ({scores_text(choice, [choice.chosen])})"
    )


def names_text(choice: GridChoice) -> str:
    """The tasks and the model that the choice is for."""
    return f"{', '.join(choice.tasks)}, {choice.model}"


def scores_text(choice: GridChoice, best: Sequence[Point]) -> str:
    """`learning_rate=1e-05: 0.5012; learning_rate=3e-05: no score`, of the last rung.

    A note counts the points outside `best` whose score equals the lowest in it.
    """
    points = [point for point in choice.points if point.rung == choice.points[-1].rung]
    scores = "; ".join(
        f"{assignments(point.values)}: {'no score' if point.score is None else format_score(point.score)}"
        for point in points
    )
    lowest = min((point.score for point in points if point.values in best and point.score is not None), default=None)
    ties = sum(point.values not in best and point.score is not None and point.score == lowest for point in points)
    note = f"; {ties} other point{'' if ties == 1 else 's'}, later in the grid, scored the same"
    return scores + (note if ties else "")


def sweep_file_lines(choices: Sequence[GridChoice], runs: Sequence[PlannedRun]) -> str:
    """The lines of a sweep file that use the chosen points; `runs` have the tasks as the sweep names them."""
    names = {run.task.name: run.options.task for run in runs}
    lines = ["models:"]
    for model in dict.fromkeys(choice.model for choice in choices):
        mine = [choice for choice in choices if choice.model == model and choice.chosen]
        lines += [f"  {model}:"] if mine else []
        lines += ["    recipe_by_task:"] if mine and mine[0].per == "task" else []
        for choice in mine:
            recipe = json.dumps(choice.chosen).replace('"', "")
            lines.append(
                f"      {names[choice.tasks[0]]}: {recipe}" if choice.per == "task" else f"    recipe: {recipe}"
            )
    return "\n".join(lines)
