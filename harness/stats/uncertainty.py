"""The uncertainty of scores: intervals over seeds and rows, tests between models, average ranks.

Two things vary. Another seed trains other weights: the runs of a model are a sample of n. Another split of the same
kind has other rows: the N rows are a sample, and all models share it. The variance of a score, the mean over n runs,
is estimated as v_rows + s²/n: v_rows from resampling rows with the runs held fixed, s the standard deviation of the
runs' scores. (The interaction of runs and rows is also in s²/n and so counts twice: this errs on the safe side.)
One run says nothing about seeds, and its interval is over rows only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def t_interval(scores: Sequence[float]) -> Interval | None:
    """The interval of the mean over seeds, x̄ ± t(0.975, n - 1) s / √n (Student 1908); None for a single score."""
    if len(scores) < 2:
        return None
    mean = math.fsum(scores) / len(scores)
    half = _quantile(len(scores) - 1.0) * math.sqrt(np.var(scores, ddof=1) / len(scores))
    return Interval(mean - half, mean + half)


def wilson(share: float, rows: int) -> Interval:
    """The interval of a share of rows, (p + z²/2N ± z √(p(1 - p)/N + z²/4N²)) / (1 + z²/N), z = 1.96; Wilson 1927."""
    z = _quantile(math.inf)
    centre, shrink = share + z**2 / (2 * rows), 1 + z**2 / rows
    half = z * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(max(0.0, (centre - half) / shrink), min(1.0, (centre + half) / shrink))


def wilson_variance(share: float, rows: int) -> float:
    """(width of the interval / 2z)²: about p(1 - p)/N, and not 0 where all rows are correct or all wrong."""
    low, high = wilson(share, rows)
    return ((high - low) / (2 * _quantile(math.inf))) ** 2


def percentiles(resampled: Floats) -> Interval:
    """The middle 95 % of resampled scores [B]; Efron 1979."""
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(low), float(high))


class Sample(NamedTuple):
    """The scores of M models on the same N rows."""

    scores: Floats
    """[M]: means over each model's runs."""
    resampled: Floats
    """[M, B]: scores on resampled rows; all models share the draws."""
    rows: int
    seeds: NDArray[np.int64]
    """[M]: runs of each model."""
    variances: Floats
    """[M]: s², the variance of a model's scores over its runs; NaN for a single run."""


def interval(sample: Sample, over_rows: Floats) -> tuple[Floats, Floats]:
    """Low and high [M]: score ± t √(v_rows + s²/n), over rows only where there is one run.

    t has the degrees of freedom of Satterthwaite 1946: (Σ v)² / Σ (v² / ν), ν = N - 1 and n - 1.

    Args:
        over_rows: v_rows [M].
    """
    over_seeds = np.nan_to_num(sample.variances / sample.seeds)
    variance, freedom = _satterthwaite((over_rows, sample.rows - 1), (over_seeds, sample.seeds - 1))
    half = _quantiles(freedom) * np.sqrt(variance)
    return sample.scores - half, sample.scores + half


class Differences(NamedTuple):
    """First less second score of pairs of models; arrays [pairs]."""

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    """Two-sided p of no difference."""


def compare(sample: Sample, first: NDArray[np.intp], second: NDArray[np.intp]) -> Differences:
    """The paired test: t = d / √(v_rows + v_seeds), Satterthwaite's degrees of freedom.

    v_rows is the variance of the difference over resamples of the rows that both models share (paired bootstrap).
    v_seeds = s_a²/n_a + s_b²/n_b (Welch 1947). A model with one run is assumed to vary over seeds as the other does,
    v_seeds = s² (1/n_a + 1/n_b); if both have one, the test is about these two runs on other rows.
    """
    n_a, n_b = sample.seeds[first], sample.seeds[second]
    s_a, s_b = sample.variances[first], sample.variances[second]
    covariance = np.atleast_2d(np.cov(sample.resampled))
    over_rows = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    over_rows = np.where(over_rows > 1e-14, over_rows, 0.0)  # rounding errors of equal scores
    shared = np.where(np.isnan(s_a), s_b, s_a)
    has_single_run = np.isnan(s_a) | np.isnan(s_b)
    seeds_a = np.nan_to_num(np.where(has_single_run, shared * (1 / n_a + 1 / n_b), s_a / n_a))
    seeds_b = np.nan_to_num(np.where(has_single_run, 0.0, s_b / n_b))
    freedom_a = np.where(has_single_run, np.maximum(n_a, n_b), n_a) - 1
    variance, freedom = _satterthwaite((over_rows, sample.rows - 1), (seeds_a, freedom_a), (seeds_b, n_b - 1))
    difference = sample.scores[first] - sample.scores[second]
    difference = np.where(np.abs(difference) > 1e-12, difference, 0.0)
    half = _quantiles(freedom) * np.sqrt(variance)
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    # Without variance, all N rows agree on the difference: this is their sign test.
    agreed = np.where(difference == 0, 1.0, 2.0 ** (1 - min(sample.rows, 1_000)))
    return Differences(difference, difference - half, difference + half, np.where(variance > 0, p, agreed))


