"""`harness leaderboard`: writes the leaderboard of a results folder, and prints its table."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError, did_you_mean
from harness.facts.suites import load_suite
from harness.inspection.record_checks import texts_of_pinned_rows
from harness.inspection.terminal_table import DataConsole
from harness.reports.cells import NO_SCORE, format_metric
from harness.reports.changes import changes_page
from harness.reports.comparison import find_entry, print_comparison
from harness.reports.data_files import render_json
from harness.reports.folder import (
    board_of,
    check_records,
    read_folder,
    read_leaderboard,
    read_pages,
    write_leaderboard,
    write_task_page,
)
from harness.reports.markdown import legend, table_head, table_lines
from harness.reports.panels import cost_points, panels_of, pareto_front
from harness.reports.repository_files import write_repository
from harness.reports.results_repository import pull_records
from harness.reports.standings import Leaderboard
from harness.stats.uncertainty import Aggregate
from harness.system.command_line import parse_flags


@dataclass(frozen=True)
class LeaderboardOptions:
    """Write leaderboard.md, .csv, .json, .html and plots from the records of a results folder, and print the table."""

    results: Path = Path("results")
    """The folder with runs/."""
    from_: Annotated[tuple[str, ...], tyro.conf.arg(name="from")] = ()
    """Results repositories, as in hf://datasets/organisation/name@revision, whose records are added to the folder."""
    compare: tuple[str, str] | None = None
    """Compare two models task by task and write nothing: their names in the table, or the start of these."""
    budget: float | None = None
    """List the models whose runs take at most that many device-minutes, the best first, and write nothing."""
    task: str | None = None
    """Write the page of this task alone, leaderboard/<task>.html."""
    show_texts: bool = False
    """Put the texts of the rows on which models disagree into the page of `--task`; other commands leave them out."""
    aggregate: Aggregate = "mean"
    """A model's score is the mean or the median over its runs."""
    suites: tuple[str, ...] = ()
    """Folders of suites of your own: each gets a page with its averages, as the registered ones do."""
    base: Path | None = None
    """Print as Markdown what changes from this results folder, such as that of the main branch, and write nothing."""
    init_repository: Path | None = None
    """Write a results repository into this empty folder, and nothing else: workflows that check each pull request with
    records and publish the leaderboard."""
    strict: bool = False
    """Exit with code 1 if a record, grid, file of predictions or re-run cannot be read."""


def main(arguments: Sequence[str]) -> None:
    """Writes and prints; names unreadable files on stderr.

    Raises:
        UserError: there is no record, or flags exclude each other.
    """
    options = parse_flags(LeaderboardOptions, arguments, "leaderboard")
    views = {name: getattr(options, name) for name in ("compare", "base", "budget", "task")}
    if len(chosen := [f"--{name}" for name, value in views.items() if value is not None]) > 1:
        raise UserError(f"{', '.join(chosen)}: only one of them has an effect; drop the others.")
    if options.suites and chosen not in ([], ["--task"]):
        raise UserError(f"--suites: no effect with {chosen[0]}, which shows all tasks: drop one.")
    if options.init_repository is not None:
        _init_repository(options)
        return
    for address in options.from_:
        pull = pull_records(address, options.results)
        print(f"{pull.source}: {pull.new} new records, {pull.known} known")
        for message in pull.messages:
            print(f"left out: {message}", file=sys.stderr)
    messages = _print_view(options)
    for message in messages:
        print(message, file=sys.stderr)
    if messages:
        print(f"{len(messages)} file(s) ignored: not readable as records, grids or predictions.", file=sys.stderr)
        if options.strict:
            sys.exit(1)


def _print_view(options: LeaderboardOptions) -> list[str]:
    """Prints what the flags choose, by default the whole leaderboard; returns a message for each unreadable file."""
    console = DataConsole()
    if options.base is not None:
        page, messages = _changes(options.base, options.results, options.aggregate)
        print(page)
        return messages
    if options.task is not None or options.show_texts:
        return _write_task_page(options)
    if options.compare is None and options.budget is None:
        return _write_pages(options, console)
    board, messages = read_leaderboard(options.results, options.aggregate)
    if options.budget is not None:
        _print_budget(board, options.budget, console)
    elif options.compare is not None:
        first, second = (find_entry(board, name) for name in options.compare)
        if first == second:
            both = " and ".join(map(repr, options.compare))
            raise UserError(f"--compare: {both} are the same entry, {first.label}. Name two different ones.")
        print_comparison(board, first, second, console)
    return messages


