"""The uncertainty of scores: intervals over seeds and rows, tests, and the set of the best.

Two things vary. Another seed trains other weights: the n runs of a model are a sample. Another split of the same kind
has other rows: the N rows are a sample, and all models share it. The variance of a score, the mean over n runs, is
estimated as v_rows + s²/n: v_rows from resampling rows with the runs held fixed, s² the variance of the runs' scores.
(The interaction of runs and rows is also in s²/n and so counts twice: this errs on the safe side.) A model of one or
two runs is lent the s² pooled over the models that it competes with; where no model has two runs, nothing is known
about seeds, and no verdict about models is possible. A score can be the median over runs instead: then c_n s² takes the
place of s²/n, with c_n the variance of the median of n standard normal values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE

POWER = 0.8
"""Probability with which a difference is to be shown: that of a verdict, and of a significant test."""

FEW_RUNS = 2
"""Up to this number of runs, a model's variance over seeds is the pooled one."""


BEST_SET_RESAMPLES = 2_000
"""Resamples from which `best_set` takes its quantiles, one for each model."""


_ROUNDING = 1e-14
"""The largest difference of two numbers, relative to their size, that counts as a rounding error."""

Aggregate = Literal["mean", "median"]
"""The statistic of a model's runs that is its score."""

MEDIAN_DRAWS = 2_000_000
"""Normal values from which the variance of a median is simulated, to 0.2 % for five runs."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def t_interval(scores: Sequence[float], aggregate: Aggregate = "mean") -> Interval | None:
    """The interval over seeds, x̄ ± t(0.975, n - 1) s / √n (Student 1908) for the mean; None for a single score."""
    if len(scores) < 2:
        return None
    center = float(aggregated(np.array(scores), aggregate))
    half = t_quantile(len(scores) - 1.0) * math.sqrt(np.var(scores, ddof=1) * seed_factor(len(scores), aggregate))
    return Interval(center - half, center + half)


def aggregated(values: Floats, aggregate: Aggregate) -> Floats:
    """The mean or the median over the first axis, the runs."""
    return np.asarray(np.median(values, axis=0) if aggregate == "median" else np.mean(values, axis=0))


@functools.cache
def seed_factor(runs: int, aggregate: Aggregate) -> float:
    """The variance of the score of n runs for s² = 1: 1/n for the mean, simulated for the median of normal values."""
    if aggregate == "mean" or runs <= FEW_RUNS:  # the median of two runs is their mean
        return 1 / runs
    drawn = np.random.default_rng(runs).standard_normal((MEDIAN_DRAWS // runs, runs))
    return float(np.median(drawn, axis=1).var())


class Sample(NamedTuple):
    """The scores of M models on the same N rows."""

    scores: Floats
    """[M]: means, or medians, over each model's runs."""
    resampled: Floats
    """[M, B]: scores on resampled rows; all models share the draws."""
    rows: int
    is_smoothed: bool
    """The resamples are a posterior, with pseudo-rows, and not centred at the scores."""
    runs: NDArray[np.int64]
    """[M]: n, the number of each model's runs."""
    seed_factor: Floats
    """[M]: 1/n, or c_n."""
    own: Floats
    """[M]: s² of the model's own runs, with n - 1 degrees of freedom; NaN for a single run."""
    pooled: Floats
    """[M]: s² pooled over the models that it competes with; NaN where none of them has two runs."""
    pooled_freedom: Floats
    """[M]: the pooled variance's degrees of freedom, Σ (n - 1)."""

    def subset(self, at: Sequence[int]) -> Sample:
        """The sample of the models at these positions."""
        fields: dict[str, Any] = self._asdict()
        arrays = {name: value[at] for name, value in fields.items() if isinstance(value, np.ndarray)}
        return Sample(**(fields | arrays))

    @property
    def is_lent(self) -> NDArray[np.bool_]:
        """[M]: the model's variance over seeds is the pooled one."""
        return np.asarray(self.runs <= FEW_RUNS)

    @property
    def seed_variance(self) -> Floats:
        """[M]: s²/n, or c_n s²; NaN where nothing is known about seeds."""
        return np.asarray(np.where(self.is_lent, self.pooled, self.own) * self.seed_factor)

    @property
    def seed_freedom(self) -> Floats:
        """[M]: degrees of freedom of `seed_variance`."""
        return np.asarray(np.where(self.is_lent, self.pooled_freedom, self.runs - 1.0))


