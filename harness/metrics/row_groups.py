"""Metrics of groups of rows, such as the answers to one question: a group counts once, however many rows it has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.classification import LabelCounts
from harness.metrics.metric import Floats, Metric


def _are_all(is_correct: NDArray[np.bool_], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[N] by row -> bool[G]: every row of the group is correct; groups in the order of their numbers."""
    _, numbers = np.unique(row_groups, return_inverse=True)
    return np.asarray(np.bincount(numbers, weights=~is_correct) == 0)


def _exact_match(predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64]) -> float:
    return float(np.mean(_are_all(predictions == gold, row_groups)))


def _resampled_exact_match(rows: LabelCounts) -> Floats:
    assert rows.row_groups is not None
    row_groups = rows.row_groups
    return rows.mean_over_groups(np.array([_are_all(run == rows.gold, row_groups) for run in rows.predictions]))


EXACT_MATCH = Metric(
    "exact match",
    ("single_label_classification",),
    _exact_match,
    _resampled_exact_match,
    is_over_groups=True,
)
"""The share of groups whose rows are all predicted correctly: MultiRC's EM (Khashabi et al. 2018)."""


def _are_equal(predictions: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[N] by row -> bool[G]: all rows of the group have the same prediction; groups in the order of their numbers."""
    _, first, numbers = np.unique(row_groups, return_index=True, return_inverse=True)
    return _are_all(predictions == predictions[first[numbers]], row_groups)


def _resampled_parity(rows: LabelCounts) -> Floats:
    assert rows.row_groups is not None
    row_groups = rows.row_groups
    return rows.mean_over_groups(np.array([_are_equal(run, row_groups) for run in rows.predictions]))


PARITY = Metric(
    "parity",
    ("single_label_classification",),
    lambda predictions, gold, row_groups: float(np.mean(_are_equal(predictions, row_groups))),
    _resampled_parity,
    is_over_groups=True,
)
"""The share of groups whose rows all have the same prediction, right or wrong: gender parity, where the rows of a pair
differ in the gender of a pronoun only (Poliak et al. 2018)."""
