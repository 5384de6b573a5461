"""Texts from a file or standard input in chunks, so that a large file need not fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.errors import UserError
from harness.facts.sources import encoding_name
from harness.facts.tasks import TaskSpec
from harness.facts.texts import ChoiceSource, TextSource
from harness.rows.candidates import question_candidates
from harness.rows.columns import ReadOptions, column_names, missing_column_message
from harness.rows.files import split_sheet
from harness.rows.formats import CHUNK, DELIMITER_NAMES, detect_delimiter, read_chunks
from harness.rows.splits import Split
from harness.system.paths import user_path

if TYPE_CHECKING:
    import pyarrow as pa


class TextColumns(NamedTuple):
    """The texts of a row, its candidates in a task of multiple choice, and their columns."""

    sources: tuple[TextSource, ...]
    """The text of a row, or both texts of a pair."""
    choices: ChoiceSource | None = None
    candidates: str | None = None
    """The column of lists of candidates, in a selection of answers."""

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        columns = [column for source in self.sources for column in source.columns]
        return list(dict.fromkeys([*columns, *(self.choices.columns if self.choices else ())]))

    @property
    def texts(self) -> set[str]:
        """The columns that need a text in every row. Those of spans need none, and of joined ones one is enough."""
        whole = (source for source in self.sources if len(source.parts) == 1 or source.template is not None)
        return {part for source in whole for part in source.parts} - {self.candidates}

    def compose(self, rows: Sequence[Mapping[str, Any]], path: Path, first: int) -> Split:
        """The rows of a file, which have the values of `names`; `first` is the number of the first of them."""
        texts: list[list[Any]] = []
        candidates: list[str] = []
        sizes = []
        for number, row in enumerate(rows, start=first):
            try:
                choices = [self.choices.compose(row)] if self.choices else []
                own = question_candidates(row[self.candidates]) if self.candidates else [""]
                for candidate in own:
                    filled = {**row, self.candidates: candidate} if self.candidates else row
                    texts.append([*(source.compose(filled) for source in self.sources), *choices])
            except ValueError as error:
                raise UserError(f"{path}: row {number}: {error} (in {', '.join(map(repr, self.names))}).") from None
            candidates += own
            sizes.append(len(own))
        columns = [list(column) for column in zip(*texts, strict=True)]
        seconds = columns[1] if len(self.sources) > 1 else None
        if self.candidates is None:
            return Split(columns[0], seconds, None, choices=columns[-1] if self.choices else None)
        questions = np.repeat(np.arange(len(sizes)), sizes)
        return Split(columns[0], seconds, None, questions, candidates=candidates)


def stream_file(path: Path, columns: TextColumns, options: ReadOptions, chunk: int = CHUNK) -> Iterator[Split]:
    """The rows of a file in order, read by `read_chunks`.

    Raises:
        UserError: the file cannot be read or has no rows, or a column or a text (with its row, from 1, without the
            header) is missing.
    """
    path, sheet = split_sheet(user_path("--file", path))
    if not path.is_file():
        raise UserError(f"--file {path}: {'a folder, not a file' if path.is_dir() else 'file not found'}.")
    options = options._replace(delimiter=DELIMITER_NAMES.get(options.delimiter or "", options.delimiter))
    if options.delimiter is not None and len(options.delimiter) != 1:
        raise UserError(f"--delimiter {options.delimiter!r}: expected one character.")
    if options.encoding is not None:
        try:
            options = options._replace(encoding=encoding_name(options.encoding))
        except ValueError as error:
            raise UserError(f"--encoding {options.encoding}: {error}.") from None
    delimiter = options.delimiter or detect_delimiter(path, str(path), options.encoding, columns.names)
    objects = [name.split(".")[0] for name in columns.names]  # of columns such as idx.answer
    options = options._replace(delimiter=delimiter, columns=[*columns.names, *objects])
    rows = 0
    for table in read_chunks(path, str(path), options, sheet, chunk):
        if rows == 0:
            _check_columns(column_names(table.schema), columns, path)
        for batch in table.to_batches(chunk):
            values = {name: _values(batch, name) for name in columns.names}
            _check_texts(values, columns, path, rows)
            each_row = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
            if each_row:
                yield columns.compose(each_row, path, rows + 1)
            rows += batch.num_rows
    if rows == 0:
        raise UserError(f"{path}: no rows.")


def stream_lines(lines: Iterable[str], is_pair: bool, chunk: int = CHUNK, choices: int = 0) -> Iterator[Split]:
    """One row per line: a text, or a text and its pair or candidates with TABs between. Empty lines are rows too.

    Raises:
        UserError: there is no line, a line is not a text, or a line does not have as many texts as a row.
    """
    expected = 1 + is_pair + choices

    def values() -> Iterator[list[str]]:
        for number, line in enumerate(lines, start=1):
            check_characters(line, f"standard input:{number}")
            texts = line.rstrip("\r\n").split("\t") if expected > 1 else [line.rstrip("\r\n")]
            if len(texts) != expected:
                count = {2: "two"}.get(expected, str(expected))
                raise UserError(
                    f"standard input:{number}: expected {count} texts with a TAB between, got {len(texts)}."
                )
            yield texts

    is_empty, rows = True, values()
    while part := list(itertools.islice(rows, chunk)):
        is_empty = False
        pairs = [row[1] for row in part] if is_pair else None
        candidates = [tuple(row[1:]) for row in part] if choices else None
        yield Split([row[0] for row in part], pairs, None, choices=candidates)
    if is_empty:
        raise UserError("standard input: no rows.")


def rows_of_texts(task: TaskSpec, texts: Sequence[str], pairs: Sequence[str], choices: Sequence[str]) -> Split:
    """Texts from the command line or Python as rows; all candidates of the first text, then those of the next.

    Raises:
        UserError: they do not suit the task.
    """
    is_pair, name = len(task.text) == 2, task.name
    number = task.classes if task.choices else 0
    for flag, values in (("--text", texts), ("--pair", pairs), ("--choice", choices)):
        for position, text in enumerate(values, start=1):
            if not isinstance(text, str):
                raise UserError(f"{flag} {position}: expected a text, got {text!r}.")
            check_characters(text, flag)
    if not texts:
        raise UserError("--text is missing: there is no text to predict.")
    if pairs and not is_pair:
        raise UserError(f"--pair: the task {name} has single texts. Drop the flag.")
    if is_pair and len(pairs) != len(texts):
        raise UserError(
            f"--pair: the task {name} has pairs ({', '.join(task.text)}): expected one --pair for each of "
            f"{len(texts)} --text, got {len(pairs)}."
        )
    if len(choices) != number * len(texts):
        raise UserError(
            f"--choice: the task {name} has {number or 'no'} candidates: expected {number * len(texts)} --choice for "
            f"{len(texts)} --text, got {len(choices)}."
        )
    rows = [tuple(choices[start : start + number]) for start in range(0, len(choices), number)] if number else None
    return Split(list(texts), list(pairs) if is_pair else None, None, choices=rows)


def check_characters(text: str, where: str) -> None:
    """Raises UserError when a text has a lone surrogate: half a character, or a byte that is not in its encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise UserError(f"{where}: invalid character {character!r}: not UTF-8. Convert the text to UTF-8.") from None


def _values(batch: pa.RecordBatch, column: str) -> list[Any]:
    """The values of a column, or of `idx.answer`, the part `answer` of the objects in the column `idx`."""
    if column in batch.schema.names:
        return list(batch.column(column).to_pylist())
    whole, part = column.split(".", 1)
    return [value.get(part) if isinstance(value, dict) else None for value in batch.column(whole).to_pylist()]


def _check_texts(values: Mapping[str, list[Any]], columns: TextColumns, path: Path, rows_before: int) -> None:
    for name in values:
        if name not in columns.texts:
            continue
        for row, text in enumerate(values[name], start=rows_before + 1):
            if not isinstance(text, str):
                problem = "missing text" if text is None else f"{text!r} is not a text"
                raise UserError(f"{path}: column {name!r}, row {row}: {problem}.")


def _check_columns(header: Sequence[str], columns: TextColumns, path: Path) -> None:
    flags = ("--text-column", "--pair-column")[: len(columns.sources)]
    for flag, source in zip((*flags, ""), (*columns.sources, columns.choices), strict=True):
        for column in source.columns if source is not None else ():
            if column not in header:
                advice = f" Name another with {flag}." if flag else ""
                raise UserError(f"{path}: {missing_column_message(column, '', header)}{advice}")
