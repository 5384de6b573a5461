"""Statistics: by hand, against scipy, and against simulations whose truth is known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.uncertainty import (
    Sample,
    average_ranks,
    compare,
    holm,
    interval,
    mcnemar,
    percentiles,
    t_interval,
    wilson,
    wilson_variance,
)

FIRST, SECOND = np.array([0]), np.array([1])


@functools.cache
def weights_of(rows: int, draws: int = 400) -> np.ndarray:
    """The share of each row in each draw [draws, rows], the same for every sample, as on a leaderboard."""
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=draws) / rows


def sample_of(hits: list[np.ndarray]) -> Sample:
    """hits: correct rows of each model, bool[runs, N]."""
    rows = hits[0].shape[1]
    weights = weights_of(rows)
    runs = [of_model.mean(axis=1) for of_model in hits]
    return Sample(
        scores=np.array([scores.mean() for scores in runs]),
        resampled=np.array([of_model.mean(axis=0) @ weights.T for of_model in hits]),
        rows=rows,
        seeds=np.array([len(scores) for scores in runs]),
        variances=np.array([scores.var(ddof=1) if len(scores) > 1 else np.nan for scores in runs]),
    )


def test_t_interval_of_three_by_hand() -> None:
    low, high = t_interval([0.80, 0.82, 0.84])
    assert (low, high) == pytest.approx((0.82 - 4.302653 * 0.02 / math.sqrt(3), 0.82 + 4.302653 * 0.02 / math.sqrt(3)))
    expected = stats.t.interval(0.95, 2, loc=0.82, scale=stats.sem([0.80, 0.82, 0.84]))
    assert (low, high) == pytest.approx(expected)


def test_one_run_has_no_interval_over_seeds() -> None:
    assert t_interval([0.8]) is None


@pytest.mark.parametrize("right, rows", [(0, 10), (7, 10), (350, 408), (71, 71)])
def test_wilson_is_scipys(right: int, rows: int) -> None:
    expected = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_rows_of_mrpc_carry_3_points_that_no_seed_removes() -> None:
    low, high = wilson(0.86, 408)
    assert (high - low) / 2 == pytest.approx(0.034, abs=0.001)


def test_variance_is_that_of_a_share_and_never_0() -> None:
    assert wilson_variance(0.7, 10_000) == pytest.approx(0.7 * 0.3 / 10_000, rel=1e-3)
    assert wilson_variance(1.0, 71) > 0


def test_percentiles_are_the_middle_95_percent() -> None:
    assert percentiles(np.arange(1001.0)) == pytest.approx((25, 975))


@pytest.mark.parametrize("only_first, only_second", [(0, 0), (1, 0), (8, 1), (5, 5), (120, 80)])
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    expected = stats.binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    assert mcnemar(np.array([only_first]), np.array([only_second])) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(np.array([8]), np.array([1])) == pytest.approx(2 * (1 + 9) / 2**9)


def test_holm_by_hand() -> None:
    """Holm's own order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and no p below a smaller one's."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


def test_several_runs_without_row_variance_are_compared_by_welch() -> None:
    a, b = np.array([0.80, 0.82, 0.84]), np.array([0.75, 0.79, 0.74, 0.76])
    scores = np.array([a.mean(), b.mean()])
    constant = np.repeat(scores[:, None], 10, axis=1)
    sample = Sample(scores, constant, 100, np.array([3, 4]), np.array([a.var(ddof=1), b.var(ddof=1)]))
    compared, expected = compare(sample, FIRST, SECOND), stats.ttest_ind(a, b, equal_var=False)
    assert compared.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (compared.low[0], compared.high[0]) == pytest.approx((ends.low, ends.high))


def test_single_run_is_assumed_to_vary_as_several_others_do() -> None:
    """Student's test with equal variances, to which the single run adds no information."""
    a = np.array([0.80, 0.82, 0.84])
    scores = np.array([a.mean(), 0.7])
    constant = np.repeat(scores[:, None], 10, axis=1)
    sample = Sample(scores, constant, 100, np.array([3, 1]), np.array([a.var(ddof=1), np.nan]))
    expected = 2 * stats.t.sf((a.mean() - 0.7) / (a.std(ddof=1) * math.sqrt(1 / 3 + 1)), 2)
    assert compare(sample, FIRST, SECOND).p == pytest.approx(expected)
    assert compare(sample, SECOND, FIRST).p == pytest.approx(expected)
    assert compare(sample, SECOND, FIRST).difference == pytest.approx(0.7 - a.mean())


def test_equal_models_have_p_1() -> None:
    hits = np.random.default_rng(0).random((2, 50)) < 0.7
    compared = compare(sample_of([hits, hits]), FIRST, SECOND)
    assert (compared.difference[0], compared.low[0], compared.high[0]) == (
        0,
        pytest.approx(compared.low[0]),
        -compared.low[0],
    )
    assert compared.p[0] == 1


