"""Confidence intervals of a task's scores, tests between models, and ties with the best.

Models are compared by the main score on resampled rows, from the predictions in their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.registry import METRICS, direction_of
from harness.stats.entries import Entry
from harness.stats.groups import Group
from harness.stats.predictions import Predictions, read_predictions
from harness.stats.resampling import deviations, generator, has_influence, resampled
from harness.stats.uncertainty import (
    ALPHA,
    Differences,
    Floats,
    Interval,
    Sample,
    average_ranks,
    compare,
    holm,
    interval,
    mcnemar,
    percentiles,
    t_interval,
    wilson,
    wilson_variance,
)

_MIN_DEFINED_SHARE = 0.9
"""A model whose score is undefined on more than a tenth of the resamples is not compared."""

Indices = NDArray[np.intp]


class Resampling(NamedTuple):
    """The number of resamples, and the way their scores are computed."""

    number: int
    is_to_first_order: bool = False
    """Scores are approximated from the influence of each row, where the metrics have one."""


class PairwiseTest(NamedTuple):
    """The test of one model's score less another's, on the same rows."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected for all tests of its family."""
    method: str

    @property
    def is_significant(self) -> bool:
        """True at the level of 0.05, after the correction."""
        return self.p_holm < ALPHA

    def reversed(self) -> PairwiseTest:
        """The second model's score less the first's."""
        return self._replace(difference=-self.difference, low=-self.high, high=-self.low)


class PairwiseTests(NamedTuple):
    """Tests of several pairs, corrected for each other; arrays [pairs]."""

    differences: Differences
    p: Floats
    p_holm: Floats
    is_exact: NDArray[np.bool_]

    def test(self, pair: int) -> PairwiseTest:
        """The test of one pair."""
        return PairwiseTest(
            difference=float(self.differences.difference[pair]),
            low=float(self.differences.low[pair]),
            high=float(self.differences.high[pair]),
            p=float(self.p[pair]),
            p_holm=float(self.p_holm[pair]),
            method="exact McNemar test" if self.is_exact[pair] else "paired bootstrap",
        )


class Evidence(NamedTuple):
    """95 % intervals of a group's score, and its test against the best."""

    seeds: Interval | None = None
    """Interval of the mean over seeds."""
    split: Interval | None = None
    """Interval over rows; the runs are held fixed."""
    split_method: str | None = None
    total: Interval | None = None
    """Interval over seeds and rows; for one run, over rows only."""
    rows: int | None = None
    is_tied: bool = False
    """Not significantly different from the best; the best is tied when another group is."""
    to_best: PairwiseTest | None = None
    """The group less the best; None for the best and for groups that were not compared with it."""


class Rank(NamedTuple):
    """The mean rank over tasks, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Groups that predicted the same rows, with their scores on resamples of these rows."""

    groups: list[Group]
    sample: Sample
    direction: int | None
    """1 where more is better, -1 where less is, None where that is unknown."""
    correct: NDArray[np.float32] | None
    """[groups, N] for each group's first run, where the score is the accuracy on one split."""

    def subset(self, groups: Sequence[Group]) -> Comparison:
        """The comparison of some of the groups, in this order."""
        position = {group: number for number, group in enumerate(self.groups)}
        at = [position[group] for group in groups]
        scores, resampled_scores, rows, seeds, variances = self.sample
        sample = Sample(scores[at], resampled_scores[at], rows, seeds[at], variances[at])
        return Comparison(list(groups), sample, self.direction, None if self.correct is None else self.correct[at])

    @property
    def best(self) -> int:
        """The position of the best group."""
        assert self.direction is not None
        return int(np.argmax(self.direction * self.sample.scores))

    def test_pairs(self, first: Indices, second: Indices) -> PairwiseTests:
        """Tests of the groups at positions `first` less those at `second`, as one family."""
        differences = compare(self.sample, first, second)
        p, is_exact = differences.p, np.zeros(len(first), bool)
        if self.correct is not None:
            both, correct = self.correct @ self.correct.T, self.correct.sum(axis=1)
            exact = mcnemar(correct[first] - both[first, second], correct[second] - both[first, second])
            is_exact = (self.sample.seeds[first] == 1) & (self.sample.seeds[second] == 1)
            p = np.where(is_exact, exact, p)
        return PairwiseTests(differences, p, holm(p), is_exact)


