"""A file of rows in any format becomes a table of columns, or a sentence on what is wrong with it, and in which row."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.rows.columns import Chunks, Reading, kind_of, refuse_twins, with_the_others
from harness.rows.compression import unpacked
from harness.rows.encodings import encoding_of, undecodable

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""Of a format that has one, when nothing else is said."""

_TRIED_DELIMITERS = (",", ";", "\t", "|")
_CHUNK = 10_000
"""Rows that are held as Python's values at a time."""
_SHOWN = 3
"""Faulty rows that a message names."""

_DISGUISES: dict[bytes, str] = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; end its name in .zip or .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook, or one with a password; save it as .xlsx without one",
    b"\x1f\x8b": "a gzip file; end its name in .gz",
    b"BZh": "a bzip2 file; end its name in .bz2",
    b"\xfd7zXZ": "an xz file; end its name in .xz",
    b"\x28\xb5\x2f\xfd": "a zstandard file; end its name in .zst",
    b"PAR1": "a Parquet file; end its name in .parquet",
    b"ARROW1": "an Arrow file; end its name in .arrow",
    b"SQLite format 3": "a database; export the table as CSV",
    b"%PDF": "a PDF; export the table as CSV",
    b"\x80\x04\x95": "a pickle; save it as Parquet",
    b"version https://git-lfs": "the pointer of a Git LFS file; run 'git lfs pull' for the file itself",
}
_TEXTS = ("csv", "tsv", "json", "jsonl")


def read(path: Path, name: str, reading: Reading, sheet: str | None = None) -> pa.Table:
    """The rows of one file in order; in CSV, TSV and Excel every value is a text as it stands there.

    `name` is what the user calls the file: its ending tells the format, and messages begin with it.

    Raises:
        UserError: it cannot be read, with the row (counted from 1, without the header) or line where there is one.
    """
    import pyarrow as pa

    with unpacked(path, name) as (stream, form):
        if sheet is not None and form != "xlsx":
            raise UserError(f"{name}#sheet={sheet}: only an Excel workbook has sheets.")
        head = stream.peek(4096)[:4096]
        if not head:
            raise UserError(f"{name}: the file is empty.")
        if form in _TEXTS:
            return _read_text(path, name, form, stream, head, reading)
        if disguise := _page_or_pointer(head):
            raise UserError(f"{name}: is no {form} file, it is {disguise}.")
        seekable: IO[bytes] = stream if stream.seekable() else io.BytesIO(stream.read())
        try:
            return (
                _workbook(seekable, name, sheet, reading) if form == "xlsx" else _arrow(seekable, name, form, reading)
            )
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # Arrow's for anything damaged
            raise UserError(f"{name}: cannot be read as {form}: {_first_line(error)}. Is the file whole?") from None


def likely_delimiter(path: Path, name: str, encoding: str | None, columns: Collection[str]) -> str:
    """What separates the fields of a CSV: the sign under which the header has `columns`, else most columns.

    Raises:
        UserError: the file cannot be opened.
    """
    with unpacked(path, name) as (stream, form):
        head = stream.peek(4096)
        with io.TextIOWrapper(stream, encoding_of(head, encoding), errors="replace") as text:
            header = next((line for line in text if line.strip()), "")
    tried = [DELIMITERS.get(form, ","), *_TRIED_DELIMITERS]  # of equals the first wins
    fields = {sign: next(csv.reader([header], delimiter=sign), []) for sign in dict.fromkeys(tried)}
    return max(fields, key=lambda sign: (len(set(columns) & set(fields[sign])), len(fields[sign])))


