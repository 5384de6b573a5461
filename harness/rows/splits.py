"""A split in canonical columns, made from the source's; outside this module, the source's column names are not used."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.facts.texts import ChoiceSource, TextSource
from harness.rows.candidates import Candidates, read_candidates
from harness.rows.columns import column_names, column_values, has_column, missing_column_message
from harness.rows.labels import read_labels

if TYPE_CHECKING:
    import datasets


class Split(NamedTuple):
    """The rows of a split, in order."""

    text: list[str]
    pair: list[str] | None
    label: NDArray[Any] | None
    """Class numbers int64[N], values float64[N], label sets int8[N, C] of 0 and 1, or None if hidden."""
    row_groups: NDArray[np.int64] | None = None
    """The number of each row's group, from 0 in the order of their first rows, int64[N], in a task of groups."""
    ids: Mapping[str, list[Any]] = MappingProxyType({})
    """The columns that identify a row."""
    choices: list[tuple[str, ...]] | None = None
    """The candidates of each row, the same number in all rows, in a task of multiple choice."""
    candidates: list[str] | None = None
    """The candidate that each row is about, in a selection of answers, whose questions are the groups of rows."""
    agreement: NDArray[np.float64] | None = None
    """Agreement of each candidate with the right answers, 1 where it is one, float64[N]; None if they are hidden."""

    @property
    def gold(self) -> NDArray[Any] | None:
        """The labels that predictions are compared with: agreements of candidates, otherwise those of training."""
        return self.label if self.agreement is None else self.agreement

    @property
    def questions(self) -> NDArray[np.int64] | None:
        """The number of each row's question, in a selection of answers."""
        return None if self.candidates is None else self.row_groups

    @property
    def predicted(self) -> int:
        """The number of predictions: one for each row, or for each question."""
        return len(self.text) if self.questions is None else int(self.questions[-1]) + 1

    @property
    def texts(self) -> list[tuple[str, str | None]]:
        """The text of each row with its second text, or with its candidates in one text."""
        seconds = self.pair or (None if self.choices is None else [" | ".join(each) for each in self.choices])
        return list(zip(self.text, seconds or itertools.repeat(None), strict=False))

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The rows with these numbers, from 0, in this order."""
        return Split(
            [self.text[row] for row in rows],
            None if self.pair is None else [self.pair[row] for row in rows],
            None if self.label is None else self.label[rows],
            None if self.row_groups is None else self.row_groups[rows],
            {name: [values[row] for row in rows] for name, values in self.ids.items()},
            None if self.choices is None else [self.choices[row] for row in rows],
            None if self.candidates is None else [self.candidates[row] for row in rows],
            None if self.agreement is None else self.agreement[rows],
        )


def swapped_pairs(split: Split) -> Split:
    """The rows of a split of pairs, with the two texts of each in the other order."""
    assert split.pair is not None
    return split._replace(text=split.pair, pair=split.text)


class _Source(NamedTuple):
    """A table of the source, in which a row with a list of candidates is a row for each of them."""

    table: datasets.Dataset
    column: str | None
    """The column of candidates."""
    candidates: Candidates | None

    def values(self, column: str) -> list[Any]:
        """The values of a column, in row order."""
        if self.candidates is None:
            return column_values(self.table, column)
        if column == self.column:
            return self.candidates.texts
        values = column_values(self.table, column)
        return [values[row] for row in self.candidates.rows]


def canonical_split(task: TaskSpec, name: str, table: datasets.Dataset, hidden: bool) -> Split:
    """The rows of a split; hidden: without its labels.

    Raises:
        UserError: a column is missing, a text, label or candidate is invalid (with its row), or the split is empty.
    """
    if len(table) == 0:
        raise UserError(f"task {task.name}: split {name!r} is empty: {task.splits.get(name, name)} of the source.")
    used = [*task.text_columns, *(() if hidden else task.label_columns), *task.group, *task.id]
    check_columns(task, name, table, [*used, *filter(None, [task.candidates])])
    candidates = None if task.candidates is None else read_candidates(task, name, table, hidden)
    source = _Source(table, task.candidates, candidates)
    texts = [_texts(task, name, source, column) for column in task.text]
    return Split(
        text=texts[0],
        pair=texts[1] if len(texts) > 1 else None,
        label=candidates.labels if candidates else None if hidden else read_labels(task, name, table),
        row_groups=candidates.rows if candidates else _row_groups(task, name, table),
        ids={column: source.values(column) for column in task.id},
        choices=None if task.choice_source is None else _composed(task, name, source, task.choice_source, "choices"),
        candidates=candidates.texts if candidates else None,
        agreement=candidates.agreement if candidates else None,
    )


def _row_groups(task: TaskSpec, name: str, table: datasets.Dataset) -> NDArray[np.int64] | None:
    check_group_rows(task, name, table)
    if task.group_rows is not None:
        return np.arange(len(table)) // task.group_rows
    if not task.group:
        return None
    numbers: dict[tuple[Any, ...], int] = {}
    values = _group_names(task, table)
    for row, each in enumerate(values, start=1):
        if None in each:
            column = task.group[each.index(None)]
            raise UserError(f"task {task.name}: column {column!r}, row {row} of split {name!r}: missing group.")
        numbers.setdefault(each, len(numbers))
    return np.array([numbers[each] for each in values], np.int64)


def check_group_rows(task: TaskSpec, name: str, table: datasets.Dataset) -> None:
    """Raises UserError when the number of rows is not a multiple of the task's `group_rows`."""
    if task.group_rows is not None and len(table) % task.group_rows:
        raise UserError(
            f"task {task.name}: split {name!r} has {len(table):,} rows: expected groups of {task.group_rows} "
            "consecutive rows (group_rows)."
        )


