"""A source's label columns become class numbers, values or sets of labels; each fault is told with its row."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, did_you_mean
from harness.facts.tasks import TaskSpec
from harness.rows.columns import values_of

if TYPE_CHECKING:
    import datasets

_ON = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def read_labels(task: TaskSpec, split: str, table: datasets.Dataset) -> NDArray[Any]:
    """A split's labels in row order: int64[N] class numbers, float64[N] values, or int8[N, C] sets of 0 and 1.

    Raises:
        UserError: a label is unknown, hidden or no number, with its row from 1.
    """
    if not isinstance(task.label, str):
        columns = [_switches(task, split, column, values_of(table, column)) for column in task.label]
        return np.stack(columns, axis=1)
    values = values_of(table, task.label)
    if task.is_regression:
        return np.array([_number(task, split, row, value) for row, value in enumerate(values, 1)], np.float64)
    known = _known(task)
    feature = table.features[task.label]
    if not task.is_multi_label:
        values = _spelled(values, feature, known)
        return np.array([_class(task, split, row, value, known) for row, value in enumerate(values, 1)], np.int64)
    sets = np.zeros((len(values), task.classes), np.int8)
    for row, value in enumerate(values):
        for label in _spelled(_listed(task, split, row + 1, value), getattr(feature, "feature", None), known):
            sets[row, _class(task, split, row + 1, label, known)] = 1
    return sets


def tidy(value: Any) -> Any:
    """A label without surrounding blanks, in Unicode's composed form; its case is never touched."""
    return unicodedata.normalize("NFC", value.strip()) if isinstance(value, str) else value


def _known(task: TaskSpec) -> dict[Any, int]:
    """The class numbers by every spelling of a label: its name, and its value in the source as it is and as a text."""
    labels = task.labels or {}
    names = {tidy(name): number for number, name in enumerate(labels)}
    values = {key: number for number, value in enumerate(labels.values()) for key in (tidy(value), tidy(str(value)))}
    return values | names


def _spelled(values: Sequence[Any], feature: Any, known: Mapping[Any, int]) -> list[Any]:
    """Values with the names that a column of `datasets.ClassLabel` has for its numbers, where the task knows those."""
    names = getattr(feature, "names", None)
    if not names or not {tidy(name) for name in names} & set(known):
        return list(values)
    return [names[value] if value is not None and value >= 0 else value for value in values]


def _class(task: TaskSpec, split: str, row: int, value: Any, known: Mapping[Any, int]) -> int:
    key = _key(value, known)
    if key not in known:
        raise UserError(_bad_label(task, split, row, value))
    return known[key]


def _key(value: Any, known: Mapping[Any, int]) -> Any:
    """What a label is looked up as."""
    if isinstance(value, bool):  # the label called true or True where there is one, else the number 0 or 1
        return next((spelled for spelled in (str(value).lower(), str(value)) if spelled in known), int(value))
    return None if isinstance(value, (list, dict)) else tidy(value)


def _listed(task: TaskSpec, split: str, row: int, value: Any) -> list[Any]:
    """The labels of a row: a list, a list written as JSON, or a text with the task's separator; an empty text has none.

    None is a hidden label and not a row without labels, which would be scored.
    """
    if isinstance(value, str):
        if task.separator is not None:
            return [part for part in value.split(task.separator) if part.strip()]
        if isinstance(read := _json(value), list):
            return read
    if isinstance(value, list):
        return value
    where = _where(task, split, row, task.label)
    if _is_hidden(value):
        raise UserError(f"{where} has {_HIDDEN.format(value=value)} A row without labels has an empty text or list.")
    hint = " If it is several labels in one text, name what separates them: 'separator: \";\"'."
    raise UserError(f"{where} is {value!r}, not a list of labels.{hint if isinstance(value, str) else ''}")


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else []
    except ValueError:
        return None


def _switches(task: TaskSpec, split: str, column: str, values: Sequence[Any]) -> NDArray[np.int8]:
    """A column that says of one label, for each row, whether it has it."""
    found = np.empty(len(values), np.int8)
    for row, value in enumerate(values):
        key = str(value).strip().lower()
        if key not in _ON:
            where = _where(task, split, row + 1, column)
            if _is_hidden(value):
                raise UserError(f"{where} has {_HIDDEN.format(value=value)}")
            raise UserError(f"{where} is {value!r}; where each label has a column, it holds 0 or 1.")
        found[row] = _ON[key]
    return found


def _number(task: TaskSpec, split: str, row: int, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        hint = " Write a decimal point." if isinstance(value, str) and "," in value else ""
        raise UserError(f"{_where(task, split, row, task.label)} is {value!r}, not a number.{hint}")
    return number


_HIDDEN = "a hidden label ({value!r}): such a split belongs under 'predict' and is never scored."


def _is_hidden(value: Any) -> bool:
    return value is None or value in (-1, "-1")


def _bad_label(task: TaskSpec, split: str, row: int, value: Any) -> str:
    where = _where(task, split, row, task.label)
    if _is_hidden(value):
        return f"{where} has {_HIDDEN.format(value=value)}"
    names = list(task.labels or {})
    return f"{where} is {value!r}, not one of the labels {', '.join(names)}.{did_you_mean(str(value), names)}"


def _where(task: TaskSpec, split: str, row: int, column: Any) -> str:
    return f"task {task.name}: column {column!r} in row {row} of split {split!r}"
