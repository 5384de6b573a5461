"""Scores become predictions, metrics, losses, thresholds and baselines."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.metrics.metric import Undefined
from harness.metrics.registry import METRICS, supported_metrics
from harness.metrics.scoring import baseline, best_threshold, main_score, mean_loss, predictions_from_scores, score

CLASS_METRICS = [name for name in supported_metrics("single_label_classification") if not METRICS[name].is_over_groups]
SET_METRICS = supported_metrics("multi_label_classification")
VALUE_METRICS = supported_metrics("regression")


def one_hot(predictions: Any, classes: int = 2) -> NDArray[np.float32]:
    """Scores [N, classes] whose highest is that of the prediction."""
    return np.eye(classes, dtype=np.float32)[np.asarray(predictions)]


def column(values: Any) -> NDArray[np.float32]:
    """Scores [N, 1] of a regression."""
    return np.asarray(values, np.float32)[:, None]


def label_sets(rows: int, labels: int, share: float = 0.4) -> NDArray[np.int8]:
    return (np.random.default_rng(rows * labels).random((rows, labels)) < share).astype(np.int8)


# -- predictions and metrics ---------------------------------------------------------------------------------


def test_predictions_have_one_dimension_even_for_one_row() -> None:
    assert predictions_from_scores(np.array([[0.25]], np.float32)).tolist() == [0.25]
    assert predictions_from_scores(np.array([[0.25]], np.float32)).dtype == np.float64
    assert predictions_from_scores(np.array([[0.25, 1]], np.float32)).tolist() == [1]
    assert predictions_from_scores(np.array([[0.25, 1]], np.float32)).dtype == np.int64


def test_tie_goes_to_the_first_class() -> None:
    assert predictions_from_scores(np.zeros((2, 3), np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("is_correct", [True, False])
def test_single_row_is_scored(is_correct: bool) -> None:
    values = score(["accuracy", "f1", "f1_micro"], one_hot([1]), np.array([1 if is_correct else 0])).values
    assert values == dict.fromkeys(("accuracy", "f1", "f1_micro"), float(is_correct))
    assert score(["mse", "rmse", "mae"], column([3.0]), np.array([1.0])).values == {"mse": 4.0, "rmse": 2.0, "mae": 2.0}


def test_values_are_compared_in_double_precision() -> None:
    """float32 has no 16,777,217: were the difference taken in it, gold would be rounded to the prediction."""
    assert score(["mse", "mae"], column([16_777_216]), np.array([16_777_217.0])).values == {"mse": 1.0, "mae": 1.0}


def test_metric_is_none_exactly_when_there_is_a_note_and_never_nan() -> None:
    generator = np.random.default_rng(0)
    undefined = set()
    for rows in [1, 2, 3, 4] * 8:
        predictions, gold = generator.integers(2, size=(2, rows))
        for names, scores in ((CLASS_METRICS, one_hot(predictions)), (VALUE_METRICS, column(predictions))):
            scored = score(names, scores, gold if names == CLASS_METRICS else gold.astype(float))
            assert list(scored.values) == names
            assert {name for name, value in scored.values.items() if value is None} == set(scored.notes)
            for name, value in scored.values.items():
                if value is not None:
                    assert METRICS[name].lowest - 1e-9 <= value <= METRICS[name].highest + 1e-9
            undefined |= set(scored.notes)
    assert undefined == {"f1", "matthews_correlation", "pearson", "spearman"}


def test_undefined_metric_has_the_reason_in_its_note() -> None:
    scored = score(["accuracy", "matthews_correlation"], one_hot([1, 0, 1]), np.array([1, 1, 1]))
    assert scored.values == pytest.approx({"accuracy": 2 / 3, "matthews_correlation": None})
    assert scored.notes == {"matthews_correlation": "undefined: all gold labels are the same"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name, columns", [("accuracy", 2), ("mae", 1)])
def test_score_that_is_not_finite_never_becomes_a_metric(name: str, columns: int, bad: float) -> None:
    """argmax takes the position of a NaN for the highest: that would be no prediction of the model."""
    scores = np.ones((3, columns), np.float32)
    scores[1, 0] = bad
    with pytest.raises(AssertionError):
        score([name], scores, np.array([0, 1, 1]))


def test_undefined_rows_do_not_reach_the_next_score() -> None:
    assert score(["f1"], one_hot([0, 0]), np.array([0, 0])).values == {"f1": None}
    assert score(["f1"], one_hot([1, 0]), np.array([1, 0])).values == {"f1": 1.0}


def test_scoring_leaves_the_random_streams_alone() -> None:
    """Training continues after it."""

    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    score(["accuracy", "matthews_correlation"], one_hot([0, 1]), np.array([0, 1]))
    assert states() == before


@pytest.mark.parametrize("gold", [[], [0], [0, 1, 1]])
def test_rows_and_gold_must_agree(gold: list[int]) -> None:
    with pytest.raises(AssertionError):
        score(["accuracy"], one_hot([0, 1]), np.asarray(gold, np.int64))


def test_no_rows_have_no_score() -> None:
    with pytest.raises(AssertionError):
        score(["accuracy"], np.empty((0, 2), np.float32), np.empty(0, np.int64))


# -- thresholds ----------------------------------------------------------------------------------------------


def test_label_is_predicted_from_the_threshold_on() -> None:
    scores = np.array([[0.0, -1e-6, 5.0]], np.float32)
    assert predictions_from_scores(scores, 0.5).tolist() == [[1, 0, 1]]
    assert predictions_from_scores(scores, 0.9).tolist() == [[0, 0, 1]]
    assert predictions_from_scores(scores, 0.05).tolist() == [[1, 1, 1]]


def test_best_threshold_has_the_best_main_score_and_of_equals_the_nearest_to_a_half() -> None:
    probabilities = np.array([[0.28, 0.1], [0.1, 0.32], [0.04, 0.22]])
    scores = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    gold = np.array([[1, 0], [0, 1], [0, 0]], np.int8)
    assert best_threshold(["f1_micro"], scores, gold) == 0.25
    assert best_threshold(["hamming_loss"], scores, gold) == 0.25
    for low, high, expected in ((0.02, 0.06, 0.05), (0.94, 0.96, 0.95)):
        ends = np.log(np.array([[high / (1 - high), low / (1 - low)]])).astype(np.float32)
        assert best_threshold(["f1_micro"], ends, np.array([[1, 0]], np.int8)) == expected
    certain = np.where(gold > 0, 9.0, -9.0).astype(np.float32)
    assert best_threshold(["f1_micro"], certain, gold) == 0.5
    assert best_threshold(["f1_micro"], -np.ones((2, 2), np.float32), np.zeros((2, 2), np.int8)) != 0.5


# -- loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows, classes", [(1, 2), (7, 3), (100, 7)])
def test_mean_loss_of_classes_is_torchs_cross_entropy(rows: int, classes: int) -> None:
    generator = np.random.default_rng(rows)
    scores = generator.normal(0, 5, size=(rows, classes)).astype(np.float32)
    gold = generator.integers(classes, size=rows)
    expected = torch.nn.functional.cross_entropy(torch.tensor(scores, dtype=torch.float64), torch.tensor(gold))
    assert mean_loss(scores, gold) == pytest.approx(expected.item(), rel=1e-12)


def test_mean_loss_of_values_is_torchs_squared_error() -> None:
    generator = np.random.default_rng(0)
    scores, gold = generator.normal(size=(50, 1)).astype(np.float32), generator.uniform(0, 5, size=50)
    expected = torch.nn.functional.mse_loss(torch.tensor(scores[:, 0], dtype=torch.float64), torch.tensor(gold))
    assert mean_loss(scores, gold) == pytest.approx(expected.item(), rel=1e-12)


def test_mean_loss_of_sets_is_torchs_binary_cross_entropy() -> None:
    gold = label_sets(20, 4)
    scores = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * 30
    expected = torch.nn.BCEWithLogitsLoss()(torch.tensor(scores).double(), torch.tensor(gold).double()).item()
    assert mean_loss(scores, gold) == pytest.approx(expected)


def test_mean_loss_by_hand() -> None:
    assert mean_loss(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])) == pytest.approx(math.log(3))
    assert mean_loss(np.array([[math.log(3), 0]], np.float32), np.array([1])) == pytest.approx(math.log(4))
    assert mean_loss(column([1, 2]), np.array([0.0, 4.0])) == pytest.approx((1 + 4) / 2)


def test_huge_scores_do_not_overflow() -> None:
    scores = np.array([[1e30, -1e30], [3e38, 0]], np.float32)
    assert mean_loss(scores, np.array([0, 0])) == 0.0
    assert mean_loss(scores[:1], np.array([1])) == pytest.approx(2e30)
    assert mean_loss(column([3e38]), np.array([0.0])) == pytest.approx(9e76, rel=1e-6)


# -- baselines -----------------------------------------------------------------------------------------------


def test_baseline_of_mrpc_is_the_known_68_and_81() -> None:
    """279 of MRPC's 408 validation pairs are paraphrases."""
    gold = np.array([1] * 279 + [0] * 129)
    scores = baseline(["accuracy", "f1"], gold, classes=2)
    assert scores == pytest.approx({"accuracy": 0.6838, "f1": 0.8122}, abs=5e-5)
    assert scores == pytest.approx({"accuracy": 279 / 408, "f1": 2 * 279 / (408 + 279)})