def sample_of(
    scores: Sequence[Sequence[float]],
    resampled: Floats,
    rows: int,
    is_smoothed: bool,
    pools: Sequence[Hashable],
    is_lender: Sequence[bool],
    aggregate: Aggregate = "mean",
) -> Sample:
    """The sample of M models.

    Args:
        scores: of each model's runs.
        resampled: [M, B], means or medians over each model's runs, on the same draws.
        rows: N.
        is_smoothed: the resamples have pseudo-rows.
        pools: models of equal pools compete, and borrow the variance over seeds of the lenders among them, or without
            any of all that have several runs.
        is_lender: whether a model's runs vary over seeds as others do.
        aggregate: the statistic over a model's runs.
    """
    runs = np.array([len(one) for one in scores])
    own = np.array([np.var(one, ddof=1) if len(one) > 1 else math.nan for one in scores])
    pooled = {}
    for key in set(pools):
        several = [number for number, other in enumerate(pools) if other == key and runs[number] > 1]
        at = [number for number in several if is_lender[number]] or several
        freedom = float(np.sum(runs[at] - 1))
        pooled[key] = float((runs[at] - 1) @ own[at]) / freedom if at else math.nan, freedom
    return Sample(
        scores=np.array([aggregated(np.array(one), aggregate) for one in scores]),
        resampled=np.asarray(resampled),
        rows=rows,
        is_smoothed=is_smoothed,
        runs=runs,
        seed_factor=np.array([seed_factor(len(one), aggregate) for one in scores]),
        own=own,
        pooled=np.array([pooled[key][0] for key in pools]),
        pooled_freedom=np.array([pooled[key][1] for key in pools]),
    )


def row_intervals(sample: Sample) -> tuple[Floats, Floats]:
    """Low and high [M]: the middle 95 % of resampled scores, with the runs as they are.

    Resamples that are no posterior have a mean below or above the score by a bias, which is taken away. An interval
    that would exclude the score, as Jeffreys' does where all rows are right, ends at it (Brown, Cai & DasGupta 2001).
    """
    low, high = np.quantile(sample.resampled, [ALPHA / 2, 1 - ALPHA / 2], axis=1)
    bias = 0.0 if sample.is_smoothed else sample.resampled.mean(axis=1) - sample.scores
    return np.minimum(low - bias, sample.scores), np.maximum(high - bias, sample.scores)


def total_intervals(sample: Sample) -> tuple[Floats, Floats]:
    """Low and high [M]: the interval over rows, widened on either side by the uncertainty over seeds.

    With h the distance from the score to that side's end of the interval over rows, the end is at the distance
    t √((h/z)² + s²/n) (Zou & Donner 2008), t with the degrees of freedom of `total_variance`. Where nothing is known
    about seeds it is the interval over rows.
    """
    z, (low, high) = t_quantile(math.inf), row_intervals(sample)
    ends = []
    for side, end in ((-1, low), (1, high)):
        variance, freedom = total_variance(sample, (np.maximum(side * (end - sample.scores), 0) / z) ** 2)
        widened = sample.scores + side * _quantiles(freedom) * np.sqrt(variance)
        ends.append(np.where(np.isnan(sample.seed_variance), end, widened))
    return ends[0], ends[1]


def total_variance(sample: Sample, over_rows: Floats) -> tuple[Floats, Floats]:
    """The variance v_rows + s²/n of each score and its degrees of freedom [M]: (Σ v)² / Σ (v² / ν), Satterthwaite 1946.

    ν = N - 1 for rows, and those of s². Where nothing is known about seeds, the variance over rows.
    """
    return satterthwaite((over_rows, sample.rows - 1), (np.nan_to_num(sample.seed_variance), sample.seed_freedom))


def mean_interval(scores: Sequence[float], variances: Sequence[tuple[float, float]]) -> Interval:
    """The interval of the mean of independent scores, from the variance of each and its degrees of freedom."""
    number = len(scores)
    parts = [(np.array(variance / number**2), np.array(freedom)) for variance, freedom in variances]
    variance, total_freedom = satterthwaite(*parts)
    mean, half = math.fsum(scores) / number, float(_quantiles(total_freedom) * np.sqrt(variance))
    return Interval(mean - half, mean + half)


