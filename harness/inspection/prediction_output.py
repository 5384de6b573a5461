"""Predictions that people and programs read: names, probabilities and values, on a terminal or in a file.

No file of predictions repeats the texts: its rows have numbers. In a CSV or TSV, `escape_cell` changes labels such
as `=cmd()`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import boundary
from harness.facts.tasks import TaskSpec
from harness.metrics.calibration import class_probabilities
from harness.metrics.registry import format_score
from harness.metrics.scoring import predictions_from_scores
from harness.rows.formats import DELIMITERS
from harness.system.atomic import atomic_path
from harness.system.output import LINE_CONTROLS, escape_controls
from harness.system.spreadsheets import escape_cell

if TYPE_CHECKING:
    import pyarrow.parquet as pq

FORMATS = ("csv", "tsv", "jsonl", "parquet")

_MAX_SHOWN = 5
"""Labels that the terminal shows for a row."""


class PredictedRows(NamedTuple):
    """Predictions of consecutive rows, in order."""

    first: int
    """Number of the first row, from 0."""
    predictions: list[Any]
    """One label name per row, or a list of names in a multi-label task, or a value, or the answer to a question."""
    labels: tuple[str, ...]
    """All labels of the task; empty for a regression."""
    probabilities: NDArray[np.float64]
    """float64[N, C] by row and label; [N, 0] for a regression."""
    separator: str | None = None
    """Separator of a row's names in a cell, in a multi-label task; otherwise None."""


def rows_from_scores(
    task: TaskSpec, scores: NDArray[np.float32], first: int = 0, threshold: float | None = None
) -> PredictedRows:
    """Predictions with names and probabilities; scores float32[N, C], of a multi-label task with its threshold."""
    from scipy.special import expit

    predictions = label_names(task, predictions_from_scores(scores, threshold))
    labels = tuple(task.labels or ())
    if not labels:
        return PredictedRows(first, predictions, labels, np.empty((len(scores), 0)))
    if threshold is None:
        return PredictedRows(first, predictions, labels, class_probabilities(scores))
    return PredictedRows(first, predictions, labels, expit(scores.astype(np.float64)), separator_of(task))


def answers_from_scores(
    task: TaskSpec, scores: NDArray[np.float32], questions: NDArray[np.int64], candidates: Sequence[str], first: int = 0
) -> PredictedRows:
    """The answer to each question: its candidate that is most probably right, with this probability.

    scores: float32[N, 2] of all candidates; questions: the number of each one's question, [N], in ascending order.
    """
    selected = np.flatnonzero(predictions_from_scores(scores, questions=questions))
    answers = [candidates[row] for row in selected.tolist()]
    return PredictedRows(first, answers, tuple(task.labels or ())[1:], class_probabilities(scores[selected])[:, 1:])


def label_names(task: TaskSpec, labels: NDArray[Any]) -> list[Any]:
    """A name for each class number [N], a list of names for each label set [N, C], and values as they are."""
    names = list(task.labels or ())
    if labels.ndim == 2:
        return [[names[number] for number in np.flatnonzero(row)] for row in labels]
    return [names[number] for number in labels.tolist()] if names else labels.tolist()


def separator_of(task: TaskSpec) -> str:
    """Separator of a row's labels in a text: the task's own, or one that is in no label."""
    candidates = ("|", ";", ",")
    free = (separator for separator in candidates if not any(separator in label for label in task.labels or ()))
    return task.separator or next(free, candidates[0])


# -- terminal ----------------------------------------------------------------------------------------------------------


def screen_lines(rows: PredictedRows) -> Iterator[str]:
    """Yields, for each row, its labels with their probabilities, highest first, or its value.

    A multi-label row has all its predicted labels, which are marked. An empty line separates rows with labels.
    """
    labels = [escape_controls(label, LINE_CONTROLS) for label in rows.labels]
    width = max(map(len, labels), default=0)
    for number, prediction in enumerate(rows.predictions):
        if not rows.labels:
            yield format_score(prediction)
            continue
        if number > 0:
            yield ""
        predicted = prediction if rows.separator else []
        shown = max(_MAX_SHOWN, len(predicted))
        for column in np.argsort(-rows.probabilities[number], kind="stable")[:shown]:
            label, probability = rows.labels[column], rows.probabilities[number, column]
            yield f"{labels[column]:<{width}}  {probability:.4f}{'  predicted' if label in predicted else ''}"
        if len(rows.labels) > shown:
            yield f"and {len(rows.labels) - shown} more"


def json_rows(rows: PredictedRows) -> Iterator[str]:
    """Yields a JSON object per row: its number, its prediction, and the probabilities by label."""
    for number, prediction in enumerate(rows.predictions):
        facts = {"row": rows.first + number, "prediction": prediction}
        if rows.labels:
            facts["probabilities"] = dict(zip(rows.labels, _rounded(rows.probabilities[number]), strict=True))
        yield json.dumps(facts, ensure_ascii=False, allow_nan=False)


# -- file --------------------------------------------------------------------------------------------------------------


def prediction_columns(rows: PredictedRows) -> dict[str, Any]:
    """Columns by name: row, prediction, and for labels the probability of the prediction and of each label.

    A prediction of several labels is a list, and has no probability of its own.
    """
    columns: dict[str, Any] = {"row": np.arange(rows.first, rows.first + len(rows.predictions))}
    columns["prediction"] = rows.predictions
    if rows.labels and rows.separator is None:
        columns["probability"] = rows.probabilities.max(axis=1)
    return columns | {f"probability_{label}": rows.probabilities[:, at] for at, label in enumerate(rows.labels)}


@contextmanager
def prediction_writer(path: Path) -> Iterator[Callable[[PredictedRows], None]]:
    """A function that appends rows to a file of the path's format; the file appears once the block ends without error.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    form = path.suffix.lstrip(".").lower()
    with boundary(f"--out {path}: cannot be written"), atomic_path(path) as temporary:
        if form == "parquet":
            with _parquet_writer(temporary) as append:
                yield append
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield partial(_append_json, file) if form == "jsonl" else partial(_append_csv, file, DELIMITERS[form])


def _append_json(file: IO[str], rows: PredictedRows) -> None:
    file.writelines(f"{line}\n" for line in json_rows(rows))


def _append_csv(file: IO[str], delimiter: str, rows: PredictedRows) -> None:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    columns = prediction_columns(rows)
    if rows.separator is not None:
        columns["prediction"] = [rows.separator.join(names) for names in rows.predictions]
    if file.tell() == 0:
        writer.writerow(map(escape_cell, columns))
    cells = (_rounded(each) if isinstance(each, np.ndarray) else map(escape_cell, each) for each in columns.values())
    writer.writerows(zip(*cells, strict=True))


def _rounded(values: NDArray[Any]) -> list[Any]:
    return list(np.round(values, 6).tolist())


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[PredictedRows], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    with ExitStack() as stack:

        def append(rows: PredictedRows) -> None:
            nonlocal writer
            columns = prediction_columns(rows)
            if rows.separator is not None:  # a chunk in which every list is empty would have another type
                columns["prediction"] = pa.array(rows.predictions, pa.list_(pa.string()))
            table = pa.table(columns)
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table)

        yield append
