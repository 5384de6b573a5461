"""The pages of the leaderboard: one for each suite with an average; the first also has the tasks of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.facts.records import RunRecord
from harness.facts.suites import Suite, registered_suites
from harness.reports.standings import FolderFacts, Leaderboard, build_leaderboard, first_suite, used_records
from harness.stats.uncertainty import Aggregate

FIRST_PAGE = "leaderboard"
"""The name of the first page's files, without their endings."""


def page_name(suite: str) -> str:
    """The name of the files of a suite's own page, without their endings."""
    return f"{FIRST_PAGE}-{suite}"


def task_page_name(task: str) -> str:
    """The name of a task's page in the results folder, without its ending."""
    return f"{FIRST_PAGE}/{task}"


def plot_name(page: str, plot: str) -> str:
    """The name of a plot's file: that of a suite's own page begins with the suite."""
    return plot if page == FIRST_PAGE else f"{page.removeprefix(page_name(''))}-{plot}"


def build_pages(
    records: Sequence[RunRecord],
    unreadable: int = 0,
    aggregate: Aggregate = "mean",
    suites: Mapping[str, Suite] | None = None,
    folder: FolderFacts | None = None,
) -> dict[str, Leaderboard]:
    """The leaderboard of each page by the name of its files, the first one first; see `build_leaderboard`.

    The first page is that of the first suite that has runs.
    """
    suites = registered_suites() if suites is None else suites
    used = used_records(records)
    first = first_suite(used, suites)
    by_page: dict[str, list[RunRecord]] = {FIRST_PAGE: []}
    by_page |= {page_name(name): [] for name, suite in suites.items() if suite.averages and suite != first}
    is_used = {id(run) for run in used}
    for run in records:
        name = page_name(run.task.suite or "")
        by_page[name if name in by_page and id(run) in is_used else FIRST_PAGE].append(run)
    return {
        name: build_leaderboard(
            own,
            unreadable if name == FIRST_PAGE else 0,
            aggregate=aggregate,
            suites=suites,
            elsewhere=used,
            folder=folder,
        )
        for name, own in by_page.items()
        if own
    }


def page_links(pages: Mapping[str, Leaderboard]) -> dict[str, str]:
    """The name of each page's files by its title in links; empty where there is only one page."""
    titles = {name: board.suite.title if board.suite else "Tasks" for name, board in pages.items()}
    return {title: name for name, title in titles.items()} if len(pages) > 1 else {}
