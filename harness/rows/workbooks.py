"""A sheet of an Excel workbook as a table of texts, each cell as Excel shows it."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from datetime import datetime, time
from typing import IO, TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.rows.columns import ReadOptions, name_columns, text_table
from harness.rows.compression import check_ratio

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHEET_ROWS = 1 << 20
"""Rows of a sheet in Excel; a damaged one may claim to have any number of empty rows."""


def read_workbook(file: IO[bytes], name: str, size: int, sheet: str | None, options: ReadOptions) -> pa.Table:
    """The rows of the requested sheet, or of the only one that has rows, as columns of texts; `size` is the file's.

    Raises:
        UserError: the file is no workbook or a decompression bomb, or the sheet is missing, empty or without a header.
    """
    import openpyxl

    if not zipfile.is_zipfile(file):
        raise UserError(
            f"{name}: not an .xlsx workbook. If it is an .xls or has a password, save it as .xlsx without a password."
        )
    with zipfile.ZipFile(file) as archive:
        check_ratio(sum(entry.file_size for entry in archive.infolist()), size, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and validations that openpyxl drops
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        rows = _sheet_rows(book, name, sheet)
        header = next(rows, [])
        while header and not header[-1]:
            header.pop()
        if not header:
            raise UserError(f"{name}: missing column names in the first row of the sheet.")
        header = name_columns(header, name)
        full = [[*row, *[""] * (len(header) - len(row))][: len(header)] for row in rows]
        return text_table(full, header, options)


def _sheet_rows(book: Any, name: str, requested: str | None) -> Iterator[list[str]]:
    """The rows with a value of the requested sheet, or of the only sheet that has any."""
    titles = [sheet.title for sheet in book.worksheets]
    if requested is not None and requested not in titles:
        near = did_you_mean(requested, titles)
        raise UserError(f"{name}: sheet {requested!r} not found; its sheets: {', '.join(titles)}.{near}")

    def rows(sheet: Any) -> Iterator[list[str]]:
        sheet.reset_dimensions()  # some programs write wrong ones
        for cells in sheet.iter_rows(max_row=MAX_SHEET_ROWS, values_only=True):
            if any(row := [_cell_text(value) for value in cells]):
                yield row

    candidates = [sheet for sheet in book.worksheets if requested in (None, sheet.title)]
    filled = [sheet for sheet in candidates if any(rows(sheet))]
    if len(filled) > 1:
        raise UserError(
            f"{name}: {len(filled)} sheets have rows ({', '.join(sheet.title for sheet in filled)}). "
            f"Name one: '{name}#sheet={filled[0].title}'."
        )
    if not filled:
        raise UserError(f"{name}: empty {'sheet' if requested else 'workbook'}.")
    return rows(filled[0])


def _cell_text(value: Any) -> str:
    """A cell as Excel shows it: whole numbers without a decimal point, dates without a time, empty cells as no text."""
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        return str(value.date())
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
