"""Statistics: by hand, against scipy, and against simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.resampling import resampled
from harness.stats.uncertainty import (
    Aggregate,
    Sample,
    aggregated,
    best_set,
    compare,
    holm,
    mean_interval,
    ranks,
    row_intervals,
    sample_of,
    seed_factor,
    t_interval,
    total_intervals,
)

FIRST, SECOND = np.array([0]), np.array([1])


def accuracy_sample(correct: list[np.ndarray], resamples: int = 400, aggregate: Aggregate = "mean") -> Sample:
    """correct: correct rows of each model, bool[runs, N]. All models compete."""
    runs, rows = np.concatenate(correct).astype(int), correct[0].shape[1]
    drawn = resampled(["accuracy"], runs, np.ones(rows, int), "x", resamples)
    by_model = np.split(drawn, np.cumsum([len(one) for one in correct])[:-1])
    parts = np.array([aggregated(one, aggregate) for one in by_model])
    scores = [list(one.mean(axis=1)) for one in correct]
    return sample_of(scores, parts, rows, True, [0] * len(scores), [True] * len(scores), aggregate)


def rowless_sample(*scores: list[float]) -> Sample:
    """Models whose scores do not depend on the rows."""
    constant = np.repeat([[np.mean(one)] for one in scores], 10, axis=1)
    return sample_of(scores, constant, 100, True, [0] * len(scores), [True] * len(scores))


def test_t_interval_of_three_by_hand() -> None:
    low, high = t_interval([0.80, 0.82, 0.84])
    assert (low, high) == pytest.approx((0.82 - 4.302653 * 0.02 / math.sqrt(3), 0.82 + 4.302653 * 0.02 / math.sqrt(3)))
    expected = stats.t.interval(0.95, 2, loc=0.82, scale=stats.sem([0.80, 0.82, 0.84]))
    assert (low, high) == pytest.approx(expected)


def test_variance_of_a_median_is_that_of_the_middle_of_normal_values() -> None:
    """The values for 3 and 5 are in tables of order statistics (Sarhan and Greenberg 1956)."""
    assert seed_factor(3, "median") == pytest.approx(0.4487, rel=0.005)
    assert seed_factor(5, "median") == pytest.approx(0.2868, rel=0.005)
    assert seed_factor(2, "median") == seed_factor(2, "mean") == 0.5
    low, high = t_interval([0.70, 0.82, 0.84], "median")
    assert (low + high) / 2 == pytest.approx(0.82)
    half = 4.302653 * np.std([0.70, 0.82, 0.84], ddof=1) * math.sqrt(0.4487)
    assert (high - low) / 2 == pytest.approx(half, rel=0.005)


def test_one_run_has_no_interval_over_seeds() -> None:
    assert t_interval([0.8]) is None


def test_holm_by_hand() -> None:
    """Holm's own order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and no p below a smaller one's."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


A, B = [0.80, 0.82, 0.84], [0.75, 0.79, 0.74, 0.76]


def test_several_runs_without_row_variance_are_compared_by_welch() -> None:
    compared, expected = compare(rowless_sample(A, B), FIRST, SECOND), stats.ttest_ind(A, B, equal_var=False)
    assert compared.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (compared.low[0], compared.high[0]) == pytest.approx((ends.low, ends.high))
    assert not compared.is_over_rows_only[0]


@pytest.mark.parametrize("borrower", [[0.7], [0.70, 0.72]])
def test_one_or_two_runs_are_lent_the_spread_of_the_column(borrower: list[float]) -> None:
    """Student's test with the variance pooled over all groups, whose degrees of freedom add up."""
    groups = [A, B, borrower]
    freedom = sum(len(one) - 1 for one in groups)
    pooled = sum((len(one) - 1) * np.var(one, ddof=1) for one in groups if len(one) > 1) / freedom
    sample = rowless_sample(*groups)
    assert sample.pooled == pytest.approx(pooled)
    low, high = total_intervals(sample)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(pooled / len(borrower))
    assert (low[2], high[2]) == pytest.approx((np.mean(borrower) - half, np.mean(borrower) + half))
    low, high = (ends[0] for ends in total_intervals(sample))
    assert (low, high) == pytest.approx(tuple(t_interval(A) or ()))


def test_two_borrowers_share_one_estimate() -> None:
    sample = rowless_sample([0.7], [0.75], A)
    expected = 2 * stats.t.sf(0.05 / math.sqrt(np.var(A, ddof=1) * 2), 2)
    assert compare(sample, FIRST, SECOND).p == pytest.approx(expected)
    assert compare(sample, SECOND, FIRST).difference == pytest.approx(0.05)


