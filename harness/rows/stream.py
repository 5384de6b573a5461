"""Texts from a file or standard input in chunks, so that a large file need not fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, did_you_mean
from harness.facts.sources import encoding_name
from harness.facts.texts import TextSource
from harness.rows.columns import ReadOptions
from harness.rows.formats import CHUNK, read_chunks
from harness.system.paths import user_path


class TextRows(NamedTuple):
    """A chunk of rows, in order."""

    text: list[str]
    pair: list[str] | None
    label: None = None


class TextColumns(NamedTuple):
    """The texts of a row and their columns."""

    text: TextSource
    pair: TextSource | None

    @property
    def sources(self) -> list[TextSource]:
        """All texts of a row, in order."""
        return [source for source in (self.text, self.pair) if source is not None]

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        return list(dict.fromkeys(column for source in self.sources for column in source.columns))

    @property
    def texts(self) -> set[str]:
        """The columns that must have a text in every row; others have positions of spans."""
        return {part for source in self.sources for part in source.parts}

    def compose(self, row: Mapping[str, Any]) -> list[str]:
        """All texts of a row; raises ValueError as `TextSource.compose`."""
        return [source.compose(row) for source in self.sources]


def _rows(texts: Sequence[Sequence[str]]) -> TextRows:
    """The rows of texts in the order of `TextColumns.sources`."""
    return TextRows([row[0] for row in texts], [row[1] for row in texts] if len(texts[0]) > 1 else None)


def stream_file(path: Path, columns: TextColumns, options: ReadOptions, chunk: int = CHUNK) -> Iterator[TextRows]:
    """The rows of a file in order, read by `read_chunks`.

    Raises:
        UserError: the file cannot be read or has no rows, or a column or a text (with its row, from 1, without the
            header) is missing.
    """
    path = user_path("--file", path)
    if not path.is_file():
        raise UserError(f"--file {path}: {'a folder, not a file' if path.is_dir() else 'file not found'}.")
    if options.delimiter is not None and len(options.delimiter) != 1:
        raise UserError(f"--delimiter {options.delimiter!r}: expected one character.")
    if options.encoding is not None:
        try:
            options = options._replace(encoding=encoding_name(options.encoding))
        except ValueError as error:
            raise UserError(f"--encoding {options.encoding}: {error}.") from None
    rows = 0
    for table in read_chunks(path, str(path), options._replace(columns=columns.names), chunk=chunk):
        _check_columns(table.column_names, columns, path)
        for batch in table.select(columns.names).to_batches(chunk):
            values = {name: batch.column(name).to_pylist() for name in columns.names}
            for name in columns.names:
                if name in columns.texts:
                    _check_texts(values[name], name, path, rows)
            texts = []
            for row, each in enumerate(zip(*values.values(), strict=True), start=rows + 1):
                try:
                    texts.append(columns.compose(dict(zip(values, each, strict=True))))
                except ValueError as error:
                    raise UserError(f"{path}: row {row}: {error}.") from None
            if texts:
                yield _rows(texts)
            rows += batch.num_rows
    if rows == 0:
        raise UserError(f"{path}: no rows.")


def stream_lines(lines: Iterable[str], is_pair: bool, chunk: int = CHUNK) -> Iterator[TextRows]:
    """One row per line: a text, or a pair with a TAB between. Empty lines are rows too.

    Raises:
        UserError: there is no line, a line is not a text, or a line of a pair does not have two texts.
    """

    def values() -> Iterator[list[str]]:
        for number, line in enumerate(lines, start=1):
            check_characters(line, f"standard input:{number}")
            texts = line.rstrip("\r\n").split("\t") if is_pair else [line.rstrip("\r\n")]
            if is_pair and len(texts) != 2:
                raise UserError(f"standard input:{number}: expected two texts with a TAB between, got {len(texts)}.")
            yield texts

    is_empty, rows = True, values()
    while part := list(itertools.islice(rows, chunk)):
        is_empty = False
        yield _rows(part)
    if is_empty:
        raise UserError("standard input: no rows.")


def check_characters(text: str, where: str) -> None:
    """Raises UserError when a text has a lone surrogate: half a character, or a byte that is not in its encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise UserError(f"{where}: invalid character {character!r}: not UTF-8. Convert the text to UTF-8.") from None


def _check_texts(values: list[Any], column: str, path: Path, rows_before: int) -> None:
    for row, text in enumerate(values, start=rows_before + 1):
        if not isinstance(text, str):
            problem = "missing text" if text is None else f"{text!r} is not a text"
            raise UserError(f"{path}: column {column!r}, row {row}: {problem}.")


def _check_columns(header: Sequence[str], columns: TextColumns, path: Path) -> None:
    for flag, source in (("--text-column", columns.text), ("--pair-column", columns.pair)):
        for column in source.columns if source is not None else ():
            if column not in header:
                raise UserError(
                    f"{path}: column {column!r} not found; its columns: {', '.join(header)}."
                    f"{did_you_mean(column, header)} Name another with {flag}."
                )
