"""The predictions of a split as a run stores them next to its record: a Parquet file with a line per row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, boundary
from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord, record_path

_MAX_NAME_BYTES = 255
"""Length of a name on common file systems."""

MAX_BYTES = 1 << 30
"""Size of the largest file that is read: a hundred million rows of two classes."""


TEXTS = "texts_sha256"
"""Name of the fingerprint of a split's texts in the metadata of its file, which older files lack."""


class StoredPredictions(NamedTuple):
    """The columns of a file, in row order."""

    rows: NDArray[np.int64]
    """Row numbers of the split, [N]."""
    scores: NDArray[np.float32]
    """Scores of the model, [N, C]."""
    predictions: NDArray[Any]
    """Class numbers or values [N], or label sets [N, C]."""
    gold: NDArray[Any] | None
    """Gold labels in the same form; None where they are hidden."""
    questions: NDArray[np.int64] | None
    """The number of each row's question, [N], in a selection of answers."""


def prediction_path(record: RunRecord, results: Path, split: str) -> Path:
    """The path of the file, next to the record, or for a companion task next to that of the run that predicts it.

    Raises:
        UserError: the name is empty or too long, or the file is in another folder.
    """
    name, path = record.prediction_files[split], record_path(results, record.spec.task, record.run_id)
    is_short = all(len(part.encode()) <= _MAX_NAME_BYTES for part in name.split("/"))
    if is_short and record.trained_by is not None and re.fullmatch(r"\.\./[^/\\\0.][^/\\\0]*/[^/\\\0]+", name):
        return path.parents[1] / name.removeprefix("../")
    if not is_short or Path(name).name != name or name in ("", "..") or "\0" in name:
        raise UserError(
            f"{path}: invalid prediction_files.{split}: expected the name of a file next to it, at most "
            f"{_MAX_NAME_BYTES} bytes, got {name!r:.100}."
        )
    return path.with_name(name)


def read_prediction_file(path: Path, task: TaskFacts) -> StoredPredictions:
    """Reads the file that `harness.engine.predictions.write_predictions` wrote for this task.

    Raises:
        UserError: the file cannot be read, has other columns, or has labels that the task does not have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with boundary(f"{path}: not a readable file of predictions", pa.ArrowException, ValueError, TypeError):
        if not path.exists():
            raise UserError(f"{path}: file not found.")
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: not predictions: expected a regular file of at most {MAX_BYTES:,} bytes.")
        table = pq.read_table(path, partitioning=None)
        if missing := {"row", "prediction", "scores"} - set(table.column_names):
            raise UserError(f"{path}: not a file of predictions: missing column {min(missing)!r}.")
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        rows = np.asarray(columns["row"].to_numpy(zero_copy_only=False), np.int64)
        if not pa.types.is_fixed_size_list(columns["scores"].type):
            raise UserError(f"{path}: invalid scores: expected lists of equal length, got {columns['scores'].type}.")
        flat = columns["scores"].flatten().to_numpy(zero_copy_only=False)
        scores = np.asarray(flat, np.float32).reshape(len(rows), len(task.labels or [""]))
        if len(rows) == 0 or not np.isfinite(scores).all():
            raise UserError(f"{path}: invalid scores: expected one or more rows of finite numbers.")
        predictions = _numbers(columns["prediction"].to_pylist(), task)
        gold = _numbers(columns["label"].to_pylist(), task) if "label" in columns else None
        questions = None
        if task.problem_type == "answer_selection":
            if "question" not in columns:
                raise UserError(f"{path}: not a file of predictions: missing column 'question'.")
            questions = np.asarray(columns["question"].to_numpy(zero_copy_only=False), np.int64)
    return StoredPredictions(rows, scores, predictions, gold, questions)


def _numbers(values: list[Any], task: TaskFacts) -> NDArray[Any]:
    """Names of labels as class numbers [N] or label sets [N, C]; values of a regression as they are.

    Raises:
        ValueError: a label is not one of the task's.
    """
    if task.labels is None:
        numbers_only = np.asarray(values, np.float64)
        if not np.isfinite(numbers_only).all():
            raise ValueError("expected finite values")
        return numbers_only
    numbers = {label: number for number, label in enumerate(task.labels)}
    lists = values if task.problem_type == "multi_label_classification" else [[value] for value in values]
    if unknown := [label for labels in lists for label in labels if label not in numbers]:
        raise ValueError(f"unknown label {unknown[0]!r}")
    if task.problem_type != "multi_label_classification":
        return np.asarray([numbers[value] for value in values], np.int64)
    sets = np.zeros((len(values), len(numbers)), np.int64)
    for row, labels in enumerate(lists):
        sets[row, [numbers[label] for label in labels]] = 1
    return sets
