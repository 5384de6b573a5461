"""What the rows behind a column's cells say: how sure each score is, and which of them are tied with the best.

Models are compared by the main score on resampled rows, from the predictions in their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.metrics import METRICS
from harness.stats.entries import Row
from harness.stats.groups import Group
from harness.stats.influence import deviations
from harness.stats.predictions import Predictions, predictions_of
from harness.stats.resampling import generator, resampled
from harness.stats.uncertainty import (
    ALPHA,
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

_LEAST_DEFINED = 0.9
"""The share of resamples on which a model's score must be defined, or it is not compared."""

Places = NDArray[np.intp]


class Resampling(NamedTuple):
    """How rows are resampled."""

    number: int
    is_to_first_order: bool = False
    """Scores of resamples are not computed anew, but from the influence of each row."""


class PairwiseTest(NamedTuple):
    """A model less another one, on the same rows."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected for all tests of its family."""
    method: str

    @property
    def is_distinct(self) -> bool:
        """The two can be told apart."""
        return self.p_holm < ALPHA


class Evidence(NamedTuple):
    """Of one cell; 95 % intervals."""

    seeds: Interval | None = None
    """Of the mean over seeds."""
    split: Interval | None = None
    """Of the rows, with the runs as they are."""
    split_method: str | None = None
    total: Interval | None = None
    """Of seeds and rows; with one run, of the rows alone."""
    rows: int | None = None
    is_tied: bool = False
    """Not to be told from the best; the best itself is, when another one is."""
    to_best: PairwiseTest | None = None
    """Less the best; None for the best itself and for what was not compared with it."""


class Rank(NamedTuple):
    """The mean over tasks, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """Groups that answered the same rows, and how well."""

    groups: list[Group]
    sample: Sample
    sign: int
    """1 where more is better, -1 where less is, 0 where nobody knows."""
    correct: NDArray[np.float32] | None
    """[groups, N] of each group's first run, where the score is the accuracy on one split."""

    def of(self, groups: Sequence[Group]) -> Panel:
        """The same for some of the groups."""
        place_of = {group: place for place, group in enumerate(self.groups)}
        at = [place_of[group] for group in groups]
        scores, drawn, rows, seeds, variances = self.sample
        sample = Sample(scores[at], drawn[at], rows, seeds[at], variances[at])
        return Panel(list(groups), sample, self.sign, None if self.correct is None else self.correct[at])

    @property
    def best(self) -> int:
        """The place of the best group."""
        return int(np.argmax(self.sign * self.sample.scores))

    def versus(self, first: Places, second: Places) -> Callable[[int], PairwiseTest]:
        """Tests of pairs of places, which are one family: gives that of a pair."""
        found = compare(self.sample, first, second)
        p, is_exact = found.p, np.zeros(len(first), bool)
        if self.correct is not None:
            both, right = self.correct @ self.correct.T, self.correct.sum(axis=1)
            exact = mcnemar(right[first] - both[first, second], right[second] - both[first, second])
            is_exact = (self.sample.seeds[first] == 1) & (self.sample.seeds[second] == 1)
            p = np.where(is_exact, exact, p)
        corrected = holm(p)

        def of(pair: int) -> PairwiseTest:
            return PairwiseTest(
                difference=float(found.difference[pair]),
                low=float(found.low[pair]),
                high=float(found.high[pair]),
                p=float(p[pair]),
                p_holm=float(corrected[pair]),
                method="exact McNemar test" if is_exact[pair] else "paired bootstrap",
            )

        return of


class Column(NamedTuple):
    """Of one task."""

    evidence: list[Evidence]
    """Of each group."""
    compared: Panel | None
    """Those that are compared with the best of them: two at least."""