class TaskEvidence(NamedTuple):
    """Evidence for all groups of a task."""

    by_group: dict[Group, Evidence]
    compared: Comparison | None
    """The groups that are compared with the best of them, at least two."""


def assess(groups: Sequence[Group], rivals: Sequence[Group], resampling: Resampling) -> TaskEvidence:
    """Intervals of all groups of a task, and tests of those of the `rivals` that predicted the same rows."""
    comparisons = list(_comparisons(groups, resampling))
    evidence = {group: Evidence(seeds=_seed_interval(group)) for group in groups}
    for comparison in comparisons:
        for group, over_rows in zip(comparison.groups, _row_intervals(comparison), strict=True):
            evidence[group] = over_rows._replace(seeds=evidence[group].seeds)
    compared = _largest_comparison(rivals, comparisons)
    if compared is not None:
        tests = _tests_against_best(compared)
        for group, test in tests.items():
            evidence[group] = evidence[group]._replace(is_tied=not test.is_significant, to_best=test)
        best, is_tied = compared.groups[compared.best], any(not test.is_significant for test in tests.values())
        evidence[best] = evidence[best]._replace(is_tied=is_tied)
    return TaskEvidence(evidence, compared)


def _tests_against_best(compared: Comparison) -> dict[Group, PairwiseTest]:
    """Every other group less the best; the family of tests has all pairs."""
    first, second = np.triu_indices(len(compared.groups), 1)
    family = compared.test_pairs(first, second)
    tests = {}
    for pair in np.flatnonzero((first == compared.best) | (second == compared.best)).tolist():
        test = family.test(pair)
        if first[pair] == compared.best:
            tests[compared.groups[second[pair]]] = test.reversed()
        else:
            tests[compared.groups[first[pair]]] = test
    return tests


def _comparisons(groups: Sequence[Group], resampling: Resampling) -> Iterator[Comparison]:
    """The groups by the rows that they predicted; groups without predictions in their records are in none."""
    by_rows: dict[Any, list[tuple[Group, Predictions]]] = defaultdict(list)
    for group in groups:
        predictions = read_predictions(group) if group.score.mean is not None else None
        if predictions is not None:
            by_rows[predictions.key].append((group, predictions))
    for members in by_rows.values():
        comparison = _compare(members, resampling)
        if comparison is not None:
            yield comparison


def _compare(members: Sequence[tuple[Group, Predictions]], resampling: Resampling) -> Comparison | None:
    """The comparison of groups that predicted the same rows, without those whose score is too often undefined."""
    drawn = _resampled_scores(members, resampling)
    is_defined = np.isfinite(drawn).mean(axis=1) >= _MIN_DEFINED_SHARE
    drawn = drawn[is_defined]
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if drawn.shape[0] == 0 or drawn.shape[1] < 2:
        return None
    members = [member for member, is_kept in zip(members, is_defined, strict=True) if is_kept]
    scores = [_defined_scores(group) for group, _ in members]
    _, (metrics, splits, _) = members[0]
    sample = Sample(
        scores=np.array([np.mean(values) for values in scores]),
        resampled=drawn,
        rows=sum(len(gold) for _, gold in splits.values()),
        seeds=np.array([len(values) for values in scores]),
        variances=np.array([np.var(values, ddof=1) if len(values) > 1 else np.nan for values in scores]),
    )
    correct = [predictions.correct for _, predictions in members]
    first_runs = None if correct[0] is None else np.array([one[0] for one in correct if one is not None], np.float32)
    return Comparison([group for group, _ in members], sample, direction_of(metrics), first_runs)


