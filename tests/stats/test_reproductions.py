"""Verdicts on the scores of a published row: from good records, and from those that are not the row's condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.facts.published import PublishedRow, PublishedTask, Score
from harness.facts.records import RunRecord
from harness.stats.reproductions import ScoreVerdict, target_of, verdict_of_task, verdicts_of

Make = Callable[..., RunRecord]


def _row(value: float, plus_minus: float | None = None, **fields: Any) -> PublishedRow:
    score = Score(metric="accuracy", split="validation", value=value, plus_minus=plus_minus)
    required = dict(name="own", model="example/bert", source="here", setting="3 epochs", seeds=5)
    return PublishedRow(**{**required, "tasks": {"rte": PublishedTask(scores=(score,), recipe={})}, **fields})


def _verdict(row: PublishedRow, runs: Sequence[RunRecord | None], margin: float = 1.0) -> ScoreVerdict:
    (verdict,) = verdicts_of(row, {"rte": row.tasks["rte"].scores}, {"rte": runs}, margin)
    return verdict


@pytest.fixture
def runs(make_record: Make) -> list[RunRecord]:
    return [make_record(seed=seed, scores={"accuracy": 0.70 + seed / 1000}) for seed in range(5)]


def test_scores_are_points(runs: list[RunRecord]) -> None:
    verdict = _verdict(_row(70.2, 0.2, plus_minus_is="standard_deviation"), runs)
    assert verdict.verdict == "agrees"
    assert list(verdict.runs.values()) == pytest.approx([70.0, 70.1, 70.2, 70.3, 70.4])
    assert (verdict.seeds, verdict.reason) == ([0, 1, 2, 3, 4], "")
    assert _verdict(_row(75.0, 0.2, plus_minus_is="standard_deviation"), runs).verdict == "differs"
    wide = _verdict(_row(71.5, 2.0, plus_minus_is="standard_deviation"), runs)
    assert (wide.verdict, wide.reason) == ("cannot tell", "")


def test_the_same_score_with_each_seed_agrees_whatever_the_spread(runs: list[RunRecord]) -> None:
    wide = _row(70.2, 5.0, plus_minus_is="standard_deviation", seeds=tuple(range(5)))
    for by_seed, verdict in (
        ((70.0, 70.1, 70.2, 70.3, 70.4), "agrees"),
        ((70.0, 70.1, 70.2, 70.3, 70.5), "cannot tell"),
    ):
        score = wide.tasks["rte"].scores[0].model_copy(update={"by_seed": by_seed})
        task = wide.tasks["rte"].model_copy(update={"scores": (score,)})
        row = wide.model_copy(update={"tasks": {"rte": task}})
        assert (_verdict(row, runs).verdict, _verdict(row, runs).is_exact) == (verdict, verdict == "agrees")
        assert _verdict(row, [*runs[:4], None]).verdict == "cannot tell"


def test_small_errors_are_not_the_same_because_they_are_small(make_record: Make) -> None:
    runs = [make_record(seed=seed, scores={"mse": 0.00002 + seed / 1e6}) for seed in range(3)]
    for factor, is_exact in ((1.0, True), (1.1, False)):
        by_seed = tuple(factor * (0.00002 + seed / 1e6) for seed in range(3))
        score = Score(metric="mse", split="validation", value=by_seed[1], by_seed=by_seed)
        row = _row(0, seeds=(0, 1, 2), tasks={"rte": PublishedTask(scores=(score,), recipe={})})
        assert _verdict(row, runs, margin=1e-7).is_exact == is_exact


def test_median_and_best_are_compared_with_the_same_statistic(make_record: Make) -> None:
    scores = [0.60, 0.70, 0.71, 0.72, 0.80]
    runs = [make_record(seed=seed, scores={"accuracy": score}) for seed, score in enumerate(scores)]
    for aggregate, expected in (("mean", 70.6), ("median", 71.0), ("best", 80.0)):
        equivalence = _verdict(_row(71.0, aggregate=aggregate), runs).equivalence
        assert equivalence is not None
        assert equivalence.ours == pytest.approx(expected)


@pytest.mark.parametrize(
    "change, part",
    [
        (dict(status="diverged", metrics={}), "diverged (seed 1)"),
        (dict(status="failed", metrics={}, error="no"), "failed (seed 1)"),
        (dict(metrics={"validation": {"accuracy": None}}), "undefined (seed 1)"),
        (dict(data=dict(is_partial=True, rows={"train": 10, "validation": 200})), "train 10 of 1,000 rows"),
    ],
)
def test_runs_of_another_condition_cannot_tell(
    runs: list[RunRecord], make_record: Make, change: dict[str, Any], part: str
) -> None:
    runs[1] = make_record(seed=1, scores={"accuracy": 0.701}, **change)
    for value in (70.2, 90.0):
        verdict = _verdict(_row(value), runs)
        assert (verdict.verdict, part in verdict.reason) == ("cannot tell", True)


def test_collapsed_runs_count_and_are_named(runs: list[RunRecord], make_record: Make) -> None:
    runs[1] = make_record(seed=1, scores={"accuracy": 0.701}, status="collapsed")
    verdict = _verdict(_row(70.2), runs)
    assert (verdict.verdict, verdict.collapsed, len(verdict.runs)) == ("agrees", [1], 5)


def test_missing_runs_cannot_tell(runs: list[RunRecord]) -> None:
    assert "2 of 5 runs not finished" in _verdict(_row(70.2), [*runs[:3], None, None]).reason
    nothing = _verdict(_row(70.2), [None, None])
    assert (nothing.verdict, nothing.equivalence) == ("cannot tell", None)
    few = _verdict(_row(70.2, aggregate="best"), runs[:3])
    assert (few.verdict, few.equivalence, few.reason) == ("cannot tell", None, "3 of 5 runs needed")


def test_number_after_plus_minus_is_read_as_the_row_says() -> None:
    row = _row(70.0, 1.0, plus_minus_is="standard_error")
    assert target_of(row, "rte", row.tasks["rte"].scores[0]).error == 1.0
    row = _row(70.0, 1.0, plus_minus_is="unstated", seeds=4)
    assert target_of(row, "rte", row.tasks["rte"].scores[0]).error == pytest.approx(0.5)


def test_a_task_differs_where_one_score_does(runs: list[RunRecord]) -> None:
    same, other = _verdict(_row(70.2), runs), _verdict(_row(80.0), runs)
    undecided = _verdict(_row(70.2), [None, *runs])
    assert verdict_of_task([same, other, undecided]) == "differs"
    assert verdict_of_task([same, undecided]) == "cannot tell"
    assert verdict_of_task([same, same]) == "agrees"
