"""The smallest difference between two models that a column of the leaderboard can show.

Two models of n seeds each are compared on the same N rows. Their difference has the variance v + 2 c_n s²: v over rows,
s² over seeds, and c_n = 1/n for a mean. A true difference is significant at 0.05 with probability 0.8 from
(t(0.975, ν) + t(0.8, ν)) √(v + 2 c_n s²) on: the minimum detectable effect of Bloom 1995. More seeds lower the second
term only, so that rows set a limit.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from harness.stats.significance import Comparison
from harness.stats.uncertainty import ALPHA, POWER, Aggregate, difference_variances, satterthwaite, seed_factor

MORE_SEEDS = 10
"""The number of seeds that is shown next to the present one."""

MOST_SEEDS = 1_000
"""The largest number of seeds that `seeds_to_detect` proposes."""


class SmallestDifferences(NamedTuple):
    """The smallest difference that two models can show; None where the variance over seeds is unknown."""

    rows: int
    seeds: int
    """The present number of seeds of a model."""
    with_present_seeds: float | None
    with_ten_seeds: float | None
    with_any_number: float
    """The limit that the rows set."""


class Column(NamedTuple):
    """The variances of a task's scores, from the runs that are compared there."""

    rows: int
    row_variance: float
    """Variance over rows of the difference between two models, the runs held fixed: the median over pairs."""
    seed_variance: float
    """Variance over seeds of a run's score, pooled over the models; NaN where none of them has two runs."""
    seeds: int
    """Runs of a model: the median over the models."""
    aggregate: Aggregate = "mean"
    unit: str = "rows"
    """The units that `rows` counts."""

    def smallest_difference(self, seeds: float) -> float:
        """The smallest difference that two models of two seeds or more, infinitely many too, can show.

        NaN where the variance over seeds is unknown and matters.
        """
        from scipy.special import stdtrit

        over_seeds = 0.0 if math.isinf(seeds) else 2 * seed_factor(int(seeds), self.aggregate) * self.seed_variance
        variance, freedom = satterthwaite(
            (np.array(self.row_variance), self.rows - 1), (np.array(over_seeds), 2 * (seeds - 1))
        )
        levels = stdtrit(np.minimum(freedom, 1e9), [1 - ALPHA / 2, POWER])
        return float(levels.sum() * np.sqrt(variance))

    def smallest_differences(self) -> SmallestDifferences:
        """The smallest differences with the present seeds, with ten, and with any number."""
        present, ten = (
            None if seeds < 2 or math.isnan(self.seed_variance) else self.smallest_difference(seeds)
            for seeds in (self.seeds, MORE_SEEDS)
        )
        return SmallestDifferences(self.rows, self.seeds, present, ten, self.smallest_difference(math.inf))

    def seeds_to_detect(self, difference: float) -> int | None:
        """The fewest seeds, two or more, with which two models can show the difference; None if no number will do.

        None, too, where the variance over seeds is unknown.
        """
        if self.smallest_difference(math.inf) > difference or math.isnan(self.seed_variance):
            return None
        numbers = range(2, MOST_SEEDS + 1)
        first = bisect_left(numbers, True, key=lambda seeds: self.smallest_difference(seeds) <= difference)
        return numbers[first] if first < len(numbers) else None


def column_of(comparison: Comparison) -> Column | None:
    """The variances of a column; None where fewer than two models are compared, or where they predict the same."""
    sample = comparison.sample
    if len(comparison.groups) < 2:
        return None
    first, second = np.triu_indices(len(comparison.groups), 1)
    row_variance = float(np.median(difference_variances(sample.resampled)[first, second]))
    if row_variance == 0:
        return None
    return Column(
        rows=sample.rows,
        row_variance=row_variance,
        seed_variance=float(np.median(sample.pooled)),
        seeds=int(np.median(sample.runs)),
        aggregate=comparison.groups[0].aggregate,
        unit=comparison.groups[0].unit,
    )
