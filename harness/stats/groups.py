"""Groups of runs that differ in their seed only: membership, marks, and spread of their scores."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import fmean, median
from typing import Any, NamedTuple

from harness.facts.choices import GridSearch
from harness.facts.packing import unpack_array
from harness.facts.recipes import Recipe, recipe_difference
from harness.facts.record_parts import DataFacts, TaskFacts
from harness.facts.records import RunRecord, RunSpec
from harness.metrics.registry import title_of
from harness.metrics.scoring import baseline
from harness.stats.entries import Entry, assignments, entries_of
from harness.stats.uncertainty import Aggregate

MARKS = {
    "b": "not above the constant baseline: not significantly better, over seeds and rows",
    "c": "collapsed: a run that is averaged here predicted one class (or value) throughout",
    "d": "a run diverged or failed and has no score, see the notes",
    "p": "partial data: a split has another number of rows than the full data",
    "r": "trained on a reduced number of rows",
    "h": "holdout protocol: selected on one half of the reported split, scored on the other",
    "g": "selected on the reported split: the hyperparameters were chosen by the very score that is shown",
    "s": "the weights, or the threshold of a multi-label task, were selected on the split that is reported",
    "v": "another version, definition or data of the task than the column's",
    "u": "unpinned data: the task names no commit of its data set, whose rows may change",
    "x": "runs code that comes with the model",
    "t": "test mode",
}

_SHORT_NAMES = {
    "s": "weights or threshold selected on the reported split",
    "v": "another version, definition or data of the task",
}
"""Short names of marks whose legend does not begin with one."""

NOT_COMPARED = frozenset("dprhgsv")
"""Marks of groups that compete only with groups of the same marks."""

Pool = tuple[frozenset[str], Hashable]
"""The marks of `NOT_COMPARED`, and the number of training rows where these are not all of the task's."""


class Spread(NamedTuple):
    """The mean or the median over runs, and their sample standard deviation where there are several."""

    center: float | None
    deviation: float | None


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one task that differ in their seed only; each record is in one group, which equals no other."""

    entry: Entry
    task: TaskFacts
    """The task as the newest record has it: a cell shows the metrics of its column, also for older records."""
    runs: tuple[RunRecord, ...]
    """Sorted by seed."""
    marks: frozenset[str]
    aggregate: Aggregate = "mean"

    @property
    def spec(self) -> RunSpec:
        """The spec of the first run."""
        return self.runs[0].spec

    @property
    def recipe(self) -> str:
        """The recipe's differences from the task's default."""
        return assignments(self.runs[0].recipe_changes) or "default"

    @property
    def recipe_without_train_rows(self) -> str:
        """The recipe's differences from the task's default, besides the number of training rows."""
        changes = self.runs[0].recipe_changes
        return assignments({name: value for name, value in changes.items() if name != "train_rows"}) or "default"

    @property
    def fingerprint(self) -> str | None:
        """Hash of the data; None when no run read it."""
        return next((run.data.fingerprint for run in self.runs if run.data), None)

    @property
    def rows(self) -> int:
        """The rows of all splits together."""
        return next((sum(run.data.rows.values()) for run in self.runs if run.data), 0)

    @property
    def unit(self) -> str:
        """The units of resamples: rows, or whole groups of them."""
        return "groups of rows" if any(run.row_groups for run in self.runs) else "rows"

    @cached_property
    def scored(self) -> tuple[RunRecord, ...]:
        """The runs that are averaged; a collapsed one is a real outcome."""
        return tuple(run for run in self.runs if run.status in ("ok", "collapsed") and run.metrics)

    @cached_property
    def scores(self) -> list[float | None]:
        """The main score of each run that is averaged; None where a main metric is undefined."""
        return [self.score_of(run) for run in self.scored]

    def score_of(self, run: RunRecord) -> float | None:
        """The main score of one of its runs, or of a re-run; None where a main metric is undefined."""
        return mean_or_none([run.value(*pair) for pair in reported_metrics(self.task)])

    @cached_property
    def score(self) -> Spread:
        """The main score over seeds."""
        return spread_of(self.scores, self.aggregate)

    @cached_property
    def metrics(self) -> list[tuple[str, str]]:
        """(split, metric) of every number in the records, or the expected ones; the task's own metrics first."""
        pairs = {(split, name) for run in self.scored for split in run.metrics for name in run.metrics[split]}
        own = {name: number for number, name in enumerate(self.task.metrics)}

        def order(pair: tuple[str, str]) -> tuple[Any, ...]:
            split, name = pair
            return own.get(name, len(own)), name, split_order(split)

        return sorted(pairs or reported_metrics(self.task), key=order)

    @property
    def training_rows(self) -> int | None:
        """The rows that were trained on; None when no run read them."""
        return next((run.data.rows.get("train") for run in self.runs if run.data), None)

    @property
    def pool(self) -> Pool:
        """Equal for groups that compete with each other."""
        marks = self.marks & NOT_COMPARED
        return marks, self.training_rows if marks & {"p", "r"} else None

    @property
    def is_lender(self) -> bool:
        """The runs vary over seeds as those of other models do: none collapsed, diverged or failed."""
        return not self.marks & {"c", "d"}

    def over_seeds(self, split: str, metric: str) -> Spread:
        """One metric over seeds; both numbers are None when it is undefined in a run."""
        return spread_of([run.value(split, metric) for run in self.scored], self.aggregate)

    def baseline(self, split: str, metric: str) -> float | None:
        """The metric of the constant prediction that has the best main score on these rows."""
        gold = next((run.gold[split] for run in self.runs if split in run.gold), None)
        if gold is None:
            return next((run.baseline.get(split, {}).get(metric) for run in self.runs if run.baseline), None)
        row_groups = next((run.row_groups[split] for run in self.runs if split in run.row_groups), None)
        return _baseline(gold, row_groups, tuple(self.task.metrics), tuple(self.task.main_metrics)).get(metric)

    def preference(self) -> tuple[Any, ...]:
        """Sort key, highest for the group that is shown in its entry's cell."""
        is_full = self.rows > 0 and "p" not in self.marks
        latest = max((run.finished.timestamp(), run.run_id) for run in self.runs)
        return self.spec.task_version, is_full, self.rows, len(self.scored), len(self.runs), latest


