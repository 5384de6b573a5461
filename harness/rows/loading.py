"""Any source becomes splits with canonical columns: beyond this module nobody sees a data set's own names."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from harness.errors import UserError, did_you_mean
from harness.facts.records import DataFacts
from harness.facts.tasks import TaskSpec, held_out
from harness.rows.columns import Reading, values_of
from harness.rows.files import ALL_ROWS, DataFile, Files, download, file_hash, wrong_checksum
from harness.rows.formats import read
from harness.rows.labels import read_labels
from harness.rows.stratified import Part, part_of, rows_of
from harness.system.hub import persistently

SUBSET_SEED = 42
"""Seed of `train_rows` and of the holdout protocol: the same rows for every run."""

_SHOWN_ROWS = 5


class Split(NamedTuple):
    """Rows in order; a row's number is its position."""

    text: list[str]
    pair: list[str] | None
    label: NDArray[Any] | None
    """int64[N] class numbers, float64[N] values, int8[N, C] sets of labels (0 or 1), or None where they are hidden."""

    def take(self, rows: NDArray[np.int64]) -> Split:
        return Split(
            [self.text[row] for row in rows],
            None if self.pair is None else [self.pair[row] for row in rows],
            None if self.label is None else self.label[rows],
        )


class Tables(NamedTuple):
    """A task's rows as its source has them."""

    by_split: dict[str, datasets.Dataset]
    source: str
    revision: str | None


def read_tables(task: TaskSpec, files: Files | None) -> Tables:
    """The task's splits with the source's own columns, from `files` or else from the Hub or a URL.

    A split to predict that the source does not have is left out; any other is an error.

    Raises:
        UserError: the source cannot be reached or read, or a split is missing.
    """
    if files is not None:
        return _from_files(task, files)
    if task.source.hub is not None:
        return _from_hub(task)
    return _from_url(task)


