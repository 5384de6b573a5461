"""A metric: its value, and its values on resampled rows.

To add one, define a `Metric` in the module of its family and name it in `registry.METRICS`. Only the plain `value` is
required: without `resampled` the value is computed on every resample, which is slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ProblemType = Literal[
    "single_label_classification", "regression", "multi_label_classification", "multiple_choice", "answer_selection"
]
"""transformers' names; a choice among candidates, whose labels are their positions; and a selection of one row of each
group, where any number of rows may be right.

Labels are class numbers int64[N], values float64[N], or label sets of 0 and 1, int64[N, C]. In a selection, predictions
are 1 for the selected row of each group and 0 for the others, and gold labels agreements, see `answers.py`.
"""

Floats = NDArray[np.float64]


class Undefined(ValueError):
    """The metric has no value on these rows; the message says why."""


@dataclass(frozen=True)
class Metric:
    """The definition of a metric. Predictions and gold labels are [N], or [N, C] for label sets."""

    title: str
    problem_types: tuple[ProblemType, ...]
    """The kinds of labels it compares."""
    value: Callable[..., float]
    """(predictions, gold), and row_groups if it `is_over_groups` -> the metric; raises Undefined."""
    resampled: Callable[[Any], Floats] | None = None
    """(the family's kind of `Resamples`) -> [block, runs], NaN where undefined."""
    is_share_of_rows: bool = False
    """True for the share of rows that are predicted correctly."""
    is_mean_over_labels: bool = False
    """True for a mean over labels in which rare ones weigh as much as others."""
    is_over_groups: bool = False
    """True for a mean over groups of rows, for tasks with a `group` only."""
    lower_is_better: bool = False
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def direction(self) -> int:
        """1, or -1 where less is better."""
        return -1 if self.lower_is_better else 1

    def of(self, predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64] | None = None) -> float:
        """The metric; row_groups: the number of each row's group, [N]. Raises Undefined."""
        return self.value(predictions, gold, row_groups) if self.is_over_groups else self.value(predictions, gold)

    def of_or_none(
        self, predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64] | None = None
    ) -> float | None:
        """The metric as `of` computes it; None where it is undefined."""
        try:
            return self.of(predictions, gold, row_groups)
        except Undefined:
            return None

    def on_resamples(self, rows: Resamples) -> Floats:
        """[block, runs]: the metric on the current block of resamples, NaN where undefined."""
        if self.resampled is not None:
            return self.resampled(rows)
        numbers = np.arange(len(rows.gold))
        drawn = [np.repeat(numbers, weights.astype(np.intp)) for weights in rows.weights]
        assert not self.is_over_groups, "a group that is drawn twice would count once"
        values = [[self.of_or_none(run[at], rows.gold[at]) for run in rows.predictions] for at in drawn]
        return np.array(values, np.float64)  # None becomes NaN


class Resamples:
    """Several runs on the same N rows, and blocks of resamples, in which each row has a weight."""

    dtype: type[np.floating[Any]] = np.float64
    """The type of the weights."""

    def __init__(
        self, predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64] | None = None
    ) -> None:
        """predictions: [runs, N], or [runs, N, C] for label sets; row_groups: the number of each row's group, [N]."""
        self.predictions, self.gold, self.row_groups = predictions, gold, row_groups

    def weigh(self, weights: NDArray[Any]) -> None:
        """Starts a block of resamples; weights: whole numbers [block, N], such as counts of the rows."""
        self.weights = weights.astype(self.dtype)
        self.total = weights.sum(axis=1, dtype=np.float64)[:, None]

    def mean(self, numbers: NDArray[Any]) -> Floats:
        """numbers: [columns, N] -> their weighted means over rows [block, columns]."""
        return np.asarray((self.weights @ numbers.T).astype(np.float64) / self.total)

    def mean_over_groups(self, numbers: NDArray[Any]) -> Floats:
        """numbers: [columns, G] by group -> their weighted means [block, columns]; a group has one weight."""
        assert self.row_groups is not None
        _, first = np.unique(self.row_groups, return_index=True)
        weights = self.weights[:, first].astype(np.float64)
        return np.asarray(weights @ numbers.T / weights.sum(axis=1, keepdims=True))


def metric_over_groups(
    title: str,
    problem_type: ProblemType,
    of_groups: Callable[[NDArray[Any], NDArray[Any], NDArray[np.int64]], NDArray[Any]],
) -> Metric:
    """The mean over groups. `of_groups`: (predictions, gold, row_groups), all [N] -> the number of each group, [G]."""

    def resampled(rows: Resamples) -> Floats:
        assert rows.row_groups is not None
        return rows.mean_over_groups(np.array([of_groups(run, rows.gold, rows.row_groups) for run in rows.predictions]))

    return Metric(
        title,
        (problem_type,),
        lambda predictions, gold, row_groups: float(np.mean(of_groups(predictions, gold, row_groups))),
        resampled,
        is_over_groups=True,
    )


def ratio(above: Any, below: Any) -> Floats:
    """above / below, NaN where below is 0."""
    undefined = np.full(np.broadcast(above, below).shape, np.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below > 0))
