"""Confidence intervals of a task's scores, tests between models, and the set of the best.

Models are compared by the main score on resampled rows, from the predictions in their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.registry import METRICS, direction_of
from harness.metrics.scoring import best_constant
from harness.stats.entries import Entry
from harness.stats.groups import Group, mean_or_none
from harness.stats.predictions import Predictions, in_smallest_type, read_predictions, seed_disagreement
from harness.stats.resampling import can_resample, generator, pseudo_rows, resample_number, resampled
from harness.stats.uncertainty import (
    Indices,
    Interval,
    PairwiseTest,
    PairwiseTests,
    Sample,
    aggregated,
    best_set,
    compare,
    is_above,
    ranks,
    row_intervals,
    sample_of,
    t_interval,
    total_intervals,
    total_variance,
)

FEW_ROWS = 5
"""Intervals of means over labels cover the truth in 72 to 93 % of simulations where a label has fewer rows."""


class Evidence(NamedTuple):
    """95 % intervals of a group's score, and its test against the best."""

    seeds: Interval | None = None
    """Interval over seeds."""
    split: Interval | None = None
    """Interval over rows; the runs are held fixed."""
    split_method: str | None = None
    total: Interval | None = None
    """Interval over seeds and rows."""
    is_over_rows_only: bool = False
    """Nothing is known about seeds, and `total` equals `split`."""
    variance: tuple[float, float] | None = None
    """The variance of the score over seeds and rows, and its degrees of freedom."""
    rows: int | None = None
    """The rows that are resampled; the groups where these are drawn whole."""
    is_above_baseline: bool = True
    """Significantly better than the best constant prediction, or not known to be no better."""
    is_tied: bool = False
    """The group is in the set of the best, which has two groups at least."""
    seed_disagreement: float | None = None
    """The change of predictions with the seed; None for a single run and without predictions."""
    to_best: PairwiseTest | None = None
    """The group less the best; None for the best and for groups that were not compared with it."""


class Rank(NamedTuple):
    """The mean rank over tasks, and the lowest and highest that the pairwise tests do not exclude."""

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
    is_above_baseline: NDArray[np.bool_]
    """[groups]: significantly better than the best constant prediction, or not comparable with it."""
    has_rare_label: bool = False
    """The score is a mean over labels, one of which has so few rows that intervals are too narrow."""

    def subset(self, groups: Sequence[Group]) -> Comparison:
        """The comparison of some of the groups, in this order."""
        position = {group: number for number, group in enumerate(self.groups)}
        at = [position[group] for group in groups]
        sample, is_above_baseline = self.sample.subset(at), self.is_above_baseline[at]
        return replace(self, groups=list(groups), sample=sample, is_above_baseline=is_above_baseline)

    @property
    def best(self) -> int:
        """The position of the best group."""
        assert self.direction is not None
        return int(np.argmax(self.direction * self.sample.scores))

    def test_pairs(self, first: Indices, second: Indices) -> PairwiseTests:
        """Tests of the groups at positions `first` less those at `second`, as one family."""
        return compare(self.sample, first, second)


class TaskEvidence(NamedTuple):
    """Evidence for all groups of a task."""

    by_group: dict[Group, Evidence]
    comparisons: list[Comparison]
    """All groups with predictions, by the rows that they predicted."""
    compared: Comparison | None
    """The groups that are compared with the best of them, at least two."""


def assess(groups: Sequence[Group], rivals: Sequence[Group], resamples: int | None = None) -> TaskEvidence:
    """Intervals of all groups of a task, and tests of those of the `rivals` that predicted the same rows.

    resamples: their number, by default `resample_number`.
    """
    predictions = {group: one for group in groups if (one := read_predictions(group)) is not None}
    comparisons = list(_comparisons(predictions, resamples))
    compared = _largest_comparison(rivals, comparisons)
    over_rows = {group: one for comparison in comparisons for group, one in _evidence_over_rows(comparison)}
    tests = _tests_against_best(compared) if compared else {}
    tied = _best_groups(compared) if compared else []
    evidence = {
        group: over_rows.get(group, Evidence())._replace(
            seeds=_seed_interval(group),
            seed_disagreement=seed_disagreement(predictions[group]) if group in predictions else None,
            to_best=tests.get(group),
            is_tied=group in tied,
        )
        for group in groups
    }
    return TaskEvidence(evidence, comparisons, compared)


