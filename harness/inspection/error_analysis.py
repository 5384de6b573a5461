"""Errors of a model on a split: metrics of each label, confused classes, and the worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec
from harness.inspection.prediction_output import label_names, rows_from_scores, separator_of
from harness.metrics.scoring import predictions_from_scores

if TYPE_CHECKING:
    from harness.rows.splits import Split


class LabelMetrics(NamedTuple):
    """Metrics of one label against all others; None where the denominator is 0."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    """2 correct / (rows + predicted), the harmonic mean of precision and recall."""
    rows: int
    """Rows that have the label."""
    predicted: int
    """Rows that it is predicted for."""


class ErrorRow(NamedTuple):
    """A row with a wrong prediction."""

    row: int
    """Number of the row, from 0."""
    gold: Any
    predicted: Any
    size: float
    """Probability of the wrong prediction; for a regression, distance from the gold value."""
    text: str
    pair: str | None


def label_metrics(labels: Sequence[str], gold: NDArray[Any], predicted: NDArray[Any]) -> list[LabelMetrics]:
    """Metrics of each label, in order, from class numbers [N] or from label sets [N, C] of 0 and 1."""
    if gold.ndim == 1:
        one_hot = np.eye(len(labels), dtype=np.int8)
        gold, predicted = one_hot[gold], one_hot[predicted]
    counts = [sets.sum(axis=0, dtype=np.int64).tolist() for sets in (gold & predicted, gold, predicted)]
    metrics = []
    for label, correct, rows, positive in zip(labels, *counts, strict=True):
        precision, recall = _ratio(correct, positive), _ratio(correct, rows)
        metrics.append(LabelMetrics(label, precision, recall, _ratio(2 * correct, rows + positive), rows, positive))
    return metrics


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def worst_errors(
    task: TaskSpec, scores: NDArray[np.float32], split: Split, most: int, threshold: float | None = None
) -> list[ErrorRow]:
    """The most confident wrong predictions, or the values furthest from gold; the worst first.

    A label set is as wrong as its worst label: one missed at a low probability, or added at a high one. Of candidates,
    those that were selected although they are wrong.

    Args:
        scores: float32[N, C] in row order.
    """
    gold, predicted = split.label, predictions_from_scores(scores, threshold, split.questions)
    assert gold is not None
    probabilities = rows_from_scores(task, scores, threshold=threshold).probabilities
    if task.is_regression:
        size = np.abs(predicted - gold)
    elif task.selects_answers:
        size = np.where(predicted > gold, probabilities[:, 1], 0.0)
    elif threshold is None:
        size = np.where(predicted == gold, 0.0, probabilities.max(axis=1))
    else:
        wrong = np.where(gold == 1, 1 - probabilities, probabilities)
        size = np.where(predicted == gold, 0.0, wrong).max(axis=1)

    def name(labels: NDArray[Any], row: int) -> Any:
        (label,) = label_names(task, labels[[row]])
        return separator_of(task).join(label) if isinstance(label, list) else label

    worst = np.argsort(-size, kind="stable")[:most]
    texts = split.texts
    return [
        ErrorRow(row, name(gold, row), name(predicted, row), float(size[row]), *texts[row])
        for row in worst[size[worst] > 0].tolist()
    ]
