"""Resampled scores: each is the metric of rows repeated as drawn, and always the same."""

from __future__ import annotations

import numpy as np
import pytest

from harness.facts.metrics import METRICS, Undefined
from harness.stats import resampling
from harness.stats.resampling import can_resample, generator, resampled

CLASSES = [name for name, metric in METRICS.items() if metric.kind == "classes" and can_resample([name])]
VALUES = [name for name, metric in METRICS.items() if metric.kind == "values" and can_resample([name])]
ROWS, DRAWS = 41, 12


def drawn(rows: int, purpose: str, draws: int) -> np.ndarray:
    """Row numbers [draws, rows], drawn as the module says, by the shortest code."""
    return generator(purpose).integers(rows, size=(draws, rows), dtype=np.uint32)


def classes(count: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Gold, and groups of 1, 3 and 2 runs that are right more often than not."""
    random = np.random.default_rng(seed)
    gold = random.integers(count, size=ROWS)
    guesses = [random.integers(count, size=(runs, ROWS)) for runs in (1, 3, 2)]
    return gold, [np.where(random.random(guess.shape) < 0.5, gold, guess) for guess in guesses]


def values() -> tuple[np.ndarray, list[np.ndarray]]:
    """Gold with ties, and groups of runs; some predictions are tied too."""
    random = np.random.default_rng(1)
    gold = np.round(random.random(ROWS) * 5, 0)
    groups = [gold + random.normal(size=(runs, ROWS)) for runs in (1, 3, 2)]
    groups[1][0] = np.round(groups[1][0])
    return gold, groups


def test_every_metric_of_ours_can_be_resampled() -> None:
    known = {"f1", "f1_macro", "f1_micro", "accuracy", "matthews_correlation", "precision_macro", "recall_macro"}
    assert known <= set(CLASSES)
    assert set(VALUES) == {"pearson", "spearman", "mse", "rmse", "mae"}
    assert not can_resample(["accuracy", "perplexity"])
    assert not can_resample([])


@pytest.mark.parametrize(
    "name, count", [(name, 2) for name in CLASSES] + [(name, 4) for name in CLASSES if name != "f1"]
)
def test_score_is_that_of_the_rows_as_often_as_they_were_drawn(name: str, count: int) -> None:
    _check(name, *classes(count))


@pytest.mark.parametrize("name", VALUES)
def test_value_is_that_of_the_rows_as_often_as_they_were_drawn(name: str) -> None:
    _check(name, *values())


def _check(name: str, gold: np.ndarray, groups: list[np.ndarray]) -> None:
    found = resampled([name], groups, gold, "small.validation", DRAWS)
    assert found.shape == (len(groups), DRAWS)
    for number, rows in enumerate(drawn(ROWS, "small.validation", DRAWS)):
        for group, runs in enumerate(groups):
            expected = np.mean([METRICS[name].compute(run[rows], gold[rows]) for run in runs])
            assert found[group, number] == pytest.approx(expected, abs=1e-12)


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


def test_undefined_is_nan_and_one_class_predicted_is_0() -> None:
    gold = np.array([0, 1, 1])
    alike = np.zeros((1, 3), int)
    found = resampled(["matthews_correlation"], [alike], gold, "x", 60)[0]
    for value, rows in zip(found, drawn(3, "x", 60), strict=True):
        if len(set(gold[rows])) == 1:
            assert np.isnan(value)
            with pytest.raises(Undefined):
                METRICS["matthews_correlation"].compute(alike[0, rows], gold[rows])
        else:
            assert value == 0
    assert 0 < np.isnan(found).sum() < 60
    assert np.isnan(resampled(["spearman"], [np.ones((1, 3))], np.array([1.0, 2.0, 3.0]), "x", 5)).all()
