"""CSV files as a spreadsheet opens them: no text from a record or a file of rows becomes a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV: None is an empty cell, and `escape_cell` escapes texts that look like formulas."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows(map(escape_cell, row) for row in (header, *rows))
    return file.getvalue()


def escape_cell(cell: Any) -> Any:
    """The cell, with an apostrophe in front if a spreadsheet would take it for a formula; numbers stay as they are."""
    if not isinstance(cell, str):
        return cell
    is_formula = cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not re.fullmatch(r"[-+]?\d+([.,]\d+)?", cell)
    text = cell.replace("\r\n", "\n").replace("\r", "\n")  # csv.writer puts no quotes around a bare \r (Python < 3.13)
    return f"'{text}" if is_formula else text
