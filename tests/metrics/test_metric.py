"""The forms of each metric agree: resamples equal the value on repeated rows, influences are its slopes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.metrics.classification import ACCURACY, LabelCounts
from harness.metrics.metric import Floats, Resamples, Undefined
from harness.metrics.registry import METRICS
from harness.metrics.regression import WeightedValues

ROWS, CLASSES = 41, {"two classes": 2, "four classes": 4}
KINDS = {
    "single_label_classification": [*CLASSES],
    "regression": ["values"],
    "multi_label_classification": ["label sets"],
}
CASES = [
    (name, kind)
    for name, metric in METRICS.items()
    for problem_type in metric.problem_types
    for kind in KINDS[problem_type]
    if (name, kind) != ("f1", "four classes")
]


def labels(kind: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Gold labels with ties, and predictions of groups of 1, 3 and 2 runs, of which some are tied too."""
    random = np.random.default_rng(1)
    if kind == "values":
        gold = np.round(random.random(ROWS) * 5, 0)
        groups = [gold + random.normal(size=(runs, ROWS)) for runs in (1, 3, 2)]
        groups[1][0] = np.round(groups[1][0])
        return gold, groups
    shape = (ROWS, 3) if kind == "label sets" else (ROWS,)
    gold = random.integers(CLASSES.get(kind, 2), size=shape)
    guesses = [random.integers(CLASSES.get(kind, 2), size=(runs, *shape)) for runs in (1, 3, 2)]
    return gold, [np.where(random.random(guess.shape) < 0.5, gold, guess) for guess in guesses]


def resamples_of(kind: str) -> Resamples:
    gold, groups = labels(kind)
    return (WeightedValues if kind == "values" else LabelCounts)(groups, gold)


def weights(resamples: int) -> np.ndarray:
    return np.random.default_rng(2).multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=resamples)


@pytest.mark.parametrize("name, kind", CASES)
def test_resampled_value_is_that_of_the_repeated_rows(name: str, kind: str) -> None:
    gold, groups = labels(kind)
    rows = resamples_of(kind)
    for block in np.split(weights(12), 3):
        rows.weigh(block)
        scores = METRICS[name].on_resamples(rows)
        assert scores.shape == (len(block), len(groups))
        for sample, counts in enumerate(block):
            at = np.repeat(np.arange(ROWS), counts)
            expected = [np.mean([METRICS[name].value(run[at], gold[at]) for run in runs]) for runs in groups]
            assert scores[sample] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name, kind", CASES)
def test_value_is_computed_on_each_resample_where_a_metric_has_no_resampled_form(name: str, kind: str) -> None:
    rows = resamples_of(kind)
    rows.weigh(weights(5))
    metric = METRICS[name]
    slow = dataclasses.replace(metric, resampled=None).on_resamples(rows)
    assert slow == pytest.approx(metric.on_resamples(rows), abs=1e-12)


def test_undefined_resamples_are_nan() -> None:
    rows = LabelCounts([np.array([[0, 0, 0], [0, 1, 1]])], np.array([0, 1, 1]))
    rows.weigh(np.array([[3, 0, 0], [1, 1, 1]]))
    metric = METRICS["matthews_correlation"]
    with pytest.raises(Undefined):
        metric.value(np.array([0, 0, 0]), np.array([0, 0, 0]))
    for form in (metric, dataclasses.replace(metric, resampled=None)):
        assert np.isnan(form.on_resamples(rows)[0])
        assert form.on_resamples(rows)[1] == (0 + 1) / 2


def slope(name: str, kind: str, run: np.ndarray, gold: np.ndarray, row: int) -> float:
    """The derivative by the weight of a row, by a small difference; all other weights change by as much in total."""
    values = []
    for change in (1e-4, -1e-4):
        rows = (WeightedValues if kind == "values" else LabelCounts)([run[None]], gold)
        counts: Floats = np.full((1, ROWS), 1 - change)
        counts[0, row] += change * ROWS
        rows.weigh(counts)
        rows.weights = counts  # not rounded to float32
        values.append(float(METRICS[name].on_resamples(rows)[0, 0]))
    return (values[0] - values[1]) / 2e-4


@pytest.mark.parametrize("run", [0, 1], ids=["ties", "distinct"])
@pytest.mark.parametrize("name, kind", CASES)
def test_influence_is_the_slope_of_the_metric(name: str, kind: str, run: int) -> None:
    gold, groups = labels(kind)
    influence = METRICS[name].influence
    assert influence is not None
    influences = influence(groups[1][run], gold)
    assert influences.mean() == pytest.approx(0, abs=1e-12)
    for row in (0, 5, 17):
        assert influences[row] == pytest.approx(slope(name, kind, groups[1][run], gold, row), abs=1e-3), row


def test_direction_is_minus_1_for_errors() -> None:
    assert {name for name, metric in METRICS.items() if metric.lower_is_better} == {
        "mse",
        "rmse",
        "mae",
        "hamming_loss",
    }
    assert (METRICS["mse"].direction, ACCURACY.direction) == (-1, 1)
