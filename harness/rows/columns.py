"""Rows collected as Arrow columns, which store text without one Python object per row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError, boundary, did_you_mean

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


class ReadOptions(NamedTuple):
    """Options for reading a file of rows."""

    delimiter: str | None = None
    encoding: str | None = None
    columns: Collection[str] | None = None
    """Columns to read; others are null. None: all."""

    def reads(self, column: str) -> bool:
        """True when the values of the column are read; blanks around its name are no part of it."""
        return self.columns is None or column.strip() in self.columns


def column_values(table: datasets.Dataset, column: str) -> list[Any]:
    """A column's values in row order, straight from Arrow, which is many times as fast as `table[column]`.

    `idx.answer` is the part `answer` of the objects in the column `idx`.
    """
    import pyarrow as pa

    if column not in table.column_names and "." in column:
        whole, part = column.split(".", 1)
        return [None if value is None else value.get(part) for value in column_values(table, whole)]

    files = [Path(file["filename"]).parent for file in table.cache_files]
    advice = f"Delete {files[0]}, and the rows are prepared again." if files else ""
    with boundary(f"column {column!r}: damaged rows", pa.ArrowException, advice=advice):
        values: list[Any] = table.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    return values


def has_column(table: datasets.Dataset, column: str) -> bool:
    """True when the table has the column, or the object of which `idx.answer` is a part."""
    return column_feature(table, column) is not None


def column_feature(table: datasets.Dataset, column: str) -> Any:
    """The type of a column's values as `datasets` describes it; None if the table does not have the column."""
    whole, _, part = column.partition(".")
    feature = table.features.get(whole)
    parts = feature if part and isinstance(feature, dict) else {}
    return table.features.get(column, parts.get(part))


def column_names(schema: pa.Schema) -> list[str]:
    """The columns of a schema; in place of an object its parts, such as `idx.answer`."""
    import pyarrow as pa

    return [
        name
        for field in schema
        for name in (
            [f"{field.name}.{part.name}" for part in field.type] if pa.types.is_struct(field.type) else [field.name]
        )
    ]


def missing_column_message(column: str, where: str, known: Sequence[str]) -> str:
    """The message about a column that a table lacks, with its known columns; `where` follows "not found"."""
    return f"column {column!r} not found{where}; its columns: {', '.join(known)}.{did_you_mean(column, known)}"


def text_table(rows: Sequence[Sequence[str]], header: Sequence[str], options: ReadOptions) -> pa.Table:
    """Rows of texts, each in the order of `header`, as columns; columns that are not read are null."""
    import pyarrow as pa

    columns = [
        pa.array([row[position] for row in rows], pa.string()) if options.reads(column) else pa.nulls(len(rows))
        for position, column in enumerate(header)
    ]
    return pa.table(columns, names=list(header))


def object_table(
    rows: Sequence[dict[str, Any]], header: Sequence[str], options: ReadOptions, name: str, rows_before: int
) -> pa.Table:
    """Rows of JSON objects as columns; missing values, and columns that are not read, are null.

    Raises:
        UserError: a column has mixed types, or half a character; its rows are counted from `rows_before`.
    """
    import pyarrow as pa

    columns = []
    for column in header:
        values = [row.get(column) for row in rows] if options.reads(column) else [None] * len(rows)
        try:
            columns.append(pa.array(values))
        except UnicodeEncodeError:
            raise UserError(f"{name}: column {column!r} has half a character (a lone surrogate).") from None
        except (ValueError, TypeError, OverflowError):  # base classes of Arrow's own errors
            raise UserError(f"{name}: column {column!r} {_describe_mixture(values, rows_before)}") from None
    return pa.table(columns, names=list(header))


def _describe_mixture(values: Sequence[Any], rows_before: int) -> str:
    first_type = json_type(next(value for value in values if value is not None))
    for row, value in enumerate(values, start=rows_before + 1):
        if value is not None and json_type(value) != first_type:
            return f"has mixed types: {first_type} first, but {json_type(value)} in row {row}: {value!r}. Use one type."
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return f"has an integer beyond 64 bits in row {row}. Write it as a text."
    return "has mixed types, perhaps objects with different keys. Use one type."


def json_type(value: Any) -> str:
    """The JSON type of a value, for messages."""
    types = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return types.get(type(value), "null")


def check_header(header: Sequence[str], name: str) -> None:
    """Raises UserError when two columns have the same name."""
    if duplicates := [column for position, column in enumerate(header) if column in header[:position]]:
        raise UserError(f"{name}: duplicate column {duplicates[0]!r}. Rename one of them.")


def name_columns(header: Sequence[str], name: str) -> list[str]:
    """The names of the columns without blanks around them; a column without one is called `unnamed 3`, by its position.

    Raises:
        UserError: two columns have the same name.
    """
    columns = [column.strip() or f"unnamed {position}" for position, column in enumerate(header, start=1)]
    check_header(columns, name)
    return columns


def with_null_columns(table: pa.Table, sources: Sequence[str], header: Sequence[str]) -> pa.Table:
    """The columns `sources` of a table under the names of `header`; those that it does not have are null."""
    import pyarrow as pa

    columns = [
        table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])
        for name in sources
    ]
    return pa.table(columns, names=list(header)).replace_schema_metadata(table.schema.metadata)
