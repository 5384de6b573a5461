"""Errors row by row: disagreement is that of pairs of runs of two models, confusions are means over runs."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from support.boards import record, record_with_predictions

from harness.facts.packing import pack_array
from harness.metrics.registry import supported_metrics
from harness.stats.groups import Group, group_runs
from harness.stats.row_errors import (
    Disagreement,
    label_counts,
    mean_confusion,
    most_confused,
    most_disagreed_rows,
    predictions_of_groups,
)

RANDOM = np.random.default_rng(3)


def group_of(predictions: list[Any], gold: Any, model: str, **facts: Any) -> Group:
    """Runs of a model with these predictions."""
    packed = {"validation": pack_array(np.array(gold))}
    metrics = supported_metrics(facts.get("problem_type", "single_label_classification"))[:1]
    facts = {"metrics": metrics, "main_metrics": metrics, **facts}
    runs = [
        record("task", model=model, seed=seed, facts=facts, gold=packed, predictions={"validation": pack_array(one)})
        for seed, one in enumerate(map(np.array, predictions))
    ]
    (group,) = group_runs(runs, "mean")
    return group


def disagreement_of(runs: dict[str, Any], gold: Any, most: int = 50, **facts: Any) -> Disagreement:
    groups = [group_of(list(predictions), gold, model, **facts) for model, predictions in runs.items()]
    disagreement = most_disagreed_rows(predictions_of_groups(groups), "validation", most)
    assert disagreement is not None
    return disagreement


def share_of_pairs(runs: dict[str, Any]) -> np.ndarray:
    """By brute force, [N] or [N, C]."""
    pairs = [np.mean([a != b for a, b in product(one, other)], axis=0) for one, other in combinations(runs.values(), 2)]
    return np.asarray(np.mean(pairs, axis=0))


def test_disagreement_is_the_share_of_pairs_of_runs_of_two_models() -> None:
    runs = {
        "a": RANDOM.integers(0, 3, (2, 40)),
        "b": RANDOM.integers(0, 3, (3, 40)),
        "c": RANDOM.integers(0, 3, (1, 40)),
    }
    disagreement = disagreement_of(runs, RANDOM.integers(0, 3, 40), labels=["x", "y", "z"])
    shares = share_of_pairs(runs)
    assert disagreement.values == pytest.approx(np.sort(shares)[::-1][: len(disagreement.rows)])
    assert shares[disagreement.rows] == pytest.approx(disagreement.values)
    assert (disagreement.total, disagreement.size) == (np.count_nonzero(shares), 40)
    assert [one.shape for one in disagreement.predictions] == [
        (2, len(disagreement.rows)),
        (3, len(disagreement.rows)),
        (1, len(disagreement.rows)),
    ]


def test_rows_on_which_models_agree_are_left_out_and_ties_are_in_row_order() -> None:
    disagreement = disagreement_of({"a": [[0, 1, 1, 0]], "b": [[1, 1, 0, 0]]}, [0, 1, 1, 0])
    assert disagreement.rows.tolist() == [0, 2]
    assert disagreement_of({"a": [[0, 1, 1, 0]], "b": [[1, 1, 0, 0]]}, [0, 1, 1, 0], most=1).rows.tolist() == [0]


def test_disagreement_on_label_sets_is_the_mean_over_labels_and_on_values_their_deviation() -> None:
    runs = {model: RANDOM.integers(0, 2, (2, 20, 3)) for model in "ab"}
    facts = {"problem_type": "multi_label_classification", "labels": ["x", "y", "z"]}
    disagreement = disagreement_of(runs, RANDOM.integers(0, 2, (20, 3)), **facts)
    assert share_of_pairs(runs).mean(axis=1)[disagreement.rows] == pytest.approx(disagreement.values)

    values = {model: RANDOM.random((2, 20)) for model in "abc"}
    disagreement = disagreement_of(values, RANDOM.random(20), problem_type="regression", labels=None)
    means = [one.mean(axis=0) for one in values.values()]
    assert np.std(means, axis=0, ddof=1)[disagreement.rows] == pytest.approx(disagreement.values)


def test_confusions_are_means_over_runs() -> None:
    group = group_of([[0, 1, 1, 0], [0, 0, 1, 0]], [0, 1, 1, 1], "a")
    split = predictions_of_groups([group])[group].splits["validation"]
    assert mean_confusion(split, 2).tolist() == [[1, 0], [1.5, 1.5]]
    facts = {"problem_type": "multi_label_classification", "labels": ["x", "y"]}
    group = group_of([[[1, 0], [1, 1]], [[0, 0], [1, 1]]], [[1, 1], [0, 1]], "a", **facts)
    split = predictions_of_groups([group])[group].splits["validation"]
    assert label_counts(split).tolist() == [[0.5, 1, 0.5], [1, 0, 1]]


def test_candidates_are_right_or_wrong_whatever_their_agreement() -> None:
    facts = dict(problem_type="answer_selection", metrics=["answer_f1"], main_metrics=["answer_f1"])
    packed = {name: {"validation": pack_array(np.array(values))} for name, values in SELECTION.items()}
    (group,) = group_runs([record("task", facts=facts, **packed)], "mean")
    split = predictions_of_groups([group])[group].splits["validation"]
    assert mean_confusion(split, 2).tolist() == [[1, 1], [0, 1]]


SELECTION = {"predictions": [1, 0, 1], "gold": [1, 0.5, 0.25], "row_groups": [0, 0, 1]}
"""Two questions: the first is answered by its right candidate, the second has none."""


def test_only_models_with_the_same_rows_are_compared() -> None:
    groups = [group_of([[0, 1]], gold, model) for model, gold in (("a", [0, 1]), ("b", [0, 0]), ("c", [0, 1]))]
    assert list(predictions_of_groups(groups)) == [groups[0], groups[2]]
    assert most_disagreed_rows(predictions_of_groups(groups[:1]), "validation", 5) is None
    values = group_of([[0.0, 0.5]], [0.0, 0.0], "d", problem_type="regression", labels=None)
    assert list(predictions_of_groups([groups[1], values])) == [groups[1]]  # all labels are zero bytes
    (without,) = group_runs([record("rte")], "mean")
    (single,) = group_runs([record_with_predictions("rte", 0.7)], "mean")
    assert list(predictions_of_groups([without, single])) == [single]


def test_most_frequent_confusion_comes_first() -> None:
    counts = np.array([[5, 2, 0], [7, 5, 0], [0, 1, 5]])
    assert most_confused(["a", "b", "c"], counts, 2) == [("b", "a", 7), ("a", "b", 2)]
    assert most_confused(["a", "b", "c"], np.diag([3, 3, 3]), 5) == []
