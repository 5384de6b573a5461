"""`harness status`: the runs of a results folder that are running, stopped or failed, and how far each is."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from harness.facts.records import Records, read_records
from harness.inspection.terminal_table import wide_console
from harness.metrics.registry import format_score
from harness.sweeps.display import duration
from harness.sweeps.unfinished import RunStatus, run_statuses
from harness.system.command_line import parse_flags

WATCH_SECONDS = 5.0
"""Seconds between two looks at the folder with --watch."""


@dataclass(frozen=True)
class StatusOptions:
    """Show the runs of a results folder that are running, stopped or failed: where, at which step, and the time left.

    It reads the folder alone, so it works on any machine that sees it, for runs on this machine, on others, and in jobs
    of a cluster.
    """

    results: Path = Path("results")
    """The folder with runs/; that of a sweep in test mode is DIR/test-mode."""
    watch: bool = False
    """Show it again every five seconds, until Ctrl-C."""


def main(arguments: Sequence[str]) -> None:
    """Prints the table once, or until Ctrl-C.

    Raises:
        UserError: there is no results folder, or no terminal for --watch.
    """
    options = parse_flags(StatusOptions, arguments, "status")
    _check_results(options.results)
    console = wide_console()
    if not options.watch:
        records = read_records(options.results)
        console.print(_page(run_statuses(options.results, records.records), records))
        for message in records.messages:
            print(message, file=sys.stderr)
        return
    if not console.is_terminal:
        raise UserError("--watch: expected a terminal; drop it to print the table once.")
    statuses: list[RunStatus] = []
    with Live(console=console, auto_refresh=False) as live:
        while True:
            records = read_records(options.results)
            statuses = run_statuses(options.results, records.records, {status.key for status in statuses})
            live.update(_page(statuses, records), refresh=True)
            time.sleep(WATCH_SECONDS)


def _check_results(results: Path) -> None:
    if (results / "runs").is_dir():
        return
    if results.exists() and not results.is_dir():
        raise UserError(f"--results {results}: expected a folder, got a file.")
    problem = f"no runs found under {results / 'runs'}" if results.exists() else "folder not found"
    other = results / "test-mode"
    raise UserError(f"--results {results}: {problem}; name {other if other.exists() else 'another folder'}.")


def _page(statuses: Sequence[RunStatus], records: Records) -> Group:
    """A line per run, and below it the number of records of each kind."""
    table = Table(box=None, pad_edge=False)
    for title in ("task", "model", "seed", "state", "where", "since (UTC)", "step", "loss", "left"):
        table.add_column(title, overflow="fold")
    for status in statuses:
        table.add_row(*map(Text, _cells(status)))
    counts = Counter(record.status for record in records.records)
    numbers = [f"{len(records.records) - counts['failed']} finished ({counts['diverged']} diverged)"]
    numbers += [f"{counts['failed']} failed"] + [f"{len(records.messages)} unreadable"] * bool(records.messages)
    return Group(table if statuses else Text("No run is running, stopped or failed."), Text(", ".join(numbers) + "."))


def _cells(status: RunStatus) -> list[str]:
    summary = status.summary
    model, seed, _ = [*status.key.run_id.rsplit("-", 2), "", ""][:3]
    is_planned = summary is not None and summary.total_steps
    return [
        status.key.task,
        model,
        seed.removeprefix("seed"),
        status.state,
        status.location,
        f"{status.since:%Y-%m-%d %H:%M}" if status.since else "",
        f"{summary.step:,} of {summary.total_steps:,}" if summary and is_planned else "",
        format_score(summary.loss) if summary and summary.loss is not None else "",
        duration(status.seconds_left) if status.seconds_left is not None else "",
    ]