def _resampled_scores(members: Sequence[tuple[Group, Predictions]], resampling: Resampling) -> Floats:
    """[groups, resamples]: main scores, means over the reported splits."""
    task, (metrics, splits, _) = members[0][0].spec.task, members[0][1]
    is_to_first_order = resampling.is_to_first_order and has_influence(metrics)
    resample = deviations if is_to_first_order else resampled
    drawn = []
    for split, (_, gold) in splits.items():
        groups = [predictions.splits[split][0] for _, predictions in members]
        drawn.append(resample(metrics, groups, gold, f"{task}.{split}", resampling.number))
    scores = np.asarray(np.mean(drawn, axis=0))
    if is_to_first_order:
        scores += np.array([np.mean(_defined_scores(group)) for group, _ in members])[:, None]
    return scores


def _defined_scores(group: Group) -> list[float]:
    return [score for score in group.scores if score is not None]


def _seed_interval(group: Group) -> Interval | None:
    scores = _defined_scores(group)
    return _in_range(group, t_interval(scores)) if len(scores) == len(group.scores) else None


def _row_intervals(comparison: Comparison) -> Iterator[Evidence]:
    """The intervals over rows, and over seeds and rows, of each group."""
    sample, is_share = comparison.sample, comparison.correct is not None
    if is_share:
        splits = [wilson(float(score), sample.rows) for score in sample.scores]
        variances = np.array([wilson_variance(float(score), sample.rows) for score in sample.scores])
    else:
        splits = [percentiles(drawn) for drawn in sample.resampled]
        variances = sample.resampled.var(axis=1, ddof=1)
    for group, split, low, high in zip(comparison.groups, splits, *interval(sample, variances), strict=True):
        total = _in_range(group, Interval(float(low), float(high))) if len(group.scored) > 1 else split
        yield Evidence(None, split, "Wilson" if is_share else "bootstrap", total, sample.rows)


def _in_range(group: Group, full: Interval | None) -> Interval | None:
    """The interval cut to the range of the main metrics; metrics of `evaluate` can have any value."""
    metrics = [METRICS.get(name) for name in group.task.main_metrics]
    if full is None or None in metrics:
        return full
    lowest = min(metric.lowest for metric in metrics if metric)
    highest = max(metric.highest for metric in metrics if metric)
    return Interval(max(lowest, full.low), min(highest, full.high))


def compare_groups(groups: Sequence[Group], resampling: Resampling) -> Comparison | None:
    """The comparison of these groups, if all predicted the same rows and the better direction is known."""
    comparison = _largest_comparison(groups, list(_comparisons(groups, resampling)))
    return comparison if comparison and len(comparison.groups) == len(groups) else None


def _largest_comparison(rivals: Sequence[Group], comparisons: Sequence[Comparison]) -> Comparison | None:
    """The comparison of most rivals, at least two, cut to these."""
    ordered = [comparison for comparison in comparisons if comparison.direction is not None]
    members = [set(one.groups) for one in ordered]
    shared = [[group for group in rivals if group in groups] for groups in members]
    largest = max(range(len(ordered)), key=lambda number: len(shared[number]), default=None)
    if largest is None or len(shared[largest]) < 2:
        return None
    return ordered[largest].subset(shared[largest])


def rank_entries(comparisons: Mapping[str, Comparison]) -> tuple[dict[Entry, Rank], list[str]]:
    """Average ranks of the entries that are in the comparisons of all tasks, at least two; and the tasks."""
    by_task = {task: {group.entry: group for group in one.groups} for task, one in comparisons.items()}
    shared = set.intersection(*(set(groups) for groups in by_task.values())) if by_task else set()
    if len(shared) < 2:
        return {}, []
    entries = sorted(shared)
    subsets = [one.subset([by_task[task][entry] for entry in entries]) for task, one in comparisons.items()]
    least = min(one.sample.resampled.shape[1] for one in subsets)
    samples = [one.sample._replace(resampled=one.sample.resampled[:, :least]) for one in subsets]
    ranks = average_ranks(samples, [one.direction or 0 for one in subsets], generator("average rank"))
    return {entry: Rank(*(float(value[at]) for value in ranks)) for at, entry in enumerate(entries)}, list(by_task)
