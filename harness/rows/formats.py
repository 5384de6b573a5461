"""A file of rows in any format as a table of columns, or an error that names the row."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import UserError, boundary, first_line
from harness.rows.columns import ReadOptions, json_type, name_columns, object_table, text_table, with_null_columns
from harness.rows.compression import check_ratio, open_decompressed
from harness.rows.encodings import decoding_error, detect_encoding
from harness.rows.workbooks import read_workbook

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""Default delimiter by format."""

DELIMITER_NAMES = {"tab": "\t", "\\t": "\t"}
"""Names of delimiters that are hard to type."""

_CANDIDATE_DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_LINE = re.compile(r'"?sep=([^\r\n])"?\r?\n?')
"""The first line of a file that tells Excel its delimiter; it wins over any other."""
CHUNK = 10_000
"""Rows that are Python values at a time; enough that sorting them by length saves nearly all padding."""
_MOST_SHOWN = 3
"""Invalid rows that a message names."""

_SIGNATURES: dict[bytes, str] = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; name it .zip or .xlsx",
    b"\xd0\xcf\x11\xe0": "an old or password-protected Excel workbook; save it as .xlsx without a password",
    b"\x1f\x8b": "a gzip file; name it .gz",
    b"BZh": "a bzip2 file; name it .bz2",
    b"\xfd7zXZ": "an xz file; name it .xz",
    b"\x28\xb5\x2f\xfd": "a zstandard file; name it .zst",
    b"PAR1": "a Parquet file; name it .parquet",
    b"ARROW1": "an Arrow file; name it .arrow",
    b"SQLite format 3": "a database; export the table as CSV",
    b"%PDF": "a PDF; export the table as CSV",
    b"\x80\x04\x95": "a pickle; save it as Parquet",
    b"version https://git-lfs": "a Git LFS pointer; run 'git lfs pull' to get the file",
}
"""First bytes of files that are not text."""

_TEXT_FORMATS = ("csv", "tsv", "json", "jsonl")


def read_table(path: Path, name: str, options: ReadOptions, sheet: str | None = None) -> pa.Table:
    """The rows of a file in order; see `read_chunks`."""
    import pyarrow as pa

    tables = list(read_chunks(path, name, options, sheet))
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (TypeError, pa.ArrowInvalid):  # for a column with other types in another chunk
        raise UserError(f"{name}: a column has both texts and numbers or objects. Use one type.") from None


def read_chunks(
    path: Path, name: str, options: ReadOptions, sheet: str | None = None, chunk: int = CHUNK
) -> Iterator[pa.Table]:
    """The rows of a file in order; every value of CSV, TSV and Excel is a text.

    All but JSON and Excel, which are read at once, are read in chunks, of which there is at least one.
    `name`: the file as the user names it, with the extension of its format; messages begin with it.

    Raises:
        UserError: the file cannot be read, with the row (from 1, without the header) or line where there is one.
    """
    with open_decompressed(path, name) as (stream, form):
        if sheet is not None and form != "xlsx":
            raise UserError(f"{name}#sheet={sheet}: only an Excel workbook has sheets.")
        head = stream.peek(4096)[:4096]
        if not head:
            raise UserError(f"{name}: empty file.")
        if form in _TEXT_FORMATS:
            yield from _read_text(path, name, form, stream, head, options, chunk)
            return
        if content := _detect_markup(head):
            raise UserError(f"{name}: not a {form} file, but {content}.")
        seekable: IO[bytes] = stream if stream.seekable() else io.BytesIO(stream.read())
        size = path.stat().st_size
        with boundary(f"{name}: cannot be read as {form}", Exception, advice="Is the file complete?"):
            if form == "xlsx":  # the libraries raise errors of many kinds for anything damaged
                yield read_workbook(seekable, name, size, sheet, options)
            else:
                yield from _read_arrow(seekable, name, form, size, options, chunk)


