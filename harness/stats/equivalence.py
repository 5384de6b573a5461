"""Comparison of runs with a published value: equivalent within a margin, different, or undecided.

Both sides are scores on the same rows, so only seeds vary. The difference d of the two has the variance v_ours +
v_published, with v = c s²: s² of the runs over seeds, and c the variance of the published statistic (mean, median or
best) of that many standard normal values. v_published comes from the number after ±; a value without one is lent the s²
of the runs here. The degrees of freedom are Welch's. A best of k is compared with the mean best over all choices of k
of the runs here; as the best is skewed, its quantiles are simulated from normal scores, and ± is not used.

Two one-sided tests (TOST, Schuirmann 1987; Lakens 2017) show that |d| is below the margin; that no difference is
significant shows nothing. So the verdict is:

- agrees: both one-sided tests reject at 0.05, whether or not d is significant;
- differs: otherwise, and the 95 % interval of d excludes 0;
- cannot tell: neither.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.facts.published import PlusMinus, RowAggregate
from harness.stats.uncertainty import ALPHA, MEDIAN_DRAWS, POWER, Floats, Interval, aggregated, seed_factor, t_quantile

Verdict = Literal["agrees", "differs", "cannot tell"]

SEED_COUNTS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
"""Numbers of seeds that `seeds_to_tell` tries."""

BEST_DRAWS = 200_000
"""Simulated comparisons of a best of k."""


class Target(NamedTuple):
    """A published value."""

    value: float
    runs: int
    """The runs behind it; 1 where the source does not state them, the least certain reading."""
    statistic: RowAggregate
    error: float | None
    """Its standard error over seeds; None where none is published."""
    freedom: float
    """Degrees of freedom of the error; infinite where they are unknown."""

    @property
    def runs_needed(self) -> int:
        """The smallest number of runs that can be compared with the value."""
        return max(2, self.runs if self.statistic == "best" else 0)


class Equivalence(NamedTuple):
    """The comparison of runs with a published value, in the unit of the scores."""

    ours: float
    """The published statistic of the runs; of the best of k, its mean over all k of the runs."""
    difference: float
    """Ours less the published value."""
    interval: Interval
    """95 % interval of the difference."""
    p: float
    """The larger p of the two one-sided tests: equivalence within the margin is shown below 0.05."""
    margin: float
    least_margin: float
    """The smallest margin for which equivalence would be shown."""
    verdict: Verdict
    seeds_to_tell: int | None
    """Seeds with which a verdict is likely; None if there is one already, or if no number of `SEED_COUNTS` suffices."""


def make_target(
    value: float,
    runs: int | None,
    statistic: RowAggregate,
    plus_minus: float | None = None,
    meaning: PlusMinus = "unstated",
) -> Target:
    """The published value with its standard error, from the number after ± and its meaning.

    A number without a stated meaning is read as a standard deviation over seeds, which is the usual one.
    """
    number = runs or 1
    freedom = number - 1.0 if number > 1 else math.inf
    error = None if statistic == "best" else plus_minus
    if error is not None and meaning == "confidence_interval":
        error /= t_quantile(freedom)
    elif error is not None and meaning != "standard_error":
        error *= math.sqrt(statistic_variance(number, statistic, number))
    return Target(value, number, statistic, error, freedom)


def statistic_of(scores: Sequence[float], statistic: RowAggregate, best_of: int) -> float:
    """The mean, the median, or the mean of the best of `best_of` scores over all ways to choose these."""
    values = np.array(scores, dtype=float)
    if statistic == "best":
        return float(np.sort(values) @ _best_weights(len(values), best_of))
    return float(aggregated(values, statistic))


@functools.cache
def statistic_variance(runs: int, statistic: RowAggregate, best_of: int) -> float:
    """c: the variance of `statistic_of` n standard normal scores."""
    if statistic != "best":
        return seed_factor(runs, statistic)
    drawn = np.sort(np.random.default_rng(runs).standard_normal((MEDIAN_DRAWS // runs, runs)), axis=1)
    return float((drawn @ _best_weights(runs, best_of)).var())


def compare_with_target(scores: Sequence[float], target: Target, margin: float) -> Equivalence:
    """The comparison of two runs or more with a published value; of a best of k, k runs or more."""
    assert len(scores) >= target.runs_needed
    ours = statistic_of(scores, target.statistic, target.runs)
    squared = float(np.var(np.array(scores), ddof=1))
    difference = ours - target.value
    errors = _errors(len(scores), squared, target)
    interval = Interval(difference - errors.quantile(1 - ALPHA / 2), difference - errors.quantile(ALPHA / 2))
    p = max(errors.share_below(difference - margin), 1 - errors.share_below(difference + margin))
    is_different = not interval.low <= 0 <= interval.high
    verdict: Verdict = "agrees" if p < ALPHA else "differs" if is_different else "cannot tell"
    is_open = verdict == "cannot tell"
    seeds = _seeds_to_tell(len(scores), squared, difference, target, margin) if is_open else None
    return Equivalence(
        ours=ours,
        difference=difference,
        interval=interval,
        p=p,
        margin=margin,
        least_margin=max(difference - errors.quantile(ALPHA), errors.quantile(1 - ALPHA) - difference),
        verdict=verdict,
        seeds_to_tell=seeds,
    )


def expected_margin(runs: int, target: Target) -> float:
    """The least margin for which runs that spread as the published ones, without a difference, show equivalence."""
    assert target.error is not None
    squared = target.error**2 / statistic_variance(target.runs, target.statistic, target.runs)
    return _errors(runs, squared, target).quantile(1 - ALPHA)


class _Errors(NamedTuple):
    """The difference when there is none in truth: a scale times Student's t, or times simulated values, sorted."""

    scale: float
    freedom: float
    simulated: Floats | None

    def quantile(self, level: float) -> float:
        if self.simulated is not None:
            return self.scale * float(self.simulated[round(level * (len(self.simulated) - 1))])
        return self.scale * t_quantile(self.freedom, level)

    def share_below(self, difference: float) -> float:
        """The probability of a smaller difference."""
        if self.scale == 0:
            return float(difference >= 0)
        if self.simulated is not None:
            return float(np.searchsorted(self.simulated, difference / self.scale) / len(self.simulated))
        return _cdf(difference / self.scale, self.freedom)


