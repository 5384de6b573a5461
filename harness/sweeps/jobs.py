"""The jobs of a sweep: the runs that it has left to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.facts.records import RunRecord, read_records
from harness.facts.run_files import model_folder
from harness.saved_models.bundles import is_bundle
from harness.sweeps.estimates import Estimate, comparable, estimate_all
from harness.sweeps.ordering import QueueItem
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
    def queue_item(self) -> QueueItem:
        """The job as the order of runs sees it."""
        return QueueItem(self.run.run_id, self.weight, self.run.after)

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
