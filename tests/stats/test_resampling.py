"""Resampled scores: the same draws of rows for every model, always the same numbers, exact or to first order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.metrics.registry import METRICS
from harness.stats import resampling
from harness.stats.resampling import can_resample, deviations, generator, has_influence, resampled

ROWS = 41


def drawn(rows: int, purpose: str, resamples: int) -> np.ndarray:
    """Row numbers [resamples, rows], drawn as the module says, by the shortest code."""
    return generator(purpose).integers(rows, size=(resamples, rows), dtype=np.uint32)


def classes(count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Gold labels, and groups of 1, 3 and 2 runs that are correct more often than not."""
    random = np.random.default_rng(0)
    gold = random.integers(count, size=ROWS)
    guesses = [random.integers(count, size=(runs, ROWS)) for runs in (1, 3, 2)]
    return gold, [np.where(random.random(guess.shape) < 0.5, gold, guess) for guess in guesses]


def values() -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(1)
    gold = np.round(random.random(ROWS) * 5, 0)
    return gold, [gold + random.normal(size=(runs, ROWS)) for runs in (1, 3, 2)]


def test_only_own_metrics_can_be_resampled() -> None:
    assert can_resample(list(METRICS))
    assert not can_resample(["accuracy", "perplexity"])
    assert not can_resample([])


@pytest.mark.parametrize("name, data", [("f1", classes(2)), ("f1_macro", classes(4)), ("spearman", values())])
def test_score_is_that_of_the_drawn_rows(name: str, data: tuple[np.ndarray, list[np.ndarray]]) -> None:
    gold, groups = data
    scores = resampled([name], groups, gold, "small.validation", 12)
    assert scores.shape == (len(groups), 12)
    for number, rows in enumerate(drawn(ROWS, "small.validation", 12)):
        expected = [np.mean([METRICS[name].value(run[rows], gold[rows]) for run in runs]) for runs in groups]
        assert scores[:, number] == pytest.approx(expected, abs=1e-12)


def test_several_metrics_are_averaged() -> None:
    gold, groups = classes(2)
    both, f1, accuracy = (
        resampled(names, groups, gold, "x", 5) for names in (["f1", "accuracy"], ["f1"], ["accuracy"])
    )
    assert np.allclose(both, (f1 + accuracy) / 2, atol=1e-15)


def test_blocks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [("matthews_correlation", *classes(3)), ("f1", *classes(2)), ("spearman", *values())]
    whole = [resampled([name], groups, gold, "x", 10) for name, gold, groups in cases]
    monkeypatch.setattr(resampling, "_BLOCK", 3 * ROWS)
    for before, (name, gold, groups) in zip(whole, cases, strict=True):
        assert np.array_equal(before, resampled([name], groups, gold, "x", 10)), name


def test_draws_follow_from_the_purpose_alone() -> None:
    gold, groups = classes(2)
    first = resampled(["accuracy"], groups, gold, "rte.validation", 5)
    assert np.array_equal(first, resampled(["accuracy"], groups, gold, "rte.validation", 5))
    assert np.array_equal(first[:1], resampled(["accuracy"], groups[:1], gold, "rte.validation", 5))
    assert not np.array_equal(first, resampled(["accuracy"], groups, gold, "mrpc.validation", 5))


def test_undefined_is_nan() -> None:
    gold = np.array([0, 1, 1])
    scores = resampled(["matthews_correlation"], [np.zeros((1, 3), int)], gold, "x", 60)[0]
    is_single = [len(set(gold[rows])) == 1 for rows in drawn(3, "x", 60)]
    assert np.isnan(scores).tolist() == is_single
    assert 0 < sum(is_single) < 60
    assert np.isnan(resampled(["spearman"], [np.ones((1, 3))], np.array([1.0, 2.0, 3.0]), "x", 5)).all()


def test_metric_with_a_value_only_is_resampled_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, groups = classes(2)
    fast = resampled(["accuracy"], groups, gold, "x", 50)
    plain = dataclasses.replace(METRICS["accuracy"], resampled=None, influence=None)
    monkeypatch.setitem(METRICS, "accuracy", plain)
    monkeypatch.setattr(resampling, "SLOW_RESAMPLES", 20)
    assert resampled(["accuracy"], groups, gold, "x", 50) == pytest.approx(fast[:, :20], abs=1e-12)
    assert not has_influence(["f1", "accuracy"])
    assert has_influence(["f1"])


@pytest.mark.parametrize("name", ["matthews_correlation", "f1", "accuracy", "pearson", "spearman", "f1_macro"])
def test_deviations_are_close_to_exact_resamples(name: str) -> None:
    random = np.random.default_rng(0)
    if name in ("pearson", "spearman"):
        gold = np.round(random.random(400) * 5, 1)
        groups = [gold + random.normal(size=(2, 400)) for _ in range(2)]
    else:
        gold = random.integers(2, size=(400, 3) if name == "f1_macro" else 400)
        groups = [np.where(random.random((2, *gold.shape)) < 0.8, gold, 1 - gold) for _ in range(2)]
    exact, near = (function([name], groups, gold, "x", 500) for function in (resampled, deviations))
    assert np.abs(near.mean(axis=1)).max() < 0.01
    assert near.shape == exact.shape
    assert np.corrcoef(exact[0], near[0])[0, 1] > 0.98
    assert near.std(axis=1) == pytest.approx(exact.std(axis=1), rel=0.05)


def test_deviations_of_one_class_throughout_are_0() -> None:
    constant = np.zeros((1, 3), int)
    assert deviations(["matthews_correlation"], [constant], np.array([0, 1, 1]), "x", 4).tolist() == [[0, 0, 0, 0]]
