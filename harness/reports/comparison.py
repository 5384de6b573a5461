"""`harness leaderboard --compare A B`: two rows of the table, task by task, on the same rows of data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError, did_you_mean
from harness.reports.markdown import column_title, shown_p
from harness.reports.standings import Leaderboard, is_fraction, shown
from harness.stats.entries import Row
from harness.stats.groups import Group
from harness.stats.significance import PairwiseTest, Resampling, panel_of
from harness.stats.uncertainty import holm

_LISTED = 10
"""Rows that a message names."""


class Compared(NamedTuple):
    """One task."""

    task: str
    versus: PairwiseTest | None
    """The first less the second; the tasks that have one are a family."""
    verdict: str
    """`better`, `worse` or `tied`, of the first; or why the two are not compared."""


def row_named(board: Leaderboard, name: str) -> Row:
    """The row of that model: as the table has it, its last part, or the start of either, ` (recipe)` behind it or not.

    Raises:
        UserError: no row or several are called so.
    """
    names = {row: _names(row) for row in board.rows}
    wanted = name.casefold()
    exact = [row for row in board.rows if wanted in {known.casefold() for known in names[row]}]
    starting = [row for row in board.rows if any(known.casefold().startswith(wanted) for known in names[row])]
    found = exact or starting
    if len(found) == 1:
        return found[0]
    in_full = ", ".join(repr(names[row][-1]) for row in (found or board.rows)[:_LISTED])
    in_full += ", ..." if len(found or board.rows) > _LISTED else ""
    if found:
        raise UserError(f"--compare {name!r}: {len(found)} rows are called so: {in_full}. Name one of them in full.")
    near = did_you_mean(name, [known for row in board.rows for known in names[row]])
    raise UserError(f"--compare {name!r}: no row of the leaderboard is called so.{near} There are {in_full}.")


def _names(row: Row) -> list[str]:
    """The fullest one last."""
    short = row.label.rsplit("/", 1)[-1]
    return [short, row.label, f"{short} ({row.variant})", f"{row.label} ({row.variant})"]


def compare_rows(board: Leaderboard, first: Row, second: Row) -> list[Compared]:
    """The two rows task by task, Holm-corrected for the tasks that can be compared."""
    found: list[Compared] = []
    for task in board.tasks:
        groups = [board.groups.get((row, task)) for row in (first, second)]
        a, b = groups
        if a is None or b is None:
            found.append(Compared(task, None, "not run by both"))
        elif a.score.mean is None or b.score.mean is None:
            found.append(Compared(task, None, "no score"))
        else:
            found.append(_of_task(task, a, b, board.resampling))
    tested = [one.versus for one in found if one.versus]
    corrected = iter(holm(np.array([versus.p for versus in tested])))
    return [_with_verdict(one, float(next(corrected))) if one.versus else one for one in found]


def _of_task(task: str, first: Group, second: Group, resampling: Resampling) -> Compared:
    panel = panel_of([first, second], resampling)
    if panel is None:
        return Compared(task, None, "not on the same rows, or no predictions recorded")
    versus = panel.versus(np.array([0]), np.array([1]))(0)
    return Compared(task, versus, "better" if panel.sign * versus.difference > 0 else "worse")


def _with_verdict(one: Compared, p_holm: float) -> Compared:
    assert one.versus is not None
    versus = one.versus._replace(p_holm=p_holm)
    return Compared(one.task, versus, one.verdict if versus.is_distinct else "tied")


def print_comparison(board: Leaderboard, first: Row, second: Row, console: Console) -> None:
    """A line per task, and what the tests are."""
    (a, b), compared = ((_names(row)[-1] for row in (first, second)), compare_rows(board, first, second))
    table = Table("Task", "A", "B", "A - B [95 %]", "p", "Holm", "A is", title=Text(f"A: {a}\nB: {b}"))
    for task, versus, verdict in compared:
        cells = [board.cells.get((row, task)) for row in (first, second)]
        scores = [Text(f"{cell.shown}{cell.after.replace(' ≈', '')}" if cell else "") for cell in cells]
        title = column_title(task, board.tasks[task])
        if versus is None:
            table.add_row(title, *scores, "", "", "", Text(verdict, "dim"))
            continue
        as_percent = all(map(is_fraction, board.tasks[task].main_metrics))
        low, high = shown(versus.low, as_percent), shown(versus.high, as_percent)
        difference = Text(f"{shown(versus.difference, as_percent)} [{low}, {high}]")
        exact = " (exact)" if versus.method.startswith("exact") else ""
        table.add_row(
            title, *scores, difference, shown_p(versus.p) + exact, shown_p(versus.p_holm), Text(verdict, "bold")
        )
    console.print(table)
    tests = sum(one.versus is not None for one in compared)
    lines = [
        f"Holm: corrected for the {tests} tasks compared; the leaderboard corrects each task for its pairs of models. "
        "Verdicts at 0.05.",
        "p: t = d / sqrt(v + s_A^2/n_A + s_B^2/n_B), v the variance of the difference d over "
        f"{board.resampling.number:,} resamples of the rows that both answered, s over n runs; (exact): McNemar.",
        "Of two single runs, the test is about these runs on other rows: it knows nothing of other seeds.",
    ]
    for line in lines:
        console.print(Text(line))