def test_models_of_different_pools_are_compared_with_the_freedom_of_the_borrower() -> None:
    """The first has its own variance, and nobody in its pool lends to the second."""
    constant = np.repeat([[np.mean(A)], [0.7], [np.mean(B)]], 10, axis=1)
    sample = sample_of([A, [0.7], B], constant, 100, True, ["a", "b", "b"], [True, True, True])
    parts = np.var(A, ddof=1) / 3, np.var(B, ddof=1)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    expected = 2 * stats.t.sf(abs(np.mean(A) - 0.7) / math.sqrt(sum(parts)), freedom)
    for pair in ((FIRST, SECOND), (SECOND, FIRST)):
        assert compare(sample, *pair).p == pytest.approx(expected)


def test_models_of_another_pool_lend_nothing_and_unlike_ones_only_without_others() -> None:
    constant = np.full((3, 10), 0.5)
    separate = sample_of([A, B, [0.7]], constant, 100, True, ["a", "b", "b"], [True, True, True])
    assert separate.pooled[2] == pytest.approx(np.var(B, ddof=1))
    unlike = sample_of([A, B, [0.7]], constant, 100, True, ["b", "b", "b"], [True, False, True])
    assert unlike.pooled[2] == pytest.approx(np.var(A, ddof=1))
    only_unlike = sample_of([A, B, [0.7]], constant, 100, True, ["a", "b", "b"], [True, False, True])
    assert only_unlike.pooled[2] == pytest.approx(np.var(B, ddof=1))


def test_without_two_runs_anywhere_everything_is_over_rows_only() -> None:
    correct = np.random.default_rng(0).random((2, 1, 200)) < 0.7
    sample = accuracy_sample(list(correct))
    assert np.array_equal(total_intervals(sample), row_intervals(sample))
    assert compare(sample, FIRST, SECOND).is_over_rows_only.all()
    assert best_set(sample, 1, np.random.default_rng(0)) is None


def test_a_perfect_score_is_uncertain() -> None:
    sample = accuracy_sample([np.ones((3, 50), bool), np.ones((1, 50), bool)], resamples=10_000)
    low, high = total_intervals(sample)
    assert low == pytest.approx(stats.beta(50.5, 0.5).ppf(0.025), abs=0.005)
    assert high == pytest.approx([1, 1])


@pytest.mark.parametrize("is_right", [True, False])
def test_interval_over_rows_has_its_score(is_right: bool) -> None:
    sample = accuracy_sample([np.full((1, 50), is_right)], resamples=10_000)
    expected = (stats.beta(50.5, 0.5).ppf(0.025), 1) if is_right else (0, stats.beta(0.5, 50.5).ppf(0.975))
    for low, high in (row_intervals(sample), total_intervals(sample)):
        assert (low[0], high[0]) == pytest.approx(expected, abs=0.005)
        assert low[0] <= sample.scores[0] <= high[0]


def test_interval_of_a_biased_resample_is_shifted_to_the_score() -> None:
    drawn = np.random.default_rng(0).normal(0.6, 0.1, size=(1, 4_000))
    sample = sample_of([[0.7]], drawn, 50, False, [0], [True])
    low, high = row_intervals(sample)
    assert (low[0], high[0]) == pytest.approx((0.7 - 0.196, 0.7 + 0.196), abs=0.01)


def test_equal_models_have_p_1() -> None:
    correct = np.random.default_rng(0).random((2, 50)) < 0.7
    compared = compare(accuracy_sample([correct, correct]), FIRST, SECOND)
    assert compared.difference[0] == 0
    assert compared.low[0] == pytest.approx(-compared.high[0])
    assert compared.p[0] == 1


