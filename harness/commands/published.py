"""`harness published`: rows of published tables, with what can be run again, or one of them in full."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from harness.errors import UserError
from harness.facts.published import UNSTATED, PublishedRow, PublishedTask, Score, load_row, published_rows
from harness.inspection.terminal_table import wide_console
from harness.metrics.registry import title_of
from harness.sweeps.published_sweep import comparable_scores, obstacles, sweep_of, sweep_text
from harness.system.command_line import parse_flags
from harness.system.output import escape_controls

WIDTH = 100
"""Characters of a line of notes."""


@dataclass(frozen=True)
class PublishedOptions:
    """List the published rows and what can be run again, or show one row with its sweep."""

    row: Annotated[str | None, tyro.conf.Positional] = None
    """A row to show in full, by name or by the path of its YAML file."""
    variant: str | None = None
    """The sweep of this variant, where sources contradict each other."""
    names: bool = False
    """Only the names, one per line."""


def main(arguments: Sequence[str]) -> None:
    """Prints a table, a row or names.

    Raises:
        UserError: a row or variant is not found, a flag has no effect, or a file is invalid.
    """
    options = parse_flags(PublishedOptions, arguments, "published")
    if options.names and options.row is not None:
        raise UserError(f"--names: lists all rows; drop it or {options.row}.")
    if options.variant is not None and options.row is None:
        raise UserError(f"--variant {options.variant}: missing row: name the row that has this variant.")
    if options.names:
        print(*published_rows(), sep="\n")
    elif options.row is None:
        wide_console().print(_rows_table(list(published_rows().values())))
        print("\n`harness published ROW` shows a row, `harness reproduce ROW` runs it.")
    else:
        row = load_row(options.row)
        print(escape_controls("\n".join(row_lines(row, options.variant))))


def _rows_table(rows: Sequence[PublishedRow]) -> Table:
    table = Table(title="Published rows", box=None, title_justify="left", pad_edge=False)
    for header in ("row", "model", "can be run", "scores"):
        table.add_column(header, overflow="fold", no_wrap=header == "row")
    for row in rows:
        scores = ", ".join(f"{task} {score_texts(published)}" for task, published in row.tasks.items())
        table.add_row(row.name, row.model, runnable(row), scores)
    return table


def runnable(row: PublishedRow) -> str:
    """`yes`, `6 of 8 tasks`, or `no: ` and the most frequent reason."""
    scored = [task for task, published in row.tasks.items() if published.scores]
    number = len(comparable_scores(row))
    if number:
        return "yes" if number == len(scored) else f"{number} of {len(scored)} tasks"
    reasons = [reason for task in scored for reason in obstacles(row, task).values()]
    shown = max(reasons, key=reasons.count, default="no scores")
    return f"no: {shown}"


def score_texts(published: PublishedTask) -> str:
    """`88.85/84.07`, with ± where it is published and ? where the metric is not named."""
    return "/".join(f"{score_text(score)}{'?' if score.metric == UNSTATED else ''}" for score in published.scores)


def score_text(score: Score) -> str:
    """`63.4±1.2`."""
    return f"{score.value:g}" + ("" if score.plus_minus is None else f"±{score.plus_minus:g}")


def row_lines(row: PublishedRow, variant: str | None) -> Iterator[str]:
    """A row in full, and its sweep file."""
    tasks = comparable_scores(row)
    sweep = sweep_of(row, tasks, variant=variant) if tasks else None  # raises first
    yield f"{row.name}: {row.model}" + (f"@{row.revision}" if row.revision else "")
    yield f"  source: {row.source}"
    yield f"  setting: {row.setting}"
    seeds = list(row.seeds) if isinstance(row.seeds, tuple) else row.seeds or "number not stated"
    yield f"  seeds: {seeds}; aggregate: {row.aggregate or 'not stated'}"
    if row.plus_minus_is:
        yield f"  ± is: {row.plus_minus_is.replace('_', ' ')}"
    for note in row.notes:
        yield from textwrap.wrap(f"note: {note}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    for name, conflict in row.conflicts.items():
        text = f"variant {name}: {conflict.note} ({conflict.source})"
        yield from textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield "scores:"
    for task, published in row.tasks.items():
        reasons = obstacles(row, task)
        for score in published.scores:
            metric = "metric not stated" if score.metric == UNSTATED else title_of(score.metric)
            reason = f"; cannot be run: {reasons[score]}" if score in reasons else ""
            yield f"  {task} {score.split} {metric}: {score_text(score)}{reason}"
        for note in published.notes:
            yield from textwrap.wrap(f"note: {note}", WIDTH, initial_indent="    ", subsequent_indent="      ")
    if sweep is None:
        yield "No score of this row can be compared with runs."
        return
    yield f"The sweep file of this row{f', variant {variant}' if variant else ''}:"
    yield textwrap.indent(sweep_text(sweep).rstrip(), "  ")