def column_of(groups: Sequence[Group], rivals: Sequence[Group], resampling: Resampling) -> Column:
    """What is known of a task's groups; `rivals` are those that may be compared with each other."""
    evidence = [Evidence(_over_seeds(group)) for group in groups]
    place_of = {group: place for place, group in enumerate(groups)}
    panels = list(panels_of(groups, resampling))
    for panel in panels:
        for group, found in zip(panel.groups, _of_rows(panel), strict=True):
            place = place_of[group]
            evidence[place] = found._replace(seeds=evidence[place].seeds)
    compared = _widest(rivals, panels)
    if compared is None:
        return Column(evidence, None)
    number, best = len(compared.groups), compared.best
    versus = compared.versus(*np.triu_indices(number, 1))
    for other, group in enumerate(compared.groups):
        place = place_of[group]
        if other == best:
            continue
        first, second = min(best, other), max(best, other)
        earlier_less_later = versus(first * (2 * number - first - 1) // 2 + second - first - 1)
        to_best = earlier_less_later if other == first else reverse(earlier_less_later)
        evidence[place] = evidence[place]._replace(is_tied=not to_best.is_distinct, to_best=to_best)
    if any(evidence[place_of[group]].is_tied for group in compared.groups):
        place = place_of[compared.groups[best]]
        evidence[place] = evidence[place]._replace(is_tied=True)
    return Column(evidence, compared)


def _over_seeds(group: Group) -> Interval | None:
    scores = [score for score in group.scores if score is not None]
    return _in_range(group, t_interval(scores)) if len(scores) == len(group.scores) else None


def reverse(versus: PairwiseTest) -> PairwiseTest:
    """The second less the first."""
    return versus._replace(difference=-versus.difference, low=-versus.high, high=-versus.low)


def panels_of(groups: Sequence[Group], resampling: Resampling) -> Iterator[Panel]:
    """The groups by the rows that they answered; those whose records keep none are in no panel."""
    alike: dict[Any, list[tuple[Group, Predictions]]] = defaultdict(list)
    for group in groups:
        found = predictions_of(group) if group.score.mean is not None else None
        if found is not None:
            alike[found.key].append((group, found))
    for members in alike.values():
        panel = _panel([group for group, _ in members], [found for _, found in members], resampling)
        if panel is not None:
            yield panel


def _panel(groups: Sequence[Group], answers: Sequence[Predictions], resampling: Resampling) -> Panel | None:
    task, (metrics, splits, _) = groups[0].spec.task, answers[0]
    resample = deviations if resampling.is_to_first_order else resampled
    drawn = np.mean(
        [
            resample(metrics, [one.splits[split][0] for one in answers], gold, f"{task}.{split}", resampling.number)
            for split, (_, gold) in splits.items()
        ],
        axis=0,
    )
    scores = [[score for score in group.scores if score is not None] for group in groups]
    if resampling.is_to_first_order:
        drawn += np.array([np.mean(of_group) for of_group in scores])[:, None]
    known = [place for place, one in enumerate(drawn) if np.isfinite(one).mean() >= _LEAST_DEFINED]
    drawn = drawn[known]
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if drawn.shape[0] == 0 or drawn.shape[1] < 2:
        return None
    kept, kept_answers = [groups[place] for place in known], [answers[place] for place in known]
    scores = [scores[place] for place in known]
    sample = Sample(
        scores=np.array([np.mean(of_group) for of_group in scores]),
        resampled=drawn,
        rows=sum(len(gold) for _, gold in splits.values()),
        seeds=np.array([len(of_group) for of_group in scores]),
        variances=np.array([np.var(of_group, ddof=1) if len(of_group) > 1 else np.nan for of_group in scores]),
    )
    directions = {METRICS[name].lower_is_better for name in metrics}
    sign = 0 if len(directions) > 1 else -1 if True in directions else 1
    correct = [one.correct for one in kept_answers]
    first = None if correct[0] is None else np.array([one[0] for one in correct if one is not None], np.float32)
    return Panel(kept, sample, sign, first)


def _of_rows(panel: Panel) -> Iterator[Evidence]:
    """The intervals of each group that need its rows."""
    sample, is_share = panel.sample, panel.correct is not None
    if is_share:
        splits = [wilson(float(score), sample.rows) for score in sample.scores]
        variances = np.array([wilson_variance(float(score), sample.rows) for score in sample.scores])
    else:
        splits = [percentiles(drawn) for drawn in sample.resampled]
        variances = sample.resampled.var(axis=1, ddof=1)
    for group, split, low, high in zip(panel.groups, splits, *interval(sample, variances), strict=True):
        total = _in_range(group, Interval(float(low), float(high))) if len(group.scored) > 1 else split
        yield Evidence(None, split, "Wilson" if is_share else "bootstrap", total, sample.rows)


def _in_range(group: Group, found: Interval | None) -> Interval | None:
    """Cut to the values that the main_metrics's metrics can have; those that are not ours can have any."""
    known = [METRICS.get(name) for name in group.task.main_metrics]
    if found is None or None in known:
        return found
    lowest = min(metric.lowest for metric in known if metric)
    highest = max(metric.highest for metric in known if metric)
    return Interval(max(lowest, found.low), min(highest, found.high))


def panel_of(groups: Sequence[Group], resampling: Resampling) -> Panel | None:
    """These groups, if all answered the same rows and it is known what is better."""
    found = _widest(groups, list(panels_of(groups, resampling)))
    return found if found and len(found.groups) == len(groups) else None


def _widest(rivals: Sequence[Group], panels: Sequence[Panel]) -> Panel | None:
    """The panel that compares most of the rivals, at least two, cut to these."""

    def shared(panel: Panel) -> list[Group]:
        members = set(panel.groups)
        return [group for group in rivals if group in members]

    best = max((panel for panel in panels if panel.sign), key=lambda panel: len(shared(panel)), default=None)
    return best.of(shared(best)) if best and len(shared(best)) > 1 else None


def ranked(columns: Mapping[str, Panel]) -> tuple[dict[Row, Rank], list[str]]:
    """Average ranks of the rows that these tasks' panels all compare, two at least; and the tasks."""
    by_task = {task: {group.row: group for group in panel.groups} for task, panel in columns.items()}
    shared = set.intersection(*(set(groups) for groups in by_task.values())) if by_task else set()
    if len(shared) < 2:
        return {}, []
    rows = sorted(shared)
    panels = [panel.of([by_task[task][row] for row in rows]) for task, panel in columns.items()]
    least = min(panel.sample.resampled.shape[1] for panel in panels)
    samples = [panel.sample._replace(resampled=panel.sample.resampled[:, :least]) for panel in panels]
    ranks = average_ranks(samples, [panel.sign for panel in panels], generator("average rank"))
    return {row: Rank(*(float(value[place]) for value in ranks)) for place, row in enumerate(rows)}, list(by_task)
