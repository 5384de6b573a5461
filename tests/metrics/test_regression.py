"""Metrics of values against scipy, scikit-learn and values calculated by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from harness.metrics.metric import Undefined
from harness.metrics.registry import METRICS

NAMES = [name for name, metric in METRICS.items() if metric.problem_types == ("regression",)]


def value(name: str, predictions: Any, gold: Any) -> float:
    return METRICS[name].value(np.asarray(predictions, np.float64), np.asarray(gold, np.float64))


@pytest.mark.parametrize("rows", [2, 7, 33, 1000])
def test_metrics_equal_those_of_scipy_and_scikit_learn(rows: int) -> None:
    generator = np.random.default_rng(rows)
    predictions = generator.normal(2.5, 1, size=rows)
    gold = np.round(generator.uniform(0, 5, size=rows), 1)  # with ties
    gold[:2] = 1.0, 3.2
    expected = {
        "pearson": stats.pearsonr(predictions, gold)[0],
        "spearman": stats.spearmanr(predictions, gold)[0],
        "mse": sklearn.metrics.mean_squared_error(gold, predictions),
        "rmse": sklearn.metrics.root_mean_squared_error(gold, predictions),
        "mae": sklearn.metrics.mean_absolute_error(gold, predictions),
    }
    assert set(expected) == set(NAMES)
    assert {name: value(name, predictions, gold) for name in NAMES} == pytest.approx(expected, abs=1e-12)


def test_every_metric_by_hand() -> None:
    assert {name: value(name, [1, 2, 3], [1, 3, 2]) for name in NAMES} == pytest.approx(
        {"pearson": 0.5, "spearman": 0.5, "mse": 2 / 3, "rmse": math.sqrt(2 / 3), "mae": 2 / 3}
    )


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlation_of_opposites_is_minus_1(name: str) -> None:
    assert value(name, [1, 2, 4], [-1, -2, -4]) == pytest.approx(-1)


def test_spearman_depends_on_the_order_only() -> None:
    assert value("spearman", [1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)


@pytest.mark.parametrize(
    "predictions, gold, constant",
    [
        ([2.5, 2.5, 2.5], [1, 2, 3], "predictions"),
        ([1, 2, 3], [2.5, 2.5, 2.5], "gold"),
        ([2.5], [2.5], "predictions"),
    ],
)
@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlation_with_a_constant_is_undefined(
    name: str, predictions: list[float], gold: list[float], constant: str
) -> None:
    with pytest.raises(Undefined, match=constant):
        value(name, predictions, gold)
