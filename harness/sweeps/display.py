"""What a sweep shows: its plan, and while it works a live table on a terminal or a line for each thing that happens."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.facts.records import RunRecord
from harness.stats.entries import assignments
from harness.sweeps.estimates import Estimate
from harness.sweeps.plan import PlannedRun
from harness.sweeps.scheduler import Event, State, Worker, last_lines


def duration(seconds: float | None) -> str:
    """`40 s`, `12 min`, `3 h 05 min`; a question mark where it is unknown."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def plan_table(todo: Sequence[PlannedRun], estimates: Mapping[str, Estimate]) -> Table:
    """The runs to do: a line for each task, model and recipe, its seeds, and what is expected of each run."""
    alike: dict[tuple[str, str, str], list[PlannedRun]] = defaultdict(list)
    for run in todo:
        alike[run.task.name, run.spec.model, assignments(run.changes) or "default"].append(run)
    table = Table("task", "model", "recipe", "seeds", "each", "from earlier records", box=None, pad_edge=False)
    for (task, model, recipe), runs in alike.items():
        seeds = ", ".join(str(run.spec.seed) for run in runs)
        expected = estimates[runs[0].run_id]
        table.add_row(task, model, recipe, seeds, duration(expected.seconds), expected.basis)
    return table


class SweepDisplay:
    """Shows a sweep at work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.drawn = 0.0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within it the table stands at the end of the terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self.live:
            yield

    def tell(self, event: Event, worker: Worker) -> None:
        """One line: what happened to which run, and where the sweep stands."""
        number = len(worker.of("done", "failed"))
        line = Text(f"[{number}/{len(worker.todos)}] {_said(event)}")
        if event.state != "running" or self.live is None:
            if event.state in ("done", "failed"):
                line.append(f"; {standing(worker)}")
            self.console.print(line, style="red" if event.state == "failed" else "", soft_wrap=True)

    def refresh(self, worker: Worker) -> None:
        """Draws the table anew, twice a second at most."""
        if self.live is None or time.monotonic() - self.drawn < 0.5:
            return
        self.drawn = time.monotonic()
        table = Table(box=None, pad_edge=False, title=standing(worker), title_justify="left", expand=True)
        for title in ("run", "on", "for", "of about"):
            table.add_column(title, no_wrap=True)
        table.add_column("its last line", no_wrap=True, ratio=1, overflow="ellipsis")
        for place in worker.busy:
            assert place.todo is not None
            assert place.launched is not None
            lines = last_lines(place.launched.printed())
            elapsed, expected = time.monotonic() - place.since, place.todo.seconds
            last = Text(lines[-1] if lines else "")
            table.add_row(str(place.todo.run), str(place.slot), duration(elapsed), duration(expected), last)
        self.live.update(table, refresh=True)


def standing(worker: Worker) -> str:
    """`2 running, 5 done, 1 failed, 4 waiting, about 12 min left`."""
    parts = [(len(worker.of(state)), word) for state, word in _WORDS.items()]
    left = worker.seconds_left
    time_left = "" if not worker.of("waiting", "running") else f", about {duration(left)} left"
    return ", ".join(f"{count} {word}" for count, word in parts if count or word in ("running", "done")) + time_left


_WORDS: dict[State, str] = {
    "running": "running",
    "elsewhere": "with another sweep",
    "waiting": "waiting",
    "done": "done",
    "failed": "failed",
}


def _said(event: Event) -> str:
    run, record = event.todo.run, event.record
    recipe = f" ({assignments(run.changes)})" if run.changes else ""
    name = f"{run}{recipe}"
    if event.state == "running":
        return f"started {name} on {event.slot}"
    if event.state == "elsewhere":
        return f"another sweep or start has {name} in hand"
    if record is None or event.state == "failed":
        return f"failed {name}: {(record.error if record else None) or 'see its log'}"
    return f"{record.status} {name}: {scores(record)}"


def scores(record: RunRecord) -> str:
    """The main metrics of a record, and what it took."""
    found = [
        f"{name} {value:.4f}"
        for split in record.task.report
        for name, value in record.metrics.get(split, {}).items()
        if name in record.task.main_metrics and value is not None
    ]
    took = f"in {duration(record.cost.seconds)}" if record.cost else ""
    return " ".join(part for part in (", ".join(found) or record.error or "no score", took) if part)
