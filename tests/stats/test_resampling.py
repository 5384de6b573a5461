"""Resampled scores: the same weights of rows for every model, always the same numbers, exact."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from harness.metrics.registry import METRICS
from harness.stats import resampling
from harness.stats.resampling import (
    can_resample,
    counts,
    generator,
    pseudo_rows,
    resample_number,
    resampled,
    weights_of,
)

ROWS = 41


def classes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels, and six runs that are correct more often than not."""
    random = np.random.default_rng(0)
    gold = random.integers(number, size=ROWS)
    guesses = random.integers(number, size=(6, ROWS))
    return gold, np.where(random.random(guesses.shape) < 0.5, gold, guesses)


def values() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    gold = np.round(random.random(ROWS) * 5, 0)
    return gold, gold + random.normal(size=(6, ROWS))


def test_only_own_metrics_can_be_resampled() -> None:
    assert can_resample(list(METRICS))
    assert not can_resample(["accuracy", "perplexity"])
    assert not can_resample([])


def weighted_pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    covariance = np.cov(x, y, aweights=weights, ddof=0)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


@pytest.mark.parametrize(
    "name, data, expected",
    [
        ("accuracy", classes(4), lambda run, gold, weights: accuracy_score(gold, run, sample_weight=weights)),
        ("f1", classes(2), lambda run, gold, weights: f1_score(gold, run, sample_weight=weights)),
        ("f1_macro", classes(4), lambda run, gold, w: f1_score(gold, run, sample_weight=w, average="macro")),
        ("matthews_correlation", classes(3), lambda run, gold, w: matthews_corrcoef(gold, run, sample_weight=w)),
        ("pearson", values(), weighted_pearson),
    ],
)
def test_score_has_the_weights_of_rows_and_pseudo_rows(name, data, expected) -> None:
    gold, runs = data
    scores = resampled([name], runs, gold, "small.validation", 12)
    assert scores.shape == (len(runs), 12)
    extra_runs, extra_gold = pseudo_rows([name], runs, gold)
    (weights,) = weights_of(ROWS, len(extra_gold), "small.validation", 12)
    for number, run in enumerate(runs):
        joined = np.concatenate([run, extra_runs]), np.concatenate([gold, extra_gold])
        assert scores[number] == pytest.approx([expected(*joined, one) for one in weights], abs=1e-9)


@pytest.mark.parametrize("name", ["spearman", "pearson", "f1_macro", "mse"])
def test_score_with_counts_is_that_of_the_drawn_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rows share a rank, as in scipy's Spearman."""
    gold, runs = classes(4) if name == "f1_macro" else values()
    monkeypatch.setattr(resampling, "weights_of", counts)
    scores = resampled([name], runs, gold, "small.validation", 12)
    drawn = generator("small.validation").integers(ROWS, size=(12, ROWS), dtype=np.uint32)
    for number, rows in enumerate(drawn):
        expected = [METRICS[name].value(run[rows], gold[rows]) for run in runs]
        assert scores[:, number] == pytest.approx(expected, abs=1e-12)


def test_accuracy_has_the_posterior_of_jeffreys() -> None:
    gold, runs = np.zeros(100, int), np.zeros((2, 100), int)
    runs[1, :10] = 1
    perfect, ninety = resampled(["accuracy"], runs, gold, "x", 20_000)
    for scores, correct in ((perfect, 100), (ninety, 90)):
        exact = stats.beta(correct + 0.5, 100 - correct + 0.5)
        assert np.quantile(scores, [0.025, 0.5, 0.975]) == pytest.approx(exact.ppf([0.025, 0.5, 0.975]), abs=1.5e-3)


def test_two_classes_have_the_posterior_of_the_confusion_matrix() -> None:
    gold = np.repeat([0, 1], [90, 10])
    run = gold.copy()
    run[[0, 95, 96]] = [1, 0, 0]
    cells = np.random.default_rng(0).dirichlet(np.array([89, 1, 2, 8]) + 0.5, size=20_000)
    expected = 2 * cells[:, 3] / (2 * cells[:, 3] + cells[:, 1] + cells[:, 2])
    scores = resampled(["f1"], run[None], gold, "x", 20_000)[0]
    assert np.quantile(scores, [0.025, 0.5, 0.975]) == pytest.approx(
        np.quantile(expected, [0.025, 0.5, 0.975]), abs=0.02
    )