# -- texts -------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, name: str, form: str, file: IO[bytes], head: bytes, reading: Reading) -> pa.Table:
    encoding = encoding_of(head, reading.encoding)
    if disguise := next((what for sign, what in _DISGUISES.items() if head.startswith(sign)), _page_or_pointer(head)):
        raise UserError(f"{name}: is no {form} file, it is {disguise}.")
    if form in DELIMITERS and head.lstrip(b"\xef\xbb\xbf \r\n\t")[:2] in (b'{"', b"[{"):
        raise UserError(f"{name}: is no {form} file, it looks like JSON; end its name in .json or .jsonl.")
    if b"\0" in head and not encoding.startswith(("utf-16", "utf-32")):
        is_wide = head[1::2].count(0) > len(head) / 3 or head[::2].count(0) > len(head) / 3
        advice = " It may be UTF-16: try --encoding utf-16-le." if is_wide else " Which program wrote it?"
        raise UserError(f"{name}: is no text, it has zero bytes.{advice}")
    try:
        with io.TextIOWrapper(file, encoding, newline="" if form in DELIMITERS else "\n") as lines:
            if form in DELIMITERS:
                return _delimited(lines, name, reading.delimiter or DELIMITERS[form], reading)
            return _objects(_json(lines.read(), name) if form == "json" else json_lines(lines, name), name, reading)
    except UnicodeError:
        raise undecodable(path, name, encoding) from None


