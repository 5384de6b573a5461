"""What an evaluation shows: splits side by side, one of them closely, on the terminal and as files in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.engine.display import format_score
from harness.facts.outcome import SplitOutcome
from harness.facts.tasks import TaskSpec
from harness.inspection.error_analysis import ClassFigures, Mistake, confusion, most_confused, per_class, per_label
from harness.inspection.report_files import csv_file, write_files
from harness.inspection.terminal_table import print_table
from harness.metrics.registry import title_of

_MOST_CLASSES = 12
"""Up to so many the terminal shows the confusion matrix; of more, the most frequent confusions."""


class Evaluation(NamedTuple):
    """A model's scores on a task."""

    task: TaskSpec
    outcomes: Mapping[str, SplitOutcome]
    """By split."""
    categories: Mapping[str, SplitOutcome]
    """By category of the rows of `split`, where there are some."""
    split: str
    """The one that is looked at closely."""
    gold: NDArray[Any]
    """Of that split, class numbers or values, [N], or sets of labels, [N, C]."""
    predicted: NDArray[Any]
    mistakes: list[Mistake]
    """Its worst."""
    threshold: float | None = None
    """The probability from which on a label of a multi-label task is predicted."""

    @property
    def labels(self) -> list[str]:
        return list(self.task.labels or [])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Its confusion matrix, int64[C, C]; there is none of sets of labels."""
        return confusion(self.gold, self.predicted, self.task.classes)

    @property
    def figures(self) -> list[ClassFigures]:
        """Of each label."""
        if self.threshold is not None:
            return per_label(self.labels, self.gold, self.predicted)
        return per_class(self.labels, self.counts)

    @property
    def columns(self) -> dict[str, SplitOutcome]:
        return {**self.outcomes, **self.categories}


# -- on the terminal ---------------------------------------------------------------------------------------------------


def show(seen: Evaluation) -> None:
    """Prints all tables."""
    task, split = seen.task, seen.split
    constant = seen.outcomes[split].baseline
    metrics = dict.fromkeys(key for outcome in seen.columns.values() for key in outcome.values)
    rows = [
        [
            title_of(key),
            *(format_score(o.values.get(key)) for o in seen.columns.values()),
            format_score(constant.get(key)),
        ]
        for key in metrics
    ]
    heading = task.name if task.title == task.name else f"{task.name}: {task.title}"
    print_table(heading, ["", *seen.columns, f"{split}, constant answer"], rows)
    for outcome in seen.columns.values():
        for note in outcome.notes:
            print(f"note: {note}")
    if task.is_regression:
        errors = seen.predicted - seen.gold
        levels = (0, 5, 25, 50, 75, 95, 100)
        values = [f"{value:+.3f}" for value in (*np.percentile(errors, levels), errors.mean())]
        header = ["", *(f"{level}%" for level in levels), "mean"]
        print_table(f"{split}: predicted minus gold, by percentile", header, [["error", *values]])
    else:
        _show_labels(split, seen)
    what = "off by" if task.is_regression else "probability"
    lines = [[str(m.row), _value(m.gold), _value(m.predicted), f"{m.size:.4f}", _text(m)] for m in seen.mistakes]
    print_table(f"{split}: the worst mistakes", ["row", "gold", "predicted", what, "text"], lines)


def _show_labels(split: str, seen: Evaluation) -> None:
    labels = seen.labels
    lines = [
        [
            f.label,
            format_score(f.precision),
            format_score(f.recall),
            format_score(f.f1),
            f"{f.rows:,}",
            f"{f.predicted:,}",
        ]
        for f in seen.figures
    ]
    print_table(f"{split}: each label", ["", "precision", "recall", "F1", "rows", "predicted"], lines)
    if seen.threshold is not None:
        wrong = np.bincount((seen.gold != seen.predicted).sum(axis=1))
        lines = [[f"{number}", f"{rows:,}"] for number, rows in enumerate(wrong.tolist()) if rows]
        title = f"{split}: labels missed or added in a row, given from a probability of {seen.threshold:g} on"
        print_table(title, ["labels", "rows"], lines)
    elif len(labels) <= _MOST_CLASSES:
        lines = [[label, *(f"{count:,}" for count in row)] for label, row in zip(labels, seen.counts, strict=True)]
        print_table(f"{split}: gold (down) and predicted (across)", ["", *labels], lines)
    else:
        pairs = [[gold, found, f"{rows:,}"] for gold, found, rows in most_confused(labels, seen.counts, 10)]
        print_table(f"{split}: mixed up most often", ["gold", "predicted", "rows"], pairs)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


def _text(mistake: Mistake) -> str:
    return " ".join((mistake.text if mistake.pair is None else f"{mistake.text} | {mistake.pair}").split())


# -- in a folder -------------------------------------------------------------------------------------------------------


def write(seen: Evaluation, folder: Path) -> None:
    """Every table and picture, each file whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    write_files(folder, _files(seen))


def _files(seen: Evaluation) -> dict[str, bytes]:
    from harness.inspection import evaluation_plots as plots

    told = {name: outcome.values for name, outcome in seen.columns.items()}
    lines = ((name, metric, value) for name, values in told.items() for metric, value in values.items())
    size = "off_by" if seen.task.is_regression else "probability"
    mistakes = csv_file(["row", "gold", "predicted", size, "text", "pair"], seen.mistakes)
    files = {
        "metrics.json": (json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "metrics.csv": csv_file(["split", "metric", "value"], lines),
        "mistakes.csv": mistakes,
    }
    title = f"{seen.task.title}, {seen.split}"
    if seen.task.is_regression:
        pictures = {
            "scatter": plots.scatter(seen.gold, seen.predicted, title),
            "errors": plots.histogram(seen.predicted - seen.gold, title),
        }
    else:
        header = ["label", "precision", "recall", "f1", "rows", "predicted"]
        files["classes.csv"] = csv_file(header, seen.figures)
    if seen.threshold is not None:
        hits = (seen.gold & seen.predicted).sum(axis=0)
        missed, added = seen.gold.sum(axis=0) - hits, seen.predicted.sum(axis=0) - hits
        pictures = {"labels": plots.label_bars(seen.labels, {"found": hits, "missed": missed, "added": added}, title)}
    elif not seen.task.is_regression:
        counts = seen.counts
        matrix = ([label, *row] for label, row in zip(seen.labels, counts.tolist(), strict=True))
        files["confusion.csv"] = csv_file(["gold", *seen.labels], matrix)
        pictures = {"confusion": plots.confusion_matrix(seen.labels, counts, title)}
    return files | {f"{name}.{form}": each for name, drawn in pictures.items() for form, each in drawn.items()}
