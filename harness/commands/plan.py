"""`harness plan`: how many seeds show a difference between two models, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.table import Table

from harness.errors import UserError, did_you_mean
from harness.facts.suites import expand_suites
from harness.inspection.terminal_table import wide_console
from harness.reports.cells import format_metric, is_shown_as_percent
from harness.reports.folder import read_leaderboard
from harness.reports.standings import Leaderboard
from harness.stats.power import MORE_SEEDS, MOST_SEEDS, Column
from harness.stats.uncertainty import POWER, Aggregate
from harness.system.command_line import parse_flags


@dataclass(frozen=True)
class PlanOptions:
    """Show how many seeds a comparison of two models needs, task by task, from the records of earlier runs.

    A difference counts as shown when its test is significant at 5 % with a probability of 80 %.
    """

    results: Path = Path("results")
    """The folder whose records have the variances: of two models or more, one of which has two seeds."""
    tasks: tuple[str, ...] = ()
    """Tasks or suites to plan; by default all tasks that the folder has."""
    detect: float = 1.0
    """The difference to show, in points: hundredths for metrics from 0 to 1."""
    aggregate: Aggregate = "mean"
    """The statistic over a model's seeds that is its score."""


def main(arguments: Sequence[str]) -> None:
    """Prints a line per task.

    Raises:
        UserError: the difference is not positive, there is no record, or a task has none.
    """
    options = parse_flags(PlanOptions, arguments, "plan")
    if not 0 < options.detect < math.inf:
        raise UserError(f"--detect {options.detect}: expected a number of points above 0.")
    board, messages = read_leaderboard(options.results, options.aggregate)
    tasks = expand_suites(options.tasks, board.tasks)
    for name in tasks:
        if name not in board.tasks:
            raise UserError(
                f"--tasks {name}: no records of this task in {options.results}.{did_you_mean(name, board.tasks)}"
            )
    names = tasks or tuple(name for name in board.tasks if board.tasks[name].report)
    wide_console().print(_table(board, names, options.detect))
    for message in messages:
        print(message)


def _table(board: Leaderboard, names: Sequence[str], points: float) -> Table:
    table = Table(
        title=f"Smallest difference in points that two models can show ({POWER:.0%} power, 5 %), "
        f"and seeds for {points:g}",
        caption="Points are hundredths for metrics with a maximum of 1, and the metric's own unit for others. "
        "Device-hours are those of one model.",
    )
    table.add_column("task")
    now, then, never = "now", f"{MORE_SEEDS} seeds", "any number"
    for head in ("rows", "seeds now", now, then, never, f"seeds for {points:g}", "device-hours"):
        table.add_column(head, justify="right")
    for name in names:
        column = board.column(name)
        if column is None:
            table.add_row(board.headings[name], *[""] * 5, "unknown: no two models that differ")
            continue
        as_percent = is_shown_as_percent(board.tasks[name])
        differences = column.smallest_differences()[2:]
        table.add_row(
            board.headings[name],
            f"{column.rows:,}" if column.unit == "rows" else f"{column.rows:,} {column.unit}",
            str(column.seeds),
            *("?" if difference is None else format_metric(difference, as_percent) for difference in differences),
            *_seeds_and_hours(board, name, column, points / 100 if as_percent else points),
        )
    return table


def _seeds_and_hours(board: Leaderboard, name: str, column: Column, difference: float) -> tuple[str, str]:
    """The number of seeds that shows the difference, or why there is none, and the device-hours of a model."""
    seeds = column.seeds_to_detect(difference)
    if seeds is None:
        if column.smallest_difference(math.inf) > difference:
            return "none: too few rows", ""
        return "unknown: no model has two seeds" if math.isnan(column.seed_variance) else f"over {MOST_SEEDS:,}", ""
    runs = [run for (_, task), group in board.groups.items() if task == name for run in group.runs]
    seconds = [run.cost.device_seconds for run in runs if run.cost]
    return str(seeds), f"{seeds * fmean(seconds) / 3600:.2f}" if seconds else ""