def test_baseline_of_wnli_is_the_published_score() -> None:
    """40 of WNLI's 71 validation rows are not entailed."""
    assert baseline(["accuracy"], np.array([0] * 40 + [1] * 31), classes=2) == pytest.approx({"accuracy": 40 / 71})


def test_baseline_is_one_constant_the_best_by_the_main_metrics() -> None:
    """The majority is negative, so accuracy predicts 0 throughout; F1 of label 1 needs 1 throughout."""
    gold = np.array([0, 0, 0, 1])
    negative = {
        "accuracy": 3 / 4,
        "f1": 0.0,
        "f1_macro": (2 * 3 / (4 + 3)) / 2,
        "f1_micro": 3 / 4,
        "precision_macro": (3 / 4) / 2,
        "recall_macro": 1 / 2,
        "matthews_correlation": 0.0,
    }
    assert baseline(CLASS_METRICS, gold, classes=2, main_metrics=["accuracy"]) == pytest.approx(negative)
    assert baseline(["f1", "accuracy"], gold, 2, ["f1"]) == pytest.approx({"f1": 2 * 1 / (4 + 1), "accuracy": 1 / 4})
    assert baseline(["f1", "accuracy"], gold, 2) == pytest.approx({"f1": 0.0, "accuracy": 3 / 4})