def _errors(runs: int, squared: float, target: Target) -> _Errors:
    """`squared` is s² of the runs."""
    if target.statistic == "best":  # skewed, and the best goes with s
        return _Errors(math.sqrt(squared), runs - 1.0, _best_pivots(runs, target.runs))
    own = squared * statistic_variance(runs, target.statistic, target.runs)
    if target.error is None:  # one estimate of s² for both sides
        lent = squared * statistic_variance(target.runs, target.statistic, target.runs)
        return _Errors(math.sqrt(own + lent), runs - 1.0, None)
    published = target.error**2
    weighed = own**2 / (runs - 1) + published**2 / target.freedom
    freedom = (own + published) ** 2 / weighed if weighed > 0 else math.inf
    return _Errors(math.sqrt(own + published), freedom, None)


@functools.cache
def _best_pivots(runs: int, best_of: int) -> Floats:
    """(best of k of n normal scores - best of k others) / s of the n, sorted: it depends on n and k alone."""
    random = np.random.default_rng((runs, best_of))
    scores = np.sort(random.standard_normal((BEST_DRAWS, runs)), axis=1)
    published = random.standard_normal((BEST_DRAWS, best_of)).max(axis=1)
    return np.sort((scores @ _best_weights(runs, best_of) - published) / scores.std(axis=1, ddof=1))


def _seeds_to_tell(runs: int, squared: float, difference: float, target: Target, margin: float) -> int | None:
    """The number of seeds with which a verdict has the probability POWER, if difference and s² are as they are here.

    The published value stays as it is: only the runs here are drawn again.
    """
    for number in SEED_COUNTS:
        if number <= runs or (target.statistic == "best" and number < target.runs):
            continue
        errors = _errors(number, squared, target)
        own = math.sqrt(squared * statistic_variance(number, target.statistic, target.runs)) or 1e-12
        agrees = errors.quantile(1 - ALPHA) - margin, errors.quantile(ALPHA) + margin
        undecided = errors.quantile(ALPHA / 2), errors.quantile(1 - ALPHA / 2)

        def inside(low: float, high: float, own: float = own) -> float:
            return max(0.0, _cdf((high - difference) / own) - _cdf((low - difference) / own))

        both = max(agrees[0], undecided[0]), min(agrees[1], undecided[1])
        if 1 - inside(*undecided) + (inside(*both) if agrees[0] < agrees[1] else 0.0) >= POWER:
            return number
    return None


def _best_weights(runs: int, best_of: int) -> Floats:
    """The weight of each sorted score in the mean of the best over all choices of `best_of` of them."""
    chosen = math.comb(runs, best_of)
    return np.array([math.comb(below, best_of - 1) / chosen for below in range(runs)])


def _cdf(value: float, freedom: float = math.inf) -> float:
    from scipy.special import ndtr, stdtr

    return float(ndtr(value) if math.isinf(freedom) else stdtr(freedom, value))
