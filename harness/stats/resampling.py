"""Scores on resampled rows: every run of a task on the same 10,000 draws of its rows, as matrix products of counts.

Row i of a resample counts w_i times, w ~ multinomial(N; 1/N, ..., 1/N): Efron's bootstrap. The runs share the draws,
so differences between them are paired. Counts are whole numbers below 2^24, which float32 products add exactly, and so
are ranks; values are added in float64. The same numbers come out on any processor, those of values to 12 digits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 2018
"""Of every draw, together with a checksum of what is drawn for; any fixed number would do."""

_BLOCK = 4_000_000
"""Counts drawn at a time: 32 MB as the int64 that `bincount` gives."""

Floats = NDArray[np.float64]


def generator(purpose: str) -> np.random.Generator:
    """Draws that are the same in every call of the same purpose, such as `mrpc.validation`."""
    return np.random.default_rng([SEED, zlib.crc32(purpose.encode())])


def can_resample(metrics: Sequence[str]) -> bool:
    """Whether each of them can be computed on resampled rows."""
    return bool(metrics) and all(name in _OF_COUNTS or name in _OF_VALUES for name in metrics)


def resampled(
    metrics: Sequence[str], groups: Sequence[NDArray[Any]], gold: NDArray[Any], purpose: str, resamples: int = RESAMPLES
) -> Floats:
    """float64[G, resamples]: of each group the mean over its runs and over the metrics, NaN where one is undefined.

    groups: the runs of each as [runs, N], classes (whole numbers) or values in row order; gold: [N].
    """
    assert can_resample(metrics), metrics
    assert all(runs.ndim == 2 and runs.shape[1] == len(gold) > 0 for runs in groups), [runs.shape for runs in groups]
    computed = (_Counts if gold.dtype.kind in "iu" else _Values)(groups, gold)
    blocks = []
    for weights in draws(len(gold), purpose, resamples):
        computed.weigh(weights)
        parts = [computed.mean_over_runs(name) for name in metrics]
        blocks.append(sum(parts[1:], parts[0]) / len(parts))
    return np.ascontiguousarray(np.concatenate(blocks).T)


def draws(rows: int, purpose: str, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Counts [block, rows] of `resamples` resamples, block by block; the blocks' size changes no number."""
    random = generator(purpose)
    block = max(1, _BLOCK // rows)
    for first in range(0, resamples, block):
        number = min(block, resamples - first)
        drawn = random.integers(rows, size=(number, rows), dtype=np.uint32).astype(np.intp)
        drawn += np.arange(number)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=number * rows).reshape(number, rows)


class _Counts:
    """Metrics of classes: each is a function of how often a class was right, predicted and gold."""

    def __init__(self, groups: Sequence[NDArray[Any]], gold: NDArray[Any]) -> None:
        self.answers, self.gold = np.concatenate(groups), gold
        self.starts = np.cumsum([0, *(len(runs) for runs in groups[:-1])])
        self.sizes = np.array([len(runs) for runs in groups])
        self.classes = range(int(max(gold.max(), self.answers.max())) + 1)
        self._indicators: dict[tuple[str, int], NDArray[np.float32]] = {}

    def weigh(self, weights: NDArray[np.int64]) -> None:
        """From now on the rows count so often."""
        self.weights = weights.astype(np.float32)
        self.rows = weights.shape[1]
        self._found: dict[tuple[str, int], Floats] = {}

    def mean_over_runs(self, metric: str) -> Floats:
        """[block, G]"""
        if metric in _MEANS_OF_HITS:  # of all runs of a group at once: its hits are added up beforehand
            return self.count("hits of group", 0) / (self.rows * self.sizes)
        return np.add.reduceat(_OF_COUNTS[metric](self), self.starts, axis=1) / self.sizes

    def count(self, what: str, label: int) -> Floats:
        """[block, runs]: weighted rows that are `right` and of the class, `predicted` as it, or `gold`."""
        if (what, label) not in self._found:
            counts = self.weights @ self._indicator(what, label)
            self._found[what, label] = counts.astype(np.float64)
        return self._found[what, label]

    def hits(self) -> Floats:
        """[block, runs]: weighted rows that are right."""
        return self.count("hits", 0)

    def _indicator(self, what: str, label: int) -> NDArray[np.float32]:
        """float32[N, columns]; kept, since every block needs it."""
        if (what, label) not in self._indicators:
            if what == "gold":
                rows: NDArray[Any] = (self.gold == label)[None]
            elif what == "predicted":
                rows = self.answers == label
            elif what == "right":
                rows = (self.answers == label) & (self.gold == label)
            else:
                rows = self.answers == self.gold
                if what == "hits of group":
                    rows = np.add.reduceat(rows.astype(np.float32), self.starts, axis=0)
            self._indicators[what, label] = np.ascontiguousarray(rows.T, np.float32)
        return self._indicators[what, label]


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def _accuracy(counts: _Counts) -> Floats:
    return counts.hits() / counts.rows


def _f1_binary(counts: _Counts) -> Floats:
    return _ratio(2 * counts.count("right", 1), counts.count("predicted", 1) + counts.count("gold", 1))


def _matthews(counts: _Counts) -> Floats:
    """Gorodkin 2004's R_K, for two classes the Matthews correlation; 0 when one class alone is predicted."""
    n = counts.rows
    chance: Floats | float = 0.0
    predicted_alike: Floats | float = 0.0
    gold_alike: Floats | float = 0.0
    left: Floats | float = n
    for label in counts.classes:
        gold = counts.count("gold", label)
        is_last = label == counts.classes[-1]
        predicted = left if is_last else counts.count("predicted", label)
        left = left - predicted
        chance, predicted_alike = chance + predicted * gold, predicted_alike + predicted * predicted
        gold_alike = gold_alike + gold * gold
    spread_of_gold = n**2 - gold_alike
    below = np.sqrt((n**2 - predicted_alike) * spread_of_gold)
    value = np.where(below > 0, (counts.hits() * n - chance) / np.where(below > 0, below, 1), 0.0)
    return np.where(spread_of_gold > 0, value, np.nan)


