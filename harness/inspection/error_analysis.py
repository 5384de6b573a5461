"""Where a model is wrong on a split: each class by itself, which classes it mixes up, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec
from harness.inspection.prediction_output import Replies, replies_of
from harness.metrics.scoring import predictions_from_scores

if TYPE_CHECKING:
    from harness.rows.loading import Split


class ClassFigures(NamedTuple):
    """One label among the others. A share of nothing is None."""

    label: str
    precision: float | None
    """Of the rows that were given this label, the share that have it."""
    recall: float | None
    """Of the rows that have it, the share that were given it."""
    f1: float | None
    """Harmonic mean of both: 2 hits / (rows + predicted)."""
    rows: int
    predicted: int


class Mistake(NamedTuple):
    """A row that was answered wrongly."""

    row: int
    """From 0."""
    gold: Any
    predicted: Any
    size: float
    """The probability that was given to the wrong answer, or how far a value is off."""
    text: str
    pair: str | None


def confusion(gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """int64[C, C]: rows of each class (first index) by the class that was predicted (second)."""
    counts = np.bincount(gold * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def per_class(labels: Sequence[str], counts: NDArray[np.int64]) -> list[ClassFigures]:
    """From what `confusion` counts, in the order of the labels."""
    return _figures(labels, np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))


def per_label(labels: Sequence[str], gold: NDArray[Any], predicted: NDArray[Any]) -> list[ClassFigures]:
    """The same of sets of labels, [N, C] of 0 and 1: each label for itself, given or not."""
    return _figures(labels, (gold & predicted).sum(axis=0), gold.sum(axis=0), predicted.sum(axis=0))


def _figures(
    labels: Sequence[str], hits: NDArray[np.int64], rows: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[ClassFigures]:
    return [
        ClassFigures(
            label,
            hit / given if given else None,
            hit / had if had else None,
            2 * hit / (had + given) if had + given else None,
            had,
            given,
        )
        for label, hit, had, given in zip(labels, hits.tolist(), rows.tolist(), predicted.tolist(), strict=True)
    ]


def most_confused(labels: Sequence[str], counts: NDArray[np.int64], most: int) -> list[tuple[str, str, int]]:
    """(label, what was predicted instead, rows), the most frequent first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(labels), int(place) % len(labels)) for place in order]
    return [(labels[gold], labels[found], int(wrong[gold, found])) for gold, found in pairs if wrong[gold, found]]


def worst_mistakes(
    task: TaskSpec, scores: NDArray[np.float32], split: Split, most: int, threshold: float | None = None
) -> list[Mistake]:
    """The wrong answers that the model was surest of, or the values that are furthest off; the worst first.

    scores: float32[N, C] in the order of the split's rows. A set of labels is as wrong as its worst label: one that was
    missed at a low probability, or added at a high one.
    """
    assert split.label is not None
    predicted = predictions_from_scores(scores, threshold)
    if task.is_regression:
        size = np.abs(predicted - split.label)
        gold, found = split.label.tolist(), predicted.tolist()
    elif threshold is not None:
        replies = replies_of(task, scores, threshold=threshold)
        off = np.where(split.label == 1, 1 - replies.probabilities, replies.probabilities)
        size = np.where(predicted == split.label, 0.0, off).max(axis=1)
        sets = [[replies.labels[number] for number in np.flatnonzero(row)] for row in split.label]
        gold, found = [_joined(names, replies) for names in sets], [_joined(n, replies) for n in replies.predictions]
    else:
        replies = replies_of(task, scores)
        size = np.where(predicted == split.label, 0.0, replies.highest)
        gold, found = [replies.labels[number] for number in split.label], replies.predictions
    worst = np.argsort(-size, kind="stable")[:most]
    return [
        Mistake(
            int(row), gold[row], found[row], float(size[row]), split.text[row], split.pair[row] if split.pair else None
        )
        for row in worst
        if size[row] > 0
    ]


def _joined(names: Sequence[str], replies: Replies) -> str:
    return str(replies.separator).join(names)
