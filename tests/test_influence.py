"""Influence of rows: the derivative of the metric, and resamples close to those computed anew."""

from __future__ import annotations

import numpy as np
import pytest
from test_resampling import CLASSES, VALUES, classes, values

from harness.stats.influence import INFLUENCES, deviations
from harness.stats.resampling import _Counts, _Values, resampled


def slope(name: str, run: np.ndarray, gold: np.ndarray, row: int) -> float:
    """Of the metric as a row counts more and all others as much less, by a small difference."""
    found = []
    for more in (1e-4, -1e-4):
        kind = _Counts if gold.dtype.kind in "iu" else _Values
        computed = kind([run[None]], gold)
        weights = np.full((1, len(gold)), 1 - more)
        weights[0, row] += more * len(gold)
        computed.weigh(weights)
        computed.weights = weights  # not rounded to float32
        found.append(float(computed.mean_over_runs(name)[0, 0]))
    return (found[0] - found[1]) / 2e-4


@pytest.mark.parametrize(
    "name, count", [(name, 2) for name in CLASSES] + [(name, 4) for name in CLASSES if name != "f1"]
)
def test_influence_is_the_slope_of_a_metric_of_classes(name: str, count: int) -> None:
    gold, groups = classes(count)
    _check(name, groups[1][0], gold)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("run", [0, 1], ids=["ties", "distinct"])
def test_influence_is_the_slope_of_a_metric_of_values(name: str, run: int) -> None:
    gold, groups = values()
    _check(name, groups[1][run], gold)


def _check(name: str, run: np.ndarray, gold: np.ndarray) -> None:
    influences = INFLUENCES[name](run, gold)
    assert influences.mean() == pytest.approx(0, abs=1e-12)
    for row in (0, 5, 17):
        assert influences[row] == pytest.approx(slope(name, run, gold, row), abs=1e-3), row


def test_every_metric_that_can_be_resampled_has_one() -> None:
    assert {*CLASSES, *VALUES} == set(INFLUENCES)


@pytest.mark.parametrize("name", ["matthews_correlation", "f1", "accuracy", "pearson", "spearman"])
def test_resamples_are_close_to_those_computed_anew(name: str) -> None:
    random = np.random.default_rng(0)
    if name in VALUES:
        gold = np.round(random.random(400) * 5, 1)
        groups = [gold + random.normal(size=(2, 400)) for _ in range(2)]
    else:
        gold = random.integers(2, size=400)
        groups = [np.where(random.random((2, 400)) < 0.8, gold, 1 - gold) for _ in range(2)]
    exact, near = (draw([name], groups, gold, "x", 500) for draw in (resampled, deviations))
    assert np.abs(near.mean(axis=1)).max() < 0.01
    assert near.shape == exact.shape
    assert np.corrcoef(exact[0], near[0])[0, 1] > 0.98
    assert near.std(axis=1) == pytest.approx(exact.std(axis=1), rel=0.05)


def test_one_class_throughout_has_no_influence() -> None:
    gold, alike = np.array([0, 1, 1]), np.zeros((1, 3), int)
    assert deviations(["matthews_correlation"], [alike], gold, "x", 4).tolist() == [[0, 0, 0, 0]]