@lru_cache
def _baseline(
    gold: str, row_groups: str | None, metrics: tuple[str, ...], main_metrics: tuple[str, ...]
) -> dict[str, float | None]:
    """The baseline for packed gold labels and groups of rows, of which a leaderboard has few."""
    labels, numbers = unpack_array(gold), None if row_groups is None else unpack_array(row_groups)
    return baseline(metrics, labels, 2 if labels.dtype.kind in "iu" else 1, main_metrics, numbers)


def reported_metrics(task: TaskFacts) -> list[tuple[str, str]]:
    """(split, metric) of each number in the task's column."""
    return [(split, metric) for split in task.report for metric in task.main_metrics]


def partial_splits(data: DataFacts) -> str:
    """The splits with another number of rows than the full data, such as `train 100 of 2,490 rows`."""
    return ", ".join(
        f"{split} {rows:,} of {data.full_rows[split]:,} rows"
        for split, rows in data.rows.items()
        if split in data.full_rows and rows != data.full_rows[split]
    )


def split_order(split: str) -> tuple[int, str]:
    """Sort key: training before validation before test."""
    stages = ("train", "validation", "test")
    numbers = (number for number, stage in enumerate(stages) if split.startswith(stage))
    return next(numbers, len(stages)), split


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """None when there is no value or one is None: the mean of the others would be an invented score."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def spread_of(values: Sequence[float | None], aggregate: Aggregate) -> Spread:
    """The scores of runs as one; without a center where there is no score or one is None."""
    known = [value for value in values if value is not None]
    average = mean_or_none(values)
    if average is None:
        return Spread(None, None)
    center = median(known) if aggregate == "median" else average
    if len(known) < 2:
        return Spread(center, None)
    squares = math.fsum((value - average) ** 2 for value in known)  # statistics.stdev takes ten times as long
    return Spread(center, math.sqrt(squares / (len(known) - 1)))


def precedence(run: RunRecord) -> tuple[Any, ...]:
    """Sort key, highest for the record that defines a column: newest version, whole data, pinned source, latest."""
    is_whole = run.data is not None and not run.data.is_partial and not _reduction(run.spec.recipe)
    return run.spec.task_version, is_whole, run.spec.data is None, run.finished.timestamp(), run.run_id


def _with_the_newest_changes(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, with the newest `recipe_changes` of equal recipes, whose default may be another one in a version."""
    newest = {_recipe_key(run): run.recipe_changes for run in sorted(records, key=lambda run: run.finished)}
    changed = [(run, newest[_recipe_key(run)]) for run in records]
    return [
        run if run.recipe_changes == changes else run.model_copy(update={"recipe_changes": changes})
        for run, changes in changed
    ]


def _recipe_key(run: RunRecord) -> Hashable:
    return run.spec.model, run.spec.task, run.spec.recipe


