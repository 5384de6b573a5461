"""The scheduler of a sweep: starts jobs in free slots, watches and stops them; a dead run leaves a failed record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from harness.facts.records import RunRecord
from harness.requests.parents import model_folder
from harness.saved_models.bundles import is_bundle
from harness.sweeps.failures import write_failure
from harness.sweeps.launch import LOCKED, RunProcess, launch_command, launch_config, record_stamp, sweep_lock_path
from harness.sweeps.ordering import QueueItem, longest_first, seconds_left, startable
from harness.sweeps.plan import PlannedRun
from harness.system.devices import Slot
from harness.system.locks import is_locked, lock_path
from harness.system.signals import StopRequest

State = Literal["waiting", "running", "elsewhere", "done", "failed"]
"""`elsewhere`: another process works on the run."""

POLL_SECONDS = 0.1

ELSEWHERE_POLL_SECONDS = 2.0
"""Seconds between two checks of runs that other processes work on."""

Command = Callable[[Path, int, int, Sequence[str]], list[str]]
"""(accelerate's configuration, processes, threads, arguments of the run) -> the command that starts it."""


class Job(NamedTuple):
    """A run that the sweep has to do."""

    run: PlannedRun
    seconds: float | None
    """Expected duration; None if it is unknown."""
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


class RunningJob(NamedTuple):
    """A job in its slot."""

    job: Job
    slot: Slot
    process: RunProcess
    start_seconds: float
    """Reading of the monotonic clock."""
    started: datetime


class Event(NamedTuple):
    """A change of a job's state."""

    state: State
    job: Job
    record: RunRecord | None = None
    slot: Slot | None = None


class Scheduler:
    """The jobs of a sweep and their states."""

    def __init__(self, jobs: Sequence[Job], slots: Sequence[Slot], command: Command = launch_command) -> None:
        self.jobs = {job.run.run_id: job for job in jobs}
        self.states: dict[str, State] = dict.fromkeys(self.jobs, "waiting")
        self.free_slots = list(slots)
        self.running: list[RunningJob] = []
        self.slot_count, self.processes_per_run = len(slots), max(1, len(slots[0].gpus))
        self.gpus_per_run = len(slots[0].gpus)
        self.command = command
        self.started, self.checked_elsewhere = datetime.now(UTC), 0.0
        self.is_stopping = False
        self.paces: list[tuple[float, float]] = []
        """Measured seconds and weight of each job that is done."""

    def events(self, stop_request: StopRequest) -> Iterator[Event | None]:
        """Yields each event when it happens, and None at every poll; ends when there is nothing left to do.

        After a stop request the runs save a checkpoint first.

        Raises:
            KeyboardInterrupt: a second Ctrl-C; the runs are killed.
        """
        with TemporaryDirectory() as folder:
            config = Path(folder) / "launch.json"
            config.write_text(launch_config(self.gpus_per_run))
            try:
                while True:
                    yield from self._collect_ended()
                    if stop_request.signal and not self.is_stopping:
                        self._stop()
                    if not self.is_stopping:
                        yield from self._check_elsewhere()
                        yield from self._start_jobs(config)
                    if not self.running and (self.is_stopping or not self._can_continue()):
                        return
                    yield None
                    time.sleep(POLL_SECONDS)
            except BaseException:
                for running in self.running:
                    running.process.kill()
                raise

    def in_state(self, *states: State) -> list[Job]:
        """The jobs in one of these states."""
        return [self.jobs[run_id] for run_id, state in self.states.items() if state in states]

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all jobs are done, at the pace of those that are; None while a job's duration is unknown."""
        waiting = self.in_state("waiting")
        if not self.paces and any(job.seconds is None for job in [*waiting, *self.in_state("running")]):
            return None
        pace = sum(seconds for seconds, _ in self.paces) / sum(w for _, w in self.paces) if self.paces else 1.0
        now = time.monotonic()
        running = {each.job.run.run_id: each.job.weight * pace - (now - each.start_seconds) for each in self.running}
        queue = [job.queue_item._replace(seconds=job.weight * pace) for job in waiting]
        return seconds_left(queue, running, self.slot_count)

    def _stop(self) -> None:
        self.is_stopping = True
        for running in self.running:
            running.process.stop()

    def _can_continue(self) -> bool:
        """True while a job may still start, now or later."""
        if self.in_state("elsewhere"):
            return True
        return bool(startable([job.queue_item for job in self.in_state("waiting")], self._done_run_ids()))

    def _done_run_ids(self) -> set[str]:
        """Runs that no job has to wait for; those that are not of this sweep are done already."""
        needed = {job.run.after for job in self.jobs.values() if job.run.after}
        return {run_id for run_id in needed | set(self.states) if self.states.get(run_id, "done") == "done"}

    def _start_jobs(self, config: Path) -> Iterator[Event]:
        queue = longest_first([job.queue_item for job in self.in_state("waiting")])
        for item in startable(queue, self._done_run_ids()):
            if not self.free_slots:
                return
            job = self.jobs[item.name]
            stamp = record_stamp(job.run.path)
            if (event := self._finish_elsewhere(job)) is not None:
                yield event
                continue
            slot = self.free_slots.pop(0)
            started = datetime.now(UTC)
            process = self._launch(config, slot, job, stamp)
            self.running.append(RunningJob(job, slot, process, time.monotonic(), started))
            yield self._change("running", job, slot=slot)

    def _launch(self, config: Path, slot: Slot, job: Job, stamp: str) -> RunProcess:
        run = job.run
        args = [*run.args, *(["--save-model", str(job.model_path)] if job.saves_model else [])]
        args += ["--overwrite"] if job.is_repeat else []
        run.path.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(config, self.processes_per_run, slot.threads, args)
        return RunProcess(run.path, stamp, run.log_path, slot, command)

    def _collect_ended(self) -> Iterator[Event]:
        for running in list(self.running):
            code = running.process.exit_code()
            if code is None:
                continue
            self.running.remove(running)
            self.free_slots.append(running.slot)
            job, record = running.job, running.job.run.record()
            is_new = record is not None and (not job.is_repeat or record.finished > running.started)
            if record is not None and is_new and job.is_complete(record):
                self.paces.append((time.monotonic() - running.start_seconds, job.weight))
                yield self._change("done", job, record)
            elif self.is_stopping:
                self.states[job.run.run_id] = "waiting"
            elif code == LOCKED or is_locked(lock_path(job.run.path)):
                yield self._change("elsewhere", job)
            else:
                yield self._change("failed", job, write_failure(job.run, running.process.output(), running.started))

    def _check_elsewhere(self) -> Iterator[Event]:
        """Checks the runs that other processes work on: they may have ended, or been given up."""
        if time.monotonic() - self.checked_elsewhere < ELSEWHERE_POLL_SECONDS:
            return
        self.checked_elsewhere = time.monotonic()
        for job in self.in_state("elsewhere"):
            if (event := self._finish_elsewhere(job)) is not None:
                yield event
            elif not is_locked(sweep_lock_path(job.run.path)) and not is_locked(lock_path(job.run.path)):
                self.states[job.run.run_id] = "waiting"

    def _finish_elsewhere(self, job: Job) -> Event | None:
        """The event that a run's record brings which another process has written; None if there is none."""
        if job.is_repeat and not is_bundle(job.model_path):
            return None
        record = job.run.record()
        if record is None:
            return None
        if job.is_complete(record):
            return self._change("done", job, record)
        return self._change("failed", job, record) if record.finished > self.started else None

    def _change(self, state: State, job: Job, record: RunRecord | None = None, slot: Slot | None = None) -> Event:
        self.states[job.run.run_id] = state
        return Event(state, job, record, slot)
