"""The scheduler of a sweep: starts jobs in free slots, watches and stops them, and reads the records they leave.

Runs may be on other machines that share the results folder. Their supervisors write every record; what this machine
sees of a record or a lock may be minutes old.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.records import RunRecord
from harness.saved_models.bundles import is_bundle
from harness.sweeps.executor import Executor, RunHandle, SubmissionRefused
from harness.sweeps.failures import last_lines, user_error
from harness.sweeps.jobs import Job, longest_first, seconds_left, startable
from harness.sweeps.launch import (
    CONFIG,
    LOCKED,
    MISTAKE,
    STOPPED,
    Start,
    launch_command,
    launch_config,
    record_stamp,
    sweep_lock_path,
)
from harness.sweeps.lock_check import LockCheck
from harness.sweeps.plan import PlannedRun
from harness.system.devices import Slot
from harness.system.locks import is_free, lock_path
from harness.system.redaction import redact_command
from harness.system.signals import StopRequest

State = Literal["waiting", "running", "elsewhere", "unseen", "done", "failed", "invalid"]
"""`elsewhere`: another process works on the run. `unseen`: the run has ended, and its record is not visible here yet.
`invalid`: a mistake of the user has ended it, and it has no record."""

POLL_SECONDS = 0.1

ELSEWHERE_POLL_SECONDS = 2.0
"""Seconds between two checks of runs that other processes work on."""

REFUSED_SECONDS = 60.0
"""Seconds until the next start after a cluster has refused a job, for a limit on jobs or an outage."""

VISIBLE_SECONDS = 120.0
"""Seconds until a record that another machine has written, or a lock that it holds, must be visible here.

