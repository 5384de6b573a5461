"""The display of a sweep: its plan, and a live table on a terminal or a line per event elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.facts.records import RunRecord
from harness.metrics.registry import format_score
from harness.stats.entries import assignments
from harness.sweeps.failures import last_lines
from harness.sweeps.jobs import Job, SweepPlan, seconds_left
from harness.sweeps.scheduler import VISIBLE_SECONDS, Event, Scheduler, State
from harness.system.devices import Slot


def duration(seconds: float | None) -> str:
    """`40 s`, `12 min`, `3 h 05 min`; a question mark if it is unknown."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def plan_table(jobs: Sequence[Job]) -> Table:
    """The runs to do: a line per task, model and recipe, with its seeds and the expected duration of each run."""
    by_line: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        by_line[job.run.task.name, job.run.spec.model, assignments(job.run.changes) or "default"].append(job)
    table = Table("task", "model", "recipe", "seeds", "each", "estimated from", box=None, pad_edge=False)
    for (task, model, recipe), members in by_line.items():
        seeds = ", ".join(str(job.run.spec.seed) for job in members)
        estimate = members[0].estimate
        table.add_row(task, model, recipe, seeds, duration(estimate.seconds), estimate.basis)
    return table


def print_plan(plan: SweepPlan, free_slots: Sequence[Slot], console: Console) -> None:
    """Prints the finished, failed and planned runs, and how long the planned ones will take."""
    total = len(plan.jobs) + len(plan.finished) + len(plan.failed)
    count = "1 run" if total == 1 else f"{total} runs"
    finished = f"{len(plan.finished)} finished{of_them_diverged(len(plan.diverged))}"
    console.print(f"{count}: {finished}, {len(plan.failed)} failed, {len(plan.jobs)} to do.")
    for run in plan.failed:
        if run.path.exists():
            console.print(f"failed before: {run}, {run.log_path} (--retry-failed runs it again)", soft_wrap=True)
    for note in plan.notes:
        console.print(note, soft_wrap=True)
    if not plan.jobs:
        return
    console.print(plan_table(plan.jobs))
    estimated = [job for job in plan.jobs if job.estimate.seconds is not None]
    unknown = len(plan.jobs) - len(estimated)
    wall_seconds = seconds_left(estimated, {}, len(free_slots))
    device_seconds = sum(job.weight for job in estimated) * max(1, len(free_slots[0].gpus)) / free_slots[0].runs_per_gpu
    where = f"1 at a time on {free_slots[0]}" if len(free_slots) == 1 else f"{len(free_slots)} at a time"
    if estimated:
        about = "at least" if unknown else "about"
        console.print(
            f"{where}: {about} {duration(wall_seconds)}, {device_seconds / 3600:.2f} device-hours.", soft_wrap=True
        )
    if unknown:
        runs = "1 run" if unknown == 1 else f"{unknown} runs"
        console.print(f"{where}: duration of {runs} unknown, no earlier record of the model.", soft_wrap=True)


def of_them_diverged(number: int) -> str:
    """`" (2 diverged)"`, or an empty string for none."""
    return f" ({number} diverged)" if number else ""


class SweepDisplay:
    """Shows a sweep while it works."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.drawn_at = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keeps the live table at the end of the terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self.live:
            yield

    def print_event(self, event: Event, scheduler: Scheduler) -> None:
        """Prints one line: the event, and the state of the sweep after it."""
        number = len(scheduler.in_state("done", "failed", "invalid"))
        line = Text(f"[{number}/{len(scheduler.jobs)}] {_event_text(event)}")
        if event.state != "running" or self.live is None:
            if event.state in ("done", "failed", "invalid"):
                line.append(f"; {sweep_state(scheduler)}")
            self.console.print(line, style="red" if event.state in ("failed", "invalid") else "", soft_wrap=True)

    def refresh(self, scheduler: Scheduler) -> None:
        """Draws the table again, at most twice a second."""
        if self.live is None or time.monotonic() - self.drawn_at < 0.5:
            return
        self.drawn_at = time.monotonic()
        table = Table(box=None, pad_edge=False, title=sweep_state(scheduler), title_justify="left", expand=True)
        for title in ("run", "on", "for", "of about"):
            table.add_column(title, no_wrap=True)
        table.add_column("last line", no_wrap=True, ratio=1, overflow="ellipsis")
        for running in scheduler.running:
            lines = last_lines(running.handle.output())
            elapsed, expected = time.monotonic() - running.start_seconds, running.job.estimate.seconds
            last = Text(lines[-1] if lines else "")
            table.add_row(str(running.job.run), running.handle.location(), duration(elapsed), duration(expected), last)
        self.live.update(table, refresh=True)


def sweep_state(scheduler: Scheduler) -> str:
    """`2 running, 5 done, 1 failed, 4 waiting, about 12 min left`, or with a queue `2 submitted, 5 done`."""
    has_queue = scheduler.executor.has_queue
    names = _STATE_NAMES | {"running": "submitted"} if has_queue else _STATE_NAMES
    counts = [(len(scheduler.in_state(state)), name) for state, name in names.items()]
    shows_time = not has_queue and scheduler.in_state("waiting", "running")
    time_left = f", about {duration(scheduler.seconds_left)} left" if shows_time else ""
    return ", ".join(f"{n} {name}" for n, name in counts if n or name in (names["running"], "done")) + time_left


_STATE_NAMES: dict[State, str] = {
    "running": "running",
    "elsewhere": "in another process",
    "unseen": "without a visible record",
    "waiting": "waiting",
    "done": "done",
    "failed": "failed",
    "invalid": "invalid",
}


def _event_text(event: Event) -> str:
    run, record = event.job.run, event.record
    name = f"{run} ({assignments(run.changes)})" if run.changes else str(run)
    if event.state == "running":
        return f"started {name} on {event.location}"
    if event.state == "elsewhere":
        return f"another process works on {name}"
    if event.state == "unseen":
        return f"waiting up to {VISIBLE_SECONDS:g} s until the record of {name} is visible here"
    if record is None or event.state in ("failed", "invalid"):
        return f"{event.state} {name}: {(record.error if record else event.message) or 'see its log'}"
    return f"{record.status} {name}: {main_metrics_text(record)}"


def main_metrics_text(record: RunRecord) -> str:
    """The main metrics of a record, and its duration."""
    metrics = [
        f"{name} {format_score(value)}"
        for split in record.task.report
        for name, value in record.metrics.get(split, {}).items()
        if name in record.task.main_metrics and value is not None
    ]
    time_text = f"in {duration(record.cost.seconds)}" if record.cost else ""
    return " ".join(part for part in (", ".join(metrics) or record.error or "no score", time_text) if part)