def test_baseline_of_a_regression_is_the_mean_or_the_median() -> None:
    """Mean 4 for the squared error, median 2 for the absolute, the mean too where correlations are undefined."""
    gold = np.array([1.0, 2.0, 9.0])
    of_mean = {"mse": (9 + 4 + 25) / 3, "rmse": math.sqrt((9 + 4 + 25) / 3), "mae": (3 + 2 + 5) / 3}
    for main_metrics in (["mse"], ["rmse"], ["pearson", "spearman"]):
        expected = {"pearson": None, "spearman": None, **of_mean}
        assert baseline(VALUE_METRICS, gold, 1, main_metrics) == pytest.approx(expected)
    assert baseline(["mae"], gold, 1) == pytest.approx({"mae": (1 + 0 + 7) / 3})


def test_baseline_is_undefined_where_every_constant_is() -> None:
    scores = baseline(["matthews_correlation", "accuracy"], np.array([1, 1]), 2, ["accuracy"])
    assert scores == {"matthews_correlation": None, "accuracy": 1.0}


def test_metric_of_evaluate_has_no_baseline() -> None:
    assert baseline(["some/path.py", "accuracy"], np.array([0, 1]), classes=2) == {"accuracy": 0.5}


def best_of(name: str, scores: Sequence[NDArray[np.float32]], gold: NDArray[Any], threshold: float | None) -> float:
    values = [score([name], one, gold, threshold).values[name] for one in scores]
    return (min if METRICS[name].lower_is_better else max)(value for value in values if value is not None)


