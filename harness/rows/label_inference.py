"""What a label column asks for, worked out from the training rows: the kind of task and its labels."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError
from harness.facts.metrics import ProblemType
from harness.rows.columns import values_of

if TYPE_CHECKING:
    import datasets

MOST_CLASSES = 20
"""Whole numbers of more different values than this are taken for values, not for classes."""

_SEPARATORS = ("|", ";", ",")
_SHOWN = 5
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


class Answers(NamedTuple):
    """What is asked of a row."""

    problem_type: ProblemType
    labels: list[str] | list[int] | dict[str, str] | None
    """As a task file has them; None for a regression."""
    separator: str | None
    told: list[str]
    """Sentences for the user."""
    class_names: list[str] | None = None
    """Of a column of `datasets.ClassLabel`, by number."""

    @property
    def known(self) -> list[str]:
        """The labels' names in the order of the classes."""
        return [str(label) for label in self.labels or ()]

    def names(self, values: Iterable[Any]) -> list[Any]:
        """Values of the label column as `known` spells them."""
        return _names(values, self.class_names)


def answers_of(
    table: datasets.Dataset, columns: Sequence[str], problem_type: ProblemType | None, separator: str | None
) -> Answers:
    """What the label column, or one column for each label, of the training rows asks for.

    problem_type, separator: what the user says, which holds; the rest is worked out.

    Raises:
        UserError: there is nothing to learn from the column, or it is not of that problem_type.
    """
    if len(columns) > 1:
        if problem_type not in (None, "multi_label_classification"):
            raise UserError(f"--problem-type {problem_type}: several label columns are a multi_label_classification.")
        told = [f"problem type: multi_label_classification, {len(columns)} columns of 0 and 1"]
        unused = [column for column in columns if not any(map(_is_on, values_of(table, column)))]
        if unused:
            told.append(f"no training row has {', '.join(unused)}: nothing can be learned about it")
        return Answers("multi_label_classification", list(columns), None, told)
    (column,) = columns
    values, feature = values_of(table, column), table.features[column]
    if separator is not None and problem_type != "multi_label_classification":
        raise UserError("--label-separator: it belongs to --problem-type multi_label_classification.")
    if problem_type == "multi_label_classification" or (
        problem_type is None and any(isinstance(value, list) for value in values)
    ):
        return _sets(values, column, separator, getattr(getattr(feature, "feature", None), "names", None))
    _refuse_missing(values, column)
    odd = next((row for row, value in enumerate(values, 1) if isinstance(value, (list, dict))), None)
    if odd is not None:
        raise UserError(f"--label-column {column}: row {odd} is {values[odd - 1]!r}, which is no single label.")
    class_names = getattr(feature, "names", None)
    names = _names(values, class_names)
    counts = Counter(names)
    why = ""
    if problem_type is None:
        problem_type, why = ("single_label_classification", "") if class_names else _kind_of(values, counts, column)
    if problem_type == "regression":
        if len(counts) == 1:
            raise UserError(f"--label-column {column}: all {len(values):,} rows have the value {names[0]!r}.")
        return Answers(problem_type, None, None, [f"problem type: regression{why}"])
    _refuse_nothing_to_learn(counts, column)
    ordered = [name for name in class_names if name in counts] if class_names else _ordered(counts)
    told = [
        f"problem type: single_label_classification{why}",
        f"labels, as the training rows have them: {_shown(ordered, counts)}",
    ]
    if class_names and (unused := [name for name in class_names if name not in counts]):
        told.append(f"labels that no training row has are left out: {', '.join(unused)}")
    return Answers(problem_type, _as_in_a_file(ordered), None, told, class_names)


def is_hidden(value: Any) -> bool:
    """No label is there, or the -1 that stands for one."""
    return value is None or value in (-1, "-1", "")


def _names(values: Iterable[Any], class_names: Sequence[str] | None) -> list[Any]:
    """Values as texts: without surrounding blanks, in Unicode's composed form; their case is never touched."""
    if class_names:
        return [class_names[value] if value is not None and value >= 0 else value for value in values]
    return [_name(value) for value in values]