def group_runs(records: Sequence[RunRecord], aggregate: Aggregate = "mean") -> Iterator[Group]:
    """The groups of these records, each record in exactly one."""
    records = _with_the_newest_changes(records)
    by_precedence = sorted(records, key=precedence)
    defining = {(run.spec.task, run.spec.recipe.protocol): run for run in by_precedence}
    by_spec: dict[tuple[Entry, RunSpec], dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for entry, run in zip(entries_of(records), records, strict=True):
        parent = run.parent_group_key or run.spec.parent
        spec = run.spec.model_copy(update={"seed": 0, "model": entry.model, "parent": parent})
        by_spec[entry, spec][run.data.fingerprint if run.data else ""].append(run)
    for (entry, spec), by_data in by_spec.items():
        if "" in by_data and len(by_data) > 1:
            # failed before the data was read: counted with the runs on the most usual data
            early = by_data.pop("")
            by_data[max(by_data, key=lambda data: (len(by_data[data]), data))] += early
        standard = defining[spec.task, spec.recipe.protocol]
        for runs in by_data.values():
            by_seed = sorted(runs, key=lambda run: (run.spec.seed, run.run_id))
            yield Group(entry, standard.task, tuple(by_seed), _marks(by_seed, standard), aggregate)


def rejected_groups(groups: Sequence[Group], searches: Iterable[GridSearch]) -> list[Group]:
    """The groups of points that a grid did not choose, without runs outside it; none of a task without other groups."""
    run_ids = set[str]().union(*(search.choice.rejected_runs for search in searches))
    rejected = [group for group in groups if {run.run_id for run in group.runs} <= run_ids]
    others = {group.spec.task for group in set(groups).difference(rejected)}
    return [group for group in rejected if group.spec.task in others]


def sort_marks(marks: Iterable[str]) -> list[str]:
    """The marks, each once, in the order of the legend."""
    occurring = set(marks)
    return [mark for mark in MARKS if mark in occurring]


def mark_names(marks: Iterable[str]) -> list[str]:
    """Short names of the marks, such as `partial data`."""
    return [_SHORT_NAMES.get(mark, MARKS[mark].partition(":")[0].partition(",")[0]) for mark in sort_marks(marks)]


def _reduction(recipe: Recipe) -> frozenset[str]:
    is_tuned = recipe.protocol == "tuned_on_reported"
    return _true_marks({"r": recipe.train_rows is not None, "h": recipe.protocol == "holdout", "g": is_tuned})


def _true_marks(claims: Mapping[str, bool]) -> frozenset[str]:
    return frozenset(mark for mark, is_true in claims.items() if is_true)


def _marks(runs: Sequence[RunRecord], standard: RunRecord) -> frozenset[str]:
    spec, task, data = runs[0].spec, runs[0].task, next((run.data for run in runs if run.data), None)
    is_partial = data is not None and data.is_partial
    reduction = _reduction(spec.recipe)
    definition = spec.task_version, spec.task_fingerprint
    is_other = definition != (standard.spec.task_version, standard.spec.task_fingerprint)
    is_free = spec.data != standard.spec.data or (data is not None and data.is_unpinned)
    if is_free and data is not None and standard.data is not None:
        # fewer rows have another fingerprint for that reason alone, and a mark of their own
        is_reduced = is_partial or spec.recipe.train_rows != standard.spec.recipe.train_rows
        is_other |= not is_reduced and data.fingerprint != standard.data.fingerprint
    selects = spec.recipe.select != "last" or spec.recipe.threshold is not None
    return reduction | _true_marks(
        {
            "c": any(run.status == "collapsed" for run in runs),
            "d": any(run.status in ("diverged", "failed") for run in runs),
            "p": is_partial,
            "s": selects and "h" not in reduction and task.select_on in task.report,
            "v": is_other,
            "u": data is not None and data.is_unpinned,
            "x": bool(spec.trust_remote_code),
            "t": spec.test_mode,
        }
    )


def explain_difference(group: Group, shown: Group) -> str:
    """The reasons why a group is not averaged with the one that is shown in its cell."""
    own, other = group.spec, shown.spec
    reasons = []
    if own.task_version != other.task_version:
        reasons.append(f"task version {own.task_version}, not {other.task_version}")
    elif own.task_fingerprint != other.task_fingerprint:
        reasons.append("another definition of the task")
    if group.fingerprint is None:
        reasons.append("failed before the data was read")
    elif group.fingerprint != shown.fingerprint:
        sizes = f" ({group.rows:,} rows, not {shown.rows:,})" if group.rows != shown.rows else ""
        reasons.append(("partial data" if "p" in group.marks else "other data") + sizes)
    if changes := recipe_difference(own.recipe, other.recipe):
        instead = {name: getattr(other.recipe, name) for name in changes}
        reasons.append(f"recipe with {assignments(changes)}, not {assignments(instead)}")
    if own.revision != other.revision:
        reasons.append(f"revision {own.revision}, not {other.revision}")
    if own.trust_remote_code != other.trust_remote_code:
        reasons.append(("with" if own.trust_remote_code else "without") + " the code that comes with the model")
    if (parent := group.runs[0].parent_group_key) != shown.runs[0].parent_group_key and not changes:
        reasons.append(f"started from {parent}, not {shown.runs[0].parent_group_key}")
    return "; ".join(reasons) or "other files with the same rows"


def group_notes(group: Group) -> Iterator[str]:
    """Facts about the group's runs that a reader needs before comparing them."""
    for status in ("diverged", "failed", "collapsed"):
        if runs := [run for run in group.runs if run.status == status]:
            yield f"{len(runs)} of {len(group.runs)} {status} ({_seeds(runs)})"
    for split, name in reported_metrics(group.task):
        missing = [run for run in group.scored if name not in run.metrics.get(split, {})]
        if missing:
            yield f"{title_of(name)} on {split} is missing: another definition of the task ({_seeds(missing)})"
        if runs := [run for run in group.scored if run not in missing and run.value(split, name) is None]:
            yield f"{title_of(name)} on {split} is undefined ({_seeds(runs)})"


def _seeds(runs: Sequence[RunRecord]) -> str:
    return ("seed " if len(runs) == 1 else "seeds ") + ", ".join(str(run.spec.seed) for run in runs)