def _tests_against_best(compared: Comparison) -> dict[Group, PairwiseTest]:
    """Every other group less the best; the family of tests has all pairs."""
    first, second = np.triu_indices(len(compared.groups), 1)
    family, best, tests = compared.test_pairs(first, second), compared.best, {}
    for pair, (one, other) in enumerate(zip(first, second, strict=True)):
        if one == best:
            tests[compared.groups[other]] = family.test(pair).reversed()
        elif other == best:
            tests[compared.groups[one]] = family.test(pair)
    return tests


def _best_groups(compared: Comparison) -> list[Group]:
    """The groups among which the truly best one is, at 95 %; none where it is a single group or nothing is known."""
    random = generator(f"{compared.groups[0].spec.task}: the best")
    is_member = best_set(compared.sample, compared.direction or 0, random)
    if is_member is None or is_member.sum() < 2:
        return []
    return [group for group, is_best in zip(compared.groups, is_member, strict=True) if is_best]


def _comparisons(predictions: Mapping[Group, Predictions], resamples: int | None) -> Iterator[Comparison]:
    """The groups by the rows that they predicted; an undefined score, a metric of `evaluate` or one row is in none."""
    by_rows: dict[Any, list[tuple[Group, Predictions]]] = defaultdict(list)
    for group, one in predictions.items():
        if group.score.center is not None and can_resample(one.metrics) and one.units > 1:
            by_rows[one.key].append((group, one))
    for members in by_rows.values():
        yield _compare(members, resamples)


def _compare(members: Sequence[tuple[Group, Predictions]], resamples: int | None) -> Comparison:
    groups = [group for group, _ in members]
    metrics, splits, _ = members[0][1]
    number = resamples or resample_number(metrics, sum(len(one.gold) for one in splits.values()))
    drawn, constant_scores, is_smoothed = [], [], False
    for split, (first, gold, row_groups) in splits.items():
        constant = best_constant(metrics, gold, 2 if gold.dtype.kind in "iu" else 1, row_groups)
        constant_scores.append(mean_or_none([groups[0].baseline(split, name) for name in metrics]))
        member_runs = [predictions.splits[split].runs for _, predictions in members]
        runs = np.concatenate([*member_runs, in_smallest_type(constant[None])])
        drawn.append(resampled(metrics, runs, gold, f"{groups[0].spec.task}.{split}", number, row_groups))
        is_smoothed = len(pseudo_rows(metrics, first, gold, row_groups)[1]) > 0
    of_runs = drawn[0] if len(drawn) == 1 else np.mean(drawn, axis=0)
    scores = [_defined_scores(group) for group in groups]
    *by_group, of_constant = np.split(of_runs, np.cumsum([len(one) for one in scores]))
    aggregate = groups[0].aggregate
    centers = np.array([aggregated(one, aggregate) for one in by_group])
    pools, is_lender = [group.pool for group in groups], [group.is_lender for group in groups]
    sample = sample_of(scores, centers, members[0][1].units, is_smoothed, pools, is_lender, aggregate)
    direction = direction_of(metrics)
    constant_score, is_above_baseline = mean_or_none(constant_scores), np.ones(len(groups), bool)
    if constant_score is not None and direction is not None:
        is_above_baseline = is_above(sample, constant_score, of_constant[0], direction)
    has_rare_label = any(METRICS[name].is_mean_over_labels for name in metrics) and any(
        _fewest_rows(one.gold) < FEW_ROWS for one in splits.values()
    )
    return Comparison(groups, sample, direction, is_above_baseline, has_rare_label)


