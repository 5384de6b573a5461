"""The problem type and the labels of a task, inferred from the label column of its training rows."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError, list_first
from harness.metrics.metric import ProblemType
from harness.rows.columns import column_feature, column_values
from harness.rows.labels import decode_class_names, label_name, parse_label_list, split_labels

if TYPE_CHECKING:
    import datasets

MAX_CLASSES = 20
"""Whole numbers with more different values than this are inferred as a regression."""

MAX_LABELS = 10_000
"""Labels of a task: each one is a column of every score."""

_SEPARATORS = ("|", ";", ",")
_MOST_SHOWN = 5
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,19})")
"""A whole number of at most 64 bits; more digits are a name."""
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_PYTHON_LIST = re.compile(r"\[\s*['\"].*\]", re.DOTALL)
_AS_NAMES = "--problem-type single_label_classification"
_AS_VALUES = "--problem-type regression"
_AS_SETS = "--problem-type multi_label_classification"


class InferredLabels(NamedTuple):
    """The labels of a task."""

    problem_type: ProblemType
    labels: list[str] | list[int] | dict[str, Any] | None
    """`TaskSpec.labels` as a task file has them; None for a regression."""
    separator: str | None
    messages: list[str]
    """Messages for the user about what was inferred."""
    class_names: Sequence[str] | None = None
    """Names of a column of `datasets.ClassLabel`, by number."""

    @property
    def names(self) -> list[str]:
        """The labels' names in the order of the classes."""
        return [str(label) for label in self.labels or ()]

    def to_names(self, values: Iterable[Any]) -> list[Any]:
        """Values of the label column in the spelling of `names`."""
        return _to_names(values, self.class_names)


def infer_labels(
    table: datasets.Dataset, columns: Sequence[str], problem_type: ProblemType | None, separator: str | None
) -> InferredLabels:
    """The labels of training rows from their label column, or from one column per label.

    A `problem_type` or `separator` that the user gives is used; otherwise it is inferred.

    Raises:
        UserError: the column cannot be learned, or does not fit `problem_type`.
    """
    if len(columns) > 1:
        return _infer_from_columns(table, columns, problem_type)
    (column,) = columns
    values, feature = column_values(table, column), column_feature(table, column)
    if separator is not None and problem_type != "multi_label_classification":
        raise UserError("--label-separator: needs --problem-type multi_label_classification.")
    if problem_type == "multi_label_classification" or (
        problem_type is None and any(isinstance(value, list) for value in values)
    ):
        return _infer_label_sets(values, column, separator, getattr(getattr(feature, "feature", None), "names", None))
    _check_complete(values, column)
    class_names = getattr(feature, "names", None)
    names = _to_names(values, class_names)
    counts = Counter(names)
    reason = ""
    if problem_type is None:
        problem_type, reason = (
            ("single_label_classification", "") if class_names else _infer_problem_type(values, counts, column)
        )
    if problem_type == "regression":
        if len(counts) == 1:
            raise UserError(_constant_label(column, len(values), f"value {names[0]!r}"))
        return InferredLabels(problem_type, None, None, [f"problem type: regression{reason}"])
    _check_learnable(counts, column)
    _check_number(counts, column)
    ordered = [name for name in class_names if name in counts] if class_names else _sorted_names(counts)
    messages = [
        f"problem type: single_label_classification{reason}",
        f"labels, with training rows: {_show_counts(ordered, counts)}",
        *_spelling_messages(ordered),
    ]
    if separator := _separator_of_label_sets(values):
        messages.append(f"{separator!r} seems to separate several labels per row: to read them as sets, add {_AS_SETS}")
    if class_names and (unused := [name for name in class_names if name not in counts]):
        messages.append(f"labels without training rows, left out: {', '.join(unused)}")
    return InferredLabels(problem_type, _task_labels(ordered), None, messages, class_names)


