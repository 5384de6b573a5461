"""Other readings of a published score: what the same runs give with another checkpoint, metric, split or statistic.

Nothing is run for them. Each differs from the row in one respect, which its source may have meant without saying so. Of
several readings one may agree by chance: a reading that agrees is a question to the authors, no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

from harness.facts.published import PlusMinus, Score
from harness.facts.records import RunRecord
from harness.metrics.registry import direction_of, is_fraction, title_of
from harness.stats.equivalence import Equivalence, Target, compare_with_target, make_target
from harness.stats.groups import mean_or_none

ScoreOf = Callable[[RunRecord], float | None]
"""The score of a run under a reading, as its record has it; None where it has none."""


class Reading(NamedTuple):
    """A reading of a published score, and the comparison of the runs with the score so read."""

    title: str
    """`last checkpoint of each run`, `F1`, `mean of accuracy and F1`, `best of 5 runs`."""
    equivalence: Equivalence


def other_readings(
    score: Score,
    target: Target,
    stated_runs: int | None,
    meaning: PlusMinus,
    runs: Sequence[RunRecord],
    margin: float,
) -> list[Reading]:
    """The readings under which the runs have other scores, the closest to the published value first.

    Args:
        score: the published score.
        target: the same with its uncertainty, as the row states it.
        stated_runs: the number of published runs; None where the source does not state it.
        meaning: the meaning of ±.
        runs: the runs that the target was compared with; each has the score.
        margin: points within which scores count as equal.
    """
    factor = 100 if is_fraction(score.metric) else 1
    own = [run.value(score.split, score.metric) for run in runs]
    readings = []
    for title, score_of in _other_scores(score, runs[0]):
        values = [score_of(run) for run in runs]
        if values != own and None not in values:
            scaled = [factor * value for value in values if value is not None]
            readings.append(Reading(title, compare_with_target(scaled, target, margin)))
    number = stated_runs or len(runs)
    if direction_of([score.metric]) == 1 and 2 <= number <= len(runs):
        statistic: Literal["mean", "best"] = "mean" if target.statistic == "best" else "best"
        other = make_target(score.value, number, statistic, score.plus_minus, meaning)
        scaled = [factor * value for value in own if value is not None]
        readings.append(Reading(f"{statistic} of {number} runs", compare_with_target(scaled, other, margin)))
    return sorted(readings, key=lambda reading: abs(reading.equivalence.difference))


def metric_readings(score: Score, target: Target, runs: Sequence[RunRecord], margin: float) -> list[Reading]:
    """The readings of a score whose metric the source does not name, as each percentage that all runs have."""
    readings = []
    for title, score_of in _metrics(score.split, runs[0]):
        values = [100 * value for run in runs if (value := score_of(run)) is not None]
        if len(values) == len(runs):
            readings.append(Reading(title, compare_with_target(values, target, margin)))
    return sorted(readings, key=lambda reading: abs(reading.equivalence.difference))


def _other_scores(score: Score, run: RunRecord) -> Iterator[tuple[str, ScoreOf]]:
    """The other scores of runs like this one, each with its title."""
    metric, split = score.metric, score.split
    if run.task.select_on == split and (direction := direction_of([metric])) is not None:
        yield "last checkpoint of each run", partial(_of_checkpoints, metric, lambda values: values[-1])
        yield "best checkpoint of each run", partial(_of_checkpoints, metric, max if direction > 0 else min)
    if is_fraction(metric):
        yield from (reading for reading in _metrics(split, run) if reading[0] != title_of(metric))
    for name in run.metrics:
        if name != split:
            yield f"{title_of(metric)} {name}", partial(RunRecord.value, split=name, metric=metric)


def _metrics(split: str, run: RunRecord) -> Iterator[tuple[str, ScoreOf]]:
    """The percentages of a split, and the mean of the two main ones of a task that has two."""
    names = [name for name in run.metrics.get(split, {}) if is_fraction(name)]
    for name in names:
        yield title_of(name), partial(RunRecord.value, split=split, metric=name)
    if len(pair := run.task.main_metrics) == 2 and {*pair} <= {*names}:
        title = f"mean of {' and '.join(map(title_of, pair))}"
        yield title, lambda one: mean_or_none([one.value(split, name) for name in pair])


def _of_checkpoints(metric: str, choose: Callable[[list[float]], float], run: RunRecord) -> float | None:
    """The metric of one of the run's checkpoints; None if it was not evaluated or is undefined after one of them."""
    values = [entry.metrics.get(metric) for entry in run.history]
    defined = [value for value in values if value is not None]
    return choose(defined) if defined and len(defined) == len(values) else None
