"""Runs that agree in everything but the seed: which those are, how they are marked, how they spread."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from harness.facts.metrics import title_of
from harness.facts.recipes import Recipe, changed_from
from harness.facts.records import RunRecord, RunSpec, TaskFacts
from harness.stats.entries import Row, assignments, rows_of

MARKS = {
    "c": "collapsed: a run that is averaged here predicted one class (or value) throughout",
    "d": "a run diverged or failed and has no score, see the notes",
    "p": "partial data: a split has another number of rows than the full data",
    "r": "trained on a reduced number of rows",
    "h": "holdout protocol: selected on one half of the reported split, scored on the other",
    "g": "selected on the reported split: the hyperparameters were chosen by the very score that is shown",
    "s": "the weights, or the threshold of a multi-label task, were selected on the split that is reported",
    "v": "another version, definition or data of the task than its column is about",
    "t": "test mode",
}


class Spread(NamedTuple):
    """Over runs: the mean, and the sample standard deviation where there are several."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one task that agree in everything but the seed; each record is in one group, which equals no other."""

    row: Row
    task: TaskFacts
    """As the newest record has it: a cell shows what the column's title says, also for older records."""
    runs: tuple[RunRecord, ...]
    """By seed."""
    marks: frozenset[str]

    @property
    def spec(self) -> RunSpec:
        """That of the first run."""
        return self.runs[0].spec

    @property
    def recipe(self) -> str:
        """How the task's recipe differs from its default."""
        return assignments(self.runs[0].recipe_changes) or "default"

    @property
    def fingerprint(self) -> str | None:
        """None when no run came to read the data."""
        return next((run.data.fingerprint for run in self.runs if run.data), None)

    @property
    def rows(self) -> int:
        """Of all splits together."""
        return next((sum(run.data.rows.values()) for run in self.runs if run.data), 0)

    @cached_property
    def scored(self) -> tuple[RunRecord, ...]:
        """The runs that are averaged; a collapsed one is a real outcome."""
        return tuple(run for run in self.runs if run.status in ("ok", "collapsed") and run.metrics)

    @cached_property
    def scores(self) -> list[float | None]:
        """Of each run that is averaged the mean of its main_metrics numbers; None where one is undefined."""
        places = main_metrics(self.task)
        return [mean([_number(run, *place) for place in places]) for run in self.scored]

    @cached_property
    def score(self) -> Spread:
        """Of the runs' scores."""
        return _spread(self.scores)

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        """(split, metric) of all numbers there are, or else should be; the task's own metrics first."""
        found = {(split, name) for run in self.scored for split in run.metrics for name in run.metrics[split]}
        own = {name: number for number, name in enumerate(self.task.metrics)}

        def order(place: tuple[str, str]) -> tuple[Any, ...]:
            return own.get(place[1], len(own)), place[1], split_order(place[0])

        return sorted(found or main_metrics(self.task), key=order)

    def over_seeds(self, split: str, metric: str) -> Spread:
        """Of one metric; both numbers are None when it is undefined in a run."""
        return _spread([_number(run, split, metric) for run in self.scored])

    def baseline(self, split: str, metric: str) -> float | None:
        """What the best constant answer scores on these rows."""
        return next((run.baseline.get(split, {}).get(metric) for run in self.runs if run.baseline), None)

    def preference(self) -> tuple[Any, ...]:
        """Highest for the group that stands in the table."""
        is_full = self.rows > 0 and "p" not in self.marks
        latest = max((run.finished.timestamp(), run.run_id) for run in self.runs)
        return self.spec.task_version, is_full, self.rows, len(self.scored), len(self.runs), latest


def main_metrics(task: TaskFacts) -> list[tuple[str, str]]:
    """(split, metric) of each number in the task's column."""
    return [(split, metric) for split in task.report for metric in task.main_metrics]


def split_order(split: str) -> tuple[int, str]:
    """Training before validation before test."""
    stages = ("train", "validation", "test")
    numbers = (number for number, stage in enumerate(stages) if split.startswith(stage))
    return next(numbers, len(stages)), split


def _number(run: RunRecord, split: str, metric: str) -> float | None:
    return run.metrics.get(split, {}).get(metric)