def load_splits(task: TaskSpec, tables: Tables, protocol: str, train_rows: int | None) -> dict[str, Split]:
    """Every split in canonical columns: text, pair (if any), label (absent when hidden); rows count from 0.

    `task` as `under_protocol` gives it.

    Raises:
        UserError: a column is missing, a text or label is unusable (with its row), a split is empty.
    """
    splits = {
        name: _canonical(task, name, table, hidden=name in task.predict) for name, table in tables.by_split.items()
    }
    if protocol == "holdout":
        for name in [name for name in splits if held_out(name) in task.report]:
            rows = len(splits[name].text)
            order = np.random.default_rng(SUBSET_SEED).permutation(rows)  # as Dataset.shuffle(seed=42)
            half = splits[name]
            splits[name], splits[held_out(name)] = (
                half.take(order[: rows // 2]),
                half.take(order[rows // 2 :]),
            )
    if train_rows is not None:
        have = len(splits["train"].text)
        if train_rows > have:
            raise UserError(f"--train-rows {train_rows}: {task.name} has {have:,} training rows.")
        chosen = np.random.default_rng(SUBSET_SEED).permutation(have)[:train_rows]
        splits["train"] = splits["train"].take(np.sort(chosen))
    return splits


def describe(task: TaskSpec, tables: Tables, splits: Mapping[str, Split], is_test_mode: bool) -> DataFacts:
    """What the record says of the rows that were used."""
    rows = {name: len(table) for name, table in tables.by_split.items()}
    scored = [name for name in rows if name not in task.predict]
    return DataFacts(
        source=tables.source,
        revision=tables.revision,
        fingerprint=fingerprint({name: split for name, split in splits.items() if split.label is not None}),
        rows={name: len(split.text) for name, split in splits.items()},
        full_rows=task.rows,
        is_partial=not is_test_mode and any(rows[name] != task.rows.get(name, rows[name]) for name in scored),
        missing_splits=[name for name in task.splits if name not in rows],
        shared_texts=shared_texts(splits),
    )


def remarks(splits: Mapping[str, Split], shared: Mapping[str, int]) -> list[str]:
    """What a reader of the numbers should know of the rows; `shared` as `shared_texts` counts it."""
    found = []
    for name, split in splits.items():
        for texts, what in ((split.text, "texts"), (split.pair or [], "second texts")):
            if empty := [row for row, text in enumerate(texts, start=1) if not text.strip()]:
                rows = ", ".join(map(str, empty[:_SHOWN_ROWS])) + (", ..." if len(empty) > _SHOWN_ROWS else "")
                found.append(f"{name}: {len(empty):,} of {len(texts):,} {what} are empty: rows {rows}")
    for names, count in shared.items():
        first, second = names.split(" & ")
        if first == "train":
            found.append(
                f"{second}: {count:,} of {len(splits[second].text):,} rows have a text that also occurs in train"
            )
    return found


def fingerprint(splits: Mapping[str, Split]) -> str:
    """sha256 over every row's text, pair and label of every split, in order."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        digest.update(f"{name}:{len(split.text)};".encode())
        for texts in (split.text, split.pair):
            if texts is not None:
                digest.update(np.array([len(text) for text in texts], np.int64).tobytes())
                digest.update("".join(texts).encode("utf-8", "surrogatepass"))
        if split.label is not None:
            digest.update(split.label.tobytes())
    return digest.hexdigest()


def shared_texts(splits: Mapping[str, Split]) -> dict[str, int]:
    """`a & b`: how many rows of split b have a text (and pair) that stands in split a; pairs without any are out."""
    keys = {
        name: list(zip(split.text, split.pair or itertools.repeat(None), strict=False))
        for name, split in splits.items()
    }
    shared = {}
    for first, second in itertools.combinations(splits, 2):
        seen = set(keys[first])
        if count := sum(key in seen for key in keys[second]):
            shared[f"{first} & {second}"] = count
    return shared


# -- sources -----------------------------------------------------------------------------------------------------------


def _from_hub(task: TaskSpec) -> Tables:
    source = task.source
    where = f"{source.hub}" + (f" ({source.config})" if source.config else "")

    def prepare() -> datasets.DatasetBuilder:
        builder = datasets.load_dataset_builder(str(source.hub), source.config, revision=source.revision)
        builder.download_and_prepare()
        return builder

    try:
        builder = persistently(where, prepare)
    except Exception as error:  # the Hub client raises its own, httpx's, requests' and datasets' kinds
        raise UserError(
            f"task {task.name}: cannot get {where} from the Hub: {_first_line(error)}\n"
            "Check the connection or HF_ENDPOINT, give files with --data DIR, or try --test-mode, which needs none."
        ) from None
    by_split = {}
    for name, expression in task.splits.items():
        try:
            if part := part_of(expression):
                by_split[name] = _stratified(task, name, part, builder.as_dataset(split=part.split))
            else:
                by_split[name] = builder.as_dataset(split=expression)
        except ValueError as error:
            if name not in task.predict:
                raise UserError(f"task {task.name}: split {name!r} of {where}: {_first_line(error)}") from None
    return Tables(by_split, str(source.hub) + (f"/{source.config}" if source.config else ""), source.revision)


def _from_url(task: TaskSpec) -> Tables:
    url = str(task.source.file)
    path = download(task.name, url)
    file = DataFile(path, url, file_hash(path))
    _check(task, file)
    return Tables(cut(task, {ALL_ROWS: _read(task, [file])}), url, task.source.sha256)


def _from_files(task: TaskSpec, files: Files) -> Tables:
    if files.are_named_by_task and task.source.sha256:
        _check(task, files.by_split[ALL_ROWS][0])
    tables = {split: _read(task, parts) for split, parts in files.by_split.items()}
    return Tables(tables if files.are_canonical else cut(task, tables), "files", None)


def _check(task: TaskSpec, file: DataFile) -> None:
    if (expected := task.source.sha256) and file.sha256 != expected:
        raise UserError(wrong_checksum(task.name, file.name, file.sha256, expected))


def _read(task: TaskSpec, files: Sequence[DataFile]) -> datasets.Dataset:
    """The rows of all files, one after the other."""
    reading = Reading(task.source.delimiter, task.source.encoding, task.columns)
    tables: list[pa.Table] = []
    for file in files:
        table = read(file.path, file.name, reading, file.sheet)
        if (now := file_hash(file.path)) != file.sha256:
            raise UserError(
                f"{file.name}: changed while it was read: its sha256 was {file.sha256}, now it is {now}. "
                "Start again when nothing writes to it any more."
            )
        if tables and set(table.column_names) != set(tables[0].column_names):
            odd = sorted(set(table.column_names) ^ set(tables[0].column_names))[0]
            raise UserError(f"{files[0].name} and {file.name}: only one of them has the column {odd!r}.")
        tables.append(table)
    try:
        return datasets.Dataset(pa.concat_tables(tables, promote_options="permissive"))
    except pa.ArrowTypeError:
        raise UserError(f"{files[0].name} and others: a column is a text in one and not in another.") from None


def cut(task: TaskSpec, tables: Mapping[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """The task's splits out of the source's, by their expressions in the split syntax of `datasets`, or stratified.

    Raises:
        UserError: the source lacks a split, or a column by which one is cut.
    """
    lengths = {name: len(table) for name, table in tables.items()}
    if task.source.shuffle is not None and ALL_ROWS in tables:
        rows = pd.DataFrame({"row": np.arange(lengths[ALL_ROWS])})
        order = rows.sample(frac=1, random_state=task.source.shuffle)["row"].to_numpy()
        tables = {**tables, ALL_ROWS: tables[ALL_ROWS].select(order)}
    found = {}
    for name, expression in task.splits.items():
        try:
            if (part := part_of(expression)) and part.split in tables:
                found[name] = _stratified(task, name, part, tables[part.split])
                continue
            parts = datasets.ReadInstruction.from_spec(part.split if part else expression).to_absolute(lengths)
        except (ValueError, AssertionError) as error:
            if name in task.predict:
                continue
            raise UserError(
                f"task {task.name}: split {name!r} is {expression!r}, but the data has "
                f"{', '.join(f'{split} ({rows:,} rows)' for split, rows in lengths.items())}: {_first_line(error)}"
            ) from None
        chosen = [tables[part.splitname].select(range(part.from_, part.to)) for part in parts]
        found[name] = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    return found


def _stratified(task: TaskSpec, name: str, part: Part, table: datasets.Dataset) -> datasets.Dataset:
    _has_columns(task, name, table, [*task.text_columns, *task.label_columns])
    texts = list(zip(*(map(str, values_of(table, column)) for column in task.text_columns), strict=True))
    labels = zip(*(map(repr, values_of(table, column)) for column in task.label_columns), strict=True)
    return table.select(rows_of(part, texts, [()] * len(table) if task.is_regression else list(labels)))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# -- columns -----------------------------------------------------------------------------------------------------------


def _canonical(task: TaskSpec, name: str, table: datasets.Dataset, hidden: bool) -> Split:
    if len(table) == 0:
        raise UserError(f"task {task.name}: split {name!r} is empty.")
    _has_columns(task, name, table, [*task.text_columns, *(() if hidden else task.label_columns)])
    texts = [_texts(task, name, column, _joined(task, table, column)) for column in task.text]
    labels = None if hidden else read_labels(task, name, table)
    return Split(texts[0], texts[1] if len(texts) > 1 else None, labels)


def _has_columns(task: TaskSpec, split: str, table: datasets.Dataset, wanted: Iterable[str]) -> None:
    for column in wanted:
        if column not in table.column_names:
            raise UserError(
                f"task {task.name}: split {split!r} has no column {column!r}; "
                f"its columns: {', '.join(table.column_names)}.{did_you_mean(column, table.column_names)}"
            )


def _joined(task: TaskSpec, table: datasets.Dataset, column: str) -> Iterable[Any]:
    """A column, or those that are joined into one, line by line; a part may be missing where another is there."""
    if column not in task.join:
        return values_of(table, column)
    rows = zip(*(values_of(table, part) for part in task.join[column]), strict=True)
    return [_in_lines(row) for row in rows]


def _in_lines(parts: Sequence[Any]) -> Any:
    odd = next((part for part in parts if part is not None and not isinstance(part, str)), None)
    if odd is not None or all(part is None for part in parts):
        return odd
    return "\n".join(part for part in parts if part)


def _texts(task: TaskSpec, split: str, column: str, values: Iterable[Any]) -> list[str]:
    texts = list(values)
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            what = "is missing" if text is None else f"is {text!r}, not a text"
            raise UserError(f"task {task.name}: column {column!r} {what} in row {row} of split {split!r}.")
    return texts