def detect_delimiter(path: Path, name: str, encoding: str | None, columns: Collection[str]) -> str:
    """The delimiter under which the header of a CSV has most of `columns`, then the one with most columns at all.

    A comma for a format without delimiters, whose first line may be the whole file.

    Raises:
        UserError: the file cannot be opened.
    """
    with open_decompressed(path, name) as (stream, form):
        if form not in DELIMITERS:
            return ","
        head = stream.peek(4096)
        with io.TextIOWrapper(stream, detect_encoding(head, encoding), errors="replace") as text:
            header = next((line for line in text if line.strip()), "")
    if match := _DELIMITER_LINE.fullmatch(header):
        return match[1]
    candidates = dict.fromkeys([DELIMITERS[form], *_CANDIDATE_DELIMITERS])  # the first wins a tie
    with _unlimited_field_size():
        fields = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in candidates}
    return max(fields, key=lambda delimiter: (len(set(columns) & set(fields[delimiter])), len(fields[delimiter])))


# -- CSV, TSV, JSON ----------------------------------------------------------------------------------------------------


def _read_text(
    path: Path, name: str, form: str, file: IO[bytes], head: bytes, options: ReadOptions, chunk: int
) -> Iterator[pa.Table]:
    encoding = detect_encoding(head, options.encoding)
    content = next((text for start, text in _SIGNATURES.items() if head.startswith(start)), _detect_markup(head))
    if content:
        raise UserError(f"{name}: not a {form} file, but {content}.")
    if form in DELIMITERS and head.lstrip(b"\xef\xbb\xbf \r\n\t")[:2] in (b'{"', b"[{"):
        raise UserError(f"{name}: not a {form} file, but probably JSON; name it .json or .jsonl.")
    if b"\0" in head and not encoding.startswith(("utf-16", "utf-32")):
        is_wide = head[1::2].count(0) > len(head) / 3 or head[::2].count(0) > len(head) / 3
        advice = " It may be UTF-16: try --encoding utf-16-le." if is_wide else ""
        raise UserError(f"{name}: not a text file: it has zero bytes.{advice}")
    try:
        with io.TextIOWrapper(file, encoding, newline="" if form in DELIMITERS else "\n") as text:
            lines = _lines_of_text(text, name)
            if form in DELIMITERS:
                yield from _read_delimited(lines, name, options.delimiter or DELIMITERS[form], options, chunk)
            else:
                rows = _parse_json("".join(lines), name) if form == "json" else _parse_json_lines(lines, name)
                yield from _read_objects(rows, name, options, chunk)
    except UnicodeError:
        raise decoding_error(path, name, encoding) from None


def _lines_of_text(lines: Iterable[str], name: str) -> Iterator[str]:
    """The same lines; raises UserError for one with a zero byte, as in a file that was not completely written."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(f"{name}:{number}: not a text: zero bytes in this line. Copy or export the file again.")
        yield line


def _detect_markup(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")[:14].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps an error or a preview; download the raw file"
    return "XML; convert it" if start.startswith(b"<?xml") else None


def _read_delimited(
    lines: Iterator[str], name: str, delimiter: str, options: ReadOptions, chunk: int
) -> Iterator[pa.Table]:
    start = next(lines, "")
    if match := _DELIMITER_LINE.fullmatch(start):
        delimiter, start = match[1], "\n"  # an empty line, so that the others keep their numbers
    with _unlimited_field_size():
        rows = _delimited_rows(itertools.chain([start], lines), name, delimiter)
        _, header = next(rows, (0, []))
        if not header:
            raise UserError(f"{name}: only empty lines.")
        header = name_columns(header, name)
        first = 1
        for part in _chunks(rows, chunk):
            uneven = [
                (row, line, len(fields)) for row, (line, fields) in enumerate(part, first) if len(fields) != len(header)
            ]
            if uneven:
                raise UserError(_describe_uneven(name, len(header), uneven, delimiter))
            yield text_table([fields for _, fields in part], header, options)
            first += len(part)


def _chunks(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` rows; the first one may be empty."""
    yield list(itertools.islice(rows, size))
    while part := list(itertools.islice(rows, size)):
        yield part