class PairwiseTest(NamedTuple):
    """The test of one model's score less another's, on the same rows."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected for all tests of its family."""
    is_over_rows_only: bool
    """Nothing is known about seeds: the test is about these runs on other rows, and gives no verdict about models."""

    @property
    def is_significant(self) -> bool:
        """True at the level of 0.05, after the correction, where the test is about models."""
        return self.p_holm < ALPHA and not self.is_over_rows_only

    def reversed(self) -> PairwiseTest:
        """The second model's score less the first's."""
        return self._replace(difference=-self.difference, low=-self.high, high=-self.low)


class PairwiseTests(NamedTuple):
    """The tests of a family of pairs: the fields of `PairwiseTest` as arrays [pairs]."""

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    p_holm: Floats
    is_over_rows_only: NDArray[np.bool_]

    @property
    def is_significant(self) -> NDArray[np.bool_]:
        """[pairs]: `PairwiseTest.is_significant`."""
        return (self.p_holm < ALPHA) & ~self.is_over_rows_only

    def test(self, pair: int) -> PairwiseTest:
        """The test of one pair."""
        return PairwiseTest(*(values[pair].item() for values in self))


def compare(sample: Sample, first: Indices, second: Indices) -> PairwiseTests:
    """The paired tests of no difference: t = d / √(v_rows + s_a²/n_a + s_b²/n_b), Satterthwaite's degrees of freedom.

    v_rows is the variance of the difference over resamples of the rows that both models share (paired bootstrap).
    """
    sizes = _sizes(sample.resampled)
    if len(first) > len(sample.scores):
        over_rows = difference_variances(sample.resampled)[first, second]
    else:
        over_rows = np.var(sample.resampled[first] - sample.resampled[second], axis=1, ddof=1)
        over_rows = _without_rounding_errors(over_rows, sizes[first] ** 2 + sizes[second] ** 2)
    is_lent = sample.is_lent
    lent_freedom = np.where(is_lent, sample.pooled_freedom, np.inf)
    own = np.where(is_lent, 0.0, sample.seed_variance)
    lent = np.where(is_lent, sample.seed_variance, 0.0)
    is_over_rows_only = np.isnan(lent[first] + lent[second])
    # the lent parts of a pair are the same estimate, so they are one term
    variance, freedom = satterthwaite(
        (over_rows, sample.rows - 1),
        (own[first], sample.seed_freedom[first]),
        (own[second], sample.seed_freedom[second]),
        (np.nan_to_num(lent[first] + lent[second]), np.minimum(lent_freedom[first], lent_freedom[second])),
    )
    difference = _without_rounding_errors(sample.scores[first] - sample.scores[second], sizes[first] + sizes[second])
    half = _quantiles(freedom) * np.sqrt(variance)
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    # Without variance, all N rows agree on the difference: this is their sign test.
    agreed = np.where(difference == 0, 1.0, 2.0 ** (1 - min(sample.rows, 1_000)))
    p = np.where(variance > 0, p, agreed)
    return PairwiseTests(difference, difference - half, difference + half, p, holm(p), is_over_rows_only)


def is_above(sample: Sample, score: float, resampled: Floats, direction: int) -> NDArray[np.bool_]:
    """bool[M]: the models that are significantly better, two-sided at 0.05, than predictions without seeds.

    Args:
        score: of these predictions.
        resampled: [B], their scores on the same draws.
    """
    number = len(sample.scores)
    fixed = sample._replace(
        scores=np.append(sample.scores, score),
        resampled=np.vstack([sample.resampled, resampled]),
        runs=np.append(sample.runs, FEW_RUNS + 1),
        seed_factor=np.append(sample.seed_factor, 0.0),
        own=np.append(sample.own, 0.0),
        pooled=np.append(sample.pooled, np.nan),
        pooled_freedom=np.append(sample.pooled_freedom, 0.0),
    )
    compared = compare(fixed, np.arange(number), np.full(number, number))
    return np.asarray((direction * compared.difference > 0) & (compared.p < ALPHA))


def difference_variances(resampled: Floats) -> Floats:
    """[M, M]: the variance over rows of each model's score less each other's."""
    covariance = np.atleast_2d(np.cov(resampled))
    own, squares = np.diag(covariance), _sizes(resampled) ** 2
    return _without_rounding_errors(own[:, None] + own - 2 * covariance, squares[:, None] + squares)