@pytest.mark.parametrize("exponent", [-200, -30, -10, 20, 166])
def test_the_unit_of_an_error_changes_no_verdict(exponent: int) -> None:
    """Values in metres or in kilometres: powers of two, so that the scores are the same to the last bit."""
    random, unit = np.random.default_rng(3), 2.0**exponent
    gold = random.random(1_000)
    predictions = [gold + random.normal(size=(2, 1_000)) * noise for noise in (0.1, 0.101, 0.13)]
    samples = []
    for size in (1.0, unit):
        runs = [[float(np.mean((size * (run - gold)) ** 2)) for run in one] for one in predictions]
        drawn = resampled(["mse"], size * np.concatenate(predictions), size * gold, "x", 400).reshape(3, 2, -1)
        samples.append(sample_of(runs, drawn.mean(axis=1), 1_000, False, [0] * 3, [True] * 3))
    (expected, scaled), (first, second) = samples, np.triu_indices(3, 1)
    for pairs in ((first, second), (first[:1], second[:1]), (np.tile(first, 2), np.tile(second, 2))):
        assert compare(scaled, *pairs).p.tolist() == compare(expected, *pairs).p.tolist()
        assert (compare(scaled, *pairs).difference / unit**2).tolist() == compare(expected, *pairs).difference.tolist()
    members = [best_set(sample, -1, np.random.default_rng(1)) for sample in (expected, scaled)]
    assert np.array_equal(*members)


def test_scores_that_differ_by_rounding_are_equal() -> None:
    """The mean of the same runs in another order, around 0 and of large errors."""
    for scores in ([0.3, -0.1, -0.2], [935072423.8, 815853554.1, 2738500.2]):
        drawn = np.array(scores)[:, None] * np.random.default_rng(0).normal(1, 0.1, size=(3, 400))
        orders = [scores, scores[::-1], [scores[1], scores[2], scores[0]]]
        by_order = [drawn.mean(axis=0), drawn[::-1].mean(axis=0), drawn[[1, 2, 0]].mean(axis=0)]
        sample = sample_of(orders, np.array(by_order), 400, False, [0] * 3, [True] * 3)
        assert len({float(np.mean(one)) for one in orders}) > 1
        first, second = np.triu_indices(3, 1)
        assert compare(sample, first, second).difference.tolist() == [0.0] * 3
        constant = sample._replace(own=np.zeros(3), pooled=np.zeros(3))
        assert compare(constant, first, second).p.tolist() == [1.0] * 3


def test_rows_that_all_agree_are_a_sign_test() -> None:
    constant = np.repeat([[1.0], [0.0]], 10, axis=1)
    sample = sample_of([[1.0], [0.0]], constant, 10, True, [0, 0], [True, True])
    assert compare(sample, FIRST, SECOND).p == pytest.approx(2 / 2**10)


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
    random = np.random.default_rng(7)
    covered = []
    for _ in range(400):
        low, high = total_intervals(accuracy_sample(simulated(random, 1, runs, 150, seeds)))
        covered.append(low[0] <= truth(seeds) <= high[0])
    assert 0.92 <= np.mean(covered) <= 0.99  # 95 %, and two and a half standard errors of 400 trials


def test_interval_of_a_median_covers_the_truth() -> None:
    random = np.random.default_rng(9)
    covered = []
    for _ in range(400):
        low, high = total_intervals(accuracy_sample(simulated(random, 1, 5, 150, 0.2), 300, "median"))
        covered.append(low[0] <= float(stats.norm.cdf(1 / math.sqrt(2))) <= high[0])
    assert 0.92 <= np.mean(covered) <= 0.99


def test_lent_spread_covers_the_truth_where_a_single_run_would_not() -> None:
    random = np.random.default_rng(8)
    lent, alone = [], []
    for _ in range(300):
        every = simulated(random, 4, 3, 400, 0.2)
        for covered, others in ((lent, every[1:]), (alone, [])):
            low, high = total_intervals(accuracy_sample([every[0][:1], *others], resamples=300))
            covered.append(low[0] <= truth(0.2) <= high[0])
    assert 0.92 <= np.mean(lent) <= 0.985
    assert np.mean(alone) < 0.75


@pytest.mark.parametrize("runs, seeds", [((1, 1), 0.3), ((1, 3), 0.3), ((3, 3), 0.0), ((3, 3), 0.3), ((5, 5), 0.3)])
def test_equal_models_are_called_different_in_5_percent_of_cases(runs: tuple[int, int], seeds: float) -> None:
    random = np.random.default_rng(9)
    significant = []
    for _ in range(400):
        first, second, *others = simulated(random, 4, 5, 150, seeds)
        sample = accuracy_sample([first[: runs[0]], second[: runs[1]], *(one[:3] for one in others)], resamples=300)
        significant.append(compare(sample, FIRST, SECOND).p[0] < 0.05)
    assert np.mean(significant) <= 0.08  # 5 %, and two and a half standard errors of 400 trials


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(10)
    samples = (accuracy_sample(simulated(random, 2, 3, 400, 0.1, gap=-0.8)) for _ in range(100))
    assert np.mean([compare(sample, FIRST, SECOND).p[0] < 0.05 for sample in samples]) > 0.9


