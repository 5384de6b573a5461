"""Verdicts about a published value: known values, and error rates by simulation."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from harness.facts.published import RowAggregate
from harness.stats import equivalence
from harness.stats.equivalence import (
    compare_with_target,
    make_target,
    statistic_of,
    statistic_variance,
)

OURS = [62.1, 63.9, 61.5, 64.2, 63.0, 62.7]
THEIRS = np.array([64.0, 63.1, 65.2, 63.6, 64.4])


def test_welch_interval_and_one_sided_tests_are_those_of_scipy() -> None:
    target = make_target(float(THEIRS.mean()), 5, "mean", float(THEIRS.std(ddof=1)), "standard_deviation")
    result = compare_with_target(OURS, target, margin=2.0)
    expected = stats.ttest_ind(OURS, THEIRS, equal_var=False)
    assert result.difference == pytest.approx(np.mean(OURS) - THEIRS.mean())
    assert result.interval == pytest.approx(expected.confidence_interval(0.95))
    shifted = stats.ttest_ind(np.array(OURS) + 2.0, THEIRS, equal_var=False, alternative="greater")
    assert result.p == pytest.approx(shifted.pvalue)
    low, high = expected.confidence_interval(0.90)
    assert result.least_margin == pytest.approx(max(-low, high))


def test_published_value_without_spread_is_a_new_observation() -> None:
    """A single seed: the interval is the prediction interval around the mean of the runs."""
    result = compare_with_target(OURS, make_target(64.0, 1, "mean"), margin=1.0)
    half = stats.t.ppf(0.975, 5) * np.std(OURS, ddof=1) * math.sqrt(1 + 1 / 6)
    assert result.interval == pytest.approx((np.mean(OURS) - 64.0 - half, np.mean(OURS) - 64.0 + half))
    assert make_target(64.0, None, "median") == make_target(64.0, 1, "median"), "the least certain reading"


def test_meaning_of_the_number_after_plus_minus() -> None:
    errors = {
        meaning: make_target(60.0, 5, "mean", 1.0, meaning).error
        for meaning in ("standard_deviation", "standard_error", "confidence_interval", "unstated")
    }
    assert errors["standard_deviation"] == errors["unstated"] == pytest.approx(1 / math.sqrt(5))
    assert errors["standard_error"] == 1.0
    assert errors["confidence_interval"] == pytest.approx(1 / stats.t.ppf(0.975, 4))


@pytest.mark.parametrize("runs, best_of", [(5, 5), (6, 3), (4, 1)])
def test_best_of_k_is_the_mean_over_all_choices(runs: int, best_of: int) -> None:
    scores = OURS[:runs] if runs < 6 else OURS
    choices = list(itertools.combinations(scores, best_of))
    assert statistic_of(scores, "best", best_of) == pytest.approx(np.mean([max(one) for one in choices]))


def test_variance_of_the_best_is_that_of_a_largest_normal_value() -> None:
    # the variance of the largest of 5 standard normal values, Tippett 1925
    assert statistic_variance(5, "best", 5) == pytest.approx(0.4475, abs=0.002)
    assert statistic_variance(5, "mean", 5) == 0.2
    assert statistic_variance(1, "best", 1) == pytest.approx(1.0, abs=0.005)


def test_verdicts() -> None:
    exact = make_target(63.0, 5, "mean", 0.0, "standard_error")
    narrow = [62.9, 63.1, 63.3, 63.0]
    assert compare_with_target(narrow, exact, 1.0).verdict == "agrees"
    assert compare_with_target([one + 3 for one in narrow], exact, 1.0).verdict == "differs"
    wide = compare_with_target([61.0, 65.0], exact, 1.0)
    assert wide.verdict == "cannot tell"
    significant = compare_with_target([one + 0.4 for one in narrow], exact, 1.0)
    assert significant.interval.low > 0
    assert significant.verdict == "agrees", "a difference that is smaller than the margin"


def test_runs_without_spread_decide_by_the_margin() -> None:
    target = make_target(56.34, 1, "mean")
    assert compare_with_target([56.338, 56.338], target, 1.0).verdict == "agrees"
    assert compare_with_target([50.0, 50.0], target, 1.0).verdict == "differs"


def test_seeds_to_tell_grow_with_the_spread_and_may_be_too_few_for_any_number() -> None:
    exact = make_target(63.0, 5, "mean", 0.0, "standard_error")
    numbers = []
    for spread in (0.9, 1.8):
        result = compare_with_target([63 - spread, 63 + spread, 63.0], exact, 1.0)
        assert result.verdict == "cannot tell"
        numbers.append(result.seeds_to_tell or 0)
    assert 3 < numbers[0] < numbers[1] <= 100
    single = make_target(63.0, 1, "mean")
    assert compare_with_target([61.5, 64.5, 63.0], single, 1.0).seeds_to_tell is None


def test_seeds_to_tell_give_a_verdict_as_often_as_promised() -> None:
    exact, random = make_target(63.0, 5, "mean", 0.2, "standard_error"), np.random.default_rng(0)
    first = compare_with_target([61.8, 64.2, 63.0], exact, 1.0)  # s = 1.2, no difference
    number = first.seeds_to_tell
    assert number is not None
    rounds = [compare_with_target(list(random.normal(63.0, 1.2, number)), exact, 1.0).verdict for _ in range(500)]
    assert np.mean([verdict != "cannot tell" for verdict in rounds]) > 0.75


ROUNDS = 1500

SETTINGS: list[tuple[int, int, RowAggregate, bool]] = [
    (5, 5, "mean", True),
    (3, 5, "mean", True),
    (5, 1, "mean", False),
    (5, 5, "median", True),
    (5, 5, "best", False),
    (10, 5, "best", False),
]
"""Our runs, published runs, the aggregate, and whether a standard deviation is published."""


def simulate(setting: tuple[int, int, RowAggregate, bool], shift: float, margin: float, seed: int) -> Counter[str]:
    """Verdicts when the published scores have the same spread of 1 point and are lower by `shift`."""
    runs, published, aggregate, has_spread = setting
    random, verdicts = np.random.default_rng(seed), Counter[str]()
    for _ in range(ROUNDS):
        theirs = random.standard_normal(published)
        value = statistic_of(list(theirs), aggregate, published)
        deviation = float(theirs.std(ddof=1)) if has_spread else None
        target = make_target(value, published, aggregate, deviation, "standard_deviation")
        result = compare_with_target(list(random.standard_normal(runs) + shift), target, margin)
        verdicts[result.verdict] += 1
        verdicts["covered"] += result.interval.low <= shift <= result.interval.high
    return verdicts


@pytest.mark.parametrize("setting", SETTINGS)
def test_error_rates_keep_their_promise(
    setting: tuple[int, int, RowAggregate, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 5 % false verdicts, plus three standard errors of the simulation; intervals cover 95 %."""
    monkeypatch.setattr(equivalence, "_seeds_to_tell", lambda *_: None)  # most of the time, and no part of a verdict
    limit = ROUNDS * (0.05 + 3 * math.sqrt(0.05 * 0.95 / ROUNDS))
    equal = simulate(setting, 0.0, 1.0, 1)
    assert equal["differs"] <= limit
    assert equal["covered"] >= ROUNDS - limit
    assert simulate(setting, 2.0, 2.0, 2)["agrees"] <= limit, "a difference as large as the margin"
