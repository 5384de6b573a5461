"""The jobs of a sweep, which are the runs that it has left to do, their order, and the time until all are done."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.facts.records import RunRecord, read_records
from harness.facts.run_files import model_folder
from harness.saved_models.bundles import is_bundle
from harness.sweeps.estimates import Estimate, comparable, estimate_all
from harness.sweeps.plan import PlannedRun


class Job(NamedTuple):
    """A run that the sweep has to do."""

    run: PlannedRun
    estimate: Estimate
    weight: float
    """Expected duration, or a guess that is comparable with those of the other jobs."""
    saves_model: bool
    """Other runs start from its weights."""
    is_repeat: bool
    """Its record is finished, but its weights were not saved."""

    @property
    def model_path(self) -> Path:
        """The folder of the model that other runs start from."""
        return model_folder(self.run.options.folder, self.run.task.name, self.run.run_id)

    def is_complete(self, record: RunRecord) -> bool:
        """True when the record leaves nothing to do. A diverged run has no weights to save."""
        has_model = record.status == "diverged" or is_bundle(self.model_path)
        return record.is_finished and (has_model or not self.saves_model)


class SweepPlan(NamedTuple):
    """The jobs of a sweep, and the runs that need none."""

    jobs: list[Job]
    finished: list[PlannedRun]
    diverged: list[PlannedRun]
    """Finished runs that have no score."""
    failed: list[PlannedRun]
    """Runs with a failed record that are not run again."""
    notes: list[str]


def plan_jobs(runs: Sequence[PlannedRun], device: str, retry_failed: bool) -> SweepPlan:
    """The jobs that are left, with their estimates.

    Raises:
        UserError: a record file is invalid.
    """
    comparable_records = comparable(read_records(runs[0].options.folder).records, device, runs[0].spec.test_mode)
    estimates = estimate_all(runs, comparable_records)
    rates = [each.seconds / each.rows for each in estimates.values() if each.seconds and each.rows]
    rate = sum(rates) / len(rates) if rates else 1.0
    records = {run.run_id: run.record() for run in runs}
    plan = SweepPlan([], [], [], [], [])
    jobs: dict[str, Job] = {}
    parents: set[str | None] = set()
    useless: set[str] = set()
    """Failed and diverged runs, and those that start from them."""
    for run in reversed(runs):  # from children to the runs that they start from
        run_id, is_parent = run.run_id, run.run_id in parents
        record, expected = records[run_id], estimates[run_id]
        weight = expected.rows * rate if expected.seconds is None else expected.seconds
        job = Job(run, expected, weight, is_parent, is_repeat=record is not None and record.is_finished)
        if record is not None and job.is_complete(record):
            plan.finished.extend([run] * run.is_requested)
            if record.status == "diverged":
                useless.add(run_id)
                plan.diverged.extend([run] * run.is_requested)
        elif record is not None and record.status == "failed" and not retry_failed:
            useless.add(run_id)
            plan.failed.append(run)
        elif run.is_requested or is_parent:
            jobs[run_id] = job
            parents.add(run.spec.parent)
            if job.is_repeat:
                plan.notes.append(f"again: {run}: others start from it, and its weights were not saved")
    for run_id, job in reversed(jobs.items()):
        if job.run.after in useless:
            useless.add(run_id)
            plan.failed.append(job.run)
            plan.notes.append(f"not run: {job.run}: the run that it starts from has failed or diverged")
    plan.jobs.extend(job for run_id, job in reversed(jobs.items()) if run_id not in useless)
    return plan


# -- order -------------------------------------------------------------------------------------------------------------


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The jobs by the time until the last of those that wait for them ends, themselves included; ties keep order."""
    by_run, waiting = {job.run.run_id: job for job in jobs}, Counter(job.run.after for job in jobs)
    until_last = {job.run.run_id: job.weight for job in jobs}
    ready = [job for job in jobs if not waiting[job.run.run_id]]
    while ready:  # from those that nothing waits for to the ones that they need; a chain may have thousands
        job = ready.pop()
        if (needed := by_run.get(job.run.after or "")) is not None:
            run_id = needed.run.run_id
            until_last[run_id] = max(until_last[run_id], needed.weight + until_last[job.run.run_id])
            waiting[run_id] -= 1
            ready += [needed] if not waiting[run_id] else []
    return sorted(jobs, key=lambda job: until_last[job.run.run_id], reverse=True)


def startable(jobs: Sequence[Job], done: Collection[str]) -> list[Job]:
    """The jobs, in order, that wait for no run or for one that is done."""
    return [job for job in jobs if job.run.after is None or job.run.after in done]


def seconds_left(waiting: Sequence[Job], running: Mapping[str, float], slots: int) -> float:
    """Seconds until the last job ends, by their weights, if each free slot takes the next that can start.

    `running` holds the seconds that each running run has left. A run that is in neither counts as done.
    """
    ends = [(max(0.0, left), run_id) for run_id, left in running.items()]
    heapq.heapify(ends)
    unfinished = {job.run.run_id for job in waiting} | set(running)
    ready: list[tuple[int, Job]] = []
    blocked: dict[str | None, list[tuple[int, Job]]] = {}
    for entry in enumerate(longest_first(waiting)):
        after = entry[1].run.after
        (blocked.setdefault(after, []) if after in unfinished else ready).append(entry)
    free, now = slots - len(ends), 0.0
    while ready or ends:
        while ready and free > 0:
            _, job = heapq.heappop(ready)
            heapq.heappush(ends, (now + job.weight, job.run.run_id))
            free -= 1
        now, run_id = heapq.heappop(ends)
        for entry in blocked.pop(run_id, []):
            heapq.heappush(ready, entry)
        free += 1
    return now