@pytest.mark.parametrize(
    "metrics, gold, number",
    [
        (["accuracy"], np.array([0, 2, 1]), 2),
        (["subset_accuracy"], np.array([[0, 1], [1, 1]]), 2),
        (["f1", "accuracy"], np.array([0, 1, 1]), 4),
        (["f1_macro"], np.array([0, 2, 1]), 0),
        (["f1_micro"], np.array([[0, 1], [1, 1]]), 0),
        (["pearson"], np.array([0.0, 1.0]), 0),
    ],
)
def test_pseudo_rows_are_for_scores_of_few_kinds_of_rows(metrics: list[str], gold: np.ndarray, number: int) -> None:
    predictions, pseudo_gold = pseudo_rows(metrics, gold[None], gold)
    assert predictions.shape == pseudo_gold.shape == (number, *gold.shape[1:])
    kinds = {(str(prediction), str(label)) for prediction, label in zip(predictions, pseudo_gold, strict=True)}
    assert len(kinds) == number


def test_several_metrics_are_averaged() -> None:
    gold, runs = classes(4)
    both, f1, recall = (
        resampled(names, runs, gold, "x", 5) for names in (["f1_macro", "recall_macro"], ["f1_macro"], ["recall_macro"])
    )
    assert np.allclose(both, (f1 + recall) / 2, atol=1e-15)


def test_blocks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [("matthews_correlation", *classes(3)), ("f1", *classes(2)), ("spearman", *values())]
    whole = [resampled([name], runs, gold, "x", 10) for name, gold, runs in cases]
    monkeypatch.setattr(resampling, "_BLOCK", 3 * ROWS)
    for before, (name, gold, runs) in zip(whole, cases, strict=True):
        assert np.array_equal(before, resampled([name], runs, gold, "x", 10)), name


def test_draws_follow_from_the_purpose_alone() -> None:
    gold, runs = classes(2)
    first = resampled(["accuracy"], runs, gold, "rte.validation", 5)
    assert np.array_equal(first, resampled(["accuracy"], runs, gold, "rte.validation", 5))
    assert np.array_equal(first[:1], resampled(["accuracy"], runs[:1], gold, "rte.validation", 5))
    assert not np.array_equal(first, resampled(["accuracy"], runs, gold, "mrpc.validation", 5))


def test_sums_of_weights_are_exact_in_float32() -> None:
    (weights,) = weights_of(300, 4, "x", 50)
    assert np.array_equal(weights, np.rint(weights))
    assert weights.sum(axis=1).max() < 2**24


def test_undefined_counts_0() -> None:
    assert not resampled(["spearman"], np.ones((1, 3)), np.array([1.0, 2.0, 3.0]), "x", 5).any()
    assert not resampled(["f1_macro"], np.zeros((1, 3, 2), int), np.zeros((3, 2), int), "x", 5).any()


def test_metric_with_a_value_only_is_resampled_by_rows_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, runs = classes(2)
    monkeypatch.setitem(METRICS, "accuracy", dataclasses.replace(METRICS["accuracy"], resampled=None))
    drawn = generator("x").integers(ROWS, size=(20, ROWS), dtype=np.uint32)
    expected = [[np.mean(run[rows] == gold[rows]) for rows in drawn] for run in runs]
    assert resampled(["accuracy"], runs, gold, "x", 20) == pytest.approx(np.array(expected))
    assert resample_number(["accuracy"], 100) == 1_000
    assert resample_number(["f1"], 100) == 10_000


@pytest.mark.parametrize("rows, number", [(71, 10_000), (6_000, 10_000), (40_430, 1_484), (400_000, 1_000)])
def test_large_splits_are_resampled_less_often(rows: int, number: int) -> None:
    assert resample_number(["f1", "accuracy"], rows) == number