def test_rows_that_all_agree_are_a_sign_test() -> None:
    right, wrong = np.ones((1, 10), bool), np.zeros((1, 10), bool)
    assert compare(sample_of([right, wrong]), FIRST, SECOND).p == pytest.approx(2 / 2**10)


def simulated(
    random: np.random.Generator, models: int, runs: int, rows: int, seeds: float, gap: float = 0.0
) -> list[np.ndarray]:
    """Correct rows of models that share the rows' difficulty; `seeds` is the deviation of a run's ability."""
    difficulty = random.normal(size=rows)
    compared = []
    for model in range(models):
        ability = 1 + gap * model + seeds * random.normal(size=(runs, 1))
        compared.append(ability + random.normal(size=(runs, rows)) > difficulty)
    return compared


def truth(seeds: float) -> float:
    """The expected share of correct rows: P(1 + seeds a + e > d), all standard normal."""
    return float(stats.norm.cdf(1 / math.sqrt(2 + seeds**2)))


@pytest.mark.parametrize("runs, seeds", [(3, 0.0), (3, 0.1), (5, 0.4)], ids=["rows", "both", "seeds"])
def test_interval_over_seeds_and_rows_covers_the_truth(runs: int, seeds: float) -> None:
    """A little over the nominal 95 %, since the interaction of runs and rows counts twice."""
    random = np.random.default_rng(7)
    covered = []
    for _ in range(500):
        sample = sample_of(simulated(random, 1, runs, 150, seeds))
        low, high = interval(sample, sample.resampled.var(axis=1, ddof=1))
        covered.append(low[0] <= truth(seeds) <= high[0])
    assert 0.93 <= np.mean(covered) <= 0.995


def test_interval_over_seeds_only_would_not_cover() -> None:
    """The reason why rows are in the interval: the same runs, on the same few rows."""
    random = np.random.default_rng(8)
    intervals = [t_interval(list(simulated(random, 1, 5, 100, 0.1)[0].mean(axis=1))) for _ in range(300)]
    assert np.mean([low <= truth(0.1) <= high for low, high in intervals]) < 0.85


@pytest.mark.parametrize("runs, seeds", [(1, 0.0), (3, 0.0), (3, 0.3), (5, 0.3)])
def test_equal_models_are_called_different_in_5_percent_of_cases_at_most(runs: int, seeds: float) -> None:
    random = np.random.default_rng(9)
    samples = (sample_of(simulated(random, 2, runs, 150, seeds)) for _ in range(500))
    compared = np.mean([compare(sample, FIRST, SECOND).p[0] < 0.05 for sample in samples])
    assert compared <= 0.07  # 5 %, and two and a half standard errors of 500 trials


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(10)
    samples = (sample_of(simulated(random, 2, 3, 400, 0.1, gap=-0.8)) for _ in range(100))
    assert np.mean([compare(sample, FIRST, SECOND).p[0] < 0.05 for sample in samples]) > 0.9


def test_pairs_share_their_rows() -> None:
    """Unpaired, five points on 400 rows would be noise."""
    random = np.random.default_rng(11)
    first = random.random((1, 400)) < 0.7
    second = first.copy()
    second[0, np.flatnonzero(first[0])[:20]] = False
    compared = compare(sample_of([first, second]), FIRST, SECOND)
    assert compared.difference == pytest.approx(0.05)
    assert compared.p[0] < 0.001
    assert stats.binomtest(int(first.sum()), 400, second.mean()).pvalue > 0.01


def test_ranks_are_averaged_with_percentiles_of_resamples() -> None:
    def sample(scores: list[float], spread: float) -> Sample:
        noise = np.random.default_rng(0).normal(size=(3, 2_000))
        return Sample(
            np.array(scores), np.array(scores)[:, None] + spread * noise, 99, np.array([1, 1, 1]), np.full(3, np.nan)
        )

    clear, unclear = sample([0.9, 0.8, 0.7], 1e-4), sample([0.5, 0.5, 0.2], 1e-2)
    error = sample([1.0, 2.0, 3.0], 1e-4)
    ranks = average_ranks([clear, unclear, error], [1, 1, -1], np.random.default_rng(0))
    assert ranks.mean == pytest.approx([(1 + 1.5 + 1) / 3, (2 + 1.5 + 2) / 3, 3])
    assert ranks.low == pytest.approx([1, 5 / 3, 3])
    assert ranks.high == pytest.approx([4 / 3, 2, 3])


def test_seeds_widen_the_interval_of_a_rank() -> None:
    scores, constant = np.array([0.80, 0.79]), np.repeat([[0.80], [0.79]], 1_000, axis=1)
    single = Sample(scores, constant, 99, np.array([1, 1]), np.full(2, np.nan))
    several = single._replace(seeds=np.array([3, 3]), variances=np.array([4e-4, 4e-4]))
    assert average_ranks([single], [1], np.random.default_rng(0)).high[0] == 1
    assert average_ranks([several], [1], np.random.default_rng(0)).high[0] == 2
