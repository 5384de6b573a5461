"""The leaderboard as files of a results folder: leaderboard.md, .csv, .json, .html, plots, and a page for each task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.facts.suites import registered_suites
from harness.reports.data_files import render_csv, render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.html_parts import GENERATOR
from harness.reports.markdown import render_markdown
from harness.reports.pages import FIRST_PAGE, page_links, page_name, plot_name, task_page_name
from harness.reports.pair_tests import pair_tests
from harness.reports.plots import PLOTS, render_plots
from harness.reports.standings import Leaderboard
from harness.reports.task_page import Texts, render_task_page
from harness.system.atomic import write_atomically

ENDINGS = ("md", "csv", "json", "html")


def write_leaderboard_files(pages: Mapping[str, Leaderboard], results: Path) -> None:
    """Writes the files whose content changes, and removes pages and plots that have nothing to show.

    `pages` are boards by the name of their files, as `build_pages` returns them.
    """
    links = page_links(pages)
    files = {name: text for page, board in pages.items() for name, text in _files(board, page, links)}
    for page in (*pages, *map(page_name, registered_suites())):
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
    write_atomically(path, render_task_page(board, json.loads(render_json(board)), formulas(board), task, page, texts))
    return path


def _is_generated(path: Path) -> bool:
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR}">'.encode() in file.read(1_000)


def _files(board: Leaderboard, page: str, links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    as_json = render_json(board)
    content = json.loads(as_json)
    plots, sections = render_plots(content), formulas(board)
    yield f"{page}.md", render_markdown(board, links)
    yield f"{page}.csv", render_csv(board)
    yield f"{page}.json", as_json
    yield f"{page}.html", render_html(content, plots, sections, board.title, pair_tests(board), page, links)
    yield from ((f"plots/{plot_name(page, plot)}", svg) for plot, svg in plots.items())
    yield from (
        (f"{task_page_name(task)}.html", render_task_page(board, content, sections, task, page)) for task in board.tasks
    )