def _print_budget(board: Leaderboard, minutes: float, console: Console) -> None:
    """Prints the entries within the budget: device-minutes for one run of each task that they share, and their score.

    Raises:
        UserError: the budget is not above 0, no entry has a cost, or all cost more.
    """
    if not minutes > 0:
        raise UserError(f"--budget {minutes:g}: expected a number of device-minutes above 0.")
    content = json.loads(render_json(board))
    headings, points = cost_points(content, panels_of(content))
    if not points:
        raise UserError(
            "--budget: no record has both a cost and a score whose mean over tasks can be taken: expected a metric "
            "with a maximum of 1 of which more is better, such as accuracy."
        )
    affordable = [point for point in points if 60 * point.hours <= minutes]
    if not affordable:
        least = min(60 * point.hours for point in points)
        raise UserError(f"--budget {minutes:g}: every model costs more; the cheapest needs {least:.3g} device-minutes.")
    front = set(pareto_front(points))
    table = Table("Model", "score", "device-minutes", "devices", "Pareto front", box=None, pad_edge=False)
    for point in affordable:
        cells = (point.name, format_metric(point.score, True), f"{60 * point.hours:.3g}", point.devices)
        table.add_row(*map(Text, cells), Text("yes" if point in front else ""))
    console.print(table)
    tasks = ", ".join(headings)
    console.print(
        Text(f"score: the mean over {tasks}; device-minutes: one run of each of them. Models with all: {len(points)}.")
    )


def _write_pages(options: LeaderboardOptions, console: Console) -> list[str]:
    """Prints the tables, then writes all pages; returns a message for each unreadable file."""
    suites = [load_suite(folder, "--suites") for folder in options.suites]
    pages, messages = read_pages(options.results, options.aggregate, suites)
    for board in pages.values():
        print_leaderboard(board, console)
    write_leaderboard(pages, options.results)  # last: a table can be read from a folder that cannot be written
    names = ", ".join(f"{name}.md" for name in pages)
    print(f"Wrote {names}, the same as .csv, .json and .html, plots/ and leaderboard/ to {options.results}.")
    return messages


_SYMBOLS = "± the 95 % interval for other seeds and rows, (n) runs, ≈ in the set of the best"


def print_leaderboard(board: Leaderboard, console: Console) -> None:
    """Prints the table and its legend; on a console too narrow for it, a line per model and task."""
    head = [Text(title) for title in table_head(board)]
    wide = Table(title=board.title)
    narrow = Table(title=board.title)
    for title in head:
        wide.add_column(title)
    for name in ("Model", "Recipe", "Task", "Score"):
        narrow.add_column(name, overflow="fold")  # the ends of long names tell models apart
    for entry, cells in table_lines(board):
        texts = [Text.assemble((cell.text, "bold" if cell.is_best else ""), cell.suffix) for cell in cells]
        names = [Text(entry.label), Text(entry.variant)]
        wide.add_row(*names, *texts)
        for title, text in zip(head[2:], texts, strict=True):
            if text.plain not in ("", NO_SCORE):
                narrow.add_row(*names, title, text)
                names = [Text(), Text()]
        narrow.add_section()
    unlimited = console.options.update(max_width=100_000)
    fits = console.measure(wide, options=unlimited).maximum <= console.width
    console.print(wide if fits else narrow)
    for line in (_SYMBOLS, *legend(board), *board.notes):
        console.print(Text(line))


def _write_task_page(options: LeaderboardOptions) -> list[str]:
    """Writes the page of `--task`; returns a message for each unreadable file.

    Raises:
        UserError: the task has no run, or its texts cannot be read.
    """
    if options.task is None:
        raise UserError("--show-texts: --task is missing. Name the task whose page shows the texts of its rows.")
    suites = [load_suite(folder, "--suites") for folder in options.suites]
    pages, messages = read_pages(options.results, options.aggregate, suites)
    page = next((name for name, board in pages.items() if options.task in board.tasks), None)
    if page is None:
        tasks = [task for board in pages.values() for task in board.tasks]
        suggestion = did_you_mean(options.task, tasks)
        problem = f"--task {options.task!r}: no run of this task found in {options.results}.{suggestion}"
        raise UserError(f"{problem} Tasks with runs: {', '.join(tasks)}.")
    runs = [run for (_, task), group in pages[page].groups.items() if task == options.task for run in group.scored]
    texts = texts_of_pinned_rows(runs) if options.show_texts else None
    path = write_task_page(pages[page], page, options.task, options.results, texts)
    print(f"Wrote {path}.")
    return messages


def _changes(base: Path, results: Path, aggregate: Aggregate) -> tuple[str, list[str]]:
    """The Markdown of `--base`, with a message for each unreadable file of the results folder.

    Raises:
        UserError: one of them is not a folder, or neither has a record.
    """
    for flag, folder in (("--base", base), ("--results", results)):
        if not folder.is_dir():
            raise UserError(f"{flag} {folder}: folder not found.")
    before, after = read_folder(base), read_folder(results)
    check_records(results, after, before)
    old, new = (board_of(each, aggregate) if each.records else None for each in (before, after))
    return changes_page(old, new, before.records, after.records), after.messages


def _init_repository(options: LeaderboardOptions) -> None:
    """Writes the repository and prints the next commands.

    Raises:
        UserError: other flags are given, or the folder is not empty or cannot be written.
    """
    assert options.init_repository is not None
    if options != LeaderboardOptions(init_repository=options.init_repository):
        raise UserError("--init-repository: takes no other flags; drop them.")
    paths = write_repository(options.init_repository)
    for path in paths:
        print(path)
    print(f"Next:\ncd {shlex.quote(str(options.init_repository))}\ngit init -b main\ngit add .")
    print("git commit -m 'A results repository'")
