"""A model's scores as answers that people and programs read: names, probabilities, values; on a screen or in a file.

No text is ever copied into a file of answers: a row is told by its number. What does stand in a CSV and could be taken
for a formula by a spreadsheet, such as a label `=cmd()`, gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.metrics.scoring import predictions_from_scores
from harness.system.atomic import atomic_path, check_writable

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "tsv", "jsonl", "parquet")


class Replies(NamedTuple):
    """Of some rows in order."""

    first: int
    """Number of the first of them, from 0."""
    predictions: list[Any]
    """A label's name for each row, a list of names in a multi-label task, or a value."""
    labels: tuple[str, ...]
    """Empty for a regression."""
    probabilities: NDArray[np.float64]
    """By row and label, float64[N, C]; [N, 0] for a regression."""
    separator: str | None = None
    """What stands between the names of a row in a cell; None where a row has one label or a value."""

    @property
    def highest(self) -> NDArray[np.float64]:
        """The probability of what was predicted, float64[N]."""
        return self.probabilities.max(axis=1)


def replies_of(task: TaskSpec, scores: NDArray[np.float32], first: int = 0, threshold: float | None = None) -> Replies:
    """What scores, float32[N, C], say in the task's words; those of a multi-label task under its threshold."""
    predicted = predictions_from_scores(scores, threshold).tolist()
    labels = tuple(task.labels or ())
    if not labels:
        return Replies(first, predicted, labels, np.empty((len(scores), 0)))
    exact = scores.astype(np.float64)
    if threshold is not None:
        names = [[label for label, is_on in zip(labels, row, strict=True) if is_on] for row in predicted]
        return Replies(first, names, labels, np.exp(-np.logaddexp(0.0, -exact)), separator_of(task))
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    return Replies(first, [labels[number] for number in predicted], labels, powers / powers.sum(axis=1, keepdims=True))


def separator_of(task: TaskSpec) -> str:
    """What stands between the labels of a row in a text: as the task's rows have it, else a sign that no label has."""
    signs = ("|", ";", ",")
    free = [sign for sign in signs if not any(sign in label for label in task.labels or ())]
    return task.separator or next(iter(free), signs[0])


# -- on a screen -------------------------------------------------------------------------------------------------------

SHOWN = 5
"""Labels shown for a row, the likeliest first."""


def lines(told: Replies) -> Iterator[str]:
    """For each row its labels with their probabilities, the likeliest first, or its value; an empty line in between.

    In a multi-label task all that are predicted are shown, and marked.
    """
    width = max(map(len, told.labels), default=0)
    for number, prediction in enumerate(told.predictions):
        if number > 0 and told.labels:
            yield ""
        if not told.labels:
            yield f"{prediction:.4f}"
            continue
        given = prediction if told.separator else []
        most = max(SHOWN, len(given))
        shown = [
            f"{told.labels[place]:<{width}}  {told.probabilities[number, place]:.4f}"
            + ("  predicted" if told.labels[place] in given else "")
            for place in np.argsort(-told.probabilities[number], kind="stable")[:most]
        ]
        yield "\n".join([*shown, *([f"and {len(told.labels) - most} more"] if len(told.labels) > most else [])])


def json_lines(told: Replies) -> Iterator[str]:
    """One JSON object for each row: row, prediction, and the probabilities by label."""
    for number, prediction in enumerate(told.predictions):
        facts = {"row": told.first + number, "prediction": prediction}
        if told.labels:
            facts["probabilities"] = dict(zip(told.labels, _rounded(told.probabilities[number]), strict=True))
        yield json.dumps(facts, ensure_ascii=False, allow_nan=False)


# -- in a file ---------------------------------------------------------------------------------------------------------


def table(told: Replies) -> dict[str, Any]:
    """Columns by name: row, prediction, and for labels the probability of the prediction and of each of them.

    A prediction of several labels is a list, and has no probability of its own.
    """
    columns: dict[str, Any] = {"row": np.arange(told.first, told.first + len(told.predictions))}
    columns["prediction"] = told.predictions
    if told.labels and told.separator is None:
        columns["probability"] = told.highest
    for place, label in enumerate(told.labels):
        columns[f"probability_{label}"] = told.probabilities[:, place]
    return columns


def check_place(path: Path, overwrite: bool) -> str:
    """The format that the file's name ends in, if it can be written there.

    Raises:
        UserError: no such format, the file is there already, or its folder cannot be written.
    """
    form = path.suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise UserError(f"--out {path}: its name must end in one of .{', .'.join(FORMATS)}.")
    if path.exists() and (path.is_dir() or not overwrite):
        raise UserError(
            f"--out {path}: {'this is a folder' if path.is_dir() else 'is there already; --overwrite replaces it'}."
        )
    try:
        check_writable(path.parent)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}).") from None
    return form


@contextmanager
def writing(path: Path, form: str) -> Iterator[Callable[[Replies], None]]:
    """A function that adds answers to a file, which is whole when all went well and not there otherwise.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            if form == "parquet":
                with _parquet(temporary) as add:
                    yield add
            else:
                with temporary.open("w", encoding="utf-8", newline="") as file:
                    yield _json_writer(file) if form == "jsonl" else _csv_writer(file, "," if form == "csv" else "\t")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}).") from error


def _json_writer(file: IO[str]) -> Callable[[Replies], None]:
    return lambda told: file.writelines(f"{line}\n" for line in json_lines(told))


def _csv_writer(file: IO[str], separator: str) -> Callable[[Replies], None]:
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")

    def add(told: Replies) -> None:
        columns = table(told)
        if told.separator is not None:
            columns["prediction"] = [told.separator.join(names) for names in told.predictions]
        if file.tell() == 0:
            writer.writerow(map(harmless, columns))
        cells = [_cells(values) for values in columns.values()]
        writer.writerows(zip(*cells, strict=True))

    return add


def _cells(values: Any) -> Sequence[Any]:
    if isinstance(values, np.ndarray):
        return _rounded(values) if values.dtype.kind == "f" else values.tolist()
    return [harmless(value) if isinstance(value, str) else value for value in values]


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; one that is a number stays as it is."""
    is_formula = text[:1] in ("=", "+", "-", "@", "\t", "\r") and not re.fullmatch(r"[-+]?\d+([.,]\d+)?", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # csv.writer puts no quotes around a bare \r (Python < 3.13)
    return f"'{text}" if is_formula else text


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return np.round(values, 6).tolist()


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Replies], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None

    def add(told: Replies) -> None:
        nonlocal writer
        columns = table(told)
        if told.separator is not None:  # or a part of the file whose lists are all empty would be of another type
            columns["prediction"] = pa.array(told.predictions, pa.list_(pa.string()))
        rows: pa.Table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()
