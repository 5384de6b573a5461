"""A metric: its value, its values on resampled rows, and the influence of each row on it.

To add one, define a `Metric` in the module of its family and name it in `registry.METRICS`. Only the plain `value` is
required: without `resampled` the value is computed on every resample, which is slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ProblemType = Literal["single_label_classification", "regression", "multi_label_classification"]
"""transformers' names. Labels are class numbers int64[N], values float64[N], or label sets of 0 and 1, int64[N, C]."""

Floats = NDArray[np.float64]


class Undefined(ValueError):
    """The metric has no value on these rows; the message says why."""


@dataclass(frozen=True)
class Metric:
    """The definition of a metric. Predictions and gold labels are [N], or [N, C] for label sets."""

    title: str
    problem_types: tuple[ProblemType, ...]
    """The kinds of labels it compares."""
    value: Callable[[NDArray[Any], NDArray[Any]], float]
    """(predictions, gold) -> the metric; raises Undefined."""
    resampled: Callable[[Any], Floats] | None = None
    """(the family's kind of `Resamples`) -> [block, G], means over each group's runs, NaN where undefined."""
    influence: Callable[[NDArray[Any], NDArray[Any]], Floats] | None = None
    """(predictions, gold) -> [N], mean 0: the derivative of the metric by the weight of each row."""
    lower_is_better: bool = False
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def direction(self) -> int:
        """1, or -1 where less is better."""
        return -1 if self.lower_is_better else 1

    def on_resamples(self, rows: Resamples) -> Floats:
        """[block, G]: means over each group's runs on the current block of resamples, NaN where undefined."""
        if self.resampled is not None:
            return self.resampled(rows)
        numbers = np.arange(len(rows.gold))
        drawn = [np.repeat(numbers, weights.astype(np.intp)) for weights in rows.weights]
        return rows.over_runs(
            [[self._value_or_nan(run[at], rows.gold[at]) for run in rows.predictions] for at in drawn]
        )

    def _value_or_nan(self, predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        try:
            return self.value(predictions, gold)
        except Undefined:
            return np.nan


class Resamples:
    """The runs of G groups on the same N rows, and blocks of resamples, in which each row counts a number of times."""

    dtype: type[np.floating[Any]] = np.float64
    """The type of the weights."""

    def __init__(self, groups: Sequence[NDArray[Any]], gold: NDArray[Any]) -> None:
        """groups: predictions of each group's runs as [runs, N], or [runs, N, C] for label sets."""
        self.predictions, self.gold = np.concatenate(groups), gold
        self.sizes = np.array([len(runs) for runs in groups])
        self.starts = np.cumsum([0, *self.sizes[:-1]])

    def weigh(self, weights: NDArray[Any]) -> None:
        """Starts a block of resamples; weights: counts of the rows [block, N]."""
        self.weights = weights.astype(self.dtype)

    def mean(self, numbers: Floats) -> Floats:
        """numbers: [columns, N] -> their weighted means over rows [block, columns]."""
        return np.asarray(self.weights @ numbers.T / len(self.gold))

    def over_runs(self, values: Any) -> Floats:
        """Values of each run [block, runs] -> means over each group's runs [block, G]."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=1) / self.sizes)


def row_mean_influence(per_row: Callable[[Any, Any], NDArray[Any]]) -> Callable[[Any, Any], Floats]:
    """The influence of rows on a metric that is the mean of `per_row(predictions, gold)` [N]."""

    def influence(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
        numbers = per_row(predictions, gold).astype(np.float64)
        return np.asarray(numbers - numbers.mean())

    return influence


def ratio(above: Any, below: Any) -> Floats:
    """above / below, NaN where below is 0."""
    undefined = np.full(np.broadcast(above, below).shape, np.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below > 0))


def ratio_influence(above: Any, below: Any) -> Floats:
    """The influence of each row on mean(above) / mean(below); 0 throughout where below is."""
    mean = np.mean(below)
    return np.asarray((above - np.mean(above) / mean * below) / mean if mean else np.zeros(len(above)))