def _page_or_pointer(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")[:14].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page: what was saved is an error or a preview, not the file itself; download the raw file"
    return "XML; convert it" if start.startswith(b"<?xml") else None


def _delimited(lines: Iterable[str], name: str, delimiter: str, reading: Reading) -> pa.Table:
    with fields_of_any_size():
        rows = records(lines, name, delimiter)
        _, header = next(rows, (0, []))
        if not header:
            raise UserError(f"{name}: has no line but empty ones.")
        header = [column or f"unnamed {position}" for position, column in enumerate(header, start=1)]
        refuse_twins(header, name)
        kept = [position for position, column in enumerate(header) if reading.wants(column)]
        chunks, waiting, uneven = Chunks([header[position] for position in kept]), [], []
        for number, (line, fields) in enumerate(rows, start=1):
            if len(fields) != len(header):
                uneven.append((number, line, len(fields)))
            waiting.append([fields[position] if position < len(fields) else "" for position in kept])
            if len(waiting) == _CHUNK:
                chunks.add(waiting)
                waiting = []
        chunks.add(waiting)
    if uneven:
        raise UserError(_uneven_rows(name, len(header), uneven, delimiter))
    return with_the_others(chunks.table(), header)


def records(lines: Iterable[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the number of its first line."""
    end = "\0end of the file"  # an open quote swallows it, which csv.reader itself would not tell

    def with_end() -> Iterator[str]:
        yield from lines
        yield end

    reader = csv.reader(with_end(), delimiter=delimiter)
    first, fields = 1, []
    for fields in reader:
        if fields == [end]:
            return
        if any(end in field for field in fields):
            break
        if fields:
            yield first, fields
        first = reader.line_num + 1
    raise UserError(
        f'{name}:{first}: cannot be read: a quote (") that opens in this line is never closed. '
        "A quote inside a text is written twice, within quotes around the text."
    )


@contextmanager
def fields_of_any_size() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _uneven_rows(name: str, wanted: int, uneven: Sequence[tuple[int, int, int]], delimiter: str) -> str:
    shown = ", ".join(f"row {number} (line {line}) has {fields}" for number, line, fields in uneven[:_SHOWN])
    more = f", and {len(uneven) - _SHOWN:,} more rows are uneven" if len(uneven) > _SHOWN else ""
    return (
        f"{name}: cannot be read: the header has {wanted} columns, but {shown}{more}. "
        f"A text that holds a {delimiter!r} needs quotes around it."
    )


def _json(text: str, name: str) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = " Is it JSON lines? Then end its name in .jsonl." if "Extra data" in str(error) else ""
        raise UserError(f"{name}: cannot be read as json: {_first_line(error)}.{hint}") from None
    if not isinstance(rows, list):
        raise UserError(
            f"{name}: cannot be read as json: it holds {kind_of(rows)}, where a list of rows should be: "
            "[{column: value, ...}, ...]."
        )
    return enumerate(rows, start=1)


def json_lines(lines: Iterable[str], name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{name}: cannot be read as jsonl: line {number}: {_first_line(error)}") from None


def _objects(rows: Iterable[tuple[int, Any]], name: str, reading: Reading) -> pa.Table:
    chunks, waiting, header = Chunks([]), [], dict[str, None]()
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError(
                f"{name}: cannot be read: row {number} is {kind_of(row)}; a row is an object, {{column: value, ...}}."
            )
        header |= dict.fromkeys(row)
        waiting.append(row)
        if len(waiting) == _CHUNK:
            chunks.add_objects(waiting, [column for column in header if reading.wants(column)], name)
            waiting = []
    chunks.add_objects(waiting, [column for column in header if reading.wants(column)], name)
    try:
        return with_the_others(chunks.table(), list(header))
    except TypeError:  # Arrow's, when a column has other types in another chunk
        raise UserError(f"{name}: a column has both texts and numbers or objects; give it one type.") from None


# -- Arrow, Parquet, Excel ---------------------------------------------------------------------------------------------


def _arrow(file: IO[bytes], name: str, form: str, reading: Reading) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if form == "parquet":
        parquet = pq.ParquetFile(file)
        refuse_twins(parquet.schema_arrow.names, name)
        header = list(parquet.schema_arrow.names)
        return with_the_others(parquet.read(columns=[column for column in header if reading.wants(column)]), header)
    is_file = file.read(6) == b"ARROW1"  # else a stream, which is what `datasets` writes
    file.seek(0)
    table = (pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)).read_all()
    refuse_twins(table.column_names, name)
    header = table.column_names
    return with_the_others(table.select([column for column in header if reading.wants(column)]), header)


def _workbook(file: IO[bytes], name: str, sheet: str | None, reading: Reading) -> pa.Table:
    from zipfile import BadZipFile

    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and validations that it leaves out
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            rows = _rows_of_sheet(book, name, sheet)
            header = next(rows, [])
            while header and not header[-1]:
                header.pop()
            if not header:
                raise UserError(f"{name}: the sheet's first row must name its columns.")
            header = [column or f"unnamed {position}" for position, column in enumerate(header, start=1)]
            refuse_twins(header, name)
            kept = [position for position, column in enumerate(header) if reading.wants(column)]
            chunks = Chunks([header[position] for position in kept])
            full = ([*row, *[""] * (len(header) - len(row))] for row in rows)
            chunks.add([[row[position] for position in kept] for row in full])
    except BadZipFile:
        raise UserError(f"{name}: is no .xlsx workbook. If it is an .xls or has a password, save it anew.") from None
    return with_the_others(chunks.table(), header)


def _rows_of_sheet(book: Any, name: str, wanted: str | None) -> Iterator[list[str]]:
    """The rows of the one sheet that has any, or of the one that is named; rows without a value are left out."""
    titles = [sheet.title for sheet in book.worksheets]
    if wanted is not None and wanted not in titles:
        raise UserError(f"{name}: has no sheet {wanted!r}, but {', '.join(titles)}.{did_you_mean(wanted, titles)}")
    filled = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = ([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
        if (sheet.title == wanted or wanted is None) and any(any(row) for row in rows):
            filled.append(sheet)
    if len(filled) > 1:
        raise UserError(
            f"{name}: {len(filled)} sheets have rows ({', '.join(s.title for s in filled)}). "
            f"Say which one: '{name}#sheet={filled[0].title}'."
        )
    if not filled:
        raise UserError(f"{name}: the {'sheet' if wanted else 'workbook'} is empty.")
    return (row for row in ([_cell(v) for v in row] for row in filled[0].iter_rows(values_only=True)) if any(row))


def _cell(value: Any) -> str:
    """A cell as one reads it: whole numbers without a point, nothing for an empty one."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
