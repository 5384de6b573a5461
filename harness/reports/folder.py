"""The leaderboard as files of a results folder: leaderboard.md, .csv, .json, .html and plots, for each of its pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.facts.suites import registered_suites
from harness.reports.data_files import render_csv, render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.markdown import render_markdown
from harness.reports.pages import page_links, page_name, plot_name
from harness.reports.plots import PLOTS, render_plots
from harness.reports.standings import Leaderboard
from harness.system.atomic import write_atomically

ENDINGS = ("md", "csv", "json", "html")


def write_leaderboard_files(pages: Mapping[str, Leaderboard], results: Path) -> None:
    """Writes the files whose content changes, and removes pages and plots that have nothing to show.

    `pages` are boards by the name of their files, as `build_pages` returns them.
    """
    links = page_links(pages)
    for page in (*pages, *(name for name in map(page_name, registered_suites()) if name not in pages)):
        files = dict(_files(pages[page], page, links)) if page in pages else {}
        names = [*(f"{page}.{ending}" for ending in ENDINGS), *(f"plots/{plot_name(page, plot)}" for plot in PLOTS)]
        for name in names:
            path, text = results / name, files.get(name)
            if text is None:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.read_bytes() != text.encode():
                write_atomically(path, text)


def _files(board: Leaderboard, page: str, links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    as_json = render_json(board)
    content = json.loads(as_json)
    plots = render_plots(content)
    yield f"{page}.md", render_markdown(board, links)
    yield f"{page}.csv", render_csv(board)
    yield f"{page}.json", as_json
    yield f"{page}.html", render_html(content, plots, formulas(board), board.title, page, links)
    yield from ((f"plots/{plot_name(page, plot)}", svg) for plot, svg in plots.items())
