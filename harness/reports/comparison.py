"""`harness leaderboard --compare A B`: two entries of the table, task by task, on the same rows of data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError, did_you_mean, list_first
from harness.metrics.registry import direction_of
from harness.reports.cells import Cell, is_shown_as_percent
from harness.reports.markdown import NO_DIRECTION, column_title, difference_text, format_p
from harness.reports.standings import Leaderboard
from harness.stats.entries import Entry
from harness.stats.significance import find_comparison
from harness.stats.uncertainty import PairwiseTest, holm

_MAX_LISTED = 10
"""The number of entries that an error message lists."""


class ComparedTask(NamedTuple):
    """The comparison on one task."""

    task: str
    test: PairwiseTest | None
    """The first entry less the second; the tasks that have a test are one family."""
    verdict: str
    """`better`, `worse` or `tied`, about the first entry; or the reason why there is no verdict."""


def find_entry(board: Leaderboard, name: str) -> Entry:
    """The entry with that name: its label, the label's last part, or the start of either, with or without ` (recipe)`.

    Raises:
        UserError: no entry or several match.
    """
    names = {entry: _names(entry) for entry in board.entries}
    wanted = name.casefold()
    exact = [entry for entry in board.entries if wanted in {known.casefold() for known in names[entry]}]
    starting = [entry for entry in board.entries if any(known.casefold().startswith(wanted) for known in names[entry])]
    matches = exact or starting
    if len(matches) == 1:
        return matches[0]
    listed = matches or board.entries
    full_names = list_first([repr(names[entry][-1]) for entry in listed], _MAX_LISTED)
    if matches:
        raise UserError(f"--compare {name!r} is ambiguous: it matches {full_names}. Give one of these names in full.")
    suggestion = did_you_mean(name, [known for entry in board.entries for known in names[entry]])
    raise UserError(f"--compare {name!r}: not found in the leaderboard.{suggestion} Its entries: {full_names}.")


def _names(entry: Entry) -> list[str]:
    """All names of an entry, the full one last."""
    short = entry.label.rsplit("/", 1)[-1]
    return [short, entry.label, f"{short} ({entry.variant})", f"{entry.label} ({entry.variant})"]


def compare_entries(board: Leaderboard, first: Entry, second: Entry) -> list[ComparedTask]:
    """The two entries task by task, Holm-corrected for the tasks that can be compared."""
    compared = [_compare_on_task(board, task, first, second) for task in board.tasks]
    corrected = iter(holm(np.array([one.test.p for one in compared if one.test])))
    return [_corrected(one, one.test, float(next(corrected))) if one.test else one for one in compared]


def _compare_on_task(board: Leaderboard, task: str, first: Entry, second: Entry) -> ComparedTask:
    a, b = (board.groups.get((entry, task)) for entry in (first, second))
    if a is None or b is None:
        return ComparedTask(task, None, "not run by both")
    if a.score.center is None or b.score.center is None:
        return ComparedTask(task, None, "no score")
    if direction_of(board.tasks[task].main_metrics) is None:
        return ComparedTask(task, None, NO_DIRECTION)
    comparison = find_comparison(board.assessments[task].comparisons, [a, b])
    if comparison is None or comparison.direction is None:
        return ComparedTask(task, None, "no comparable predictions of the same rows")
    test = comparison.test_pairs(np.array([0]), np.array([1])).test(0)
    return ComparedTask(task, test, "better" if comparison.direction * test.difference > 0 else "worse")


def _corrected(one: ComparedTask, test: PairwiseTest, p_holm: float) -> ComparedTask:
    test = test._replace(p_holm=p_holm)
    verdict = "unknown: one run each" if test.is_over_rows_only else "tied"
    return ComparedTask(one.task, test, one.verdict if test.is_significant else verdict)


def print_comparison(board: Leaderboard, first: Entry, second: Entry, console: Console) -> None:
    """Prints a line per task, then an explanation of the tests."""
    (a, b), compared = ((_names(entry)[-1] for entry in (first, second)), compare_entries(board, first, second))
    table = Table(title=Text(f"A: {a}\nB: {b}"))
    for title in ("Task", "A", "B", "A - B [95 %]", "p", "Holm", "A is"):
        table.add_column(title, overflow="fold")
    for task, test, verdict in compared:
        cells = [board.cells.get((entry, task), Cell())._replace(is_tied=False) for entry in (first, second)]
        line = [
            Text(column_title(board.headings[task], board.tasks[task])),
            *(Text(f"{cell.text}{cell.suffix}") for cell in cells),
        ]
        if test is None:
            table.add_row(*line, "", "", "", Text(verdict, "dim"))
            continue
        as_percent = is_shown_as_percent(board.tasks[task])
        difference = Text(difference_text(test, as_percent))
        table.add_row(*line, difference, format_p(test.p), format_p(test.p_holm), Text(verdict, "bold"))
    console.print(table)
    tests = sum(one.test is not None for one in compared)
    for explanation in (
        f"Holm: corrected for the {tests} tasks compared; the leaderboard corrects each task for its pairs of models. "
        "Verdicts at 0.05.",
        "p: t = d / sqrt(v + s_A^2/n_A + s_B^2/n_B), v the variance of the difference d over resamples of the shared "
        "rows, s over n runs; for one or two runs, s is pooled over the models of the task. Intervals are uncorrected.",
        "unknown: no model of the task has two runs, so that interval and p are about these runs on other rows; the "
        "effect of other seeds is unknown.",
    ):
        console.print(Text(explanation))
