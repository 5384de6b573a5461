"""Metrics of groups of rows, by hand and on resampled groups."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics.metric import Metric
from harness.metrics.registry import METRICS
from harness.metrics.scoring import baseline, score
from harness.stats.resampling import counts, generator, pseudo_rows, resampled, weights_of

GROUPS = np.array([0, 0, 1, 1, 1, 2, 0])
GOLD = np.array([1, 0, 1, 1, 0, 1, 0])
RUNS = np.array([[1, 0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0], [0] * 7])
EXACT_MATCH = METRICS["exact_match_by_group"]


def test_group_counts_when_all_of_its_rows_are_right_wherever_they_are() -> None:
    values = [EXACT_MATCH.of(run, GOLD, GROUPS) for run in RUNS]
    assert values == pytest.approx([2 / 3, 1 / 3, 0])
    assert EXACT_MATCH.of(GOLD[[2, 5]], GOLD[[2, 5]], GROUPS[[2, 5]]) == 1, "numbers may have gaps"


def test_score_and_baseline_know_the_groups() -> None:
    scores = np.eye(2, dtype=np.float32)[RUNS[0]]
    names = ["f1", "exact_match_by_group"]
    assert score(names, scores, GOLD, None, GROUPS).values == pytest.approx({"f1": 8 / 9, names[1]: 2 / 3})
    assert baseline(names, GOLD, 2, names, GROUPS) == pytest.approx({"f1": 8 / 11, names[1]: 1 / 3})
    rare_class_of_most_groups = baseline(names[1:], np.array([1, 1, 1, 0, 0]), 2, (), np.array([0, 0, 0, 1, 2]))
    assert rare_class_of_most_groups == pytest.approx({names[1]: 2 / 3})


def value_of(metric: Metric, run: np.ndarray, drawn: np.ndarray) -> float:
    """The metric where group g is there drawn[g] times, each time as a group of its own."""
    rows = [np.flatnonzero(group == GROUPS) for group, times in enumerate(drawn) for _ in range(times)]
    at, numbers = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return metric.of(run[at], GOLD[at], numbers)


@pytest.mark.parametrize("name", ["exact_match_by_group", "parity_by_group", "f1", "accuracy"])
def test_resampled_metric_is_that_of_the_drawn_groups(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 0, 2], [2, 2, 1]])
    monkeypatch.setattr("harness.stats.resampling.weights_of", lambda *_: [drawn[:, GROUPS].astype(float)])
    values = resampled([name], RUNS, GOLD, "t.v", len(drawn), GROUPS)
    expected = [[value_of(METRICS[name], run, each) for each in drawn] for run in RUNS]
    assert values == pytest.approx(np.array(expected), abs=1e-12)


def test_rows_of_a_group_share_their_weight() -> None:
    """Sums of weights are exact in float32, as without groups."""
    for draw in (weights_of, counts):
        (block,) = draw(7, 0, "t.v", 50, GROUPS)
        assert block.shape == (50, 7)
        first = block[:, [0, 2, 5]]
        assert np.array_equal(block, first[:, GROUPS])
        assert len(np.unique(first)) > 3
    (block,) = weights_of(7, 0, "t.v", 50, GROUPS)
    assert np.array_equal(block, np.rint(block))
    assert block.sum(axis=1).mean() == pytest.approx(2**22, rel=0.2)
    exponential = generator("t.v").standard_exponential((50, 3))
    assert np.corrcoef(block[:, 0], exponential[:, 0])[0, 1] > 0.999


def test_groups_have_no_pseudo_rows() -> None:
    assert len(pseudo_rows(["accuracy"], RUNS, GOLD)[1]) == 2
    assert len(pseudo_rows(["accuracy"], RUNS, GOLD, GROUPS)[1]) == 0


def test_few_large_groups_are_less_certain_than_as_many_rows() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), 20)
    is_right = np.repeat(random.random(30) < 0.7, 20)
    gold = np.ones(600, np.int64)
    by_row = resampled(["accuracy"], is_right.astype(np.int64)[None], gold, "t.v", 2000)
    by_group = resampled(["accuracy"], is_right.astype(np.int64)[None], gold, "t.v", 2000, groups)
    assert by_group.std() > 3 * by_row.std()


def test_parity_is_the_share_of_groups_with_one_prediction_right_or_wrong() -> None:
    parity = METRICS["parity_by_group"]
    assert [parity.of(run, GOLD, GROUPS) for run in RUNS] == pytest.approx([2 / 3, 1 / 3, 1])
    assert parity.of(RUNS[2], 1 - GOLD, GROUPS) == 1
