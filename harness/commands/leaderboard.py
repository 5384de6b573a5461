"""`harness leaderboard`: a results folder's records become its leaderboard's files, and a table in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from harness.facts.records import read_records
from harness.reports.comparison import print_comparison, row_named
from harness.reports.folder import write_files
from harness.reports.markdown import legend, lines, page_title, titles
from harness.reports.standings import NO_SCORE, Leaderboard, build
from harness.system.importing import uncollected


class Written(NamedTuple):
    """What a results folder came to."""

    board: Leaderboard
    problems: list[str]
    """One sentence for each file that is no record and was left out."""


def leaderboard_of(results: Path) -> Written:
    """The leaderboard of the records under `results/runs`.

    Raises:
        UserError: there is no record.
    """
    with uncollected():  # thousands of records, and nothing among them to collect: a quarter of the time
        records, problems = read_records(results)
        if records:
            return Written(build(records, unreadable=len(problems)), problems)
    where = f"--results {results}: there is no record under {results / 'runs'}."
    what_to_do = "Name another folder, or make a record: accelerate launch harness/run.py --task sst2"
    raise UserError("\n".join([f"{where} {what_to_do} --results {results}", *problems]))


def write_leaderboard(results: Path) -> Written:
    """Writes leaderboard.md, .csv, .json, .html and plots of the records under `results/runs`, those that change.

    Raises:
        UserError: there is no record.
    """
    board, problems = leaderboard_of(results)
    write_files(board, results)
    return Written(board, problems)


_SIGNS = (
    "± half the 95 % interval over seeds and rows (one run: rows alone), (n) runs, ≈ tied with the best of the column"
)


def print_leaderboard(board: Leaderboard, console: Console) -> None:
    """The table and its legend. A console too narrow for it gets a line per model and task instead."""
    head = [Text(title) for title in titles(board)]
    wide, narrow = (
        Table(title=page_title(board)),
        Table("Model", "Recipe", "Task", "Score", title=page_title(board)),
    )
    for title in head:
        wide.add_column(title)
    for row, cells in lines(board):
        texts = [Text.assemble((cell.shown, "bold" if cell.is_best else ""), cell.after) for cell in cells]
        wide.add_row(Text(row.label), Text(row.variant), *texts)
        for title, text in zip(head[2:], texts, strict=True):
            if text.plain not in ("", NO_SCORE):
                narrow.add_row(Text(row.label), Text(row.variant), title, text)
    unlimited = console.options.update(max_width=100_000)
    fits = console.measure(wide, options=unlimited).maximum <= console.width
    console.print(wide if fits else narrow)
    for line in (_SIGNS, *legend(board), *board.notes):
        console.print(Text(line))


@dataclass(frozen=True)
class LeaderboardOptions:
    """Write leaderboard.md, .csv, .json and .html and plots from the records of a results folder; print the table."""

    results: Path = Path("results")
    """The folder that holds runs/."""
    compare: tuple[str, str] | None = None
    """Compare two models of the table, task by task, instead: names as they stand there, or their beginnings."""
    strict: bool = False
    """Exit with code 1 when a file under runs/ is not a readable record."""


def main(arguments: Sequence[str]) -> None:
    """Writes and prints; files that are no records are named on stderr.

    Raises:
        UserError: there is no record.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    options = tyro.cli(LeaderboardOptions, args=list(arguments), prog="harness leaderboard", config=config)
    console = Console(highlight=False)
    if options.compare:
        board, problems = leaderboard_of(options.results)
        first, second = (row_named(board, name) for name in options.compare)
        if first == second:
            raise UserError(
                f"--compare: {' and '.join(map(repr, options.compare))} are the same row. Name another one."
            )
        print_comparison(board, first, second, console)
    else:
        board, problems = write_leaderboard(options.results)
        print_leaderboard(board, console)
        print(f"{options.results / 'leaderboard'}.md, .csv, .json, .html and plots/ are up to date.")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} file(s) left out: not readable as records.", file=sys.stderr)
        if options.strict:
            sys.exit(1)
