"""The leaderboard's table in LaTeX, for a paper: rules of the package booktabs, and a caption that explains it."""

from __future__ import annotations

import re

import pandas as pd

from harness.reports.cells import Cell
from harness.reports.markdown import column_title
from harness.reports.standings import Leaderboard
from harness.stats.groups import MARKS, sort_marks

_SPREAD = re.compile(r"±(\S+)( rows only)?(?: ?(\(.*\)))?")

_LEGEND = (
    r"Mean of the runs, their number in parentheses, $\pm$ the 95 % interval for other seeds and rows. Bold: the best"
    r" of its column; $\approx$: in the set that contains the truly best with 95 % confidence"
)
_ROWS_ONLY = "$^{*}$ interval for other rows only, nothing is known about other seeds"


def render_latex(board: Leaderboard) -> str:
    """The leaderboard as a `table` environment; it needs booktabs. Recipes are shown where a model has several."""
    entries, names = (*board.entries, board.baseline), [entry.label for entry in board.entries]
    short = {name: name.rsplit("/", 1)[-1] for name in names}
    labels = short if len(set(short.values())) == len(set(names)) else {}
    averages = [
        name for name in board.average_names if any(board.averages[entry, name].score is not None for entry in entries)
    ]
    cells = [
        [*(board.averages[entry, name] for name in averages)]
        + [board.cells.get((entry, name), Cell()) for name in board.tasks]
        for entry in entries
    ]
    columns = [(name, "") for name in averages]
    columns += [(board.headings[name], column_title("", task)) for name, task in board.tasks.items()]
    table = pd.DataFrame([list(map(_in_latex, line)) for line in cells], columns=pd.MultiIndex.from_tuples(columns))
    if len(set(names)) < len(names):
        table.insert(0, ("Recipe", ""), [entry.variant for entry in entries])
    table.insert(0, ("Model", ""), [labels.get(entry.label, entry.label) for entry in entries])
    style = table.style.hide(axis="index").format(escape="latex-math").format_index(escape="latex", axis="columns")
    text_columns = table.shape[1] - len(columns)
    text = style.to_latex(
        hrules=True,
        column_format="l" * text_columns + "r" * len(columns),
        position_float="centering",
        caption=_caption([cell for line in cells for cell in line]),
        label="tab:scores",
    )
    return re.sub(r"(.*\n\\bottomrule)", r"\\midrule\n\1", text)  # before the baseline, the last line


def _caption(cells: list[Cell]) -> str:
    marks = sort_marks(mark for cell in cells for mark in cell.marks)
    parts = [_LEGEND, *(f"$^{{{mark}}}$ {MARKS[mark].removesuffix(', see the notes')}" for mark in marks)]
    if any("rows only" in cell.spread for cell in cells):
        parts.append(_ROWS_ONLY)
    return "; ".join(parts).replace(" %", r"\,\%") + "."


def _in_latex(cell: Cell) -> str:
    """A cell with its numbers in mathematics, which pandas leaves as it is where it escapes text."""
    spread = _SPREAD.fullmatch(cell.spread)
    half, is_over_rows, runs = spread.groups() if spread else (None, None, cell.spread)
    number = rf"\mathbf{{{cell.text}}}" if cell.is_best else cell.text
    interval = rf"_{{\pm {half}}}" if half else ""
    notes = [*(["*"] if is_over_rows else []), *sort_marks(cell.marks)]
    above = f"^{{{','.join(notes)}}}" if notes else ""
    if cell.score is None:  # a dash, or a word
        return f"{cell.text}${above}$" if above else cell.text
    return " ".join(filter(None, [f"${number}{above}{interval}$", runs, r"$\approx$" if cell.is_tied else ""]))