def infer_choice_labels(table: datasets.Dataset, column: str, choices: Sequence[str]) -> InferredLabels:
    """The labels of a task of multiple choice: the names of the columns of candidates; choice1, choice2, ... for lists.

    The label column has these names, the numbers of the candidates from 0 or from 1, or letters from A.

    Raises:
        UserError: a label names no candidate, or the first list has fewer than two.
    """
    values, class_names = column_values(table, column), getattr(column_feature(table, column), "names", None)
    if any(isinstance(value, list) for value in values):
        raise UserError(
            f"--label-column {column}: expected one right candidate per row, got a list. Where several may be right, "
            "name the column of the lists of candidates with --candidates-column."
        )
    _check_complete(values, column)
    names = list(choices)
    if len(choices) == 1:
        first = column_values(table, choices[0])[0]
        number = len(parse_label_list(first) or ())
        if number < 2:
            raise UserError(f"--choice-columns {choices[0]}: expected a list of candidates in row 1, got {first!r}.")
        names = [f"choice{position}" for position in range(1, number + 1)]
    numbers = range(len(names) + 1)
    spellings: dict[str, list[Any]] = {
        "its name": names,
        "its number from 1": list(numbers[1:]),
        "its number from 0": list(numbers[:-1]),
        "its letter": [chr(ord("A") + number) for number in numbers[:-1]],
    }
    occurring = set(_to_names(values, class_names))
    if "0" in occurring or str(len(names)) not in occurring:
        del spellings["its number from 1"]
    for how, spelling in spellings.items():
        if occurring <= set(map(str, spelling)):
            messages = [f"problem type: multiple_choice, {len(names)} candidates; {column!r} has {how}"]
            labels = dict(zip(names, spelling, strict=True))
            return InferredLabels("multiple_choice", labels, None, messages, class_names)
    likely = max((set(map(str, spelling)) for spelling in spellings.values()), key=lambda known: len(known & occurring))
    row, value = next(
        (row, name) for row, name in enumerate(_to_names(values, class_names), start=1) if name not in likely
    )
    raise UserError(
        f"--label-column {column}: {value!r} in row {row} names no candidate: expected {', '.join(names)}, 0 to "
        f"{len(names) - 1}, 1 to {len(names)}, or A to {chr(ord('A') + len(names) - 1)}, the same in all rows."
    )


def is_unlabelled(value: Any) -> bool:
    """True for a missing label, also one that is written as -1."""
    return value in (None, -1, "-1", "")


def _infer_from_columns(
    table: datasets.Dataset, columns: Sequence[str], problem_type: ProblemType | None
) -> InferredLabels:
    if problem_type not in (None, "multi_label_classification"):
        raise UserError(
            f"--problem-type {problem_type}: several label columns are supported for multi_label_classification only."
        )
    messages = [f"problem type: multi_label_classification, {len(columns)} columns of 0 and 1"]
    if unused := [column for column in columns if not any(map(_is_on, column_values(table, column)))]:
        messages.append(f"labels without training rows, which cannot be learned: {', '.join(unused)}")
    return InferredLabels("multi_label_classification", list(columns), None, messages)


def _to_names(values: Iterable[Any], class_names: Sequence[str] | None) -> list[Any]:
    if class_names:
        return decode_class_names(values, class_names)
    return [label_name(value) for value in values]


def _check_complete(values: Sequence[Any], column: str) -> None:
    """Raises UserError when a row has no label, or a list or object as its label."""
    missing = [row for row, value in enumerate(values, start=1) if _is_missing(value)]
    if missing:
        advice = "Remove them from the file."
        if separator := _separator_of_label_sets(values):
            advice += (
                f" Or, if {separator!r} separates several labels and an empty cell means no label, add {_AS_SETS}."
            )
        if len(missing) == len(values):
            advice = "Name another column. In an Excel file, formulas have no values until Excel has saved it."
        raise UserError(
            f"--label-column {column}: {len(missing):,} of {len(values):,} training rows have no label: row "
            f"{list_first(missing, _MOST_SHOWN)}. {advice}"
        )
    for row, value in enumerate(values, start=1):
        if isinstance(value, (list, dict)) or value in (math.inf, -math.inf):
            raise UserError(f"--label-column {column}: expected a single label in row {row}, got {value!r}.")


