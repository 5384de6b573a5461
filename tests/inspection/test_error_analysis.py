"""Errors of a model: metrics equal scikit-learn's, and the most confident errors come first."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from harness.facts.tasks import load_task
from harness.inspection.error_analysis import label_metrics, worst_errors
from harness.rows.splits import Split
from harness.stats.row_errors import confusion_counts


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_of_classes_equal_those_of_scikit_learn(classes: int) -> None:
    gold, predicted = np.random.default_rng(classes).integers(0, classes, (2, 200))
    assert confusion_counts(gold, predicted, classes).tolist() == confusion_matrix(gold, predicted).tolist()
    metrics = label_metrics([f"l{number}" for number in range(classes)], gold, predicted)
    expected = precision_recall_fscore_support(gold, predicted)
    assert np.allclose([(m.precision, m.recall, m.f1, m.rows) for m in metrics], np.array(expected).T)
    assert sum(m.predicted for m in metrics) == 200


def test_metrics_of_label_sets_equal_those_of_scikit_learn() -> None:
    gold, predicted = np.random.default_rng(5).integers(0, 2, (2, 100, 4))
    metrics = label_metrics(["a", "b", "c", "d"], gold.astype(np.int8), predicted)
    expected = precision_recall_fscore_support(gold, predicted)
    assert np.allclose([(m.precision, m.recall, m.f1, m.rows) for m in metrics], np.array(expected).T)
    assert [m.predicted for m in metrics] == predicted.sum(axis=0).tolist()


def test_metric_with_denominator_0_is_none() -> None:
    first, second, third = label_metrics(["a", "b", "c"], np.array([0, 0]), np.array([0, 1]))
    assert (first.precision, first.recall, first.f1) == (1.0, 0.5, 2 / 3)
    assert (second.precision, second.recall, second.f1) == (0.0, None, 0.0)
    assert third[1:] == (None, None, None, 0, 0)


def test_worst_errors_are_the_most_confident_ones() -> None:
    scores = np.array([[3, 0], [0, 5], [0, 1], [9, 0], [0.5, 0]], np.float32)
    rows = Split([f"t{row}" for row in range(5)], [f"p{row}" for row in range(5)], np.array([1, 0, 0, 0, 1]))
    errors = worst_errors(load_task("rte"), scores, rows, 3)
    assert [(e.row, e.gold, e.predicted, e.text, e.pair) for e in errors] == [
        (1, "entailment", "not_entailment", "t1", "p1"),
        (0, "not_entailment", "entailment", "t0", "p0"),
        (2, "entailment", "not_entailment", "t2", "p2"),
    ]
    assert errors[0].size == pytest.approx(1 / (1 + np.exp(-5)))
    assert len(worst_errors(load_task("rte"), scores, rows, 99)) == 4, "the fourth row is right"


def test_worst_errors_of_a_regression_are_the_values_furthest_from_gold() -> None:
    rows = Split(["a", "b", "c"], None, np.array([1.0, 2.0, 3.0]))
    errors = worst_errors(load_task("stsb"), np.array([[1.0], [4.0], [2.5]], np.float32), rows, 5)
    assert [(e.row, e.gold, e.predicted, e.size) for e in errors] == [(1, 2.0, 4.0, 2.0), (2, 3.0, 2.5, 0.5)]
    assert [e.pair for e in errors] == [None, None]


def test_label_set_is_as_wrong_as_its_worst_label() -> None:
    labels = {"labels": {"a": 0, "b": 1, "c": 2}, "problem_type": "multi_label_classification"}
    probabilities = np.array([[0.9, 0.1, 0.3], [0.9, 0.8, 0.1], [0.05, 0.1, 0.3], [0.1, 0.1, 0.2]])
    scores = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    rows = Split(["w", "x", "y", "z"], None, np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]], np.int8))
    errors = worst_errors(load_task("rte").model_copy(update=labels), scores, rows, 5, threshold=0.25)
    assert [(e.row, e.gold, e.predicted) for e in errors] == [(2, "a", "c"), (1, "a|c", "a|b"), (0, "a", "a|c")]
    assert [e.size for e in errors] == pytest.approx([0.95, 0.9, 0.3])


def test_errors_of_answers_are_the_selected_candidates_that_are_wrong() -> None:
    """The second right answer to the first question is not selected, which is no error."""
    scores = np.array([[0, 3], [0, 2], [0, 1], [0, 2]], np.float32)
    rows = Split(list("abcd"), list("efgh"), np.array([1, 1, 1, 0]), np.array([0, 0, 1, 1]), candidates=list("ijkl"))
    (error,) = worst_errors(load_task("record"), scores, rows, 9)
    assert (error.row, error.gold, error.predicted, error.pair) == (3, "wrong", "right", "h")
    assert error.size == pytest.approx(1 / (1 + np.exp(-2)))
