"""The splits of a task, read from its source and cut as the task and the protocol say."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from harness.errors import UserError, boundary, first_line, list_first
from harness.facts.record_parts import DataFacts
from harness.facts.tasks import TaskSpec, holdout_split
from harness.rows.columns import ReadOptions, column_values
from harness.rows.files import ALL_ROWS, DataFile, Files, check_sha256, download, file_hash
from harness.rows.formats import read_table
from harness.rows.splits import (
    Split,
    canonical_split,
    check_columns,
    check_group_rows,
    check_groups,
    check_whole_groups,
)
from harness.rows.stratified import StratifiedPart, parse_stratified, stratified_rows
from harness.system.hub import call_with_retries
from harness.system.redaction import redact_secrets

SUBSET_SEED = 42
"""Seed of `train_rows` and of the holdout protocol, so that every run uses the same rows."""

_MOST_SHOWN = 5


class Tables(NamedTuple):
    """A task's splits with the columns of its source."""

    by_split: dict[str, datasets.Dataset]
    source: str
    revision: str | None
    """The commit of a Hub dataset, or the checksum of a URL's file."""
    is_unpinned: bool = False
    """The task names no commit of its Hub dataset."""
    uncut: Mapping[str, datasets.Dataset] = MappingProxyType({})
    """The splits as the files have them, before rows are shuffled and cut; empty for a data set of the Hub."""


def read_tables(task: TaskSpec, files: Files | None) -> Tables:
    """The task's splits with the source's columns, from `files`, or else from the Hub or a URL.

    A split to predict may be missing.

    Raises:
        UserError: the source cannot be reached or read, or another split is missing.
    """
    if files is not None:
        return _from_files(task, files)
    if task.source.hub is not None:
        return _from_hub(task)
    return _from_url(task)


def load_splits(task: TaskSpec, tables: Tables, protocol: str, train_rows: int | None) -> dict[str, Split]:
    """Every split in canonical columns, for a task returned by `apply_protocol`.

    Raises:
        UserError: a column is missing, a text or label is invalid (with its row, counted before rows are shuffled and
            cut), or a split is empty.
    """
    try:
        splits = {
            name: canonical_split(task, name, table, hidden=name in task.predict)
            for name, table in tables.by_split.items()
        }
    except UserError:
        if all(len(table) for table in tables.by_split.values()):  # an empty split is an error of its own
            for name, table in tables.uncut.items():
                uses = [split for split, expression in task.splits.items() if name in _sources(expression)]
                if uses:
                    canonical_split(task, name, table, hidden=any(split in task.predict for split in uses))
        raise
    if task.group:
        check_groups(task, tables.by_split)
    if protocol == "holdout":
        for name in [name for name in splits if holdout_split(name) in task.report]:
            full, (first, second) = splits[name], _halves(splits[name])
            splits[name], splits[holdout_split(name)] = full.take(first), full.take(second)
    if train_rows is not None:
        splits["train"] = splits["train"].take(_subset(task, splits["train"], train_rows))
    return splits


def _sources(expression: str) -> set[str]:
    """The splits of the source in an expression such as `train[:90%]+extra`."""
    return {part.strip().partition("[")[0] for part in expression.split("+")}


def _subset(task: TaskSpec, split: Split, train_rows: int) -> NDArray[np.int64]:
    """A random subset of the rows, sorted; a smaller one is a part of a larger one.

    Groups stay whole: they are drawn in random order while their rows are at most `train_rows`.

    Raises:
        UserError: there are fewer rows, or the first group has more.
    """
    available, row_groups = len(split.text), split.row_groups
    if train_rows > available:
        raise UserError(f"--train-rows {train_rows}: {task.name} has only {available:,} training rows.")
    random = np.random.default_rng(SUBSET_SEED)
    if row_groups is None:
        return np.sort(random.permutation(available)[:train_rows])
    sizes = np.bincount(row_groups)
    order = random.permutation(len(sizes))
    number = int((np.cumsum(sizes[order]) <= train_rows).sum())
    if number == 0:
        raise UserError(
            f"--train-rows {train_rows}: too few for a group of rows of {task.name}, which stays whole: expected at "
            f"least {sizes[order[0]]:,}."
        )
    return np.flatnonzero(np.isin(row_groups, order[:number]))