def _separator_of_label_sets(values: Iterable[Any]) -> str | None:
    """The separator if splitting by it gives fewer labels than there are texts, as in `a`, `b`, `a;b`; else None."""
    texts = {value.strip() for value in values if isinstance(value, str) and not _DECIMAL_COMMA.fullmatch(value)}
    texts.discard("")
    for separator in _SEPARATORS:
        labels = {label.strip() for text in texts for label in text.split(separator)}
        if len(labels) < len(texts):
            return separator
    return None


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _infer_problem_type(values: Sequence[Any], counts: Counter[str], column: str) -> tuple[ProblemType, str]:
    """The problem type of a column of single values, and the reason for it, which continues the message."""
    if all(isinstance(value, bool) for value in values):
        return "single_label_classification", ", true or false"
    _check_decimal_points(values, column)
    numbers = [number for number in map(_number, counts) if number is not None]
    if len(numbers) < len(counts):
        _check_names(values, counts, len(numbers), column)
        return "single_label_classification", ""
    if any(not number.is_integer() for number in numbers):
        return "regression", f", {column!r} has numbers with a fraction ({_AS_NAMES} makes them names)"
    if len(counts) == len(values) and len(values) > 2:
        raise UserError(
            f"--label-column {column}: each of the {len(values):,} rows has another whole number, like a row number. "
            f"If these are the labels, add {_AS_VALUES}."
        )
    if len(counts) > MAX_CLASSES:
        return "regression", f", {column!r} has {len(counts):,} different numbers ({_AS_NAMES} makes them names)"
    return (
        "single_label_classification",
        f", {column!r} has {len(counts)} different whole numbers ({_AS_VALUES} makes them values)",
    )


def _check_decimal_points(values: Sequence[Any], column: str) -> None:
    rows = [
        row for row, value in enumerate(values, 1) if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip())
    ]
    if len(rows) > len(values) / 2:
        raise UserError(
            f"--label-column {column}: numbers with a comma: {values[rows[0] - 1]!r} in row {rows[0]}, and "
            f"{len(rows) - 1:,} more. Write decimals with a point and thousands without a separator, or add "
            f"{_AS_NAMES} if they are names."
        )


def _check_names(values: Sequence[Any], counts: Counter[str], numbers: int, column: str) -> None:
    """Raises UserError when labels that are not all numbers look like damaged numbers or like free text."""
    if numbers > len(counts) / 2 and len(counts) > MAX_CLASSES:
        row, other = next((row, value) for row, value in enumerate(values, 1) if _number(label_name(value)) is None)
        raise UserError(
            f"--label-column {column}: most values are numbers, but row {row} is {other!r}. Correct it, or add "
            f"{_AS_NAMES}."
        )
    if len(counts) > max(1, len(values) / 2) and len(values) >= 10:
        raise UserError(
            f"--label-column {column}: {len(counts):,} different labels in {len(values):,} rows. Is this the label "
            f"column? If it is, add {_AS_NAMES}."
        )


def _number(name: str | None) -> float | None:
    try:
        number = float(str(name))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_learnable(counts: Counter[str], column: str) -> None:
    rows, example = counts.total(), next(iter(counts))
    if len(counts) == 1:
        raise UserError(_constant_label(column, rows, f"label {example!r}"))
    if len(counts) == rows:
        raise UserError(
            f"--label-column {column}: each of the {rows:,} training rows has another label, such as {example!r}, so "
            "nothing can be learned. Is this the label column?"
        )


def _constant_label(column: str, rows: int, label: str) -> str:
    return (
        f"--label-column {column}: all {rows:,} training row(s) have the {label}: expected at least two different "
        "ones. Name another column, or add rows."
    )


def _check_number(counts: Counter[str], column: str) -> None:
    if len(counts) > MAX_LABELS:
        raise UserError(
            f"--label-column {column}: expected at most {MAX_LABELS:,} labels, got {len(counts):,}. Merge rare "
            "ones, or name another column."
        )


def _sorted_names(names: Iterable[str]) -> list[str]:
    """Names by value if all are numbers, else in alphabetical order."""
    ordered = sorted(names)
    numbers = {name: _number(name) for name in ordered}
    if all(number is not None for number in numbers.values()):
        return sorted(ordered, key=lambda name: numbers[name] or 0.0)
    return ordered


def _task_labels(names: list[str]) -> list[str] | list[int] | dict[str, str]:
    """Labels as `TaskSpec.labels`. Names that look like numbers are their own values; otherwise 1 would be class 1."""
    if all(_WHOLE.fullmatch(name) for name in names):
        return [int(name) for name in names]
    return {name: name for name in names} if any(_number(name) is not None for name in names) else names


