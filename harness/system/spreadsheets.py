"""Cells of a CSV file as a spreadsheet opens it: no text from a record or a file of rows becomes a formula."""

import re
from typing import Any


def escape_cell(cell: Any) -> Any:
    """The cell, with an apostrophe in front if a spreadsheet would take it for a formula; numbers stay as they are."""
    if not isinstance(cell, str):
        return cell
    is_formula = cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not re.fullmatch(r"[-+]?\d+([.,]\d+)?", cell)
    text = cell.replace("\r\n", "\n").replace("\r", "\n")  # csv.writer puts no quotes around a bare \r (Python < 3.13)
    return f"'{text}" if is_formula else text
