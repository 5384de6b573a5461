"""The leaderboard of a results folder, read from its records, and written as files into it.

They are leaderboard.md, .csv, .json, .html, plots, and a page for each task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, boundary
from harness.facts.choices import read_searches
from harness.facts.records import RunRecord, missing_records, read_records
from harness.facts.suites import Suite, registered_suites
from harness.reports.data_files import render_csv, render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.html_parts import GENERATOR
from harness.reports.markdown import render_markdown
from harness.reports.pages import FIRST_PAGE, build_pages, page_links, page_name, plot_name, task_page_name
from harness.reports.pair_tests import pair_tests
from harness.reports.plots import PLOTS, render_plots
from harness.reports.standings import FolderFacts, Leaderboard, build_leaderboard
from harness.reports.task_page import Texts, render_task_page
from harness.stats.calibration import read_calibrations
from harness.stats.uncertainty import Aggregate
from harness.stats.verification import read_reruns
from harness.system.atomic import write_atomically

ENDINGS = ("md", "csv", "json", "html")


class ResultsFolder(NamedTuple):
    """The content of a results folder."""

    records: list[RunRecord]
    facts: FolderFacts
    record_messages: list[str]
    """A message for each file under runs/ that is not readable as a record."""
    rerun_messages: Sequence[str] = ()
    """A message for each unreadable record of a re-run."""
    grid_messages: Sequence[str] = ()
    """A message for each unreadable grid."""
    prediction_messages: Sequence[str] = ()
    """A message for each unreadable file of predictions."""

    @property
    def messages(self) -> list[str]:
        """A message for each unreadable file."""
        return [*self.record_messages, *self.grid_messages, *self.prediction_messages, *self.rerun_messages]


def read_folder(results: Path) -> ResultsFolder:
    """Reads the folder. If it has no record, nothing else is read.

    Raises:
        UserError: the folder cannot be read.
    """
    records, messages = read_records(results)
    if not records:
        return ResultsFolder([], FolderFacts(), messages)
    searches, unreadable_grids = read_searches(results)
    reruns, unreadable_reruns = read_reruns(results)
    calibrations, unreadable_scores = read_calibrations(records, results)
    facts = FolderFacts(searches, calibrations, reruns)
    return ResultsFolder(records, facts, messages, unreadable_reruns, unreadable_grids, unreadable_scores)


def check_records(results: Path, *folders: ResultsFolder) -> None:
    """Raises UserError, with the messages of the first of these folders, when none of them has a record."""
    if not any(folder.records for folder in folders):
        raise UserError(f"--results {missing_records(results, folders[0].messages)}")


def board_of(folder: ResultsFolder, aggregate: Aggregate = "mean") -> Leaderboard:
    """The leaderboard of the folder's records."""
    return build_leaderboard(folder.records, len(folder.record_messages), aggregate=aggregate, folder=folder.facts)


def read_leaderboard(results: Path, aggregate: Aggregate = "mean") -> tuple[Leaderboard, list[str]]:
    """The leaderboard of the records under `results/runs`, all tasks in one, and a message for each unreadable file.

    Raises:
        UserError: there is no record.
    """
    folder = read_folder(results)
    check_records(results, folder)
    return board_of(folder, aggregate), folder.messages


def read_pages(
    results: Path, aggregate: Aggregate = "mean", suites: Sequence[Suite] = ()
) -> tuple[dict[str, Leaderboard], list[str]]:
    """The pages of the records under `results/runs` as `build_pages` returns them, and a message for each bad file.

    `suites` are those that are not registered.

    Raises:
        UserError: there is no record.
    """
    folder = read_folder(results)
    check_records(results, folder)
    known = {**registered_suites(), **{suite.name: suite for suite in suites}}
    pages = build_pages(folder.records, len(folder.record_messages), aggregate, known, folder.facts)
    return pages, folder.messages


def write_leaderboard(pages: Mapping[str, Leaderboard], results: Path) -> None:
    """Writes leaderboard.md, .csv, .json, .html and plots, those that change; removes those that have nothing to show.

    `pages` are boards by the name of their files, as `build_pages` returns them.

    Raises:
        UserError: a file cannot be written.
    """
    links = page_links(pages)
    files = {name: text for page, board in pages.items() for name, text in _files(board, page, links)}
    with _writing_boundary(results):
        _replace_files(pages, files, results)


def _replace_files(pages: Mapping[str, Leaderboard], files: Mapping[str, str], results: Path) -> None:
    stale = [path.stem for path in results.glob(f"{page_name('*')}.html") if _is_generated(path)]
    for page in (*pages, *stale, *map(page_name, registered_suites())):
        names = [*(f"{page}.{ending}" for ending in ENDINGS), *(f"plots/{plot_name(page, plot)}" for plot in PLOTS)]
        for name in names:
            if name not in files:
                (results / name).unlink(missing_ok=True)
    for path in (results / FIRST_PAGE).glob("*.html"):
        if f"{FIRST_PAGE}/{path.name}" not in files and _is_generated(path):
            path.unlink()
    for name, text in files.items():
        path = results / name
        if not path.is_file() or path.read_bytes() != text.encode():
            write_atomically(path, text)


def write_task_page(board: Leaderboard, page: str, task: str, results: Path, texts: Texts | None = None) -> Path:
    """Writes the page of one of the board's tasks, with the texts of the rows that it lists; `page` names the board."""
    path = results / f"{task_page_name(task)}.html"
    text = render_task_page(board, json.loads(render_json(board)), task, page, texts)
    with _writing_boundary(results):
        write_atomically(path, text)
    return path


def _writing_boundary(results: Path) -> AbstractContextManager[None]:
    advice = "Free disk space, or copy the folder to a place that you can write to."
    return boundary(f"--results {results}: the pages cannot be written", advice=advice)


def _is_generated(path: Path) -> bool:
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR}">'.encode() in file.read(1_000)


def _files(board: Leaderboard, page: str, links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    as_json = render_json(board)
    content = json.loads(as_json)
    plots = render_plots(content)
    yield f"{page}.md", render_markdown(board, links)
    yield f"{page}.csv", render_csv(board)
    yield f"{page}.json", as_json
    yield f"{page}.html", render_html(content, plots, formulas(board), board.title, pair_tests(board), page, links)
    yield from ((f"plots/{plot_name(page, plot)}", svg) for plot, svg in plots.items())
    yield from ((f"{task_page_name(task)}.html", render_task_page(board, content, task, page)) for task in board.tasks)
