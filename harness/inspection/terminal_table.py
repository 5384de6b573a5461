"""A table on the terminal, whose last column of texts ends where the terminal does."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LEAST_TEXT = 20
"""Letters of a text that are shown on the narrowest terminal."""


_NUMBER = re.compile(r"[-+]?[\d.,]+( \([\d.]+%\))?")
"""1,234 or 12 (3.4%)."""


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Nothing where there is no row. A last column of texts is cut at the terminal's edge."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    print(title)
    table = Table(box=None, pad_edge=False)
    console = Console(highlight=False, markup=False)  # a text may have brackets
    for number, name in enumerate(header):
        is_number = number > 0 and _NUMBER.fullmatch(rows[0][number]) is not None and name != "text"
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    if header[-1] == "text":
        used = sum(2 + max(map(len, column)) for column in list(zip(header, *rows, strict=True))[:-1])
        room = max(console.width - used, _LEAST_TEXT)
        rows = [[*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 1]}…"] for row in rows]
    for row in rows:
        table.add_row(*row)
    with console.capture() as captured:  # printed below: rich ends the program itself when the reader has gone
        console.print(table)
    print(captured.get())
