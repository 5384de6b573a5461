"""Label columns of a source as class numbers, values or label sets; an invalid label is named with its row."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, did_you_mean
from harness.facts.tasks import TaskSpec
from harness.rows.columns import column_feature, column_values

if TYPE_CHECKING:
    import datasets

MAX_NUMBER = 1e18
"""The largest value of a regression: training squares it in float32, which ends at 3e38."""

_BINARY = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def read_labels(task: TaskSpec, split: str, table: datasets.Dataset) -> NDArray[Any]:
    """A split's labels in row order: class numbers int64[N], values float64[N], or label sets int8[N, C] of 0 and 1.

    Raises:
        UserError: a label is unknown, hidden or not a number, with its row from 1.
    """
    if not isinstance(task.label, str):
        columns = [_binary_column(task, split, column, column_values(table, column)) for column in task.label]
        return np.stack(columns, axis=1)
    values = column_values(table, task.label)
    if task.is_regression:
        return np.array([_number(task, split, row, value) for row, value in enumerate(values, 1)], np.float64)
    classes = _classes(task)
    feature = column_feature(table, task.label)
    if not task.is_multi_label:
        values = _decode(values, feature, classes)
        return np.array([_class(task, split, row, value, classes) for row, value in enumerate(values, 1)], np.int64)
    label_sets = np.zeros((len(values), task.classes), np.int8)
    for row, value in enumerate(values):
        for label in _decode(_label_list(task, split, row + 1, value), getattr(feature, "feature", None), classes):
            label_sets[row, _class(task, split, row + 1, label, classes)] = 1
    return label_sets


def normalize_label(value: Any) -> Any:
    """A label without surrounding blanks, in Unicode's composed form (NFC); case is kept."""
    return unicodedata.normalize("NFC", value.strip()) if isinstance(value, str) else value


def label_name(value: Any) -> Any:
    """The name of a label of any type as inference writes it, such as true, 2 for 2.0, or 2026-01-31; None for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None if value is None else normalize_label(str(value))


def split_labels(text: str, separator: str) -> list[str]:
    """The labels of a row in one text; blank ones are left out."""
    return [part for part in text.split(separator) if part.strip()]


def parse_label_list(value: Any) -> list[Any] | None:
    """A list, or one written as JSON; an empty list for an empty text; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _classes(task: TaskSpec) -> dict[Any, int]:
    """The class number of every spelling of a label: its name, and its value in the source, also as text."""
    labels = task.labels or {}
    names = {normalize_label(name): number for number, name in enumerate(labels)}
    values = {
        key: number
        for number, value in enumerate(labels.values())
        for key in (normalize_label(value), normalize_label(str(value)))
    }
    return values | names


def _decode(values: Sequence[Any], feature: Any, classes: Mapping[Any, int]) -> list[Any]:
    """The names of the numbers in a `datasets.ClassLabel` column, where the task knows these names."""
    names = getattr(feature, "names", None)
    if not names or not {normalize_label(name) for name in names} & set(classes):
        return list(values)
    return decode_class_names(values, names)


def decode_class_names(values: Iterable[Any], names: Sequence[str]) -> list[Any]:
    """The names of class numbers; None, and a number that has no name, stay as they are."""
    by_number = dict(enumerate(names))
    return [by_number.get(value, value) for value in values]


def _class(task: TaskSpec, split: str, row: int, value: Any, classes: Mapping[Any, int]) -> int:
    key = _key(value, classes)
    if key not in classes:
        message = _hidden_message(task, split, row, task.label, value)
        names = list(task.labels or {})
        raise UserError(
            message
            or f"{_location(task, split, row, task.label)}: unknown label {value!r}; labels: {', '.join(names)}."
            f"{did_you_mean(str(value), names)}"
        )
    return classes[key]


def _key(value: Any, classes: Mapping[Any, int]) -> Any:
    if isinstance(value, bool):  # the label named true or True if there is one, else the number 0 or 1
        return next((name for name in (str(value).lower(), str(value)) if name in classes), int(value))
    if isinstance(value, (list, dict)):
        return None
    key = normalize_label(value)
    return key if key in classes else label_name(value)


def _label_list(task: TaskSpec, split: str, row: int, value: Any) -> list[Any]:
    """The labels of a row: a list, a list as JSON, or a text with the task's separator; an empty text has none.

    None is a hidden label, not a row without labels, which would be scored.
    """
    if isinstance(value, str) and task.separator is not None:
        return split_labels(value, task.separator)
    if (labels := parse_label_list(value)) is not None:
        return labels
    if message := _hidden_message(task, split, row, task.label, value):
        raise UserError(f"{message} For a row without labels, use an empty text or list.")
    advice = " If it has several labels, name their separator: 'separator: \";\"'." if isinstance(value, str) else ""
    raise UserError(f"{_location(task, split, row, task.label)}: expected a list of labels, got {value!r}.{advice}")


def _binary_column(task: TaskSpec, split: str, column: str, values: Sequence[Any]) -> NDArray[np.int8]:
    """The column of one label: 1 for the rows that have it, int8[N]."""
    labels = np.empty(len(values), np.int8)
    for row, value in enumerate(values):
        key = str(value).strip().lower()
        if key not in _BINARY:
            message = _hidden_message(task, split, row + 1, column, value)
            raise UserError(message or f"{_location(task, split, row + 1, column)}: expected 0 or 1, got {value!r}.")
        labels[row] = _BINARY[key]
    return labels


def _number(task: TaskSpec, split: str, row: int, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= MAX_NUMBER:
        advice = " Use a decimal point." if isinstance(value, str) and "," in value else ""
        if math.isfinite(number):
            advice = f" It is out of range: the largest number is {MAX_NUMBER:g}."
        raise UserError(f"{_location(task, split, row, task.label)}: expected a number, got {value!r}.{advice}")
    return number


def _hidden_message(task: TaskSpec, split: str, row: int, column: Any, value: Any) -> str | None:
    """The message for a hidden label, None or -1; None for any other value."""
    if value not in (None, -1, "-1"):
        return None
    return (
        f"{_location(task, split, row, column)}: hidden label ({value!r}). A split with hidden labels belongs under "
        "'predict' and is never scored."
    )


def _location(task: TaskSpec, split: str, row: int, column: Any) -> str:
    return f"task {task.name}: column {column!r}, row {row} of split {split!r}"
