"""An evaluation on the terminal and as files: metrics of all splits, and the errors on one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.outcome import SplitOutcome
from harness.facts.tasks import TaskSpec
from harness.inspection.description import VALUE_PERCENTS
from harness.inspection.error_analysis import ErrorRow, LabelMetrics, label_metrics
from harness.inspection.output_files import write_output_files
from harness.inspection.pictures import confusion_matrix, error_histogram, scatter, stacked_label_bars
from harness.inspection.prediction_output import separator_of
from harness.inspection.terminal_table import one_line, print_table
from harness.metrics.calibration import Calibration
from harness.metrics.registry import baseline_name, format_score, title_of
from harness.stats.row_errors import confusion_counts, most_confused
from harness.system.spreadsheets import csv_text

_MAX_CLASSES = 12
"""Classes of the largest confusion matrix on the terminal; with more, it lists the most frequent confusions."""


class Evaluation(NamedTuple):
    """A model's scores on a task."""

    task: TaskSpec
    outcomes: Mapping[str, SplitOutcome]
    """Outcomes by split, and by category of the rows of `split`, if they have categories."""
    split: str
    """The split whose errors are shown."""
    gold: NDArray[Any]
    """Its class numbers or values [N], or label sets [N, C]."""
    predicted: NDArray[Any]
    """Predictions in the form of `gold`."""
    errors: list[ErrorRow]
    """The worst errors, the worst first."""
    threshold: float | None = None
    """Probability from which a label of a multi-label task is predicted."""
    calibrations: Mapping[str, list[Calibration]] = MappingProxyType({})
    """The calibration of each split that has class probabilities, and of some at a fitted temperature too."""

    @property
    def labels(self) -> list[str]:
        return list(self.task.labels or [])

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix, int64[C, C], of a task with one label per row."""
        return confusion_counts(self.gold, self.predicted, self.task.classes)

    @property
    def metrics_by_label(self) -> list[LabelMetrics]:
        return label_metrics(self.labels, self.gold, self.predicted)


# -- terminal ----------------------------------------------------------------------------------------------------------


def print_evaluation(evaluation: Evaluation) -> None:
    """Prints all tables."""
    task, split, outcomes = evaluation.task, evaluation.split, evaluation.outcomes
    constant = outcomes[split].baseline
    rows = [
        [title_of(key), *(format_score(o.values.get(key)) for o in outcomes.values()), format_score(constant.get(key))]
        for key in dict.fromkeys(key for outcome in outcomes.values() for key in outcome.values)
    ]
    heading = task.name if task.title == task.name else f"{task.name}: {task.title}"
    print_table(heading, ["", *outcomes, f"{split}, {baseline_name(task.problem_type)}"], rows)
    if evaluation.calibrations:
        rows = [
            [name, f"{one.temperature:.3f}", *map(format_score, one[1:])]
            for name, several in evaluation.calibrations.items()
            for one in several
        ]
        header = ["", "temperature", "calibration error", "Brier score", "log loss"]
        print_table("calibration of the probabilities", header, rows)
    for outcome in outcomes.values():
        for note in outcome.notes:
            print(f"note: {note}")
    if task.is_regression:
        errors = evaluation.predicted - evaluation.gold
        values = (*np.percentile(errors, VALUE_PERCENTS), errors.mean())
        signed = [f"{'+' * bool(value >= 0)}{format_score(value)}" for value in values]
        names = [*(f"{percent}%" for percent in VALUE_PERCENTS), "mean"]
        lines = [list(line) for line in zip(names, signed, strict=True)]
        print_table(f"{split}: predicted minus gold, by percentile", ["", "error"], lines)
    else:
        _print_labels(evaluation)
    size = "off by" if task.is_regression else "probability"
    rows = [
        [
            f"{e.row}",
            *(_label_text(task, label) for label in (e.gold, e.predicted)),
            format_score(e.size),
            one_line(e.text, e.pair),
        ]
        for e in evaluation.errors
    ]
    print_table(f"{split}: worst errors", ["row", "gold", "predicted", size, "text"], rows)


def _print_labels(evaluation: Evaluation) -> None:
    split, labels = evaluation.split, evaluation.labels
    rows = [
        [m.label, *map(format_score, (m.precision, m.recall, m.f1)), f"{m.rows:,}", f"{m.predicted:,}"]
        for m in evaluation.metrics_by_label
    ]
    print_table(f"{split}: metrics by label", ["", "precision", "recall", "F1", "rows", "predicted"], rows)
    if evaluation.threshold is not None:
        wrong = np.bincount((evaluation.gold != evaluation.predicted).sum(axis=1))
        rows = [[f"{number}", f"{count:,}"] for number, count in enumerate(wrong.tolist()) if count]
        title = f"{split}: rows by number of wrong labels, at threshold {evaluation.threshold:g}"
        print_table(title, ["wrong labels", "rows"], rows)
    elif len(labels) <= _MAX_CLASSES:
        confusion = evaluation.confusion.tolist()
        rows = [[label, *(f"{count:,}" for count in counts)] for label, counts in zip(labels, confusion, strict=True)]
        print_table(f"{split}: gold (down) and predicted (across)", ["", *labels], rows)
    else:
        confused = most_confused(labels, evaluation.confusion, 10)
        rows = [[gold, predicted, f"{count:,}"] for gold, predicted, count in confused]
        print_table(f"{split}: most frequent confusions", ["gold", "predicted", "rows"], rows)


def _label_text(task: TaskSpec, label: Any) -> str:
    """The label or value of a row; after each label of a set, a narrow table can break the line."""
    if task.is_multi_label:
        separator = separator_of(task)
        return f"{separator} ".join(label.split(separator))
    return label if isinstance(label, str) else format_score(label)


# -- files -------------------------------------------------------------------------------------------------------------


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Writes every table and picture.

    Raises:
        UserError: the folder cannot be written.
    """
    task, labels, gold, predicted = evaluation.task, evaluation.labels, evaluation.gold, evaluation.predicted
    metrics = {name: outcome.values for name, outcome in evaluation.outcomes.items()}
    lines = ((name, metric, value) for name, values in metrics.items() for metric, value in values.items())
    size, title = "off_by" if task.is_regression else "probability", f"{task.title}, {evaluation.split}"
    texts = {
        "metrics.json": json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "metrics.csv": csv_text(["split", "metric", "value"], lines),
        "errors.csv": csv_text(["row", "gold", "predicted", size, "text", "pair"], evaluation.errors),
    }
    if evaluation.calibrations:
        by_split = ((name, *one) for name, several in evaluation.calibrations.items() for one in several)
        texts["calibration.csv"] = csv_text(["split", *Calibration._fields], by_split)
    if not task.is_regression:
        texts["classes.csv"] = csv_text(LabelMetrics._fields, evaluation.metrics_by_label)
    if task.is_regression:
        errors = error_histogram(predicted - gold, title)
        pictures = {"scatter": scatter(gold, predicted, title), "errors": errors}
    elif evaluation.threshold is not None:
        correct = (gold & predicted).sum(axis=0)
        rows = {"correct": correct, "missed": gold.sum(axis=0) - correct, "added": predicted.sum(axis=0) - correct}
        pictures = {"labels": stacked_label_bars(labels, rows, title)}
    else:
        matrix = ([label, *counts] for label, counts in zip(labels, evaluation.confusion.tolist(), strict=True))
        texts["confusion.csv"] = csv_text(["gold", *labels], matrix)
        pictures = {"confusion": confusion_matrix(labels, evaluation.confusion, title)}
    write_output_files(folder, texts, pictures)