def _show_counts(names: Sequence[str], counts: Counter[str]) -> str:
    shown = [f"{name} ({counts[name]:,})" for name in names[:MAX_CLASSES]]
    return ", ".join(shown if len(names) <= MAX_CLASSES else [*shown, f"and {len(names) - MAX_CLASSES} more"])


def _spelling_messages(names: Iterable[str]) -> list[str]:
    """A message about different labels that are likely one: the same number, or a text in another case."""
    by_key: dict[Any, list[str]] = {}
    for name in names:
        visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
        key = visible.casefold() if _number(name) is None else Decimal(name)
        by_key.setdefault(key, []).append(name)
    same = [", ".join(map(repr, group)) for group in by_key.values() if len(group) > 1]
    return [f"different labels that differ only in spelling: {'; '.join(same[:_MOST_SHOWN])}"] if same else []


# -- several labels per row --------------------------------------------------------------------------------------------


def _infer_label_sets(
    values: Sequence[Any], column: str, separator: str | None, class_names: Sequence[str] | None
) -> InferredLabels:
    messages = ["problem type: multi_label_classification"]
    if missing := [row for row, value in enumerate(values, start=1) if value is None]:
        raise UserError(
            f"--label-column {column}: {len(missing):,} of {len(values):,} training rows have no value, the first is "
            f"row {missing[0]}. For a row without labels, use an empty text or list."
        )
    lists = [parse_label_list(value) for value in values]
    for row, (value, labels) in enumerate(zip(values, lists, strict=True), start=1):
        if labels is None and _PYTHON_LIST.fullmatch(str(value).strip()):
            raise UserError(
                f"--label-column {column}: row {row} is {value!r}, a list as Python prints it. Write lists as JSON, "
                'with double quotes: ["a", "b"].'
            )
        if any(isinstance(label, (list, dict)) for label in labels or ()):
            raise UserError(f"--label-column {column}: expected a list of labels in row {row}, got {value!r}.")
    _refuse_vectors(lists, column)
    if separator is None and any(labels is None for labels in lists):
        separator = next((text for text in _SEPARATORS if any(text in str(value) for value in values)), None)
        if separator is None:
            raise UserError(
                f"--label-column {column}: no row has several labels separated by one of {' '.join(_SEPARATORS)}. Name "
                f"the separator with --label-separator, or add {_AS_NAMES}."
            )
        messages.append(f"label separator: {separator!r}")
    if separator is not None:
        if not any(separator in str(value) for value in values):
            raise UserError(
                f"--label-separator {separator!r}: not found in any training row of {column!r}, so no row would have "
                f"several labels. Name another, or add {_AS_NAMES}."
            )
        lists = [split_labels(str(value), separator) for value in values]
    counts = Counter(name for labels in lists for name in set(_to_names(labels or (), class_names)))
    if len(counts) < 2:
        raise UserError(
            f"--label-column {column}: expected two labels or more in the training rows, got {len(counts)}."
        )
    if None in counts or "" in counts:
        raise UserError(f"--label-column {column}: a row has an empty label in its list.")
    _check_number(counts, column)
    ordered = _sorted_names(counts)
    messages += [f"labels, with training rows: {_show_counts(ordered, counts)}", *_spelling_messages(ordered)]
    return InferredLabels("multi_label_classification", _task_labels(ordered), separator, messages, class_names)


def _refuse_vectors(lists: Sequence[list[Any] | None], column: str) -> None:
    """Raises UserError for lists with a 0 or 1 for each label, which would be read as lists of the labels 0 and 1."""
    names = [[label_name(label) for label in labels or ()] for labels in lists]
    is_zero_or_one = all(name in ("0", "1") for labels in names for name in labels)
    if is_zero_or_one and any(len(set(labels)) < len(labels) for labels in names):
        raise UserError(
            f"--label-column {column}: vectors of 0 and 1, such as {lists[0]!r:.100}: expected a list of the labels "
            "that a row has, or one column of 0 and 1 for each label (--label-column first,second)."
        )


def _is_on(value: Any) -> bool:
    """False for a 0 in a column of one label; invalid values are reported when the rows are read."""
    return str(value).strip().lower() not in ("0", "0.0", "false")
