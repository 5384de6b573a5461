"""The smallest difference that two models can show: its power by simulation, its limit, and the seeds for it."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.power import MOST_SEEDS, Column

COLUMN = Column(rows=277, row_variance=0.02**2, seed_variance=0.015**2, seeds=3)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_smallest_difference_is_significant_in_four_of_five_experiments(seeds):
    random, draws = np.random.default_rng(seeds), 40_000
    true_variance = COLUMN.row_variance + 2 * COLUMN.seed_variance / seeds
    differences = random.normal(COLUMN.smallest_difference(seeds), math.sqrt(true_variance), draws)
    freedom = 2 * (seeds - 1)
    of_seeds = 2 * COLUMN.seed_variance / seeds * random.chisquare(freedom, draws) / freedom
    variance = COLUMN.row_variance + of_seeds
    satterthwaite = variance**2 / (COLUMN.row_variance**2 / (COLUMN.rows - 1) + of_seeds**2 / freedom)
    p = 2 * stats.t.sf(np.abs(differences) / np.sqrt(variance), satterthwaite)
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.025)


def test_more_seeds_show_smaller_differences_down_to_the_limit_of_the_rows():
    by_seeds = [COLUMN.smallest_difference(seeds) for seeds in (2, 3, 5, 10, 100, math.inf)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    normal = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert by_seeds[-1] == pytest.approx(normal * 0.02, rel=0.01)


@pytest.mark.parametrize("difference", [0.06, 0.07, 0.1, 0.2])
def test_seeds_to_detect_are_the_fewest(difference):
    seeds = COLUMN.seeds_to_detect(difference)
    assert COLUMN.smallest_difference(seeds) <= difference
    assert seeds == 2 or COLUMN.smallest_difference(seeds - 1) > difference


def test_no_number_of_seeds_shows_what_the_rows_cannot():
    assert COLUMN.seeds_to_detect(0.03) is None
    many = COLUMN._replace(row_variance=1e-12, seed_variance=1.0)
    assert many.seeds_to_detect(1e-3) is None
    assert many.smallest_difference(MOST_SEEDS) > 1e-3


def test_unknown_variance_over_seeds_leaves_the_limit_of_the_rows():
    unknown = COLUMN._replace(seed_variance=math.nan)
    assert math.isnan(unknown.smallest_difference(5))
    assert unknown.smallest_difference(math.inf) == COLUMN.smallest_difference(math.inf)
    assert unknown.seeds_to_detect(0.2) is None


def test_a_column_states_the_smallest_difference_for_present_ten_and_any_number_of_seeds():
    by_seeds = [COLUMN.smallest_difference(seeds) for seeds in (3, 10, math.inf)]
    assert COLUMN.smallest_differences() == (277, 3, *by_seeds)
    limit = by_seeds[-1]
    assert COLUMN._replace(seed_variance=math.nan).smallest_differences() == (277, 3, None, None, limit)
    assert COLUMN._replace(seeds=1).smallest_differences() == (277, 1, None, by_seeds[1], limit)


@pytest.mark.parametrize("needed", [MOST_SEEDS - 1, MOST_SEEDS, MOST_SEEDS + 1, MOST_SEEDS + 20])
def test_seeds_above_the_largest_number_are_not_proposed(needed):
    many = COLUMN._replace(row_variance=1e-12, seed_variance=1.0)
    expected = needed if needed <= MOST_SEEDS else None
    assert many.seeds_to_detect(many.smallest_difference(needed)) == expected
