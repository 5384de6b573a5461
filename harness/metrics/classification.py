"""Metrics of class numbers, also of groups of rows such as the answers to one question, and of label sets.

Most are ratios of counts of a label: rows where it is predicted, is gold, or both. A group counts once, however many
rows it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import Floats, Metric, ProblemType, Resamples, Undefined, metric_over_groups, ratio

_CLASSES: tuple[ProblemType, ...] = ("single_label_classification",)
_LABEL_SETS: tuple[ProblemType, ...] = ("multi_label_classification",)


def _has_label(values: NDArray[Any], label: int, are_sets: bool) -> NDArray[np.bool_]:
    return np.asarray(values[..., label] > 0 if are_sets else values == label)


class LabelCounts(Resamples):
    """Resamples of classes or label sets. Sums of weights are whole numbers below 2^24, which float32 adds exactly."""

    dtype = np.float32

    def __init__(
        self, predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64] | None = None
    ) -> None:
        super().__init__(predictions, gold, row_groups)
        self._indicators: dict[tuple[str, int], NDArray[np.float32]] = {}
        self.are_sets = gold.ndim == 2
        labels = range(gold.shape[1]) if self.are_sets else np.union1d(np.unique(gold), np.unique(predictions))
        self.labels = list(labels)

    def weigh(self, weights: NDArray[Any]) -> None:
        super().weigh(weights)
        self._counts: dict[tuple[str, int], Floats] = {}

    def count(self, kind: str, label: int = -1) -> Floats:
        """[block, runs]: weighted rows where the label is `predicted`, is `gold`, or `both`; or that are `correct`.

        The count of gold labels has a single column, since it is the same for all runs.
        """
        key = kind, label
        if key not in self._indicators:
            self._indicators[key] = self._indicator(kind, label)
        if key not in self._counts:
            self._counts[key] = (self.weights @ self._indicators[key]).astype(np.float64)
        return self._counts[key]

    def counts(self, label: int) -> tuple[Floats, Floats, Floats]:
        """The counts of a label: both, predicted, gold."""
        return self.count("both", label), self.count("predicted", label), self.count("gold", label)

    def _indicator(self, kind: str, label: int) -> NDArray[np.float32]:
        """float32[N, columns]"""
        if kind == "correct":
            rows = self.predictions == self.gold
            rows = rows.all(axis=-1) if self.are_sets else rows
        elif kind == "gold":
            rows = _has_label(self.gold, label, self.are_sets)[None]
        else:
            rows = _has_label(self.predictions, label, self.are_sets)
            if kind == "both":
                rows = rows & _has_label(self.gold, label, self.are_sets)
        return np.ascontiguousarray(rows.T, np.float32)


Ratio = Callable[[Any, Any, Any], tuple[Any, Any]]
"""The counts (both, predicted, gold) of a label -> (above, below)."""


def _f1(both: Any, predicted: Any, gold: Any) -> tuple[Any, Any]:
    return 2.0 * both, predicted + gold


def _resampled_accuracy(rows: LabelCounts) -> Floats:
    return np.asarray(rows.count("correct") / rows.total)


ACCURACY = Metric(
    "accuracy",
    (*_CLASSES, "multiple_choice"),
    value=lambda predictions, gold: float(np.mean(predictions == gold)),
    resampled=_resampled_accuracy,
    is_share_of_rows=True,
)


def _binary_f1(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """F1 of label 1, as GLUE reports it for mrpc and qqp."""
    if not (np.any(predictions == 1) or np.any(gold == 1)):
        raise Undefined("neither a prediction nor a gold label is positive")
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predictions, pos_label=1, average="binary", zero_division=0.0))


F1 = Metric("F1", _CLASSES, _binary_f1, resampled=lambda rows: ratio(*_f1(*rows.counts(1))))


def _averaged(function: str, average: str) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """A scikit-learn score averaged over the labels in gold or predictions; one that is never predicted counts 0."""

    def value(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        from sklearn import metrics

        labels = None
        if gold.ndim == 2:
            labels = np.flatnonzero((gold > 0).any(axis=0) | (predictions > 0).any(axis=0))
            if len(labels) == 0:
                raise Undefined("no row has a label, and none was predicted")
        return float(getattr(metrics, function)(gold, predictions, labels=labels, average=average, zero_division=0.0))

    return value


def _macro(title: str, function: str, of_label: Ratio) -> Metric:
    """The mean of a ratio over the labels that are predicted or gold; a ratio without a denominator counts 0."""

    def resampled(rows: LabelCounts) -> Floats:
        total: Any = 0.0
        number: Any = 0.0
        for label in rows.labels:
            both, predicted, gold = rows.counts(label)
            total = total + np.nan_to_num(ratio(*of_label(both, predicted, gold)))
            number = number + (predicted + gold > 0)
        return ratio(total, number)

    value = _averaged(function, "macro")
    return Metric(title, _CLASSES + _LABEL_SETS, value, resampled, is_mean_over_labels=True)


F1_MACRO = _macro("macro F1", "f1_score", _f1)
PRECISION_MACRO = _macro("macro precision", "precision_score", lambda both, predicted, gold: (both, predicted))
RECALL_MACRO = _macro("macro recall", "recall_score", lambda both, predicted, gold: (both, gold))


def _resampled_micro_f1(rows: LabelCounts) -> Floats:
    """F1 of the counts of all labels together; for classes this is the accuracy."""
    both, predicted, gold = map(sum, zip(*(rows.counts(label) for label in rows.labels), strict=True))
    return ratio(*_f1(both, predicted, gold))


F1_MICRO = Metric("micro F1", _CLASSES + _LABEL_SETS, _averaged("f1_score", "micro"), _resampled_micro_f1)


def _matthews(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """Matthews correlation; 0 when every prediction is the same class, the limit that scikit-learn takes too."""
    if len(np.unique(gold)) < 2:
        raise Undefined("all gold labels are the same")
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predictions))


def _resampled_matthews(rows: LabelCounts) -> Floats:
    """Gorodkin 2004's R_K, for two classes the Matthews correlation; 0 when only one class is predicted."""
    n = rows.total
    chance: Floats | float = 0.0
    predicted_squares: Floats | float = 0.0
    gold_squares: Floats | float = 0.0
    remaining: Floats = n
    for label in rows.labels:
        gold = rows.count("gold", label)
        predicted = remaining if label == rows.labels[-1] else rows.count("predicted", label)
        remaining = remaining - predicted
        chance, predicted_squares = chance + predicted * gold, predicted_squares + predicted * predicted
        gold_squares = gold_squares + gold * gold
    gold_spread = n**2 - gold_squares
    below = np.sqrt((n**2 - predicted_squares) * gold_spread)
    value = np.where(below > 0, (rows.count("correct") * n - chance) / np.where(below > 0, below, 1), 0.0)
    return np.where(gold_spread > 0, value, np.nan)