def test_pairs_share_their_rows() -> None:
    """Unpaired, five points on 400 rows would be noise."""
    random = np.random.default_rng(11)
    first = random.random((1, 400)) < 0.7
    second = first.copy()
    second[0, np.flatnonzero(first[0])[:20]] = False
    compared = compare(accuracy_sample([first, second]), FIRST, SECOND)
    assert compared.difference == pytest.approx(0.05)
    assert compared.p[0] < 0.001
    assert stats.binomtest(int(first.sum()), 400, second.mean()).pvalue > 0.01


def test_set_of_the_best_keeps_the_best_in_95_percent_of_cases() -> None:
    random = np.random.default_rng(12)
    excluded = []
    for _ in range(150):
        members = best_set(accuracy_sample(simulated(random, 5, 3, 150, 0.2), resamples=300), 1, random)
        assert members is not None
        excluded.append(~members)
    assert np.mean(excluded) <= 0.07  # 5 %, and two standard errors of 150 trials of five dependent models


def test_set_of_the_best_excludes_models_that_are_clearly_worse() -> None:
    random = np.random.default_rng(13)
    groups = simulated(random, 4, 3, 800, 0.05, gap=-0.25)
    for direction, expected in ((1, [True, False, False, False]), (-1, [False, False, False, True])):
        members = best_set(accuracy_sample(groups), direction, random)
        assert members is not None
        assert members.tolist() == expected


def test_set_of_the_best_is_that_of_all_quantiles() -> None:
    """Models far below the best need no quantile of their own; the set equals that of the definition."""
    sizes = set()
    for seed in range(20):
        random = np.random.default_rng(seed)
        sample = accuracy_sample(simulated(random, 6, 3, 300, 0.1, gap=0.4 * random.random()), resamples=300)
        members = best_set(sample, 1, np.random.default_rng(1))
        assert members is not None
        noise = np.random.default_rng(1)
        drawn = sample.resampled - sample.resampled.mean(axis=1, keepdims=True)
        over_seeds, freedom = sample.pooled * sample.seed_factor, sample.pooled_freedom[0]
        errors = noise.standard_normal(drawn.shape) * np.sqrt(over_seeds)[:, None]
        drawn += errors / np.sqrt(noise.chisquare(freedom, drawn.shape[1]) / freedom)
        for model in range(6):
            others = [other for other in range(6) if other != model]
            over_rows = [np.var(sample.resampled[other] - sample.resampled[model], ddof=1) for other in others]
            error = np.sqrt(np.array(over_rows) + over_seeds[others] + over_seeds[model])
            quantile = np.quantile(((drawn[others] - drawn[model]) / error[:, None]).max(axis=0), 0.95)
            assert members[model] == (max((sample.scores[others] - sample.scores[model]) / error) <= quantile)
        sizes.add(int(members.sum()))
    assert len(sizes) > 2, "models near the best and far below it"


def test_a_few_pairs_are_compared_as_among_all() -> None:
    sample = accuracy_sample(simulated(np.random.default_rng(5), 5, 3, 200, 0.2))
    first, second = np.triu_indices(5, 1)
    some, all_pairs = compare(sample, first[2:5], second[2:5]), compare(sample, first, second)
    for name in ("difference", "low", "high", "p", "is_over_rows_only"):  # p_holm is that of the family
        assert getattr(some, name) == pytest.approx(getattr(all_pairs, name)[2:5], rel=1e-9)


def test_models_without_any_variance_are_ranked_by_their_scores() -> None:
    members = best_set(rowless_sample([0.8, 0.8], [0.8, 0.8], [0.7, 0.7]), 1, np.random.default_rng(0))
    assert members is not None
    assert members.tolist() == [True, True, False]


def test_mean_of_independent_scores_by_hand() -> None:
    low, high = mean_interval([0.5, 0.7], [(0.01, 100.0), (0.03, 100.0)])
    freedom = 0.01**2 / ((0.0025**2 + 0.0075**2) / 100)
    half = stats.t.ppf(0.975, freedom) * 0.1
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half))


def test_equal_values_share_a_rank() -> None:
    assert ranks(np.array([0.5, 0.2, 0.5, 0.9])).tolist() == [2.5, 1, 2.5, 4]


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e9])
def test_values_that_differ_by_rounding_share_a_rank(unit: float) -> None:
    assert ranks(unit * np.array([0.1 + 0.2, 0.3, 0.2])).tolist() == [2.5, 2.5, 1]