def _fewest_rows(gold: NDArray[Any]) -> int:
    """The number of rows of the rarest label that occurs."""
    counts = gold.sum(axis=0) if gold.ndim == 2 else np.unique(gold, return_counts=True)[1]
    return int(counts[counts > 0].min(initial=len(gold)))


def _defined_scores(group: Group) -> list[float]:
    return [score for score in group.scores if score is not None]


def _seed_interval(group: Group) -> Interval | None:
    scores = _defined_scores(group)
    return _in_range(group, t_interval(scores, group.aggregate)) if len(scores) == len(group.scores) else None


def _evidence_over_rows(comparison: Comparison) -> Iterator[tuple[Group, Evidence]]:
    """The intervals over rows, and over seeds and rows, of each group."""
    sample = comparison.sample
    splits, totals = (np.transpose(ends(sample)).tolist() for ends in (row_intervals, total_intervals))
    variances = np.transpose(total_variance(sample, sample.resampled.var(axis=1, ddof=1))).tolist()
    for number, group in enumerate(comparison.groups):
        evidence = Evidence(
            split=_in_range(group, Interval(*splits[number])),
            split_method="posterior" if sample.is_smoothed else "bootstrap",
            total=_in_range(group, Interval(*totals[number])),
            is_over_rows_only=bool(np.isnan(sample.seed_variance[number])),
            variance=tuple(variances[number]),
            rows=sample.rows,
            is_above_baseline=bool(comparison.is_above_baseline[number]),
        )
        yield group, evidence


def _in_range(group: Group, full: Interval | None) -> Interval | None:
    """The interval cut to the range of the main metrics; metrics of `evaluate` can have any value."""
    metrics = [METRICS.get(name) for name in group.task.main_metrics]
    if full is None or None in metrics:
        return full
    lowest = min(metric.lowest for metric in metrics if metric)
    highest = max(metric.highest for metric in metrics if metric)
    return Interval(max(lowest, full.low), min(highest, full.high))


def find_comparison(comparisons: Sequence[Comparison], groups: Sequence[Group]) -> Comparison | None:
    """The comparison of these groups, if all predicted the same rows and the better direction is known."""
    comparison = _largest_comparison(groups, comparisons)
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


def rank_entries(comparisons: Mapping[str, Comparison]) -> dict[Entry, Rank]:
    """Average ranks of the entries that are in the comparisons of all tasks, at least two.

    On one task, a model's rank is at least 1 + the number of models that are significantly better, and at most the
    number of those that are not significantly worse; the ends of `Rank` are the means of these bounds over tasks.
    """
    by_task = {task: {group.entry: group for group in one.groups} for task, one in comparisons.items()}
    shared = set.intersection(*(set(groups) for groups in by_task.values())) if by_task else set()
    if len(shared) < 2:
        return {}
    entries = sorted(shared)
    means, lows, highs = [], [], []
    for task, comparison in comparisons.items():
        subset = comparison.subset([by_task[task][entry] for entry in entries])
        better, worse = _significant_counts(subset)
        means.append(ranks(-(subset.direction or 0) * subset.sample.scores))
        lows.append(1 + better)
        highs.append(len(entries) - worse)
    columns = zip(*(np.mean(one, axis=0).tolist() for one in (means, lows, highs)), strict=True)
    return {entry: Rank(*column) for entry, column in zip(entries, columns, strict=True)}


def _significant_counts(comparison: Comparison) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of models that are significantly better than each model, and significantly worse [M]."""
    number = len(comparison.groups)
    first, second = np.triu_indices(number, 1)
    family = comparison.test_pairs(first, second)
    is_first_better = family.difference * (comparison.direction or 0) > 0
    winners, losers = np.where(is_first_better, first, second), np.where(is_first_better, second, first)
    better, worse = (np.bincount(one[family.is_significant], minlength=number) for one in (losers, winners))
    return better, worse
