"""The forms of each metric agree: resamples equal the value on repeated rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.metrics.classification import ACCURACY, LabelCounts
from harness.metrics.metric import Resamples, Undefined
from harness.metrics.registry import METRICS
from harness.metrics.regression import WeightedValues

ROWS, CLASSES = 41, {"two classes": 2, "four classes": 4}
KINDS = {
    "single_label_classification": [*CLASSES],
    "regression": ["values"],
    "multi_label_classification": ["label sets"],
    "multiple_choice": [],
    "answer_selection": [],
}
CASES = [
    (name, kind)
    for name, metric in METRICS.items()
    for problem_type in metric.problem_types
    for kind in KINDS[problem_type]
    if (name, kind) != ("f1", "four classes") and not metric.is_over_groups
]


def labels(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels with ties, and predictions of four runs, of which some are tied too; one class is never gold."""
    random = np.random.default_rng(1)
    if kind == "values":
        gold = np.round(random.random(ROWS) * 5, 0)
        runs = gold + random.normal(size=(4, ROWS))
        runs[1] = np.round(runs[1])
        return gold, runs
    shape = (ROWS, 3) if kind == "label sets" else (ROWS,)
    gold = random.integers(CLASSES.get(kind, 2), size=shape)
    guesses = random.integers(CLASSES.get(kind, 2), size=(4, *shape))
    gold = np.where(gold == 3, 2, gold)
    return gold, np.where(random.random(guesses.shape) < 0.5, gold, guesses)


def resamples_of(kind: str) -> Resamples:
    gold, runs = labels(kind)
    return (WeightedValues if kind == "values" else LabelCounts)(runs, gold)


def weights(resamples: int) -> np.ndarray:
    return np.random.default_rng(2).multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=resamples)


@pytest.mark.parametrize("name, kind", CASES)
def test_resampled_value_is_that_of_the_repeated_rows(name: str, kind: str) -> None:
    gold, runs = labels(kind)
    rows = resamples_of(kind)
    for block in np.split(weights(12), 3):
        rows.weigh(block)
        scores = METRICS[name].on_resamples(rows)
        assert scores.shape == (len(block), len(runs))
        for sample, counts in enumerate(block):
            at = np.repeat(np.arange(ROWS), counts)
            expected = [METRICS[name].value(run[at], gold[at]) for run in runs]
            assert scores[sample] == pytest.approx(expected, abs=1e-12)
        rows.weigh(3 * block)
        assert METRICS[name].on_resamples(rows) == pytest.approx(scores, abs=1e-12), "weights need not sum to N"


@pytest.mark.parametrize("name, kind", CASES)
def test_value_is_computed_on_each_resample_where_a_metric_has_no_resampled_form(name: str, kind: str) -> None:
    rows = resamples_of(kind)
    rows.weigh(weights(5))
    metric = METRICS[name]
    slow = dataclasses.replace(metric, resampled=None).on_resamples(rows)
    assert slow == pytest.approx(metric.on_resamples(rows), abs=1e-12)


def test_undefined_resamples_are_nan() -> None:
    rows = LabelCounts(np.array([[0, 0, 0], [0, 1, 1]]), np.array([0, 1, 1]))
    rows.weigh(np.array([[3, 0, 0], [1, 1, 1]]))
    metric = METRICS["matthews_correlation"]
    with pytest.raises(Undefined):
        metric.value(np.array([0, 0, 0]), np.array([0, 0, 0]))
    for form in (metric, dataclasses.replace(metric, resampled=None)):
        assert np.isnan(form.on_resamples(rows)[0]).all()
        assert form.on_resamples(rows)[1].tolist() == [0, 1]


def test_direction_is_minus_1_for_errors() -> None:
    assert {name for name, metric in METRICS.items() if metric.lower_is_better} == {
        "mse",
        "rmse",
        "mae",
        "hamming_loss",
    }
    assert (METRICS["mse"].direction, ACCURACY.direction) == (-1, 1)
