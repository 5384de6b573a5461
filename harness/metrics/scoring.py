"""Scores of the model become predictions, and predictions metrics: values, thresholds, losses and baselines.

An undefined value is None with a reason, never NaN and never an invented 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.metrics.answers import positions_in_groups, select_rows
from harness.metrics.metric import Undefined
from harness.metrics.registry import METRICS, load_metric

THRESHOLD = 0.5
"""Default probability from which a label of a set is predicted."""


class Scored(NamedTuple):
    """Metric values by name, with a reason for each that is None."""

    values: dict[str, float | None]
    notes: dict[str, str]


def predictions_from_scores(
    scores: NDArray[np.float32], threshold: float | None = None, questions: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """scores: float32[N, C] -> the class with the highest score, int64[N]; for C = 1 the value itself, float64[N].

    With a threshold, sets of labels, int64[N, C]: 1 where the sigmoid of a score is at least that probability. With the
    number of each row's question, [N], in a selection of answers: 1 for the row of each question that is most probably
    of class 1, and 0 for the others.
    """
    if questions is not None:
        return select_rows(scores[:, 1] - scores[:, 0], questions)
    if threshold is not None:
        return (scores >= np.float32(math.log(threshold / (1 - threshold)))).astype(np.int64)
    if scores.shape[1] == 1:
        return scores[:, 0].astype(np.float64)
    return np.asarray(scores.argmax(axis=1), np.int64)


def score(
    names: Sequence[str],
    scores: NDArray[np.float32],
    gold: NDArray[Any],
    threshold: float | None = None,
    row_groups: NDArray[np.int64] | None = None,
    selects_answers: bool = False,
) -> Scored:
    """Every named metric of scores: float32[N, C], all finite, against gold [N] (class numbers; values when C = 1).

    Gold sets of labels, [N, C], need a threshold, and metrics over groups the number of each row's group, [N]; where
    answers are selected, one row of each group is predicted and gold labels are agreements. A metric of `evaluate` that
    returns several numbers contributes each under its own name.

    Raises:
        UserError: a metric is unknown or does not accept this kind of label.
    """
    assert len(scores) == len(gold) > 0, (len(scores), len(gold))
    assert np.isfinite(scores).all()  # argmax takes the position of a NaN for a prediction
    predictions = predictions_from_scores(scores, threshold, row_groups if selects_answers else None)
    assert predictions.shape == gold.shape, (predictions.shape, gold.shape)
    problem_type = None if threshold is None else "multi_label_classification"
    values: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for name in names:
        columns: dict[str, Any] = {"predictions": predictions, "references": gold}
        if name in METRICS and METRICS[name].is_over_groups:
            columns["row_groups"] = row_groups
        metric = load_metric(name, problem_type)
        try:
            numbers = _numbers(metric.compute(**columns))
        except Undefined as reason:
            values[name], notes[name] = None, f"undefined: {reason}"
            continue
        except Exception as error:  # a metric of evaluate is a program, perhaps of the user
            if name in METRICS:
                raise
            raise UserError(
                f"metric {name!r} of evaluate is unsupported for this task: {type(error).__name__}: {error}"
            ) from None
        for key, value in numbers.items():
            if key in ("loss", *values):
                raise UserError(f"metric {name!r} of evaluate returned {key!r}, the name of another metric: rename it.")
            values[key] = value if math.isfinite(value) else None
            if values[key] is None:
                notes[key] = f"undefined: evaluate's {name} returned {value}"
    return Scored(values, notes)


def _numbers(result: Any) -> dict[str, float]:
    """The numbers that a metric returned by their names.

    Raises:
        TypeError, ValueError: it returned something else.
    """
    if not isinstance(result, dict) or not result:
        raise TypeError(f"expected a dictionary of numbers, got {result!r}")
    return {str(key): float(value) for key, value in result.items()}


def best_threshold(names: Sequence[str], scores: NDArray[np.float32], gold: NDArray[Any]) -> float:
    """The threshold of 0.05, 0.1, ... 0.95 with the best mean of the named metrics; of equals the nearest to 0.5.

    Where less is better a metric counts negated. A threshold with an undefined metric is chosen only if all have one.
    """

    def rank(threshold: float) -> tuple[float, float]:
        predictions = predictions_from_scores(scores, threshold)
        try:
            values = [METRICS[name].value(predictions, gold) * METRICS[name].direction for name in names]
        except Undefined:
            values = [-math.inf]
        return sum(values), -abs(threshold - THRESHOLD)

    return max((number / 20 for number in range(1, 20)), key=rank)


def main_score(names: Sequence[str], values: Mapping[str, float | None]) -> float | None:
    """The mean of the named metrics, those where lower is better negated; None if one of them is undefined."""
    signed = []
    for name in names:
        value = values.get(name)
        if value is None:
            return None
        signed.append(value * METRICS[name].direction if name in METRICS else value)
    return fmean(signed)


def mean_loss(scores: NDArray[np.floating[Any]], gold: NDArray[Any]) -> float:
    """The loss that training minimises, over all rows: mean cross-entropy in nats, or mean squared error for C = 1.

    For sets of labels, the mean over rows and labels of the binary cross-entropy. Class weights do not count.
    """
    exact = scores.astype(np.float64)
    if gold.ndim == 2:
        return float(np.mean(np.logaddexp(0.0, exact) - exact * gold))
    if exact.shape[1] == 1:
        return float(np.mean((exact[:, 0] - gold) ** 2))
    highest = exact.max(axis=1)
    log_sum = highest + np.log(np.exp(exact - highest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - exact[np.arange(len(gold)), gold]))


def baseline(
    names: Sequence[str],
    gold: NDArray[Any],
    classes: int,
    main_metrics: Sequence[str] = (),
    row_groups: NDArray[np.int64] | None = None,
) -> dict[str, float | None]:
    """The harness's own metrics of the best constant prediction; None if undefined.

    main_metrics: those by which the constant is the best, by default all of the named ones.
    """
    constant = best_constant(main_metrics or names, gold, classes, row_groups)
    return {name: METRICS[name].of_or_none(constant, gold, row_groups) for name in names if name in METRICS}


def best_constant(
    main_metrics: Sequence[str], gold: NDArray[Any], classes: int, row_groups: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """The prediction of one class, value or label set for all rows that has the best main score; shaped as gold.

    Only constants that are the best for one of the metrics are tried, so that thousands of labels cost no more than
    two. For classes: the most frequent one, and class 1, whose F1 is `f1`; with groups of rows, all that occur. For
    values (classes = 1): the mean and the median of gold, which minimise squared and absolute error. For sets of
    labels, see `_constant_sets`. Where answers are selected: the candidate at the same position of each question.
    """
    constants: Iterable[Any]
    if any(name in METRICS and "answer_selection" in METRICS[name].problem_types for name in main_metrics):
        assert row_groups is not None
        positions = positions_in_groups(row_groups)
        return np.asarray(positions == np.bincount(positions, weights=gold).argmax(), np.int64)
    if gold.ndim == 2:
        constants = _constant_sets(gold)
    elif classes > 1:
        constants = (np.bincount(gold).argmax(), 1) if row_groups is None else np.unique(gold)
    else:
        constants = (np.mean(gold), np.median(gold))
    own = [name for name in main_metrics if name in METRICS]

    def rank(constant: NDArray[Any]) -> float:
        values = {name: METRICS[name].of_or_none(constant, gold, row_groups) for name in own}
        mean = main_score(own, values) if own else None
        return -math.inf if mean is None else mean

    return max((np.full(gold.shape, constant) for constant in constants), key=rank)


def _constant_sets(gold: NDArray[Any]) -> list[NDArray[Any]]:
    """The label sets that are the best constant for a metric, from the number of rows of each label.

    They are the most frequent set (subset accuracy), all labels that occur (means over labels), the labels of more than
    half of the rows (Hamming loss), and the k most frequent labels, where 2 (their rows) / (N k + all labelled rows),
    the micro F1, is highest.
    """
    sets, numbers = np.unique(gold, axis=0, return_counts=True)
    rows, labels = gold.shape
    counts = gold.sum(axis=0, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    micro_f1 = np.cumsum(counts[order]) / (rows * np.arange(1, labels + 1) + counts.sum())
    is_frequent = np.argsort(order) <= micro_f1.argmax()
    return [sets[numbers.argmax()], *(each.astype(gold.dtype) for each in (counts > 0, counts > rows / 2, is_frequent))]
