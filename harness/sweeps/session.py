"""Runs and shows the jobs of a sweep until none is left or a signal stops it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console

from harness.errors import UserError
from harness.facts.records import prepare_results
from harness.sweeps.display import SweepDisplay, of_them_diverged
from harness.sweeps.executor import Executor
from harness.sweeps.failures import remove_leftovers
from harness.sweeps.fetch import fetch
from harness.sweeps.jobs import SweepPlan
from harness.sweeps.plan import PlannedRun
from harness.sweeps.scheduler import Command, Scheduler
from harness.system.signals import catch_stop_signals


def run_jobs(
    plan: SweepPlan, executor: Executor, console: Console, command: Command, may_diverge: bool, detach: bool = False
) -> int:
    """Runs the jobs and returns the exit code: 1 if a run has no score.

    With `may_diverge`, a diverged run does not count. With `detach` it only starts those that can start now, and
    returns 0.

    Raises:
        UserError: a run has found a mistake, or no run can be done as requested.
    """
    for run in plan.finished:
        remove_leftovers(run)
    is_without_score = bool(plan.failed or (plan.diverged and not may_diverge))
    if not plan.jobs:
        return int(is_without_score)
    prepare_results(plan.jobs[0].run.options.folder)
    fetch(job.run.options for job in plan.jobs)
    scheduler, display = Scheduler(plan.jobs, executor, command), SweepDisplay(console)
    if detach:
        return _detach(scheduler, display)
    with catch_stop_signals() as stop_request, display.open():
        is_announced = False
        for event in scheduler.events(stop_request):
            if event is not None:
                display.print_event(event, scheduler)
            if scheduler.is_stopping and not is_announced:
                is_announced = True
                number = len(scheduler.running)
                queued = ", or are cancelled if they have not started" if executor.has_queue else ""
                console.print(f"stopping: {number} run(s) save a checkpoint{queued}; Ctrl-C again kills them")
            display.refresh(scheduler)
    done, failed, invalid = (scheduler.in_state(state) for state in ("done", "failed", "invalid"))
    left = scheduler.in_state("waiting", "elsewhere", "unseen")
    for job in failed:
        console.print(f"failed: {job.run}: {job.run.log_path}", soft_wrap=True)
    diverged = len(scheduler.diverged)
    counts = [f"{len(done)} done{of_them_diverged(diverged)}", f"{len(failed)} failed", f"{len(left)} not run"]
    console.print(", ".join(counts + [f"{len(invalid)} invalid"] * bool(invalid)) + ".")
    if stop_request.signal:
        console.print("stopped; the same command resumes.")
        return 128 + stop_request.signal
    for job in left:
        console.print(f"not run: {job.run}: the run that it starts from has failed or diverged", soft_wrap=True)
    if invalid:
        raise UserError(_describe_mistakes([(job.run, scheduler.messages[job.run.run_id]) for job in invalid]))
    return int(is_without_score or bool(failed or left or (diverged and not may_diverge)))


def _detach(scheduler: Scheduler, display: SweepDisplay) -> int:
    for event in scheduler.start_jobs():
        display.print_event(event, scheduler)
    folder = next(iter(scheduler.jobs.values())).run.options.folder
    later = len(scheduler.in_state("waiting"))
    rest = f"; {later} more start later, by the same command" if later else ""
    display.console.print(f"{len(scheduler.running)} started{rest}. To watch them:", soft_wrap=True)
    display.console.print(f"harness status --watch --results {shlex.quote(str(folder))}", soft_wrap=True)
    return 0


def _describe_mistakes(mistakes: Sequence[tuple[PlannedRun, str]]) -> str:
    """Each message once, with the first run that it ended."""
    by_message: dict[str, list[PlannedRun]] = {}
    for run, message in mistakes:
        by_message.setdefault(message, []).append(run)
    others = {
        message: f" (and {len(runs) - 1} more runs)" if len(runs) > 1 else "" for message, runs in by_message.items()
    }
    return "\n".join(f"{runs[0]}{others[message]}: {message}" for message, runs in by_message.items())