def _delimited_rows(lines: Iterable[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, as (number of the first line, fields)."""
    record: list[str] = []

    def recorded() -> Iterator[str]:
        for line in lines:
            record.append(line)
            yield line

    reader = csv.reader(recorded(), delimiter=delimiter, strict=True)
    fields: list[str] | None = []
    while fields is not None:
        record.clear()
        first = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error:
            if (fields := _fields_as_written(record, delimiter)) is None:
                raise UserError(
                    f'{name}:{first}: missing closing quote (") of a field that starts in this line. '
                    "Write a quote inside a text twice, and put quotes around the text."
                ) from None
        if fields:
            yield first, fields


def _fields_as_written(record: Sequence[str], delimiter: str) -> list[str] | None:
    """The fields of a line in which text follows a closing quote, as in `"Yes" he said`: such quotes are a part of it.

    None if a quote is not closed in its field; then it has swallowed fields, or the rows up to another quote.
    """
    (fields,) = csv.reader(record[:1], delimiter=delimiter, quoting=csv.QUOTE_NONE)
    if len(record) > 1 or any(field.startswith('"') and field.count('"') == 1 for field in fields):
        return None
    in_quotes = [re.fullmatch('"((?:[^"]|"")*)"( *)', field) for field in fields]
    return [
        field if match is None else match[1].replace('""', '"') + match[2]
        for field, match in zip(fields, in_quotes, strict=True)
    ]


@contextmanager
def _unlimited_field_size() -> Iterator[None]:
    """Lifts the csv module's limit of 128 KiB per field within the block."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _describe_uneven(name: str, columns: int, uneven: Sequence[tuple[int, int, int]], delimiter: str) -> str:
    shown = ", ".join(f"row {number} (line {line}) has {fields}" for number, line, fields in uneven[:_MOST_SHOWN])
    more = f", and at least {len(uneven) - _MOST_SHOWN:,} more rows" if len(uneven) > _MOST_SHOWN else ""
    return (
        f"{name}: expected {columns} columns as in the header, but {shown}{more}. "
        f"Put quotes around texts that contain {delimiter!r}."
    )


def _parse_json(text: str, name: str) -> Iterator[Any]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        advice = " If it is JSON Lines, name it .jsonl." if "Extra data" in str(error) else ""
        raise UserError(f"{name}: cannot be read as json: {first_line(error)}.{advice}") from None
    if not isinstance(rows, list):
        raise UserError(f"{name}: expected a list of rows, [{{column: value, ...}}, ...], got {json_type(rows)}.")
    return iter(rows)


def _parse_json_lines(lines: Iterable[str], name: str) -> Iterator[Any]:
    """The values of JSON Lines; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{name}: cannot be read as jsonl: line {number}: {first_line(error)}") from None


def _read_objects(rows: Iterator[Any], name: str, options: ReadOptions, chunk: int) -> Iterator[pa.Table]:
    rows_before, header = 0, dict[str, None]()
    for part in _chunks(rows, chunk):
        if not part:
            raise UserError(f"{name}: no rows.")
        for row, value in enumerate(part, rows_before + 1):
            if not isinstance(value, dict):
                raise UserError(
                    f"{name}: expected an object, {{column: value, ...}}, in row {row}, got {json_type(value)}."
                )
            header |= dict.fromkeys(value)
        table = object_table(part, list(header), options, name, rows_before)
        yield table.rename_columns(name_columns(list(header), name))
        rows_before += len(part)


# -- Arrow, Parquet ----------------------------------------------------------------------------------------------------


def _read_arrow(
    file: IO[bytes], name: str, form: str, size: int, options: ReadOptions, chunk: int
) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if form == "parquet":
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        columns = [column for column in schema.names if options.reads(column)]
        batches = parquet.iter_batches(chunk, columns=columns)
    else:
        is_file = file.read(6) == b"ARROW1"  # else a stream, the format that `datasets` writes
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        schema = reader.schema
        columns = [column for column in schema.names if options.reads(column)]
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
    header = name_columns(schema.names, name)
    content = 0
    tables = (pa.Table.from_batches([batch]) for batch in batches)
    for table in itertools.chain([schema.empty_table()], tables):
        table.validate(full=True)  # damaged offsets would be read outside of memory
        check_ratio(content := content + table.nbytes, size, name)
        yield with_null_columns(_dates_as_texts(table.select(columns)), schema.names, header)


def _dates_as_texts(table: pa.Table) -> pa.Table:
    """The table with its dates and times as texts, in the form that a CSV has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for position, field in enumerate(table.schema):
        if any(is_kind(field.type) for is_kind in (pa.types.is_date, pa.types.is_time, pa.types.is_timestamp)):
            texts = table.column(position).cast(pa.string())
            texts = pc.replace_substring_regex(texts, r"\.0+(Z|[+-]\d+)?$", r"\1")  # no fraction of zeros
            table = table.set_column(position, field.name, texts)
    return table