def mcnemar(only_first: NDArray[Any], only_second: NDArray[Any]) -> Floats:
    """Two-sided exact p from the rows that only one model predicts correctly: twice the tail of binomial(b + c, ½)."""
    from scipy.special import bdtr

    fewer = np.minimum(only_first, only_second).astype(np.float64)
    both = np.asarray(only_first, np.int64) + np.asarray(only_second, np.int64)
    return np.asarray(np.minimum(1.0, 2 * np.asarray(bdtr(fewer, both, 0.5))))


def holm(p: Floats) -> Floats:
    """p of m tests, each corrected for all of them: max over the smaller ones of (m - rank + 1) p; Holm 1979."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


class Ranks(NamedTuple):
    """Average ranks of M models with their intervals; arrays [M]."""

    mean: Floats
    low: Floats
    high: Floats


def average_ranks(samples: Sequence[Sample], directions: Sequence[int], random: np.random.Generator) -> Ranks:
    """The mean over tasks of each model's rank, with percentiles over resamples; 1 is best, equal scores share a rank.

    A resample of a task has other rows, and an error t(n - 1) s / √n over seeds for a model of n > 1 runs.

    Args:
        samples: one per task, of the same M models in the same order, with the same number of resamples.
        directions: 1 where more is better, -1 where less is.
    """
    total, resampled = np.zeros(len(samples[0].scores)), np.zeros(samples[0].resampled.shape)
    for sample, direction in zip(samples, directions, strict=True):
        total += _ranks(-direction * np.round(sample.scores, 12))
        drawn = sample.resampled.copy()
        for model in np.flatnonzero(sample.seeds > 1):
            n = int(sample.seeds[model])
            error = random.standard_t(n - 1, size=drawn.shape[1])
            drawn[model] += error * math.sqrt(sample.variances[model] / n)
        resampled += _ranks(-direction * np.round(drawn, 12))
    low, high = np.quantile(resampled / len(samples), [ALPHA / 2, 1 - ALPHA / 2], axis=1)
    return Ranks(total / len(samples), low, high)


def _ranks(values: Floats) -> Floats:
    """Ranks within each column of values [M] or [M, B]: 1 for the smallest, equal values share a rank.

    All pairs are compared: importing scipy.stats for its rankdata takes longer.
    """
    return np.stack([(values < one).sum(axis=0) + ((values == one).sum(axis=0) + 1) / 2 for one in values])


def _satterthwaite(*parts: tuple[Floats, NDArray[Any] | int]) -> tuple[Floats, Floats]:
    """The sum of independent variances and its degrees of freedom; parts: (variance, degrees of freedom)."""
    total = np.asarray(sum(variance for variance, _ in parts))
    weighed = np.asarray(sum(variance**2 / np.maximum(freedom, 1) for variance, freedom in parts))
    freedom = np.divide(total**2, weighed, out=np.full(total.shape, np.inf), where=weighed > 0)
    return total, freedom


@functools.cache
def _quantile(freedom: float) -> float:
    return float(_quantiles(np.array([freedom]))[0])


def _quantiles(freedom: Floats) -> Floats:
    """The quantiles t(0.975, ν)."""
    from scipy.special import ndtri, stdtrit

    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isinf(freedom), ndtri(1 - ALPHA / 2), stdtrit(freedom, 1 - ALPHA / 2)))
