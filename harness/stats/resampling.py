"""Scores on resampled rows: every run of a task on the same 10,000 draws of its rows.

Row i of a resample counts w_i times, w ~ multinomial(N; 1/N, ..., 1/N): Efron's bootstrap. The runs share the draws,
so differences between them are paired. The same numbers come out on any processor, those of values to 12 digits.
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
SLOW_RESAMPLES = 1_000
"""The limit for metrics without a resampled form."""
SEED = 2018
"""The seed of every draw, together with a checksum of its purpose; any fixed number would do."""

_BLOCK = 4_000_000
"""Counts drawn at a time: 32 MB as the int64 that `bincount` gives."""


def generator(purpose: str) -> np.random.Generator:
    """Draws that are the same in every call of the same purpose, such as `mrpc.validation`."""
    return np.random.default_rng([SEED, zlib.crc32(purpose.encode())])


def can_resample(metrics: Sequence[str]) -> bool:
    """True when every metric is one of the harness's own."""
    return bool(metrics) and METRICS.keys() >= set(metrics)


def has_influence(metrics: Sequence[str]) -> bool:
    """True when `deviations` can be computed."""
    return all(METRICS[name].influence is not None for name in metrics)


def resampled(
    metrics: Sequence[str], groups: Sequence[NDArray[Any]], gold: NDArray[Any], purpose: str, resamples: int = RESAMPLES
) -> Floats:
    """float64[G, B]: scores of each group, means over its runs and over the metrics; NaN where one is undefined.

    B is `resamples`, or at most 1,000 where a metric has no resampled form.

    groups: predictions of each group's runs [runs, N], classes (whole numbers) or values in row order, or label sets
    [runs, N, C]; gold: [N] or [N, C].
    """
    assert can_resample(metrics), metrics
    assert all(runs.shape[1:] == gold.shape and len(gold) > 0 for runs in groups), [runs.shape for runs in groups]
    if any(METRICS[name].resampled is None for name in metrics):
        resamples = min(resamples, SLOW_RESAMPLES)
    rows = (LabelCounts if gold.dtype.kind in "iu" else WeightedValues)(groups, gold)
    blocks = []
    for weights in draws(len(gold), purpose, resamples):
        rows.weigh(weights)
        parts = [METRICS[name].on_resamples(rows) for name in metrics]
        blocks.append(sum(parts[1:], parts[0]) / len(parts))
    return np.ascontiguousarray(np.concatenate(blocks).T)


def deviations(
    metrics: Sequence[str], groups: Sequence[NDArray[Any]], gold: NDArray[Any], purpose: str, resamples: int
) -> Floats:
    """float64[G, resamples]: first-order approximation of `resampled` less the score of the original rows.

    With weights w_i of mean 1 a score is T + Σ (w_i - 1) u_i / N and terms of order 1/N, where u_i, a row's influence,
    is the derivative of the score by the weight of row i (Hampel 1974, Efron's infinitesimal jackknife). One matrix
    product then gives all resamples of all models, whatever the metric. NaN where an influence is undefined.
    """
    influences = np.stack([_influence(metrics, runs, gold) for runs in groups]).astype(np.float32)
    parts = [(counts - 1).astype(np.float32) @ influences.T for counts in draws(len(gold), purpose, resamples)]
    return np.ascontiguousarray(np.concatenate(parts).T, np.float64) / len(gold)


def _influence(metrics: Sequence[str], runs: NDArray[Any], gold: NDArray[Any]) -> Floats:
    """[N]: the mean over metrics and runs."""
    functions = [METRICS[name].influence for name in metrics]
    per_run = [np.mean([of_row(run, gold) for of_row in functions if of_row], axis=0) for run in runs]
    return np.asarray(np.mean(per_run, axis=0))


def draws(rows: int, purpose: str, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Counts [block, rows] of `resamples` resamples, block by block; the blocks' size changes no number."""
    random = generator(purpose)
    block = max(1, _BLOCK // rows)
    for first in range(0, resamples, block):
        number = min(block, resamples - first)
        drawn = random.integers(rows, size=(number, rows), dtype=np.uint32).astype(np.intp)
        drawn += np.arange(number)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=number * rows).reshape(number, rows)
