"""Texts from a file or from standard input, some rows at a time, so that a large file need not fit into memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError, did_you_mean
from harness.facts.sources import ending_of
from harness.rows.columns import Reading
from harness.rows.compression import unpacked
from harness.rows.encodings import encoding_of, undecodable
from harness.rows.formats import DELIMITERS, fields_of_any_size, json_lines, read, records

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 10_000
"""Rows at a time: enough that sorting them by length saves nearly all padding."""


class Rows(NamedTuple):
    """Some rows in order."""

    text: list[str]
    pair: list[str] | None
    label: None = None


class Columns(NamedTuple):
    """Where the texts stand; one that is several columns is these, one below the other."""

    text: tuple[str, ...]
    pair: tuple[str, ...] | None

    @property
    def names(self) -> list[str]:
        return [*self.text, *(self.pair or ())]

    def rows(self, values: Sequence[Sequence[str]]) -> Rows:
        """`values`: by row, in the order of `names`."""
        cut = len(self.text)
        text = [_joined(row[:cut]) for row in values]
        return Rows(text, None if self.pair is None else [_joined(row[cut:]) for row in values])


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else "\n".join(part for part in parts if part)


def from_file(path: Path, columns: Columns, reading: Reading, chunk: int = CHUNK) -> Iterator[Rows]:
    """The rows of a file in order. CSV, TSV, JSONL and Parquet are read as they are used, other formats at once.

    Raises:
        UserError: the file cannot be read, a column is missing, a text is missing (with its row, from 1, without the
            header), or there is no row.
    """
    if not path.is_file():
        raise UserError(f"--file {path}: there is no such file.")
    if reading.delimiter is not None and len(reading.delimiter) != 1:
        raise UserError(f"--delimiter {reading.delimiter!r}: a delimiter is one sign.")
    try:
        "".encode(reading.encoding or "utf-8")
    except LookupError:
        raise UserError(f"--encoding {reading.encoding}: Python knows none of that name.") from None
    yield from _in_chunks(_checked(_values(path, columns, reading), columns, path), columns, chunk, str(path))


def from_lines(lines: Iterable[str], is_pair: bool, chunk: int = CHUNK) -> Iterator[Rows]:
    """A text a line, or two with a TAB between them. Empty lines are rows too.

    Raises:
        UserError: a line of a pair has not two texts, or there is no line.
    """

    def values() -> Iterator[list[str]]:
        for number, line in enumerate(lines, start=1):
            texts = line.rstrip("\r\n").split("\t") if is_pair else [line.rstrip("\r\n")]
            if is_pair and len(texts) != 2:
                raise UserError(
                    f"standard input: line {number} has {len(texts)} text(s); this task is on pairs, two texts with a "
                    "TAB between them."
                )
            yield texts

    columns = Columns(("text",), ("pair",) if is_pair else None)
    try:
        yield from _in_chunks(values(), columns, chunk, "standard input")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: is not {error.encoding.upper()}. Convert it first.") from None


def _in_chunks(values: Iterator[list[str]], columns: Columns, chunk: int, where: str) -> Iterator[Rows]:
    is_empty = True
    while taken := list(itertools.islice(values, chunk)):
        is_empty = False
        yield columns.rows(taken)
    if is_empty:
        raise UserError(f"{where}: there is no row in it.")


def _checked(values: Iterator[Sequence[Any]], columns: Columns, path: Path) -> Iterator[list[str]]:
    for number, row in enumerate(values, start=1):
        for column, text in zip(columns.names, row, strict=True):
            if not isinstance(text, str):
                what = "is missing" if text is None else f"is {text!r}, not a text"
                raise UserError(f"{path}: column {column!r} {what} in row {number}.")
        yield list(row)


def _values(path: Path, columns: Columns, reading: Reading) -> Iterator[Sequence[Any]]:
    """By row the wanted columns' values, as they stand in the file."""
    with unpacked(path, str(path)) as (stream, form):
        if form in ("csv", "tsv", "jsonl"):
            encoding = encoding_of(stream.peek(4096)[:4096], reading.encoding)
            try:
                with io.TextIOWrapper(stream, encoding, newline="\n" if form == "jsonl" else "") as lines:
                    if form == "jsonl":
                        yield from _objects(lines, columns, path)
                    else:
                        yield from _delimited(lines, columns, path, reading.delimiter or DELIMITERS[form])
            except UnicodeError:
                raise undecodable(path, str(path), encoding) from None
            return
    if form == "parquet" and ending_of(str(path)).packing is None:
        yield from _parquet(path, columns)
        return
    table = read(path, str(path), reading._replace(columns=columns.names))
    _places(table.column_names, columns, path)
    yield from _of_batches(table.to_batches(CHUNK), columns)


def _delimited(lines: Iterable[str], columns: Columns, path: Path, delimiter: str) -> Iterator[list[str]]:
    with fields_of_any_size():
        rows = records(lines, str(path), delimiter)
        _, header = next(rows, (0, []))
        places = _places(header, columns, path)
        for line, fields in rows:
            if len(fields) != len(header):
                raise UserError(
                    f"{path}:{line}: has {len(fields)} columns, the header {len(header)}. A text that holds a "
                    f"{delimiter!r} needs quotes around it."
                )
            yield [fields[place] for place in places]


def _objects(lines: Iterable[str], columns: Columns, path: Path) -> Iterator[list[Any]]:
    is_first = True
    for number, row in json_lines(lines, str(path)):
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: a row is an object, {{column: value, ...}}.")
        if is_first:
            _places(list(row), columns, path)
        is_first = False
        yield [row.get(column) for column in columns.names]


def _parquet(path: Path, columns: Columns) -> Iterator[Sequence[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _places(file.schema_arrow.names, columns, path)
            yield from _of_batches(file.iter_batches(CHUNK, columns=columns.names), columns)
    except pa.ArrowException as error:
        raise UserError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from None


def _of_batches(batches: Iterable[pa.RecordBatch], columns: Columns) -> Iterator[Sequence[Any]]:
    for batch in batches:
        yield from zip(*(batch.column(name).to_pylist() for name in columns.names), strict=True)


def _places(header: Sequence[str], columns: Columns, path: Path) -> list[int]:
    if not header:
        raise UserError(f"{path}: there is no row in it.")
    for flag, wanted in (("--text-column", columns.text), ("--pair-column", columns.pair or ())):
        for column in wanted:
            if column not in header:
                raise UserError(
                    f"{path}: has no column {column!r}; its columns: {', '.join(header)}."
                    f"{did_you_mean(column, header)} {flag} names another."
                )
    return [header.index(column) for column in columns.names]
