"""Which point of a grid is chosen: by the score on rows that selection may see; a file beside the records states it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from harness.facts.metrics import METRICS
from harness.facts.records import RunRecord, write_atomically
from harness.facts.tasks import TaskSpec
from harness.stats.entries import assignments
from harness.sweeps.plan import PlannedRun, Point

Per = Literal["task", "model"]

RULE = (
    "highest mean of the main metrics on the selection split (negated where lower is better) among the runs with the "
    "first seed; ties go to the earlier point; a point whose run diverged or has an undefined metric is never chosen"
)


class Tried(NamedTuple):
    """One point of a grid and what came of it."""

    values: dict[str, Any]
    """Hyperparameter: value, as the grid has it."""
    runs: dict[str, str]
    """run_id by task."""
    scores: dict[str, float | None]
    """By task."""

    @property
    def score(self) -> float | None:
        """The mean over the tasks; None when one has none."""
        known = [score for score in self.scores.values() if score is not None]
        return fmean(known) if known and len(known) == len(self.scores) else None


class Choice(NamedTuple):
    """What was chosen for a model, on one task or on several together."""

    model: str
    tasks: tuple[str, ...]
    points: list[Tried]
    chosen: Tried | None
    """None when no point has a score."""

    def __str__(self) -> str:
        names = f"{', '.join(self.tasks)}, {self.model}"
        if self.chosen is None:
            return f"grid for {names}: no point has a score, so none is chosen"
        tried = "; ".join(
            f"{assignments(point.values)}: {'no score' if point.score is None else format(point.score, '.4f')}"
            for point in self.points
        )
        return f"grid for {names}: chosen is {assignments(self.chosen.values)} ({tried})"


def protocol_of(task: TaskSpec, selects_on_reported: bool) -> dict[str, str]:
    """What a point also sets: that selection does not see the reported rows, or that the record says so.

    A task that reports another split than selection looks at needs neither.
    """
    if task.select_on not in task.report:
        return {}
    return {"protocol": "tuned_on_reported" if selects_on_reported else "holdout"}


def selection_score(record: RunRecord) -> float | None:
    """The mean of the main metrics on the split that selection looks at, higher is better; None: there is none."""
    found = record.metrics.get(record.task.select_on, {})
    values = [found.get(name) for name in record.task.main_metrics]
    signs = [-1 if name in METRICS and METRICS[name].lower_is_better else 1 for name in record.task.main_metrics]
    if any(value is None for value in values):
        return None
    return fmean(sign * value for sign, value in zip(signs, values, strict=True) if value is not None)


def choose(
    runs: Sequence[PlannedRun], points: Sequence[Point], records: Mapping[str, RunRecord], per: Per
) -> list[Choice]:
    """One choice for each task and model, or for each model over all of its tasks.

    `runs`: of every point, with one seed; `records` by run_id. Where the run of some point is missing there, or has
    failed, nothing is chosen: that it is the worst is not known.
    """
    together: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        together.setdefault((run.spec.model, run.task.name if per == "task" else ""), []).append(run)
    choices = []
    for (model, _), members in together.items():
        tasks = tuple(dict.fromkeys(run.task.name for run in members))
        if any(not _has_ended(records.get(run.run_id)) for run in members):
            choices.append(Choice(model, tasks, [], None))
            continue
        tried = [_tried(point, [run for run in members if _is_at(run, point)], records) for point in points]
        scored = [point for point in tried if point.score is not None]
        best = max(scored, key=lambda point: point.score or 0.0, default=None)
        choices.append(Choice(model, tasks, tried, best))
    return choices


def _has_ended(record: RunRecord | None) -> bool:
    return record is not None and record.is_finished


def _is_at(run: PlannedRun, point: Point) -> bool:
    return all(getattr(run.spec.recipe, name) == value for name, value in point.items())


def _tried(point: Point, runs: Sequence[PlannedRun], records: Mapping[str, RunRecord]) -> Tried:
    return Tried(
        dict(point),
        {run.task.name: run.run_id for run in runs},
        {run.task.name: selection_score(records[run.run_id]) for run in runs},
    )


def write_choice(choice: Choice, folder: Path, seed: int, selects_on_reported: bool) -> Path:
    """States the choice in `folder/grids`: the same bytes whenever it is made from the same runs."""
    runs = sorted(run_id for point in choice.points for run_id in point.runs.values())
    digest = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:10]
    short = re.sub(r"[^A-Za-z0-9._]+", "-", choice.model.rstrip("/").rsplit("/", 1)[-1]).strip("-.")[:48]
    facts = {
        "model": choice.model,
        "tasks": list(choice.tasks),
        "seed": seed,
        "rule": RULE,
        "selected_on": "the reported split" if selects_on_reported else "rows that are not reported",
        "points": [{**point._asdict(), "score": point.score} for point in choice.points],
        "chosen": choice.chosen.values if choice.chosen else None,
    }
    tasks = choice.tasks[0] if len(choice.tasks) == 1 else f"{len(choice.tasks)}-tasks"
    path = folder / "grids" / f"{short}-{tasks}-{digest}.json"
    write_atomically(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return path


def as_overrides(choices: Sequence[Choice], per: Per) -> str:
    """What a sweep file says to use what was chosen."""
    lines = ["models:"]
    for model in dict.fromkeys(choice.model for choice in choices):
        mine = [choice for choice in choices if choice.model == model and choice.chosen]
        lines += [f"  {model}:"] if mine else []
        lines += ["    recipe_by_task:"] if mine and per == "task" else []
        for choice in mine:
            assert choice.chosen is not None
            recipe = json.dumps(choice.chosen.values).replace('"', "")
            lines.append(f"      {choice.tasks[0]}: {recipe}" if per == "task" else f"    recipe: {recipe}")
    return "\n".join(lines)
