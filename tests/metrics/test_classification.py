"""Metrics of classes and of label sets against scikit-learn and values calculated by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from harness.metrics.classification import LabelCounts
from harness.metrics.metric import Undefined
from harness.metrics.registry import METRICS, supported_metrics

CLASS_METRICS = [name for name in supported_metrics("single_label_classification") if not METRICS[name].is_over_groups]
SET_METRICS = supported_metrics("multi_label_classification")
AVERAGES = [("f1", "macro"), ("f1", "micro"), ("precision", "macro"), ("recall", "macro")]


def values(names: Sequence[str], predictions: Any, gold: Any) -> dict[str, float]:
    return {name: METRICS[name].value(np.asarray(predictions), np.asarray(gold)) for name in names}


def averages_of_sklearn(predictions: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    arguments = {"y_true": gold, "y_pred": predictions, "zero_division": 0.0}
    return {
        f"{name}_{average}": getattr(sklearn.metrics, f"{name}_score")(average=average, **arguments)
        for name, average in AVERAGES
    }


# -- classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 7, 33, 1000])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_class_metrics_equal_scikit_learns(classes: int, rows: int) -> None:
    generator = np.random.default_rng(100 * classes + rows)
    predictions, gold = generator.integers(classes, size=(2, rows))
    gold[:2] = 0, 1  # two classes at least, or Matthews is undefined
    expected = averages_of_sklearn(predictions, gold) | {
        "accuracy": sklearn.metrics.accuracy_score(gold, predictions),
        "matthews_correlation": sklearn.metrics.matthews_corrcoef(gold, predictions),
    }
    assert {*expected, "f1"} == set(CLASS_METRICS)
    assert values(list(expected), predictions, gold) == pytest.approx(expected, abs=1e-12)


def test_every_class_metric_by_hand() -> None:
    """Gold 1 1 1 1 0 0, predicted 1 1 1 0 1 0: 3 true and 1 false positive, 1 true and 1 false negative."""
    assert values(CLASS_METRICS, [1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0]) == pytest.approx(
        {
            "accuracy": 4 / 6,
            "f1": 2 * 3 / (2 * 3 + 1 + 1),
            "f1_macro": (0.75 + 0.5) / 2,
            "f1_micro": 4 / 6,
            "precision_macro": (3 / 4 + 1 / 2) / 2,
            "recall_macro": (3 / 4 + 1 / 2) / 2,
            "matthews_correlation": (3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2),
        }
    )


def test_f1_is_that_of_label_1() -> None:
    assert values(["f1"], [0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx({"f1": 2 / 3})
    assert values(["f1"], [1, 1, 1, 0], [1, 1, 0, 0]) == pytest.approx({"f1": 0.8})


def test_class_that_is_never_predicted_counts_0() -> None:
    assert values(["f1_macro", "precision_macro", "recall_macro"], [0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(
        {"f1_macro": (1 + 2 / 3 + 0) / 3, "precision_macro": (1 + 1 / 2 + 0) / 3, "recall_macro": (1 + 1 + 0) / 3}
    )


def test_class_that_does_not_occur_does_not_count() -> None:
    assert values(["f1_macro", "recall_macro"], [0, 6, 0], [0, 6, 0]) == {"f1_macro": 1, "recall_macro": 1}


def test_constant_predictions_have_a_matthews_of_0() -> None:
    assert values(["matthews_correlation"], [1, 1, 1, 1], [0, 1, 1, 0]) == {"matthews_correlation": 0.0}


def test_matthews_of_a_single_gold_class_is_undefined() -> None:
    with pytest.raises(Undefined, match="gold"):
        values(["matthews_correlation"], [1, 0, 1], [1, 1, 1])


def test_f1_without_any_positive_row_is_undefined() -> None:
    with pytest.raises(Undefined, match="positive"):
        values(["f1"], [0, 0], [0, 0])


@pytest.mark.parametrize("predictions, gold", [([1, 1], [0, 0]), ([0, 0], [1, 1])])
def test_f1_without_a_true_positive_is_0(predictions: list[int], gold: list[int]) -> None:
    assert values(["f1"], predictions, gold) == {"f1": 0.0}


# -- label sets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows, labels", [(1, 2), (7, 3), (200, 12)])
def test_metrics_of_sets_equal_scikit_learns(rows: int, labels: int) -> None:
    gold, predictions = (np.random.default_rng(rows).random((2, rows, labels)) < 0.4).astype(np.int8)
    gold[0], predictions[0] = 1, 1  # each label occurs
    expected = averages_of_sklearn(predictions, gold) | {
        "subset_accuracy": sklearn.metrics.accuracy_score(gold, predictions),
        "hamming_loss": sklearn.metrics.hamming_loss(gold, predictions),
    }
    assert set(SET_METRICS) == set(expected)
    assert values(SET_METRICS, predictions, gold) == pytest.approx(expected)


def test_every_metric_of_sets_by_hand() -> None:
    assert values(SET_METRICS, [[1, 0], [1, 0], [0, 1]], [[1, 0], [1, 1], [0, 0]]) == pytest.approx(
        {
            "f1_micro": 2 * 2 / (3 + 3),
            "f1_macro": (1 + 0) / 2,
            "precision_macro": (1 + 0) / 2,
            "recall_macro": (1 + 0) / 2,
            "subset_accuracy": 1 / 3,
            "hamming_loss": 2 / 6,
        }
    )


def test_label_that_does_not_occur_does_not_count() -> None:
    """As with classes; a label that is gold and never predicted, or the other way round, counts 0."""
    gold = [[1, 0, 0], [1, 0, 0]]
    assert values(["f1_macro"], gold, gold) == {"f1_macro": 1.0}
    assert values(["f1_macro"], [[1, 1, 0], [1, 0, 0]], gold) == {"f1_macro": 0.5}


@pytest.mark.parametrize("name", ["f1_micro", "f1_macro", "precision_macro", "recall_macro"])
def test_averages_of_empty_sets_are_undefined(name: str) -> None:
    empty = np.zeros((3, 2), np.int8)
    with pytest.raises(Undefined, match="label"):
        METRICS[name].value(empty, empty)
    assert values(["subset_accuracy", "hamming_loss"], empty, empty) == {"subset_accuracy": 1.0, "hamming_loss": 0.0}


def test_labels_that_do_not_occur_cost_nothing() -> None:
    counts = LabelCounts([np.array([[0, 9_999, 0]])], np.array([0, 5, 0]))
    assert counts.labels == [0, 5, 9_999]