MATTHEWS = Metric("Matthews", _CLASSES, _matthews, _resampled_matthews, lowest=-1.0)


SUBSET_ACCURACY = Metric(
    "subset accuracy",
    _LABEL_SETS,
    value=lambda predictions, gold: float(np.mean((predictions == gold).all(axis=-1))),
    resampled=_resampled_accuracy,
    is_share_of_rows=True,
)


HAMMING_LOSS = Metric(
    "Hamming loss",
    _LABEL_SETS,
    value=lambda predictions, gold: float(np.mean(predictions != gold)),
    resampled=lambda rows: rows.mean(np.sum(rows.predictions != rows.gold, axis=-1)) / rows.gold.shape[1],
    lower_is_better=True,
)


def _are_right(predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[G]: every row of the group is predicted correctly; groups in the order of their numbers."""
    _, numbers = np.unique(row_groups, return_inverse=True)
    return np.asarray(np.bincount(numbers, weights=predictions != gold) == 0)


EXACT_MATCH = metric_over_groups("exact match", "single_label_classification", _are_right)
"""The share of groups whose rows are all predicted correctly: MultiRC's EM (Khashabi et al. 2018)."""


def _are_equal(predictions: NDArray[Any], _gold: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[G]: all rows of the group have the same prediction; groups in the order of their numbers."""
    _, first, numbers = np.unique(row_groups, return_index=True, return_inverse=True)
    return _are_right(predictions, predictions[first[numbers]], row_groups)


PARITY = metric_over_groups("parity", "single_label_classification", _are_equal)
"""The share of groups whose rows all have the same prediction, right or wrong: gender parity, where the rows of a pair
differ in the gender of a pronoun only (Poliak et al. 2018)."""
