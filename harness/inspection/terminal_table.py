"""Tables on a terminal, whose last column of texts is cut at the terminal's edge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_MIN_TEXT = 20
"""Characters of a text that the narrowest terminal shows."""

_NUMBER = re.compile(r"–|[-+]?[\d.,]+( \([\d.]+%\))?")
"""1,234 or 12 (3.4%), or the dash of an undefined score."""


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints title and table if there are rows; a last column named `text` is cut at the terminal's edge."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    print(title)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        is_number = number > 0 and _NUMBER.fullmatch(rows[0][number]) is not None and name != "text"
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    if header[-1] == "text":
        other_columns = list(zip(header, *rows, strict=True))[:-1]
        width = max(Console().width - sum(2 + max(map(len, column)) for column in other_columns), _MIN_TEXT)
        rows = [[*row[:-1], row[-1] if len(row[-1]) <= width else f"{row[-1][: width - 1]}…"] for row in rows]
    for row in rows:
        table.add_row(*row)
    print_rich_table(table)
    print()


def print_rich_table(table: Table) -> None:
    """Prints a table through `print`: rich itself ends the program when the reader has closed the pipe."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # a text may have brackets
    with console.capture() as captured:
        console.print(table)
    print(captured.get(), end="")


def one_line(text: str, pair: str | None) -> str:
    """A text, and its pair after a bar, without line breaks."""
    return " ".join((text if pair is None else f"{text} | {pair}").split())
