"""What each row does to a score: resampled scores to first order, for boards too large to compute each one anew.

With weights w_i of mean 1 a score is T + Σ (w_i - 1) u_i / N and terms of higher order, where u_i, the row's influence,
is how fast the score changes as row i counts more (Hampel 1974, Efron's infinitesimal jackknife). One matrix product
then gives all resamples of all models, whatever the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.resampling import Floats, draws


def deviations(
    metrics: Sequence[str], groups: Sequence[NDArray[Any]], gold: NDArray[Any], purpose: str, resamples: int
) -> Floats:
    """float64[G, resamples]: how far each score that `resampling.resampled` gives is from the score of the rows as they
    are, up to terms of order 1/N; NaN where that is undefined."""
    effects = np.stack([_of_group(metrics, runs, gold) for runs in groups]).astype(np.float32)
    parts = [(counts - 1).astype(np.float32) @ effects.T for counts in draws(len(gold), purpose, resamples)]
    return np.ascontiguousarray(np.concatenate(parts).T, np.float64) / len(gold)


def _of_group(metrics: Sequence[str], runs: NDArray[Any], gold: NDArray[Any]) -> Floats:
    """[N]: the mean over metrics and runs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.mean([np.mean([INFLUENCES[name](run, gold) for name in metrics], axis=0) for run in runs], axis=0)


def _of_ratio(above: Floats, below: Floats) -> Floats:
    """Of mean(above) / mean(below); 0 throughout where nothing is below."""
    mean = below.mean()
    return (above - above.mean() / mean * below) / mean if mean else np.zeros(len(above))


def _hits(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    hits = (run == gold).astype(np.float64)
    return hits - hits.mean()


def _f1_binary(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    predicted, right = run == 1, gold == 1
    return _of_ratio(2.0 * (predicted & right), predicted.astype(np.float64) + right)


def _macro(parts: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[NDArray[Any], NDArray[Any]], Floats]:
    """parts: of a class (predicted, gold) as bool[N] -> what is divided by what."""

    def compute(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
        labels = np.union1d(run, gold)
        ratios = (parts(run == label, gold == label) for label in labels)
        effects = [_of_ratio(np.asarray(above, np.float64), np.asarray(below, np.float64)) for above, below in ratios]
        return np.asarray(np.mean(effects, axis=0))

    return compute


def _matthews(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    """Of R_K = (h - Σ p t) / √((1 - Σ p²)(1 - Σ t²)): shares h of hits, p of predicted and t of gold classes."""
    hits = (run == gold).astype(np.float64)
    chance, predicted_alike, gold_alike = np.zeros(len(gold)), np.zeros(len(gold)), np.zeros(len(gold))
    above, of_predicted, of_gold = float(hits.mean()), 1.0, 1.0
    for label in np.union1d(run, gold):
        predicted, right = (run == label).astype(np.float64), (gold == label).astype(np.float64)
        p, t = float(predicted.mean()), float(right.mean())
        above, of_predicted, of_gold = above - p * t, of_predicted - p * p, of_gold - t * t
        chance += t * (predicted - p) + p * (right - t)
        predicted_alike += 2 * p * (predicted - p)
        gold_alike += 2 * t * (right - t)
    if of_predicted * of_gold < 1e-15:
        return np.zeros(len(gold))
    below = np.sqrt(of_predicted * of_gold)
    change = hits - hits.mean() - chance
    return change / below + above / below / 2 * (predicted_alike / of_predicted + gold_alike / of_gold)


def _pearson(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    x, y = (run - run.mean()) / run.std(), (gold - gold.mean()) / gold.std()
    return x * y - np.mean(x * y) * (x * x + y * y) / 2


def _spearman(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    """Of the correlation of mid-distribution values F(x) = P(X < x) + P(X = x) / 2, whose mean is 1/2.

    A row changes its own product, and the values of all rows above it in either order.
    """
    (x, square_x, change_x), (y, square_y, change_y) = _middle(run), _middle(gold)
    joint = x * y
    product = joint.mean()
    change = joint - product + _pull(run, y) + _pull(gold, x)
    below = np.sqrt(square_x * square_y)
    return change / below - product / below / 2 * (change_x / square_x + change_y / square_y)


def _middle(values: Floats) -> tuple[Floats, float, Floats]:
    """F(x) - 1/2 of each row, its variance (1 - Σ g³) / 12 over the shares g of equal values, and how that changes."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares = counts / len(values)
    cubes = float(np.sum(shares**3))
    middle = np.cumsum(shares) - shares / 2 - 0.5
    return middle[place], (1 - cubes) / 12, -(3 * shares[place] ** 2 - 3 * cubes) / 12


def _pull(values: Floats, other: Floats) -> Floats:
    """Of each row i: the mean over rows j of (P(i below j) + P(i equals j) / 2 - F(x_j)) other_j."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    sums = np.bincount(place, weights=other) / len(values)
    from_here = np.cumsum(sums[::-1])[::-1] - sums / 2
    shares = counts / len(values)
    middle = np.cumsum(shares) - shares / 2
    return from_here[place] - float(np.sum(middle * sums))


def _errors(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    squares = (run - gold) ** 2
    return np.asarray(squares - squares.mean())


def _root(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    return _errors(run, gold) / (2 * np.sqrt(np.mean((run - gold) ** 2)))


def _absolute(run: NDArray[Any], gold: NDArray[Any]) -> Floats:
    distances = np.abs(run - gold)
    return np.asarray(distances - distances.mean())


INFLUENCES: dict[str, Callable[[NDArray[Any], NDArray[Any]], Floats]] = {
    "accuracy": _hits,
    "f1": _f1_binary,
    "f1_macro": _macro(lambda predicted, gold: (2.0 * (predicted & gold), 1.0 * predicted + gold)),
    "f1_micro": _hits,
    "precision_macro": _macro(lambda predicted, gold: (predicted & gold, predicted)),
    "recall_macro": _macro(lambda predicted, gold: (predicted & gold, gold)),
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "mse": _errors,
    "rmse": _root,
    "mae": _absolute,
}
"""By metric: (predictions [N], gold [N]) -> influences [N] of mean 0."""
