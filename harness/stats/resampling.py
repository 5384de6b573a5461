"""Scores on resampled rows: every run of a task on the same draws of its rows.

A resample gives row i the weight w_i, w / Σ w ~ Dirichlet(1, ..., 1): the Bayesian bootstrap (Rubin 1981). The runs
share the weights, so differences between them are paired. Where the score depends on few kinds of rows, a pseudo-row of
each kind joins with a weight from Gamma(1/2), so that the shares of the kinds are Dirichlet(counts + 1/2), the
posterior under Jeffreys' prior: a score without a single error is uncertain too. The same numbers come out on any
processor, those of values to 12 digits.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.classification import LabelCounts
from harness.metrics.metric import Floats
from harness.metrics.registry import METRICS
from harness.metrics.regression import WeightedValues

RESAMPLES = 10_000
FEWEST_RESAMPLES = 1_000
"""The number for metrics without a resampled form, and for the largest splits."""
RESAMPLED_ROWS = 60_000_000
"""The limit for resamples times rows: from 6,000 rows on, there are fewer resamples."""
SEED = 2018
"""The seed of every draw, together with a checksum of its purpose; any fixed number would do."""

_BLOCK = 4_000_000
"""Weights drawn at a time: 32 MB."""
_TOTAL_WEIGHT = 2**22
"""Mean of the sum of a resample's weights, which are whole numbers: sums below 2^24 are exact in float32."""


def generator(purpose: str) -> np.random.Generator:
    """Draws that are the same in every call of the same purpose, such as `mrpc.validation`."""
    return np.random.default_rng([SEED, zlib.crc32(purpose.encode())])


def can_resample(metrics: Sequence[str]) -> bool:
    """True when every metric is one of the harness's own."""
    return bool(metrics) and METRICS.keys() >= set(metrics)


def resample_number(metrics: Sequence[str], rows: int) -> int:
    """The default number of resamples: a function of metrics and rows alone, so that no model changes another's."""
    if any(METRICS[name].resampled is None for name in metrics):
        return FEWEST_RESAMPLES
    return min(RESAMPLES, max(FEWEST_RESAMPLES, RESAMPLED_ROWS // rows))


def resampled(
    metrics: Sequence[str],
    predictions: NDArray[Any],
    gold: NDArray[Any],
    purpose: str,
    resamples: int,
    row_groups: NDArray[np.int64] | None = None,
) -> Floats:
    """float64[R, B]: scores of each run, means over the metrics. A metric that is undefined on a resample counts 0.

    Args:
        predictions: [R, N], classes (whole numbers) or values in row order, or label sets [R, N, C].
        gold: [N] or [N, C].
        purpose: names the draws.
        resamples: B.
        row_groups: [N], the number of each row's group, if groups are drawn and not rows.
    """
    assert can_resample(metrics), metrics
    assert predictions.shape[1:] == gold.shape, predictions.shape
    assert len(gold) > 0
    pseudo_predictions, pseudo_gold = pseudo_rows(metrics, predictions, gold, row_groups)
    all_gold = np.concatenate([gold, pseudo_gold])
    repeated = np.broadcast_to(pseudo_predictions, (len(predictions), *pseudo_predictions.shape))
    all_predictions = np.concatenate([predictions, repeated.astype(predictions.dtype)], axis=1)
    rows = (LabelCounts if gold.dtype.kind in "iu" else WeightedValues)(all_predictions, all_gold, row_groups)
    needs_counts = any(METRICS[name].resampled is None for name in metrics)
    scores, first = np.empty((len(predictions), resamples)), 0
    draw = counts if needs_counts else weights_of
    for weights in draw(len(gold), len(pseudo_gold), purpose, resamples, row_groups):
        rows.weigh(weights)
        parts = [np.nan_to_num(METRICS[name].on_resamples(rows)) for name in metrics]
        scores[:, first : first + len(weights)] = (sum(parts[1:], parts[0]) / len(parts)).T
        first += len(weights)
    return scores


def pseudo_rows(
    metrics: Sequence[str],
    predictions: NDArray[Any],
    gold: NDArray[Any],
    row_groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predictions and gold labels of one row of each kind that the score depends on; empty where kinds are many.

    A share of correct rows depends on two kinds, correct and wrong; any metric of two classes on the four cells of the
    confusion matrix. Groups of rows are of many kinds.
    """
    wrong, right = np.zeros((2, *gold.shape[1:]), gold.dtype), np.zeros((2, *gold.shape[1:]), gold.dtype)
    wrong[0] += 1
    if row_groups is not None or any(METRICS[name].resampled is None for name in metrics):
        return right[:0], right[:0]
    if all(METRICS[name].is_share_of_rows for name in metrics):
        return wrong, right
    if gold.ndim == 1 and gold.dtype.kind in "iu" and max(gold.max(), predictions.max()) <= 1:
        return np.array([0, 1, 0, 1], gold.dtype), np.array([0, 0, 1, 1], gold.dtype)
    return right[:0], right[:0]


def weights_of(
    rows: int, pseudo: int, purpose: str, resamples: int, row_groups: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.float64]]:
    """Weights [block, rows + pseudo], whole numbers, block by block; neither blocks nor pseudo-rows change the others.

    A row has an exponential weight, a pseudo-row half a squared normal one, that is Gamma(1/2). With `row_groups`, each
    group has one, which all of its rows share (the cluster bootstrap: Davison & Hinkley 1997, section 3.8).
    """
    random, pseudo_random = generator(purpose), generator(f"{purpose}, pseudo-rows")
    units, unit_of_row = _units(rows, row_groups)
    for number in _block_sizes(rows, resamples):
        exponential = random.standard_exponential((number, units))[:, unit_of_row]
        gamma = pseudo_random.standard_normal((number, 4))[:, :pseudo] ** 2 / 2
        yield np.rint(np.concatenate([exponential, gamma], axis=1) * (_TOTAL_WEIGHT / rows))


def counts(
    rows: int, pseudo: int, purpose: str, resamples: int, row_groups: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Counts [block, rows] of rows, or of their groups, drawn with replacement: Efron's bootstrap, for metrics that
    know no weights."""
    assert not pseudo
    random, (units, unit_of_row) = generator(purpose), _units(rows, row_groups)
    for number in _block_sizes(rows, resamples):
        drawn = random.integers(units, size=(number, units), dtype=np.uint32).astype(np.intp)
        drawn += np.arange(number)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=number * units).reshape(number, units)[:, unit_of_row]


def _units(rows: int, row_groups: NDArray[np.int64] | None) -> tuple[int, NDArray[np.intp] | slice]:
    """The number of units that are drawn, rows or groups, and the unit of each row as an index."""
    if row_groups is None:
        return rows, slice(None)
    numbers, unit_of_row = np.unique(row_groups, return_inverse=True)
    return len(numbers), unit_of_row


def _block_sizes(rows: int, resamples: int) -> Iterator[int]:
    block = max(1, _BLOCK // rows)
    for first in range(0, resamples, block):
        yield min(block, resamples - first)
