"""Metrics of real values: errors, and correlations of values or of their ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import Floats, Metric, ProblemType, Resamples, Undefined, ratio

_VALUES: tuple[ProblemType, ...] = ("regression",)


class WeightedValues(Resamples):
    """Resamples of real values, with weights in float64."""

    @cached_property
    def centred(self) -> tuple[Floats, Floats]:
        """Predictions [runs, N] and gold [1, N] around their means, so that sums of squares lose no digits."""
        return self.predictions - self.predictions.mean(axis=1, keepdims=True), (self.gold - self.gold.mean())[None]

    @cached_property
    def ascending(self) -> list[list[NDArray[np.intp]]]:
        """Rows of each distinct value, in ascending order of the values: a list for each run, and last one for gold."""
        orders = []
        for values in (*self.predictions, self.gold):
            order = np.argsort(values, kind="stable")
            orders.append(np.split(order, np.flatnonzero(np.diff(values[order])) + 1))
        return orders


def _squared_error(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
    return np.asarray((predictions - gold) ** 2)


def _mean_error(title: str, error: Callable[[Any, Any], Floats]) -> Metric:
    return Metric(
        title,
        _VALUES,
        value=lambda predictions, gold: float(np.mean(error(predictions, gold))),
        resampled=lambda rows: rows.mean(error(rows.predictions, rows.gold)),
        lower_is_better=True,
        highest=math.inf,
    )


MSE = _mean_error("MSE", _squared_error)
MAE = _mean_error("MAE", lambda predictions, gold: np.abs(predictions - gold))


RMSE = Metric(
    "RMSE",
    _VALUES,
    value=lambda predictions, gold: math.sqrt(np.mean(_squared_error(predictions, gold))),
    resampled=lambda rows: np.sqrt(rows.mean(_squared_error(rows.predictions, rows.gold))),
    lower_is_better=True,
    highest=math.inf,
)


def _correlation(function: str) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """A correlation of scipy.stats."""

    def value(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        for values, name in ((predictions, "predictions"), (gold, "gold values")):
            if len(values) < 2 or np.ptp(values) == 0:
                raise Undefined(f"the {name} are constant")
        from scipy import stats

        result = float(getattr(stats, function)(predictions, gold).statistic)
        if not math.isfinite(result):
            raise Undefined("the predictions are constant within rounding")
        return result

    return value


def _resampled_pearson(rows: WeightedValues) -> Floats:
    x, y = rows.centred
    mean_x, mean_y = rows.mean(x), rows.mean(y)
    variance_x = np.maximum(rows.mean(x * x) - mean_x**2, 0)
    variance_y = np.maximum(rows.mean(y * y) - mean_y**2, 0)
    return ratio(rows.mean(x * y) - mean_x * mean_y, np.sqrt(variance_x * variance_y))


PEARSON = Metric("Pearson", _VALUES, _correlation("pearsonr"), _resampled_pearson, lowest=-1.0)


def _resampled_spearman(rows: WeightedValues) -> Floats:
    """Pearson's correlation of the ranks that the resampled rows have, equal values sharing theirs.

    A rank, doubled and less N + 1, has mean 0: where rows of weight C have a lower or the same value and those of
    weight w the same, it is 2 C - w - N, with N the weight of all. All resamples are added at once, row by row.
    """
    number = rows.total[:, 0]
    weights = np.ascontiguousarray(rows.weights.T)
    *of_runs, of_gold = rows.ascending
    gold_ranks, below = np.empty_like(weights), np.zeros(weights.shape[1])
    for tied in of_gold:
        count = weights[tied].sum(axis=0)
        gold_ranks[tied] = 2 * below + count - number
        below += count
    joint = gold_ranks * weights
    gold_squares = np.einsum("nb,nb->b", gold_ranks, joint)
    own, cubes = np.einsum("nb,nb->b", weights, joint), np.einsum("nb,nb,nb->b", weights, weights, weights)
    correlations = np.empty((weights.shape[1], len(of_runs)))
    for run, ascending in enumerate(of_runs):
        above, lower, product = np.zeros_like(below), np.zeros_like(below), np.empty_like(below)
        shared, shared_cubes = own, cubes
        for tied in ascending:
            if len(tied) == 1:
                count, weighted = weights[tied[0]], joint[tied[0]]
            else:
                count, weighted = weights[tied].sum(axis=0), joint[tied].sum(axis=0)
                shared = shared + count * weighted - (weights[tied] * joint[tied]).sum(axis=0)
                shared_cubes = shared_cubes + count**3 - (weights[tied] ** 3).sum(axis=0)
            lower += count
            np.multiply(lower, weighted, out=product)
            above += product
        squares = (number**3 - shared_cubes) / 3
        squares[squares < 1e-12 * number**3] = 0  # rounding errors of equal values
        correlations[:, run] = ratio(2 * above - shared, np.sqrt(squares * gold_squares))
    return correlations


SPEARMAN = Metric("Spearman", _VALUES, _correlation("spearmanr"), _resampled_spearman, lowest=-1.0)
