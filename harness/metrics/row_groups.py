"""Metrics of groups of rows, such as the answers to one question: a group counts once, however many rows it has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import metric_over_groups


def _are_right(predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[G]: every row of the group is predicted correctly; groups in the order of their numbers."""
    _, numbers = np.unique(row_groups, return_inverse=True)
    return np.asarray(np.bincount(numbers, weights=predictions != gold) == 0)


EXACT_MATCH = metric_over_groups("exact match", "single_label_classification", _are_right)
"""The share of groups whose rows are all predicted correctly: MultiRC's EM (Khashabi et al. 2018)."""


def _are_equal(predictions: NDArray[Any], _gold: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[G]: all rows of the group have the same prediction; groups in the order of their numbers."""
    _, first, numbers = np.unique(row_groups, return_index=True, return_inverse=True)
    return _are_right(predictions, predictions[first[numbers]], row_groups)


PARITY = metric_over_groups("parity", "single_label_classification", _are_equal)
"""The share of groups whose rows all have the same prediction, right or wrong: gender parity, where the rows of a pair
differ in the gender of a pronoun only (Poliak et al. 2018)."""
