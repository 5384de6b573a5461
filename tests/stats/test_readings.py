"""Other readings of a score that differs: each is the comparison of other scores of the same runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.facts.published import PublishedRow, PublishedTask, Score
from harness.facts.records import RunRecord
from harness.stats.equivalence import compare_with_target, make_target
from harness.stats.readings import Reading
from harness.stats.reproductions import ScoreVerdict, verdicts_of

Make = Callable[..., RunRecord]


def _verdict(
    score: Score, runs: Sequence[RunRecord | None], task: str = "rte", margin: float = 1.0, **fields: Any
) -> ScoreVerdict:
    required = dict(name="own", model="example/bert", source="here", setting="3 epochs", seeds=5, aggregate="mean")
    row = PublishedRow(**{**required, "tasks": {task: PublishedTask(scores=(score,), recipe={})}, **fields})
    (verdict,) = verdicts_of(row, {task: (score,)}, {task: runs}, margin)
    return verdict


def _readings(score: Score, runs: Sequence[RunRecord], task: str = "rte", **fields: Any) -> dict[str, Reading]:
    verdict = _verdict(score, runs, task, **fields)
    assert verdict.verdict == "differs"
    return {reading.title: reading for reading in verdict.readings}


def test_a_score_that_agrees_or_is_undecided_has_no_readings(make_record: Make) -> None:
    runs = [
        make_record(seed=seed, scores={"accuracy": 0.70 + seed / 1000}, history=_history(0.8, 0.7)) for seed in range(5)
    ]
    for value, margin, verdict in ((70.2, 1.0, "agrees"), (70.3, 0.01, "cannot tell")):
        one = _verdict(_accuracy(value), runs, margin=margin, seeds=None)
        assert (one.verdict, one.readings) == (verdict, [])


def _history(*scores: float) -> list[dict[str, Any]]:
    """Evaluations with these accuracies."""
    common = dict(train_loss=0.5, learning_rate=1e-5, seconds=1.0)
    return [
        dict(epoch=number, step=number, metrics={"accuracy": value}, **common)
        for number, value in enumerate(scores, start=1)
    ]


def _accuracy(value: float) -> Score:
    return Score(metric="accuracy", split="validation", value=value)


def test_best_checkpoint_of_runs_that_report_the_last(make_record: Make) -> None:
    runs = [
        make_record(
            seed=seed, scores={"accuracy": 0.700 + seed / 1000}, history=_history(0.74, 0.75 + seed / 1000, 0.7)
        )
        for seed in range(5)
    ]
    readings = _readings(_accuracy(75.2), runs)
    best = readings["best checkpoint of each run"].equivalence
    assert (best.verdict, best.difference) == ("agrees", pytest.approx(0.0, abs=1e-9))
    assert next(iter(readings)) == "best checkpoint of each run"  # the closest comes first
    assert "accuracy" not in {title.lower() for title in readings}


def test_last_checkpoint_of_runs_that_report_the_best(make_record: Make) -> None:
    runs = [
        make_record(seed=seed, scores={"accuracy": 0.75 + seed / 1000}, history=_history(0.75 + seed / 1000, 0.70))
        for seed in range(5)
    ]
    readings = _readings(_accuracy(70.0), runs)
    assert readings["last checkpoint of each run"].equivalence.verdict == "agrees"
    assert "best checkpoint of each run" not in readings  # it is what the runs report


def test_checkpoints_of_another_split_or_without_a_score_are_no_reading(make_record: Make) -> None:
    history = _history(0.80, 0.60)
    for changes in (
        dict(facts=dict(select_on="selection"), history=history),
        dict(history=[history[0], {**history[1], "metrics": {"accuracy": None}}]),
        dict(history=[]),
    ):
        runs = [make_record(seed=seed, scores={"accuracy": 0.70 + seed / 1000}, **changes) for seed in range(5)]
        assert set(_readings(_accuracy(80.0), runs)) == {"best of 5 runs"}


def test_other_metrics_of_the_task_and_their_mean(make_record: Make) -> None:
    facts = dict(metrics=["accuracy", "f1"], main_metrics=["f1", "accuracy"])
    runs = [
        make_record("mrpc", seed=seed, scores={"accuracy": 0.80 + seed / 1000, "f1": 0.86 + seed / 1000}, facts=facts)
        for seed in range(5)
    ]
    readings = _readings(Score(metric="f1", split="validation", value=80.2), runs, "mrpc")
    assert list(readings)[:2] == ["accuracy", "mean of F1 and accuracy"]
    assert readings["accuracy"].equivalence.verdict == "agrees"
    assert readings["mean of F1 and accuracy"].equivalence.ours == pytest.approx(83.2)
    assert readings["mean of F1 and accuracy"].equivalence.verdict == "differs"


def test_an_error_is_read_as_no_other_metric_and_as_no_best(make_record: Make) -> None:
    scores = [{"mse": 0.2 + seed / 1000, "mae": 0.4, "pearson": 0.9} for seed in range(5)]
    runs = [make_record("ratings", scores=one, seed=seed) for seed, one in enumerate(scores)]
    score = Score(metric="mse", split="validation", value=9.0)
    verdict = _verdict(score, runs, "ratings", margin=0.1)
    assert (verdict.verdict, verdict.readings) == ("differs", [])


def test_another_split(make_record: Make) -> None:
    splits = {"validation_matched": 0.84, "validation_mismatched": 0.80}
    facts = dict(report=list(splits), select_on="validation_matched")
    runs = [
        make_record(
            "mnli",
            seed=seed,
            facts=facts,
            metrics={name: {"accuracy": value + seed / 1000} for name, value in splits.items()},
        )
        for seed in range(5)
    ]
    readings = _readings(Score(metric="accuracy", split="validation_matched", value=80.2), runs, "mnli")
    assert readings["accuracy validation_mismatched"].equivalence.verdict == "agrees"


@pytest.mark.parametrize(
    "fields, title, reads_as",
    [
        (dict(seeds=5), "best of 5 runs", ("best", 5)),
        (dict(seeds=None), "best of 6 runs", ("best", 6)),  # the source does not say how many
        (dict(seeds=7), None, None),  # more than there are here
        (dict(seeds=1), None, None),
        (dict(seeds=5, aggregate="best"), "mean of 5 runs", ("mean", 5)),
    ],
)
def test_another_statistic(
    make_record: Make, fields: dict[str, Any], title: str | None, reads_as: tuple[Any, int] | None
) -> None:
    scores = [60.0, 60.5, 61.0, 61.5, 62.0, 62.5]
    runs = [make_record(seed=seed, scores={"accuracy": score / 100}) for seed, score in enumerate(scores)]
    readings = _readings(_accuracy(75.0), runs, **fields)
    assert list(readings) == ([title] if title else [])
    if title and reads_as:
        expected = compare_with_target(scores, make_target(75.0, reads_as[1], reads_as[0]), 1.0)
        assert readings[title].equivalence.interval == pytest.approx(expected.interval)


@pytest.mark.parametrize(
    "value, plus_minus, verdict, reason",
    [
        (80.2, 0.6, "cannot tell", "metric not stated; agrees as accuracy"),
        (81.3, 2.0, "cannot tell", "metric not stated"),
        (60.0, 0.6, "differs", ""),
    ],
)
def test_a_score_whose_metric_is_not_stated_is_read_as_each(
    make_record: Make, value: float, plus_minus: float, verdict: str, reason: str
) -> None:
    facts = dict(metrics=["accuracy", "f1"], main_metrics=["f1", "accuracy"])
    scores = [{"loss": 0.4, "accuracy": 0.80 + seed / 1000, "f1": 0.86 + seed / 1000} for seed in range(5)]
    runs = [make_record("mrpc", scores=one, seed=seed, facts=facts) for seed, one in enumerate(scores)]
    score = Score(metric="unstated", split="validation", value=value, plus_minus=plus_minus)
    meaning = "standard_deviation"
    one = _verdict(score, runs, "mrpc", plus_minus_is=meaning)
    assert (one.verdict, one.reason, one.equivalence) == (verdict, reason, None)
    assert {reading.title for reading in one.readings} == {"accuracy", "F1", "mean of F1 and accuracy"}
    assert set(one.runs.values()) == {None}
    one = _verdict(score, [*runs[:4], None], "mrpc", plus_minus_is=meaning)
    assert (one.verdict, one.reason, one.readings) == ("cannot tell", "1 of 5 runs not finished", [])