def _group_names(task: TaskSpec, table: datasets.Dataset) -> list[tuple[Any, ...]]:
    """The values that name the group of each row."""
    return list(zip(*(map(_hashable, column_values(table, column)) for column in task.group), strict=True))


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, (list, dict)) else value


def check_groups(task: TaskSpec, tables: Mapping[str, datasets.Dataset]) -> None:
    """Raises UserError when a group has rows in two splits that are parts of the same split of the source."""
    parts = {name: set(re.findall(r"[^\W\d][\w.-]*(?=\[|\+|$)", text)) for name, text in task.splits.items()}
    names = {name: _group_names(task, table) for name, table in tables.items()}
    for first, second in itertools.combinations(names, 2):
        if parts[first] & parts[second] and (shared := set(names[first]) & set(names[second])):
            row = next(row for row, name in enumerate(names[second], start=1) if name in shared)
            raise UserError(
                f"task {task.name}: the group {', '.join(map(repr, names[second][row - 1]))} has rows in the splits "
                f"{first!r} and {second!r} (row {row}). Cut the splits between groups, or use `stratified`, which does."
            )


def check_whole_groups(task: TaskSpec, name: str, parts: Iterable[Any], tables: Mapping[str, datasets.Dataset]) -> None:
    """Raises UserError when a split has some rows of a group and lacks others of the same split of the source.

    parts: absolute instructions of `datasets`, which cut the split from `tables`.
    """
    used: dict[str, NDArray[np.bool_]] = {}
    for part in parts:
        rows = used.setdefault(part.splitname, np.zeros(len(tables[part.splitname]), bool))
        rows[part.from_ : part.to] = True
    for source, rows in used.items():
        if rows.all() or not all(has_column(tables[source], column) for column in task.group):
            continue  # a missing column is named with the split's others
        row_groups = _row_groups(task, source, tables[source])
        if row_groups is None:
            return
        cut = np.isin(row_groups, row_groups[rows]) & ~rows
        if cut.any():
            left_out = int(np.flatnonzero(cut)[0])
            row = int(np.flatnonzero(rows & (row_groups == row_groups[left_out]))[0])
            raise UserError(
                f"task {task.name}: split {name!r} is {task.splits[name]!r}, which has row {row + 1} of {source!r} "
                f"without row {left_out + 1} of the same group. Cut it between groups, or use `stratified`, which does."
            )


def check_columns(task: TaskSpec, split: str, table: datasets.Dataset, columns: Iterable[str]) -> None:
    """Raises UserError when the table has not all of these columns."""
    for column in columns:
        if not has_column(table, column):
            message = missing_column_message(column, f" in split {split!r}", column_names(table.data.schema))
            raise UserError(f"task {task.name}: {message}")


def _texts(task: TaskSpec, split: str, source: _Source, name: str) -> list[str]:
    """A text of each row: a column, or what is composed from several."""
    text_source = task.text_source(name)
    if text_source.is_column:
        texts = source.values(name)
        if all(isinstance(text, str) for text in texts):
            return texts
    return _composed(task, split, source, text_source, name)


def _composed(task: TaskSpec, split: str, source: _Source, composer: TextSource | ChoiceSource, name: str) -> list[Any]:
    """The text or the candidates that `composer` makes of each row; an error shows `name` and the source's row."""
    columns = [source.values(column) for column in composer.columns]
    composed = []
    for number, values in enumerate(zip(*columns, strict=True)):
        try:
            composed.append(composer.compose(dict(zip(composer.columns, values, strict=True))))
        except ValueError as error:
            row = 1 + (number if source.candidates is None else int(source.candidates.rows[number]))
            raise UserError(f"task {task.name}: column {name!r}, row {row} of split {split!r}: {error}.") from None
    return composed