def _sizes(resampled: Floats) -> Floats:
    """[M]: the size of each model's scores, to which their rounding errors are relative: the root mean square."""
    return np.asarray(np.sqrt(np.mean(resampled**2, axis=1)))


def _without_rounding_errors(differences: Floats, sizes: Floats) -> Floats:
    """The differences of numbers of these sizes, with 0 in place of the rounding errors of equal ones."""
    return np.where(np.abs(differences) > _ROUNDING * sizes, differences, 0.0)


def best_set(sample: Sample, direction: int, random: np.random.Generator) -> NDArray[np.bool_] | None:
    """bool[M]: a set that contains the truly best model with 95 % confidence (Hsu 1981, multiple comparisons with it).

    Model i is in it unless max over j of (x_j - x_i) / √(v_rows + s²/n_i + s²/n_j) is above the 95 % quantile which
    that maximum has when all models are equal: over shared resamples of the rows, with errors of the seeds by the
    pooled s². None where nothing is known about seeds.

    Args:
        sample: models that all compete with each other.
        direction: 1 where more is better, -1 where less is.
    """
    number = len(sample.scores)
    if np.isnan(sample.pooled).any():
        return None
    drawn = direction * (sample.resampled - sample.resampled.mean(axis=1, keepdims=True))
    drawn = drawn[:, :BEST_SET_RESAMPLES]
    scores, over_seeds = direction * sample.scores, sample.pooled * sample.seed_factor
    freedom = sample.pooled_freedom[0]
    errors = random.standard_normal(drawn.shape) * np.sqrt(over_seeds)[:, None]
    drawn += errors / np.sqrt(random.chisquare(freedom, drawn.shape[1]) / freedom)
    over_rows, sizes = difference_variances(sample.resampled), _sizes(sample.resampled)
    is_member, everyone, highest = np.ones(number, bool), np.arange(number), drawn.max(axis=0)
    for model in range(number):
        error = np.sqrt(over_rows[model] + over_seeds + over_seeds[model])
        others = (everyone != model) & (error > 0)
        gap = _without_rounding_errors(scores - scores[model], sizes + sizes[model])
        is_member[model] = not np.any(gap[(everyone != model) & ~others] > 0)
        if not others.any() or not is_member[model]:
            continue
        largest_gap = np.max(gap[others] / error[others])
        # an upper bound of the quantile below, cheaper to compute
        bound = np.quantile((highest - drawn[model]) / error[others].min(), CONFIDENCE)
        is_member[model] = largest_gap <= bound and largest_gap <= np.quantile(
            ((drawn[others] - drawn[model]) / error[others, None]).max(axis=0), CONFIDENCE
        )
    return is_member


def holm(p: Floats) -> Floats:
    """p of m tests, each corrected for all of them: max over the smaller ones of (m - rank + 1) p; Holm 1979."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def ranks(values: Floats) -> Floats:
    """Ranks of values [M]: 1 for the smallest, values that are equal up to rounding share a rank."""
    above = _without_rounding_errors(values[:, None] - values, np.abs(values).max(initial=0.0))
    return np.asarray((above > 0).sum(axis=1) + ((above == 0).sum(axis=1) + 1) / 2)


def satterthwaite(*parts: tuple[Floats, Floats | float]) -> tuple[Floats, Floats]:
    """The sum of independent variances and its degrees of freedom; parts: (variance, degrees of freedom).

    Shares of the sum are squared, not the variances, which may be too large or too small for it.
    """
    total = np.asarray(sum(variance for variance, _ in parts))
    weighed = np.zeros(total.shape)
    for variance, freedom in parts:
        share = np.divide(variance, total, out=np.zeros(total.shape), where=total > 0)
        weighed += share**2 / np.where(variance > 0, freedom, 1)
    return total, np.divide(1.0, weighed, out=np.full(total.shape, np.inf), where=weighed > 0)


@functools.cache
def t_quantile(freedom: float, level: float = 1 - ALPHA / 2) -> float:
    """The quantile of Student's t with these degrees of freedom, infinitely many too."""
    return float(_quantiles(np.array([freedom]), level)[0])


def _quantiles(freedom: Floats, level: float = 1 - ALPHA / 2) -> Floats:
    from scipy.special import ndtri, stdtrit

    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isinf(freedom), ndtri(level), stdtrit(freedom, level)))