@pytest.mark.parametrize("name", [name for name in CLASS_METRICS if name != "f1"])
def test_no_constant_class_beats_the_baseline(name: str) -> None:
    gold = np.array([0, 0, 1, 2, 2, 2, 2])
    constants = [one_hot([constant] * len(gold), 3) for constant in range(3)]
    assert baseline([name], gold, classes=3) == pytest.approx({name: best_of(name, constants, gold, None)})


@pytest.mark.parametrize("name", SET_METRICS)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_no_constant_set_beats_the_baseline(name: str, share: float) -> None:
    gold = label_sets(9, 4, share) if share > 0.5 else label_sets(9, 4, share) * np.array([1, 1, 0, 1], np.int8)
    sets = [[int(digit) for digit in f"{number:04b}"] for number in range(16)]
    constants = [np.tile(np.float32(4) * np.array(one, np.float32) - 2, (9, 1)) for one in sets]
    assert baseline([name], gold, classes=4) == pytest.approx({name: best_of(name, constants, gold, 0.5)})


def best_constant(name: str, constants: Sequence[Any], gold: NDArray[Any]) -> float | None:
    """The best value of a metric over constant predictions, each of them tried."""
    values = []
    for constant in constants:
        try:
            values.append(METRICS[name].value(np.full(gold.shape, constant), gold))
        except Undefined:
            continue
    return (min if METRICS[name].lower_is_better else max)(values, default=None)


@pytest.mark.parametrize("seed", range(6))
def test_baseline_is_the_best_of_all_constants(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, labels = int(rng.integers(1, 12)), int(rng.integers(2, 6))
    classes = rng.integers(0, rng.integers(1, labels + 1), rows)
    sets = (rng.random((rows, labels)) < rng.random(labels) * seed / 4).astype(np.int8)
    subsets = [[number >> label & 1 for label in range(labels)] for number in range(2**labels)]
    class_metrics = [name for name in CLASS_METRICS if name != "f1" or labels == 2]
    for names, constants, gold in ((class_metrics, range(labels), classes), (SET_METRICS, subsets, sets)):
        for name in names:
            expected = best_constant(name, constants, gold)
            assert baseline([name], gold, labels) == pytest.approx({name: expected}, abs=1e-12)


@pytest.mark.parametrize("are_sets", [False, True])
def test_baseline_of_thousands_of_labels_takes_no_longer_than_that_of_two(are_sets: bool) -> None:
    gold = np.arange(2000) % 1500
    calls = 0

    def count(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        nonlocal calls
        calls += 1
        return 0.0

    name = "f1_macro"
    with mock.patch.dict(METRICS, {name: replace(METRICS[name], value=count)}):
        baseline([name], np.eye(1500, dtype=np.int8)[gold] if are_sets else gold, 1500)
    assert calls <= 5


def test_main_score_negates_metrics_where_lower_is_better_and_needs_all_of_them() -> None:
    assert main_score(["f1", "accuracy"], {"f1": 0.5, "accuracy": 0.75}) == 0.625
    assert main_score(["mse"], {"mse": 2.0}) == -2.0
    assert main_score(["pearson", "mse"], {"pearson": 1.0, "mse": 0.5}) == 0.25
    assert main_score(["f1", "accuracy"], {"f1": None, "accuracy": 0.75}) is None
    assert main_score(["f1"], {}) is None