def _macro(of_class: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[_Counts], Floats]:
    """The mean over the classes that are gold or predicted; what cannot be divided counts 0."""

    def compute(counts: _Counts) -> Floats:
        total: Any = 0.0
        number: Any = 0.0
        for label in counts.classes:
            right, predicted, gold = (counts.count(what, label) for what in ("right", "predicted", "gold"))
            total = total + np.nan_to_num(of_class(right, predicted, gold))
            number = number + (predicted + gold > 0)
        return np.asarray(total / number)

    return compute


_MEANS_OF_HITS = ("accuracy", "f1_micro")

_OF_COUNTS: dict[str, Callable[[_Counts], Floats]] = {
    "accuracy": _accuracy,
    "f1": _f1_binary,
    "f1_macro": _macro(lambda right, predicted, gold: _ratio(2 * right, predicted + gold)),
    "f1_micro": _accuracy,
    "precision_macro": _macro(lambda right, predicted, gold: _ratio(right, predicted)),
    "recall_macro": _macro(lambda right, predicted, gold: _ratio(right, gold + 0 * right)),
    "matthews_correlation": _matthews,
}


class _Values:
    """Metrics of values: weighted means, and correlations of values or of their ranks."""

    def __init__(self, groups: Sequence[NDArray[Any]], gold: NDArray[Any]) -> None:
        self.answers, self.gold = np.concatenate(groups).astype(np.float64), gold.astype(np.float64)
        self.starts = np.cumsum([0, *(len(runs) for runs in groups[:-1])])
        self.sizes = np.array([len(runs) for runs in groups])

    def weigh(self, weights: NDArray[np.int64]) -> None:
        """From now on the rows count so often."""
        self.weights = weights.astype(np.float64)

    def mean_over_runs(self, metric: str) -> Floats:
        """[block, G]"""
        return np.add.reduceat(_OF_VALUES[metric](self), self.starts, axis=1) / self.sizes

    def mean(self, values: Floats) -> Floats:
        """values: [columns, N] -> weighted means [block, columns]."""
        return self.weights @ values.T / self.weights.shape[1]

    @cached_property
    def centred(self) -> tuple[Floats, Floats]:
        """Answers and gold around their means, so that sums of squares lose no digits."""
        return self.answers - self.answers.mean(axis=1, keepdims=True), (self.gold - self.gold.mean())[None]

    @cached_property
    def ascending(self) -> list[list[NDArray[np.intp]]]:
        """Of each run, and last of gold: the rows of each distinct value, in ascending order of the values."""
        found = []
        for values in (*self.answers, self.gold):
            order = np.argsort(values, kind="stable")
            ends = [*(np.flatnonzero(np.diff(values[order])) + 1).tolist(), len(order)]
            found.append([order[first:end] for first, end in zip([0, *ends], ends, strict=False)])
        return found


def _pearson(values: _Values) -> Floats:
    x, y = values.centred
    mean_x, mean_y = values.mean(x), values.mean(y)
    below_x = np.maximum(values.mean(x * x) - mean_x**2, 0)
    below_y = np.maximum(values.mean(y * y) - mean_y**2, 0)
    return _ratio(values.mean(x * y) - mean_x * mean_y, np.sqrt(below_x * below_y))


def _spearman(values: _Values) -> Floats:
    """Pearson's correlation of the ranks that the resampled rows have, equal values sharing theirs.

    A rank, doubled and less N + 1, is a whole number with mean 0: where C rows have lower or the same value and w of
    them the same, it is 2 C - w - N. So all sums are exact; and all resamples are added at once, row by row.
    """
    rows = values.weights.shape[1]
    weights = np.ascontiguousarray(values.weights.T)
    *of_runs, of_gold = values.ascending
    gold_ranks, below = np.empty_like(weights), np.zeros(weights.shape[1])
    for alike in of_gold:
        count = weights[alike].sum(axis=0)
        gold_ranks[alike] = 2 * below + count - rows
        below += count
    joint = gold_ranks * weights
    gold_squares = np.einsum("nb,nb->b", gold_ranks, joint)
    own, cubes = np.einsum("nb,nb->b", weights, joint), np.einsum("nb,nb,nb->b", weights, weights, weights)
    found = np.empty((weights.shape[1], len(of_runs)))
    for number, ascending in enumerate(of_runs):
        above, lower, product = np.zeros_like(below), np.zeros_like(below), np.empty_like(below)
        shared, shared_cubes = own, cubes
        for alike in ascending:
            if len(alike) == 1:
                count, weighted = weights[alike[0]], joint[alike[0]]
            else:
                count, weighted = weights[alike].sum(axis=0), joint[alike].sum(axis=0)
                shared = shared + count * weighted - (weights[alike] * joint[alike]).sum(axis=0)
                shared_cubes = shared_cubes + count**3 - (weights[alike] ** 3).sum(axis=0)
            lower += count
            np.multiply(lower, weighted, out=product)
            above += product
        squares = (float(rows) ** 3 - shared_cubes) / 3
        found[:, number] = _ratio(2 * above - shared, np.sqrt(squares * gold_squares))
    return found


_OF_VALUES: dict[str, Callable[[_Values], Floats]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "mse": lambda values: values.mean((values.answers - values.gold) ** 2),
    "rmse": lambda values: np.sqrt(values.mean((values.answers - values.gold) ** 2)),
    "mae": lambda values: values.mean(np.abs(values.answers - values.gold)),
}
