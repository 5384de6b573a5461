"""Where a model is wrong: the numbers of scikit-learn, and the mistakes that it was surest of."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from harness.facts.tasks import load_task
from harness.inspection.error_analysis import confusion, most_confused, per_class, per_label, worst_mistakes
from harness.rows.loading import Split


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes_are_counted_as_scikit_learn_counts_them(classes: int) -> None:
    rng = np.random.default_rng(classes)
    gold, predicted = rng.integers(0, classes, (2, 200))
    labels = [f"l{number}" for number in range(classes)]
    counts = confusion(gold, predicted, classes)
    assert counts.tolist() == confusion_matrix(gold, predicted).tolist()
    expected = precision_recall_fscore_support(gold, predicted)
    figures = per_class(labels, counts)
    assert np.allclose([(f.precision, f.recall, f.f1, f.rows) for f in figures], np.array(expected).T)
    assert sum(f.predicted for f in figures) == 200


def test_labels_of_sets_are_counted_as_scikit_learn_counts_them() -> None:
    gold, predicted = np.random.default_rng(5).integers(0, 2, (2, 100, 4))
    figures = per_label(["a", "b", "c", "d"], gold.astype(np.int8), predicted)
    expected = precision_recall_fscore_support(gold, predicted)
    assert np.allclose([(f.precision, f.recall, f.f1, f.rows) for f in figures], np.array(expected).T)
    assert [f.predicted for f in figures] == predicted.sum(axis=0).tolist()


def test_set_of_labels_is_as_wrong_as_its_worst_label() -> None:
    labels = {"a": 0, "b": 1, "c": 2}
    task = load_task("rte").model_copy(update={"labels": labels, "kind": "multi_label"})
    probabilities = np.array([[0.9, 0.1, 0.3], [0.9, 0.8, 0.1], [0.05, 0.1, 0.3], [0.1, 0.1, 0.2]])
    scores = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    gold = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]], np.int8)
    split = Split(["w", "x", "y", "z"], None, gold)
    found = worst_mistakes(task, scores, split, 5, threshold=0.25)
    assert [(each.row, each.gold, each.predicted) for each in found] == [
        (2, "a", "c"),
        (1, "a|c", "a|b"),
        (0, "a", "a|c"),
    ]
    assert [each.size for each in found] == pytest.approx([0.95, 0.9, 0.3])


def test_share_of_nothing_is_no_number() -> None:
    first, second, third = per_class(["a", "b", "c"], confusion(np.array([0, 0]), np.array([0, 1]), 3))
    assert (first.precision, first.recall, first.f1) == (1.0, 0.5, 2 / 3)
    assert (second.precision, second.recall, second.f1) == (0.0, None, 0.0)
    assert third[1:] == (None, None, None, 0, 0)


def test_what_is_mixed_up_most_comes_first() -> None:
    counts = np.array([[5, 2, 0], [7, 5, 0], [0, 1, 5]])
    assert most_confused(["a", "b", "c"], counts, 2) == [("b", "a", 7), ("a", "b", 2)]
    assert most_confused(["a", "b", "c"], np.diag([3, 3, 3]), 5) == []


def test_worst_mistakes_are_those_that_the_model_was_surest_of() -> None:
    scores = np.array([[3, 0], [0, 5], [0, 1], [9, 0], [0.5, 0]], np.float32)
    rows = Split([f"t{row}" for row in range(5)], [f"p{row}" for row in range(5)], np.array([1, 0, 0, 0, 1]))
    found = worst_mistakes(load_task("rte"), scores, rows, 3)
    assert [(m.row, m.gold, m.predicted, m.text, m.pair) for m in found] == [
        (1, "entailment", "not_entailment", "t1", "p1"),
        (0, "not_entailment", "entailment", "t0", "p0"),
        (2, "entailment", "not_entailment", "t2", "p2"),
    ]
    assert found[0].size == pytest.approx(1 / (1 + np.exp(-5)))
    assert len(worst_mistakes(load_task("rte"), scores, rows, 99)) == 4, "the fourth row is right"


def test_worst_values_are_those_furthest_off() -> None:
    rows = Split(["a", "b", "c"], ["x", "y", "z"], np.array([1.0, 2.0, 3.0]))
    found = worst_mistakes(load_task("stsb"), np.array([[1.0], [4.0], [2.5]], np.float32), rows, 5)
    assert [(m.row, m.gold, m.predicted, m.size) for m in found] == [(1, 2.0, 4.0, 2.0), (2, 3.0, 2.5, 0.5)]
