"""Errors of a task's entries, row by row: confused labels, and the rows on which models disagree most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.stats.groups import Group
from harness.stats.predictions import Predictions, SplitPredictions, read_predictions
from harness.stats.uncertainty import Floats

MAX_LABELS = 1_000
"""Predictions of a task with more labels are not counted label by label; a foreign record may have any number."""

_MAX_SHARES = 1 << 26
"""The largest number of rows times labels whose predictions are compared."""

_DIGITS = 9
"""The precision at which two rows disagree as much, whatever the order of sums."""


class Disagreement(NamedTuple):
    """The rows of a split on which models disagree most, and the predictions for them."""

    groups: tuple[Group, ...]
    """The groups that predicted these rows, at least two."""
    size: int
    """The number of rows of the split."""
    total: int
    """The number of rows on which any two runs of different models differ."""
    rows: NDArray[np.intp]
    """[K]: the row numbers, the most disagreement first."""
    values: Floats
    """[K]: the share of pairs of runs of two models with different predictions, the mean over pairs of models; for
    values, their standard deviation over models."""
    gold: NDArray[Any]
    """[K], or [K, C] for label sets."""
    predictions: tuple[NDArray[Any], ...]
    """[runs, K], or [runs, K, C], of each group."""


def predictions_of_groups(groups: Sequence[Group]) -> dict[Group, Predictions]:
    """The predictions of the groups that have any, in this order, for those rows that most of them predicted."""
    by_rows: dict[Any, dict[Group, Predictions]] = defaultdict(dict)
    for group in groups:
        if (one := read_predictions(group)) is not None:
            kind = group.task.problem_type
            by_rows[one.key, kind][group] = _with_classes(one) if kind == "answer_selection" else one
    return max(by_rows.values(), key=len, default={})


def _with_classes(predictions: Predictions) -> Predictions:
    """The predictions with the gold class of each candidate in place of its agreement: 1 for a right one."""
    splits = {name: one._replace(gold=(one.gold == 1).astype(np.int64)) for name, one in predictions.splits.items()}
    return predictions._replace(splits=splits)


def confusion_counts(gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Numbers of rows, int64[C, C], by gold class (first index) and predicted class (second)."""
    counts = np.bincount(gold * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def most_confused(labels: Sequence[str], counts: NDArray[Any], most: int) -> list[tuple[str, str, float]]:
    """(gold label, predicted label, rows) of the most frequent confusions, most frequent first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most].tolist()
    pairs = [divmod(index, len(labels)) for index in order]
    return [(labels[gold], labels[other], wrong[gold, other].item()) for gold, other in pairs if wrong[gold, other]]


def mean_confusion(predictions: SplitPredictions, classes: int) -> Floats:
    """[C, C]: numbers of rows by gold and predicted class, the mean over runs."""
    counts = [confusion_counts(predictions.gold, run, classes) for run in predictions.runs]
    return np.asarray(np.mean(counts, axis=0))


def label_counts(predictions: SplitPredictions) -> Floats:
    """[C, 3]: for each label of label sets the rows that have it and get it, that lack it and get it, and that have it
    and do not get it; the mean over runs.
    """
    gold, runs = predictions.gold, predictions.runs
    parts = [gold & runs, (1 - gold) & runs, gold & (1 - runs)]
    return np.stack([part.sum(axis=1).mean(axis=0) for part in parts], axis=1)


def most_disagreed_rows(predictions: Mapping[Group, Predictions], split: str, most: int) -> Disagreement | None:
    """The rows of a split on which the groups disagree most, at most `most` of them.

    Returns None for a single group, and where rows times labels are too many for memory.
    """
    by_group = {group: one.splits[split] for group, one in predictions.items()}
    if len(by_group) < 2:
        return None
    task, first = next((group.task, one) for group, one in by_group.items())
    if task.problem_type == "regression":
        values = np.std([one.runs.mean(axis=0) for one in by_group.values()], axis=0, ddof=1)
    else:
        classes = max(len(group.task.labels or ()) for group in by_group)
        if len(first.gold) * classes > _MAX_SHARES:
            return None
        values = _label_disagreement([one.runs for one in by_group.values()], classes)
    values = np.round(values, _DIGITS)
    rows = np.argsort(-values, kind="stable")[:most]
    rows = rows[values[rows] > 0]
    return Disagreement(
        groups=tuple(by_group),
        size=len(first.gold),
        total=int(np.count_nonzero(values > 0)),
        rows=rows,
        values=values[rows],
        gold=first.gold[rows],
        predictions=tuple(one.runs[:, rows] for one in by_group.values()),
    )


def _label_disagreement(runs: Sequence[NDArray[np.int64]], classes: int) -> Floats:
    """[N]: the share of pairs of runs of two models that differ, the mean over pairs of models; runs: [R, N(, C)].

    With p_a the shares of a model's runs that predict each label, two models agree on Σ p_a p_b, and all pairs of
    models on (Σ p)² - Σ p². For label sets it is a mean over labels.
    """
    total, own = np.zeros(()), np.zeros(())
    for one in runs:
        if one.ndim == 3:  # each label of a set is a choice of its own between 1 and 0
            shares = np.stack([one.mean(axis=0), 1 - one.mean(axis=0)], axis=2)
        else:
            shares = np.zeros((one.shape[1], classes))
            for run in one:
                shares[np.arange(len(run)), run] += 1 / len(one)
        total, own = total + shares, own + (shares**2).sum(axis=-1)
    agreement = ((total**2).sum(axis=-1) - own) / (len(runs) * (len(runs) - 1))
    disagreement = 1 - agreement
    return np.asarray(disagreement if disagreement.ndim == 1 else disagreement.mean(axis=1))
