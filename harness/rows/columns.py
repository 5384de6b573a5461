"""Rows collected into Arrow's columns, which hold texts without a Python object for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


_NOTHING = "\0"


class Reading(NamedTuple):
    """How files are read."""

    delimiter: str | None = None
    encoding: str | None = None
    columns: Collection[str] | None = None
    """Those whose values are wanted; others are there by name with nulls. None: all are wanted."""

    def wants(self, column: str) -> bool:
        return self.columns is None or column in self.columns


def values_of(table: datasets.Dataset, column: str) -> list[Any]:
    """A column's values in row order, from Arrow at once: through `table[column]` they take many times as long."""
    values: list[Any] = table.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    return values


class Chunks:
    """Rows given a few thousand at a time."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns
        self.rows = 0
        self._tables: list[pa.Table] = []

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of texts, in the order of the columns."""
        import pyarrow as pa

        arrays = [pa.array([row[position] for row in rows], pa.string()) for position in range(len(self.columns))]
        self._append(arrays, self.columns, len(rows))

    def add_objects(self, rows: Sequence[dict[str, Any]], columns: list[str], name: str) -> None:
        """Rows of any values; a column that a row lacks is null there."""
        import pyarrow as pa

        arrays = []
        for column in columns:
            values = [row.get(column) for row in rows]
            try:
                arrays.append(pa.array(values))
            except UnicodeEncodeError:
                raise UserError(f"{name}: column {column!r} has half a character (a lone surrogate).") from None
            except (ValueError, TypeError, OverflowError):  # Arrow's own derive from these
                raise UserError(f"{name}: column {column!r} {_mixture(values, self.rows)}") from None
        self._append(arrays, columns, len(rows))

    def _append(self, arrays: list[Any], columns: list[str], rows: int) -> None:
        import pyarrow as pa

        self.rows += rows
        nothing = pa.nulls(rows)  # a table without columns would not know its rows
        self._tables.append(pa.table([*arrays, nothing], names=[*columns, _NOTHING]))

    def table(self) -> pa.Table:
        """All rows, with a last column of nulls.

        Raises:
            TypeError: a column has texts in one chunk and something else in another.
        """
        import pyarrow as pa

        return pa.concat_tables(self._tables, promote_options="permissive")


def _mixture(values: Sequence[Any], rows_before: int) -> str:
    first = next(value for value in values if value is not None)
    kind = kind_of(first)
    for row, value in enumerate(values, start=rows_before + 1):
        if value is not None and kind_of(value) != kind:
            return f"has {kind} in its first rows, but {kind_of(value)} in row {row}: {value!r}. Give it one type."
    return "has values that do not go together, objects with other keys perhaps. Give it one type."


def kind_of(value: Any) -> str:
    """What a value of JSON is, in words."""
    named = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return named.get(type(value), "null")


def refuse_twins(header: Sequence[str], name: str) -> None:
    """Raises a UserError where two columns have one name."""
    if twins := [column for position, column in enumerate(header) if column in header[:position]]:
        raise UserError(f"{name}: the column {twins[0]!r} stands twice. Rename one of them.")


def with_the_others(table: pa.Table, header: Sequence[str]) -> pa.Table:
    """The table with all columns of the header in its order, those that were not read as nulls."""
    import pyarrow as pa

    columns = [
        table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])
        for name in header
    ]
    metadata = table.schema.metadata
    return pa.table(columns, names=list(header)).replace_schema_metadata(metadata)
