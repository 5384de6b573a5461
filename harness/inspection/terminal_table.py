"""Tables on a terminal, whose last column of texts is cut at the terminal's edge."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from harness.system.output import LINE_CONTROLS, escape_controls

FILE_WIDTH = 160
"""Width of wide tables that go into a file or a pipe."""

_MIN_TEXT = 20
"""Characters of a text that the narrowest terminal shows."""

_NUMBER = re.compile(r"–|[-+]?[\d.,]+(e[-+]\d+)?( \([\d.]+%\))?")
"""1,234, 1.23e-05 or 12 (3.4%), or the dash of an undefined score."""


class DataConsole(Console):
    """A console of rich that shows the control characters of data; only its own reach the terminal."""

    def __init__(self, **settings: Any) -> None:
        # the stream for rich, also while a live table has another in its place
        settings.setdefault("file", getattr(sys.stdout, "rich_proxied_file", None))
        super().__init__(highlight=False, markup=False, emoji=False, **settings)  # a text may have brackets or :colons:

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of `renderable`, escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))

    def on_broken_pipe(self) -> None:
        """Leaves the closed pipe to `exit_code_on_error`; rich itself would end the program with 1."""
        raise BrokenPipeError


def wide_console(**settings: Any) -> DataConsole:
    """A console for wide tables, which has `FILE_WIDTH` where standard output is no terminal."""
    return DataConsole(width=None if sys.stdout.isatty() else FILE_WIDTH, **settings)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints title and table if there are rows; a last column named `text` is cut at the terminal's edge.

    Line breaks in a cell, such as those of a label, are escaped: a row is a line, or several if it is folded.
    """
    if not rows:
        return
    print(escape_controls(title, LINE_CONTROLS))
    header, *rows = [[escape_controls(cell, LINE_CONTROLS) for cell in row] for row in (header, *rows)]
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        is_number = number > 0 and _NUMBER.fullmatch(rows[0][number]) is not None and name != "text"
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    lines = [[Text(cell) for cell in row] for row in rows]
    if header[-1] == "text":
        other_columns = list(zip(header, *rows, strict=True))[:-1]
        width = max(DataConsole().width - sum(2 + max(map(cell_len, column)) for column in other_columns), _MIN_TEXT)
        for line in lines:
            line[-1].truncate(width, overflow="ellipsis")
    for line in lines:
        table.add_row(*line)
    DataConsole().print(table)
    print()


def one_line(text: str, pair: str | None) -> str:
    """A text, and its pair after a bar, without line breaks."""
    return " ".join((text if pair is None else f"{text} | {pair}").split())
