"""Metrics of real values: errors, and correlations of values or of their ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import Floats, Metric, ProblemType, Resamples, Undefined, ratio, row_mean_influence

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


def _absolute_error(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
    return np.asarray(np.abs(predictions - gold))


def _mean_error(title: str, error: Callable[[Any, Any], Floats]) -> Metric:
    return Metric(
        title,
        _VALUES,
        value=lambda predictions, gold: float(np.mean(error(predictions, gold))),
        resampled=lambda rows: rows.over_runs(rows.mean(error(rows.predictions, rows.gold))),
        influence=row_mean_influence(error),
        lower_is_better=True,
        highest=math.inf,
    )


MSE = _mean_error("MSE", _squared_error)
MAE = _mean_error("MAE", _absolute_error)


def _rmse_influence(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
    squares = _squared_error(predictions, gold)
    return np.asarray((squares - squares.mean()) / (2 * np.sqrt(np.mean(squares))))


RMSE = Metric(
    "RMSE",
    _VALUES,
    value=lambda predictions, gold: math.sqrt(np.mean(_squared_error(predictions, gold))),
    resampled=lambda rows: rows.over_runs(np.sqrt(rows.mean(_squared_error(rows.predictions, rows.gold)))),
    influence=_rmse_influence,
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
    return rows.over_runs(ratio(rows.mean(x * y) - mean_x * mean_y, np.sqrt(variance_x * variance_y)))


def _pearson_influence(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (predictions - predictions.mean()) / predictions.std(), (gold - gold.mean()) / gold.std()
        return np.asarray(x * y - np.mean(x * y) * (x * x + y * y) / 2)


PEARSON = Metric("Pearson", _VALUES, _correlation("pearsonr"), _resampled_pearson, _pearson_influence, lowest=-1.0)


def _resampled_spearman(rows: WeightedValues) -> Floats:
    """Pearson's correlation of the ranks that the resampled rows have, equal values sharing theirs.

    A rank, doubled and less N + 1, is a whole number with mean 0: where C rows have a lower or the same value and w of
    them the same, it is 2 C - w - N. So all sums are exact; and all resamples are added at once, row by row.
    """
    number = len(rows.gold)
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
        squares = (float(number) ** 3 - shared_cubes) / 3
        correlations[:, run] = ratio(2 * above - shared, np.sqrt(squares * gold_squares))
    return rows.over_runs(correlations)


def _spearman_influence(predictions: NDArray[Any], gold: NDArray[Any]) -> Floats:
    """Derivative of the correlation of mid-distribution values F(x) = P(X < x) + P(X = x) / 2, whose mean is 1/2.

    A row changes its own product, and the values of all rows above it in either order.
    """
    (x, square_x, change_x), (y, square_y, change_y) = _middle(predictions), _middle(gold)
    joint = x * y
    product = joint.mean()
    change = joint - product + _pull(predictions, y) + _pull(gold, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.sqrt(square_x * square_y)
        return np.asarray(change / below - product / below / 2 * (change_x / square_x + change_y / square_y))


def _middle(values: Floats) -> tuple[Floats, float, Floats]:
    """F(x) - 1/2 of each row, its variance (1 - Σ g³) / 12 over the shares g of equal values, and how that changes."""
    _, value_of_row, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares = counts / len(values)
    cubes = float(np.sum(shares**3))
    middle = np.cumsum(shares) - shares / 2 - 0.5
    return middle[value_of_row], (1 - cubes) / 12, -(3 * shares[value_of_row] ** 2 - 3 * cubes) / 12


def _pull(values: Floats, other: Floats) -> Floats:
    """The mean for each row i, over rows j, of (P(i below j) + P(i equals j) / 2 - F(x_j)) other_j."""
    _, value_of_row, counts = np.unique(values, return_inverse=True, return_counts=True)
    sums = np.bincount(value_of_row, weights=other) / len(values)
    from_here = np.cumsum(sums[::-1])[::-1] - sums / 2
    shares = counts / len(values)
    middle = np.cumsum(shares) - shares / 2
    return np.asarray(from_here[value_of_row] - float(np.sum(middle * sums)))


SPEARMAN = Metric("Spearman", _VALUES, _correlation("spearmanr"), _resampled_spearman, _spearman_influence, lowest=-1.0)
