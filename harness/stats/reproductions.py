"""Verdicts on the scores of a published row, from the records of the runs that repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.facts.published import UNSTATED, PublishedRow, Score
from harness.facts.records import RunRecord
from harness.metrics.registry import is_fraction, title_of
from harness.stats.equivalence import Equivalence, Target, Verdict, compare_with_target, make_target
from harness.stats.groups import partial_splits
from harness.stats.readings import Reading, metric_readings, other_readings

MARGIN = 1.0
"""Points within which scores count as equal. In published tables seeds alone spread by 0.1 points on large GLUE tasks
and by up to 2.5 on small ones, so that five runs cannot show much less on the small ones; and a point is the order of
the differences from which papers conclude."""

_ROUNDING = 0.0000501
"""The largest difference, as a fraction, of two equal scores of which one is a percentage with two digits."""

Runs = Mapping[str, Sequence[RunRecord | None]]
"""The records of each task's runs; None for a run without one."""


class ScoreVerdict(NamedTuple):
    """The verdict on one published score."""

    task: str
    score: Score
    runs: dict[str, float | None]
    """The scores of the runs that have one, by run_id, in the unit of the published score; None if its metric is not
    stated."""
    seeds: list[int]
    """The seeds of these runs."""
    collapsed: list[int]
    """The seeds of those that predicted one class or value throughout."""
    is_exact: bool
    """Each seed of the row was run and has the score that the row lists for it."""
    equivalence: Equivalence | None
    """None where fewer than two runs have a score, a best of k has fewer than k, or the metric is not stated."""
    verdict: Verdict
    reason: str
    """The reason why the runs cannot tell although there is a comparison, or why there is none; else empty."""
    readings: list[Reading]
    """Other readings of the score, the closest first, if it differs or its metric is not stated; else empty."""


def verdicts_of(
    row: PublishedRow, scores: Mapping[str, Sequence[Score]], runs: Runs, margin: float
) -> list[ScoreVerdict]:
    """The verdict on each of these scores, by task."""
    return [
        (_verdict_without_metric if score.metric == UNSTATED else _verdict)(task, score, row, runs[task], margin)
        for task, several in scores.items()
        for score in several
    ]


def target_of(row: PublishedRow, task: str, score: Score) -> Target:
    """The published score with its uncertainty over seeds."""
    meaning = row.plus_minus_is or "unstated"
    return make_target(score.value, row.number_of_runs(task), row.aggregate_of(task), score.plus_minus, meaning)


def verdict_of_task(verdicts: Sequence[ScoreVerdict]) -> Verdict:
    """A task differs where one of its scores does, and agrees where all of them do."""
    of_scores = [one.verdict for one in verdicts]
    return "differs" if "differs" in of_scores else "cannot tell" if "cannot tell" in of_scores else "agrees"


def _verdict(
    task: str, score: Score, row: PublishedRow, runs: Sequence[RunRecord | None], margin: float
) -> ScoreVerdict:
    target = target_of(row, task, score)
    factor = 100 if is_fraction(score.metric) else 1
    values = [
        (run, factor * value)
        for run in runs
        if run is not None and (value := run.value(score.split, score.metric)) is not None
    ]
    reason = _reason(score, target, runs, len(values))
    equivalence = None
    if len(values) >= target.runs_needed:
        equivalence = compare_with_target([value for _, value in values], target, margin)
    listed = dict(zip(row.seeds_of(task), score.by_seed or (), strict=False))
    scores = {run.spec.seed: value for run, value in values}
    is_exact = bool(listed) and all(
        abs(scores.get(seed, math.inf) - one) <= _rounding_error(score.metric, one) for seed, one in listed.items()
    )
    verdict: Verdict = "cannot tell"
    if not reason and equivalence is not None:
        verdict = "agrees" if is_exact else equivalence.verdict
    readings = []
    if verdict == "differs":
        number, meaning = row.number_of_runs(task), row.plus_minus_is or "unstated"
        readings = other_readings(score, target, number, meaning, [run for run, _ in values], margin)
    return ScoreVerdict(
        task=task,
        score=score,
        runs={run.run_id: value for run, value in values},
        seeds=[run.spec.seed for run, _ in values],
        collapsed=[run.spec.seed for run, _ in values if run.status == "collapsed"],
        is_exact=is_exact,
        equivalence=equivalence,
        verdict=verdict,
        reason=reason,
        readings=readings,
    )


def _verdict_without_metric(
    task: str, score: Score, row: PublishedRow, runs: Sequence[RunRecord | None], margin: float
) -> ScoreVerdict:
    """The verdict on a score whose metric is not stated: it differs if it does as each metric, and never agrees."""
    target = target_of(row, task, score)
    scored = [run for run in runs if run is not None and score.split in run.metrics]
    reason = _reason(score, target, runs, len(scored))
    readings = [] if reason else metric_readings(score, target, scored, margin)
    differs = bool(readings) and all(reading.equivalence.verdict == "differs" for reading in readings)
    agreeing = [reading.title for reading in readings if reading.equivalence.verdict == "agrees"]
    if not reason and not differs:
        reason = "metric not stated" + (f"; agrees as {', '.join(agreeing)}" if agreeing else "")
    return ScoreVerdict(
        task=task,
        score=score,
        runs=dict.fromkeys(run.run_id for run in scored),
        seeds=[run.spec.seed for run in scored],
        collapsed=[run.spec.seed for run in scored if run.status == "collapsed"],
        is_exact=False,
        equivalence=None,
        verdict="differs" if differs else "cannot tell",
        reason=reason,
        readings=readings,
    )


def _rounding_error(metric: str, value: float) -> float:
    """The largest rounding error of a listed score: a percentage with two decimals, or an error with three digits."""
    return 100 * _ROUNDING if is_fraction(metric) else min(_ROUNDING, abs(value) / 200)


def _reason(score: Score, target: Target, runs: Sequence[RunRecord | None], scored: int) -> str:
    """The reason why these runs, of which `scored` have a score, cannot tell; empty if they can."""
    needed = target.runs_needed
    return "; ".join(_reasons(score, runs)) or (f"{scored} of {needed} runs needed" if scored < needed else "")


def _reasons(score: Score, runs: Sequence[RunRecord | None]) -> Iterator[str]:
    """Facts about the runs for which their scores are not those of the row's recipe on the row's data."""
    if missing := sum(run is None for run in runs):
        yield f"{missing} of {len(runs)} runs not finished"
    known = [run for run in runs if run is not None]
    for status in ("failed", "diverged"):
        if seeds := [str(run.spec.seed) for run in known if run.status == status]:
            yield f"{len(seeds)} of {len(runs)} runs {status} (seed {', '.join(seeds)})"
    scored = [run for run in known if run.status in ("ok", "collapsed")]
    undefined = [run for run in scored if run.value(score.split, score.metric) is None]
    if seeds := [str(run.spec.seed) for run in undefined if score.metric != UNSTATED]:
        yield f"{title_of(score.metric)} on {score.split} is undefined (seed {', '.join(seeds)})"
    partial = next((run.data for run in scored if run.data and run.data.is_partial), None)
    if partial is not None:
        yield f"partial data: {partial_splits(partial)}"