def _halves(split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of two random halves; a group is in one of them."""
    row_groups = np.arange(len(split.text)) if split.row_groups is None else split.row_groups
    order = np.random.default_rng(SUBSET_SEED).permutation(row_groups.max() + 1)  # the order of Dataset.shuffle
    position = np.argsort(order)[row_groups]
    rows, half = np.argsort(position, kind="stable"), int((position < len(order) // 2).sum())
    return rows[:half], rows[half:]


def data_facts(task: TaskSpec, tables: Tables, splits: Mapping[str, Split], is_test_mode: bool) -> DataFacts:
    """The fields of a record about the rows that were used."""
    rows = {name: len(table) for name, table in tables.by_split.items()}
    scored = [name for name in rows if name not in task.predict]
    return DataFacts(
        source=tables.source,
        revision=tables.revision,
        fingerprint=fingerprint({name: split for name, split in splits.items() if split.label is not None}),
        rows={name: len(split.text) for name, split in splits.items()},
        full_rows={} if task.candidates else task.rows,  # of questions, where rows are candidates
        is_partial=not is_test_mode and any(rows[name] != task.rows.get(name, rows[name]) for name in scored),
        missing_splits=[name for name in task.splits if name not in rows],
        shared_texts=shared_texts(splits),
        is_unpinned=tables.is_unpinned,
    )


def data_notes(splits: Mapping[str, Split], shared: Mapping[str, int]) -> list[str]:
    """Notes on empty texts, and on texts of the training split in other splits, counted by `shared_texts`."""
    notes = []
    for name, split in splits.items():
        choices = [min(each, key=lambda choice: len(choice.strip())) for each in split.choices or ()]
        for texts, noun in ((split.text, "texts"), (split.pair or [], "second texts"), (choices, "candidates")):
            if empty := [row for row, text in enumerate(texts, start=1) if not text.strip()]:
                rows = list_first(empty, _MOST_SHOWN)
                notes.append(f"{name}: {len(empty):,} of {len(texts):,} {noun} are empty: rows {rows}")
    for names, count in shared.items():
        first, second = names.split(" & ")
        if first == "train":
            rows = f"{count:,} of {len(splits[second].text):,} rows"
            notes.append(f"{second}: {rows} have a text that is also in train")
    return notes


def fingerprint(splits: Mapping[str, Split]) -> str:
    """sha256 of the text, pair and label of every row of every split, in order."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        digest.update(f"{name}:{len(split.text)};".encode())
        for texts in (split.text, split.pair, *zip(*split.choices or (), strict=True)):
            if texts is not None:
                digest.update(np.array([len(text) for text in texts], np.int64).tobytes())
                digest.update("".join(texts).encode("utf-8", "surrogatepass"))
        for numbers in (split.label, split.row_groups, split.agreement):
            if numbers is not None:
                digest.update(numbers.tobytes())
    return digest.hexdigest()


def texts_fingerprint(split: Split) -> str:
    """sha256 of everything that a prediction depends on: the texts of every row, without labels, in order."""
    return fingerprint({"": Split(split.text, split.pair, None, choices=split.choices)})


def shared_texts(splits: Mapping[str, Split]) -> dict[str, int]:
    """`a & b`: number of rows of split b whose text (and pair) is also in split a; left out where it is 0."""
    keys = {name: split.texts for name, split in splits.items()}
    shared = {}
    for first, second in itertools.combinations(splits, 2):
        first_keys = set(keys[first])
        if count := sum(key in first_keys for key in keys[second]):
            shared[f"{first} & {second}"] = count
    return shared


# -- sources -----------------------------------------------------------------------------------------------------------


def _from_hub(task: TaskSpec) -> Tables:
    source = task.source
    where = f"{source.hub} ({source.config})" if source.config else str(source.hub)

    def prepare() -> datasets.DatasetBuilder:
        address = f"hf://datasets/{source.hub}"  # a bare name would be a folder of this name, if there is one
        builder = datasets.load_dataset_builder(address, source.config, revision=source.revision)
        builder.download_and_prepare()
        return builder

    try:
        builder = call_with_retries(where, prepare)
    except Exception as error:  # of the Hub client, httpx, requests or datasets
        raise UserError(
            f"task {task.name}: cannot load {where} from the Hub: {first_line(error)}\n"
            "Check the connection or HF_ENDPOINT, name local files with --data DIR, or try --test-mode, which needs no "
            "network."
        ) from None
    advice = f"Delete {builder.cache_dir}, and it is downloaded again."
    with boundary(f"task {task.name}: damaged cache of {where}", pa.ArrowException, advice=advice):
        splits = {name: _hub_split(task, name, builder, where) for name in task.splits}
    by_split = {name: split for name, split in splits.items() if split is not None}
    name = str(source.hub) + (f"/{source.config}" if source.config else "")
    commit = _commit_of(builder) if source.is_unpinned else source.revision
    return Tables(by_split, name, commit, source.is_unpinned)


def _hub_split(task: TaskSpec, name: str, builder: datasets.DatasetBuilder, where: str) -> datasets.Dataset | None:
    """A split of a Hub dataset; None for one to predict that the dataset does not have."""
    try:
        if part := parse_stratified(task.splits[name]):
            return _stratified(task, name, part, builder.as_dataset(split=part.split))
        split = builder.as_dataset(split=task.splits[name])
        _check_hub_groups(task, name, builder)
        return split
    except pa.ArrowException:
        raise  # a damaged file is no missing split
    except ValueError as error:
        if name in task.predict:
            return None
        raise UserError(f"task {task.name}: split {name!r} of {where}: {first_line(error)}") from None


def _check_hub_groups(task: TaskSpec, name: str, builder: datasets.DatasetBuilder) -> None:
    """Raises UserError when a split of a Hub dataset has a part of a group."""
    if "[" in task.splits[name] and (task.group or task.group_rows):
        lengths = {split: info.num_examples for split, info in builder.info.splits.items()}
        parts = datasets.ReadInstruction.from_spec(task.splits[name]).to_absolute(lengths)
        check_whole_groups(task, name, parts, {part.splitname: builder.as_dataset(part.splitname) for part in parts})


def _commit_of(builder: datasets.DatasetBuilder) -> str | None:
    """The commit of a builder's data set on the Hub; None where the library does not say."""
    return builder.hash if re.fullmatch("[0-9a-f]{40}", builder.hash or "") else None


def _from_url(task: TaskSpec) -> Tables:
    url = str(task.source.file)
    path = download(task.name, url)
    file = DataFile(path, url, file_hash(path))
    check_sha256(task.name, file, task.source.sha256)
    tables = {ALL_ROWS: _read(task, [file])}
    return Tables(cut_splits(task, tables), redact_secrets(url), task.source.sha256, uncut=tables)


def _from_files(task: TaskSpec, files: Files) -> Tables:
    tables = {split: _read(task, parts) for split, parts in files.by_split.items()}
    if files.are_canonical:
        return Tables(tables, "files", None)
    return Tables(cut_splits(task, tables), "files", None, uncut=tables)


def _read(task: TaskSpec, files: Sequence[DataFile]) -> datasets.Dataset:
    """The rows of all files, in the order of the files."""
    options = ReadOptions(task.source.delimiter, task.source.encoding, task.columns)
    tables: list[pa.Table] = []
    for file in files:
        table = read_table(file.path, file.name, options, file.sheet)
        if (now := file_hash(file.path)) != file.sha256:
            raise UserError(
                f"{file.name}: changed while it was read: its sha256 was {file.sha256}, now it is {now}. "
                "Try again when no program writes to it."
            )
        if tables and set(table.column_names) != set(tables[0].column_names):
            column = sorted(set(table.column_names) ^ set(tables[0].column_names))[0]
            raise UserError(f"{files[0].name} and {file.name}: only one of them has the column {column!r}.")
        tables.append(table)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:
        raise UserError(f"{files[0].name} and others: a column is text in one file and not in another.") from None
    advice = "Write them as texts and numbers, without metadata."
    with boundary(f"{files[0].name}: unsupported columns", ValueError, TypeError, LookupError, advice=advice):
        return datasets.Dataset(table)


def cut_splits(task: TaskSpec, tables: Mapping[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """The task's splits, cut from those of the source by their expressions (see `TaskSpec.splits`).

    Raises:
        UserError: a split is missing, or a column that a stratified one needs.
    """
    lengths = {name: len(table) for name, table in tables.items()}
    if task.source.shuffle is not None and ALL_ROWS in tables:
        check_group_rows(task, ALL_ROWS, tables[ALL_ROWS])
        size = task.group_rows or 1  # consecutive rows of a group stay consecutive
        rows = pd.DataFrame({"row": np.arange(0, lengths[ALL_ROWS], size)})
        order = rows.sample(frac=1, random_state=task.source.shuffle)["row"].to_numpy()
        tables = {**tables, ALL_ROWS: tables[ALL_ROWS].select((order[:, None] + np.arange(size)).ravel())}
    by_split = {}
    for name, expression in task.splits.items():
        try:
            if (part := parse_stratified(expression)) and part.split in tables:
                by_split[name] = _stratified(task, name, part, tables[part.split])
                continue
            parts = datasets.ReadInstruction.from_spec(part.split if part else expression).to_absolute(lengths)
        except (ValueError, AssertionError) as error:
            if name in task.predict:
                continue
            raise UserError(
                f"task {task.name}: split {name!r} is {expression!r}, but the data has "
                f"{', '.join(f'{split} ({rows:,} rows)' for split, rows in lengths.items())}: {first_line(error)}"
            ) from None
        check_whole_groups(task, name, parts, tables)
        ranges = [  # `select` refuses an empty range behind the last row
            tables[part.splitname].select(range(part.from_, part.to) or []) for part in parts
        ]
        by_split[name] = ranges[0] if len(ranges) == 1 else datasets.concatenate_datasets(ranges)
    return by_split


def _stratified(task: TaskSpec, name: str, part: StratifiedPart, table: datasets.Dataset) -> datasets.Dataset:
    together = task.group or task.text_columns
    check_columns(task, name, table, [*together, *task.label_columns])
    texts = list(zip(*(map(str, column_values(table, column)) for column in together), strict=True))
    if task.group_rows is not None:  # a group has the texts of all of its rows
        check_group_rows(task, part.split, table)
        starts = [row - row % task.group_rows for row in range(len(texts))]
        texts = [tuple(itertools.chain(*texts[start : start + task.group_rows])) for start in starts]
    labels = zip(*(map(repr, column_values(table, column)) for column in task.label_columns), strict=True)
    return table.select(stratified_rows(part, texts, [()] * len(table) if task.is_regression else list(labels)))