A network file system may remember for a minute that a file was missing."""

Command = Callable[[Path, int, int, Sequence[str]], list[str]]
"""(accelerate's configuration, processes, threads, arguments of the run) -> the command that starts it."""


class RunningJob(NamedTuple):
    """A job in its slot."""

    job: Job
    slot: Slot
    handle: RunHandle
    start_seconds: float
    """Reading of the monotonic clock."""
    stamp: str
    """`record_stamp` from before the start."""
    lock_check: LockCheck


class Event(NamedTuple):
    """A change of a job's state."""

    state: State
    job: Job
    record: RunRecord | None = None
    location: str | None = None
    """The device, or the job, of a run that has started."""
    message: str | None = None
    """The reason of a failure, or the mistake."""


class Scheduler:
    """The jobs of a sweep and their states."""

    def __init__(self, jobs: Sequence[Job], executor: Executor, command: Command = launch_command) -> None:
        self.jobs = {job.run.run_id: job for job in jobs}
        self.states: dict[str, State] = dict.fromkeys(self.jobs, "waiting")
        self.executor, self.free_slots = executor, list(executor.slots)
        self.running: list[RunningJob] = []
        self.slot_count, self.gpus_per_run = len(self.free_slots), len(self.free_slots[0].gpus)
        self.command = command
        self.stamps = {run_id: record_stamp(job.run.path) for run_id, job in self.jobs.items()}
        """`record_stamp` of each run at the start of the sweep."""
        self.messages: dict[str, str] = {}
        """The mistake of each invalid run."""
        self.diverged: set[str] = set()
        """Runs that are done without a score and a model."""
        self.unseen: dict[str, tuple[RunningJob, float]] = {}
        """Runs whose record is not visible yet, and the time on the monotonic clock until which it is waited for."""
        self.locked_until: dict[str, float] = {}
        """Time on the monotonic clock until which the lock of another process must be visible here."""
        self.checked_elsewhere = 0.0
        self.refused_run = ""
        """The run whose job was refused last."""
        self.next_start = float("-inf")
        """Time on the monotonic clock of the next start."""
        self.is_stopping = False
        self.mistake: UserError | None = None
        """The mistake that stops the sweep: no run can be done as requested."""
        self.paces: list[tuple[float, float]] = []
        """Measured seconds and weight of each job that is done."""

    def events(self, stop_request: StopRequest) -> Iterator[Event | None]:
        """Yields each event when it happens, and None at every poll; ends when there is nothing left to do.

        After a stop request, and after a mistake of the executor, the runs save a checkpoint first.

        Raises:
            KeyboardInterrupt: a second Ctrl-C; the runs are killed.
            UserError: no run can be done as requested.
        """
        try:
            while True:
                try:
                    yield from self._work(stop_request)
                except UserError as error:
                    self.mistake = self.mistake or error
                    self._stop()
                if not self.running and (self.is_stopping or not self._can_continue()):
                    break
                yield None
                time.sleep(POLL_SECONDS)
        except BaseException:
            for running in self.running:
                running.handle.kill()
            raise
        if self.mistake:
            raise self.mistake

    def _work(self, stop_request: StopRequest) -> Iterator[Event]:
        yield from self._collect_ended()
        yield from self._collect_unseen()
        if stop_request.signal:
            self._stop()
        if self.is_stopping:
            return
        for running in self.running:
            running.lock_check.check()
        yield from self._check_elsewhere()
        for event in self.start_jobs():
            yield event
            if stop_request.signal:  # a cluster may take seconds for each start
                return

    def in_state(self, *states: State) -> list[Job]:
        """The jobs in one of these states."""
        return [self.jobs[run_id] for run_id, state in self.states.items() if state in states]

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all jobs are done, at the pace of those that are; None while a job's duration is unknown."""
        waiting, weights_done = self.in_state("waiting"), sum(weight for _, weight in self.paces)
        if not weights_done and any(job.estimate.seconds is None for job in [*waiting, *self.in_state("running")]):
            return None
        pace = sum(seconds for seconds, _ in self.paces) / weights_done if weights_done else 1.0
        now = time.monotonic()
        running = {each.job.run.run_id: each.job.weight * pace - (now - each.start_seconds) for each in self.running}
        paced = [job._replace(weight=job.weight * pace) for job in waiting]
        return seconds_left(paced, running, self.slot_count)

    def _stop(self) -> None:
        if not self.is_stopping:
            self.is_stopping = True
            for running in self.running:
                running.handle.stop()

    def _can_continue(self) -> bool:
        """True while a job may still start, now or later."""
        if self.in_state("elsewhere", "unseen"):
            return True
        return bool(startable(self.in_state("waiting"), self._done_run_ids()))

    def _done_run_ids(self) -> set[str]:
        """Runs that others can start from; those that are not of this sweep are done already."""
        needed = {job.run.after for job in self.jobs.values() if job.run.after}
        done = {run_id for run_id in needed | set(self.states) if self.states.get(run_id, "done") == "done"}
        return done - self.diverged

    def start_jobs(self) -> Iterator[Event]:
        """Starts the jobs that can start now, in the free slots.

        A refused job waits while others run: these were taken, so nothing is wrong with what all of them ask for.

        Raises:
            UserError: a run cannot be started as requested.
        """
        if not self.free_slots or time.monotonic() < self.next_start:
            return
        for job in startable(longest_first(self.in_state("waiting")), self._done_run_ids()):
            if not self.free_slots:
                return
            stamp = record_stamp(job.run.path)
            if (event := self._finish_elsewhere(job)) is not None:
                yield event
                continue
            job = self.jobs[job.run.run_id]  # perhaps to be done again now
            slot, lock_check = self.free_slots.pop(0), LockCheck(job.run.path)
            try:
                handle = self.executor.start(self._start(job, slot, stamp), slot)
            except SubmissionRefused as refusal:
                if not self.running:
                    raise
                self.free_slots.append(slot)
                self.next_start = time.monotonic() + REFUSED_SECONDS
                if job.run.run_id != self.refused_run:
                    self.refused_run = job.run.run_id
                    yield Event("waiting", job, message=str(refusal))
                return
            self.running.append(RunningJob(job, slot, handle, time.monotonic(), stamp, lock_check))
            yield self._change(Event("running", job, location=handle.location()))

    def _start(self, job: Job, slot: Slot, stamp: str) -> Start:
        run = job.run
        args = [*run.args, *(["--save-model", str(job.model_path)] if job.saves_model else [])]
        args += ["--overwrite"] if job.is_repeat else []
        command = self.command(Path(CONFIG), max(1, self.gpus_per_run), slot.threads, args)
        config = launch_config(self.gpus_per_run)
        return Start(run.path, stamp, run.log_path, args, command, config, _failed_record(run))

    def _collect_ended(self) -> Iterator[Event]:
        for running in list(self.running):
            code = running.handle.exit_code()
            if code is None:
                continue
            self.running.remove(running)
            self.free_slots.append(running.slot)
            self.next_start = float("-inf")  # a refused job may find room now
            job = running.job
            if (event := self._finish(running)) is not None:
                yield event
            elif self.is_stopping or code == STOPPED:
                self.states[job.run.run_id] = "waiting"
            elif code == LOCKED:
                event = self._change(Event("elsewhere", job))
                if job.run.run_id not in self.locked_until:
                    self.locked_until[job.run.run_id] = time.monotonic() + VISIBLE_SECONDS
                    yield event
            elif code == MISTAKE:
                message = user_error(running.handle.output()) or f"{job.run.log_path}: cannot be written"
                self.messages[job.run.run_id] = message
                yield self._change(Event("invalid", job, message=message))
            elif code == 0:
                self.unseen[job.run.run_id] = running, time.monotonic() + VISIBLE_SECONDS
                yield self._change(Event("unseen", job))
            else:
                lines = last_lines(running.handle.output())
                yield self._change(Event("failed", job, message=lines[-1] if lines else f"exit code {code}"))

    def _collect_unseen(self) -> Iterator[Event]:
        """Finishes the runs whose record has become visible, or is given up."""
        for run_id, (running, until) in list(self.unseen.items()):
            event, job = self._finish(running), running.job
            if event is None and time.monotonic() <= until:
                continue
            del self.unseen[run_id]
            if event is not None:
                yield event
            elif not job.is_repeat and (record := job.run.record()) is not None and record.is_finished:
                self._repeat(job)
            else:
                message = f"it ended well, but {job.run.path} is not visible here after {VISIBLE_SECONDS:g} s"
                yield self._change(Event("failed", job, message=message))

    def _finish(self, running: RunningJob) -> Event | None:
        """The event that the record of an ended run brings; None while there is no new one, or its model is missing."""
        job = running.job
        if record_stamp(job.run.path) == running.stamp or (record := job.run.record()) is None:
            return None
        if job.is_complete(record):
            self.paces.append((time.monotonic() - running.start_seconds, job.weight))
            return self._change(Event("done", job, record))
        return None if record.is_finished else self._change(Event("failed", job, record))

    def _check_elsewhere(self) -> Iterator[Event]:
        """Checks the runs that other processes work on: they may have ended, or been given up."""
        if time.monotonic() - self.checked_elsewhere < ELSEWHERE_POLL_SECONDS:
            return
        self.checked_elsewhere = time.monotonic()
        for job in self.in_state("elsewhere"):
            run_id, run = job.run.run_id, job.run
            if (event := self._finish_elsewhere(job)) is not None:
                yield event
            elif False in map(is_free, (sweep_lock_path(run.path), lock_path(run.path))):
                self.locked_until.pop(run_id, None)
            elif time.monotonic() < self.locked_until.get(run_id, math.inf):
                self.states[run_id] = "waiting"
            else:
                message = f"locked on another machine, but {lock_path(run.path)} is not visible here"
                yield self._change(Event("failed", job, message=message))

    def _finish_elsewhere(self, job: Job) -> Event | None:
        """The event that a run's record brings which another process has written; None if there is none.

        A run that has finished without the weights that others start from is done again.
        """
        if job.is_repeat and not is_bundle(job.model_path):
            return None
        record = job.run.record()
        if record is None:
            return None
        if job.is_complete(record):
            return self._change(Event("done", job, record))
        if record.is_finished:
            self._repeat(job)
            return None
        is_new = record_stamp(job.run.path) != self.stamps[job.run.run_id]
        return self._change(Event("failed", job, record)) if is_new else None

    def _repeat(self, job: Job) -> None:
        """Notes that a run is done again, which another sweep has finished without the weights that others need."""
        self.jobs[job.run.run_id] = job._replace(is_repeat=True)
        self.states[job.run.run_id] = "waiting"

    def _change(self, event: Event) -> Event:
        """Notes the new state of the event's job."""
        run_id = event.job.run.run_id
        self.states[run_id] = event.state
        if event.record is not None and event.record.status == "diverged":
            self.diverged.add(run_id)
        return event


def _failed_record(run: PlannedRun) -> dict[str, Any]:
    """The record of a run that died, as its supervisor completes it."""
    now = datetime.now(UTC)
    record = RunRecord(
        run_id=run.run_id,
        status="failed",
        spec=run.spec,
        recipe_changes=run.changes,
        task=task_facts(run.task),
        parent_group_key=run.parent_group_key,
        command=redact_command(["harness/run.py", *run.args]),
        started=now,
        finished=now,
    )
    return record.model_dump(mode="json")
