"""The choice of a grid's point, by the score on the selection split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from harness.facts.choices import GridChoice, Per, TriedPoint
from harness.facts.records import RunRecord
from harness.facts.tasks import TaskSpec
from harness.metrics.registry import format_score
from harness.metrics.scoring import main_score
from harness.stats.entries import assignments
from harness.sweeps.plan import PlannedRun, Point

RULE = (
    "highest mean of the main metrics on the selection split (negated where lower is better) among the runs with the "
    "first seed; ties go to the earlier point; a point whose run diverged or has an undefined metric is never chosen"
)

HALVING_RULE = (
    "successive halving: every rung is a run of its own over its epochs, the better half of its points advances, and "
    "the last rung, with all epochs, decides"
)


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
    return f"grid for {names_text(choice)}: chosen {assignments(choice.chosen)} ({scores_text(choice)})"


def names_text(choice: GridChoice) -> str:
    """The tasks and the model that the choice is for."""
    return f"{', '.join(choice.tasks)}, {choice.model}"


def scores_text(choice: GridChoice) -> str:
    """`learning_rate=1e-05: 0.5012; learning_rate=3e-05: no score`, of the last rung."""
    return "; ".join(
        f"{assignments(point.values)}: {'no score' if point.score is None else format_score(point.score)}"
        for point in choice.points
        if point.rung == choice.points[-1].rung
    )


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