def mean(values: Sequence[float | None]) -> float | None:
    """None when there is no value or one is None: the mean of the others would be an invented score."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    average = mean(values)
    if average is None or len(known) < 2:
        return Spread(average, None)
    squares = math.fsum((value - average) ** 2 for value in known)  # statistics.stdev takes ten times as long
    return Spread(average, math.sqrt(squares / (len(known) - 1)))


def standards(records: Iterable[RunRecord]) -> dict[tuple[str, str], RunRecord]:
    """By task and protocol the record that others are compared with: newest version, whole data, latest."""
    return {(run.spec.task, run.spec.recipe.protocol): run for run in sorted(records, key=precedence)}


def precedence(run: RunRecord) -> tuple[Any, ...]:
    """Highest for the record that says what a column is about; a pinned source comes before files at hand."""
    is_whole = run.data is not None and not run.data.is_partial and not _reduction(run.spec.recipe)
    return run.spec.task_version, is_whole, run.spec.data is None, run.finished.timestamp(), run.run_id


def grouped(records: Sequence[RunRecord]) -> Iterator[Group]:
    """Every record in exactly one group."""
    standard = standards(records)
    alike: dict[tuple[Row, RunSpec], dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for row, run in zip(rows_of(records), records, strict=True):
        spec = run.spec.model_copy(
            update={"seed": 0, "model": row.model, "parent": run.parent_group_key or run.spec.parent}
        )
        alike[row, spec][run.data.fingerprint if run.data else ""].append(run)
    for (row, spec), by_data in alike.items():
        if "" in by_data and len(by_data) > 1:
            # broke off before the data was read: counted with the runs on the most usual data
            early = by_data.pop("")
            by_data[max(by_data, key=lambda data: (len(by_data[data]), data))] += early
        for runs in by_data.values():
            by_seed = sorted(runs, key=lambda run: (run.spec.seed, run.run_id))
            like = standard[spec.task, spec.recipe.protocol]
            yield Group(row, like.task, tuple(by_seed), _marks(by_seed, like))


def in_order(marks: Iterable[str]) -> list[str]:
    """The marks, each once, as the legend lists them."""
    occurring = set(marks)
    return [mark for mark in MARKS if mark in occurring]


def _reduction(recipe: Recipe) -> frozenset[str]:
    is_tuned = recipe.protocol == "tuned_on_reported"
    return _that_hold({"r": recipe.train_rows is not None, "h": recipe.protocol == "holdout", "g": is_tuned})


def _selects(recipe: Recipe) -> bool:
    return recipe.select != "last" or recipe.threshold is not None


def _that_hold(claims: Mapping[str, bool]) -> frozenset[str]:
    return frozenset(mark for mark, is_so in claims.items() if is_so)


def _marks(runs: Sequence[RunRecord], standard: RunRecord) -> frozenset[str]:
    spec, task, data = runs[0].spec, runs[0].task, next((run.data for run in runs if run.data), None)
    is_partial = data is not None and data.is_partial
    reduction = _reduction(spec.recipe)
    is_other = (spec.task_version, spec.task_fingerprint) != (
        standard.spec.task_version,
        standard.spec.task_fingerprint,
    )
    if spec.data != standard.spec.data and data is not None and standard.data is not None:
        # fewer rows have another fingerprint for that alone, and a mark of their own
        is_cut = is_partial or spec.recipe.train_rows != standard.spec.recipe.train_rows
        is_other |= not is_cut and data.fingerprint != standard.data.fingerprint
    return reduction | _that_hold(
        {
            "c": any(run.status == "collapsed" for run in runs),
            "d": any(run.status in ("diverged", "failed") for run in runs),
            "p": is_partial,
            "s": _selects(spec.recipe) and "h" not in reduction and task.select_on in task.report,
            "v": is_other,
            "t": spec.test_mode,
        }
    )


def difference(group: Group, other: Group) -> str:
    """How a group differs from the one that has its place in the table."""
    ours, theirs = group.spec, other.spec
    reasons = []
    if ours.task_version != theirs.task_version:
        reasons.append(f"task version {ours.task_version}, not {theirs.task_version}")
    elif ours.task_fingerprint != theirs.task_fingerprint:
        reasons.append("another definition of the task")
    if group.fingerprint is None:
        reasons.append("broke off before the data was read")
    elif group.fingerprint != other.fingerprint:
        sizes = f" ({group.rows:,} rows, not {other.rows:,})" if group.rows != other.rows else ""
        reasons.append(("partial data" if "p" in group.marks else "other data") + sizes)
    if changes := changed_from(ours.recipe, theirs.recipe):
        instead = {name: getattr(theirs.recipe, name) for name in changes}
        reasons.append(f"recipe with {assignments(changes)}, not {assignments(instead)}")
    if ours.revision != theirs.revision:
        reasons.append(f"asked for as revision {ours.revision}, not {theirs.revision}")
    if (parent := group.runs[0].parent_group_key) != other.runs[0].parent_group_key and not changes:
        reasons.append(f"started from runs like {parent}, not {other.runs[0].parent_group_key}")
    return "; ".join(reasons) or "given as other files of the same rows"


def incidents(group: Group) -> Iterator[str]:
    """What a reader must know of the group's runs before comparing them."""
    for status in ("diverged", "failed", "collapsed"):
        if found := [run for run in group.runs if run.status == status]:
            yield f"{len(found)} of {len(group.runs)} {status} ({_seeds(found)})"
    for split, name in main_metrics(group.task):
        if found := [run for run in group.scored if _number(run, split, name) is None]:
            yield f"{title_of(name)} on {split} is undefined ({_seeds(found)})"


def _seeds(runs: Sequence[RunRecord]) -> str:
    return ("seed " if len(runs) == 1 else "seeds ") + ", ".join(str(run.spec.seed) for run in runs)