def _name(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return (
        unicodedata.normalize("NFC", value.strip()) if isinstance(value, str) else None if value is None else str(value)
    )


def _refuse_missing(values: Sequence[Any], column: str) -> None:
    missing = [row for row, value in enumerate(values, start=1) if _is_missing(value)]
    if missing:
        rows = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        raise UserError(
            f"--label-column {column}: {len(missing):,} of {len(values):,} training rows have no label: row {rows}. "
            "Take them out of the file."
        )


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _kind_of(values: Sequence[Any], counts: Counter[str], column: str) -> tuple[ProblemType, str]:
    """The kind that a column of single values is taken for, and why."""
    if all(isinstance(value, bool) for value in values):
        return "single_label_classification", ", true or false"
    commas = [
        row for row, value in enumerate(values, 1) if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip())
    ]
    if len(commas) > len(values) / 2:
        raise UserError(
            f"--label-column {column}: row {commas[0]} is {values[commas[0] - 1]!r}, as are {len(commas) - 1:,} more: "
            "numbers with a decimal comma. Write a decimal point; or say --problem-type single_label_classification if they are names."
        )
    numbers = [number for number in map(_number, counts) if number is not None]
    if len(numbers) < len(counts):
        if len(numbers) > len(counts) / 2 and len(counts) > MOST_CLASSES:
            row, odd = next((row, value) for row, value in enumerate(values, 1) if _number(_name(value)) is None)
            raise UserError(
                f"--label-column {column}: most are numbers, but row {row} is {odd!r}. Mend it, or say "
                "--problem-type single_label_classification."
            )
        if len(counts) > max(1, len(values) / 2) and len(values) >= 10:
            raise UserError(
                f"--label-column {column}: {len(counts):,} different labels in {len(values):,} rows; is this the "
                "column of the label? If it is, say --problem-type single_label_classification."
            )
        return "single_label_classification", ""
    if any(not number.is_integer() for number in numbers):
        return (
            "regression",
            f", {column!r} has numbers with a fraction (--problem-type single_label_classification takes them for names)",
        )
    if len(counts) == len(values) and len(values) > 2:
        raise UserError(
            f"--label-column {column}: each of the {len(values):,} rows has another whole number; is it the rows' "
            "numbering? If these are values, say --problem-type regression."
        )
    if len(counts) > MOST_CLASSES:
        return (
            "regression",
            f", {column!r} has {len(counts):,} different numbers (or say --problem-type single_label_classification)",
        )
    return (
        "single_label_classification",
        f", {column!r} has {len(counts)} different whole numbers (--problem-type regression takes them as values)",
    )


def _number(name: str | None) -> float | None:
    try:
        number = float(str(name))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refuse_nothing_to_learn(counts: Counter[str], column: str) -> None:
    rows = counts.total()
    if len(counts) == 1:
        raise UserError(
            f"--label-column {column}: all {rows:,} training rows have the one label {next(iter(counts))!r}."
        )
    if len(counts) == rows:
        raise UserError(
            f"--label-column {column}: each of the {rows:,} training rows has a label of its own, such as "
            f"{next(iter(counts))!r}; there is nothing to learn. Is it the column of the label?"
        )


def _ordered(names: Iterable[str]) -> list[str]:
    """Numbers by value, anything else by name."""
    found = sorted(names)
    numbers = {name: _number(name) for name in found}
    if all(number is not None for number in numbers.values()):
        return sorted(found, key=lambda name: numbers[name] or 0.0)
    return found


def _as_in_a_file(names: list[str]) -> list[str] | list[int] | dict[str, str]:
    """Names in order; where some look like numbers they are their own values, or 1 would be the second of them."""
    if all(_WHOLE.fullmatch(name) for name in names):
        return [int(name) for name in names]
    return {name: name for name in names} if any(_number(name) is not None for name in names) else names


def _shown(names: Sequence[str], counts: Counter[str]) -> str:
    shown = [f"{name} ({counts[name]:,})" for name in names]
    return ", ".join(
        shown if len(shown) <= MOST_CLASSES else [*shown[:MOST_CLASSES], f"and {len(shown) - MOST_CLASSES}"]
    )


# -- several labels a row ----------------------------------------------------------------------------------------------


def _sets(values: Sequence[Any], column: str, separator: str | None, class_names: Sequence[str] | None) -> Answers:
    told = ["problem type: multi_label_classification"]
    if missing := [row for row, value in enumerate(values, start=1) if value is None]:
        raise UserError(
            f"--label-column {column}: {len(missing):,} of {len(values):,} training rows have no value, the first is "
            f"row {missing[0]}. A row without labels has an empty text or list."
        )
    lists = [_listed(value) for value in values]
    if separator is None and any(found is None for found in lists):
        separator = next((sign for sign in _SEPARATORS if any(sign in str(value) for value in values)), None)
        if separator is None:
            raise UserError(
                f"--label-column {column}: no row has more than one label by any of {' '.join(_SEPARATORS)}. Name what "
                "separates them with --label-separator, or say --problem-type single_label_classification."
            )
        told.append(f"labels of a row are separated by {separator!r}")
    if separator is not None:
        if not any(separator in str(value) for value in values):
            raise UserError(
                f"--label-separator {separator!r}: it stands in no training row of {column!r}, so none would have more "
                "than one label. Name another, or say --problem-type single_label_classification."
            )
        lists = [[part for part in str(value).split(separator) if part.strip()] for value in values]
    counts = Counter(name for found in lists for name in _names(found or (), class_names))
    if len(counts) < 2:
        raise UserError(f"--label-column {column}: the training rows have {len(counts)} label; two or more are needed.")
    if None in counts or "" in counts:
        raise UserError(f"--label-column {column}: a row has an empty label in its list.")
    ordered = _ordered(counts)
    told.append(f"labels, as the training rows have them: {_shown(ordered, counts)}")
    return Answers(
        "multi_label_classification",
        _as_in_a_file(ordered),
        separator,
        told,
        list(class_names) if class_names else None,
    )


def _listed(value: Any) -> list[Any] | None:
    """A list, one written as JSON, none for an empty text; None for anything else."""
    if isinstance(value, list):
        return value
    text = str(value).strip()
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _is_on(value: Any) -> bool:
    """As a source that has a column for each label may write it; what is no such value is told when it is read."""
    return str(value).strip().lower() not in ("0", "0.0", "false")
