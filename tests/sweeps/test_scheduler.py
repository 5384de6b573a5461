"""A sweep on a shared folder of which this machine has an old view: it waits, and never harms a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from support import fake_run
from support.fake_run import command_in
from support.stepped_sweep import SteppedSweep

from harness.commands.sweep import read_options
from harness.facts.records import RunRecord
from harness.saved_models.bundles import is_bundle
from harness.sweeps import scheduler as scheduler_module
from harness.sweeps.display import sweep_state
from harness.sweeps.estimates import Estimate
from harness.sweeps.executor import SubmissionRefused
from harness.sweeps.jobs import Job
from harness.sweeps.launch import Start
from harness.sweeps.plan import PlannedRun, expand
from harness.sweeps.scheduler import Event, Scheduler
from harness.sweeps.tied_supervisors import Supervisors, TiedSupervisor
from harness.system.devices import Slot
from harness.system.locks import hold_lock, lock_path
from harness.system.signals import StopRequest


class OneSlot:
    """An executor of one run at a time on this machine."""

    slots, device, has_queue = (Slot(),), "", False

    def start(self, start: Start, slot: Slot) -> TiedSupervisor:
        return Supervisors(0, 1).start(start, slot)


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    args = ["--tasks", "rte", "--seeds", "0", "--test-mode", "--results", str(tmp_path / "results")]
    (run,) = expand(read_options(args)[1])
    return run


@pytest.fixture
def start(run: PlannedRun, tmp_path: Path) -> Callable[[], Iterator[Event]]:
    """The function that starts a sweep of the run; it yields the events."""

    def events() -> Iterator[Event]:
        job = Job(run, Estimate(None, "", 0), 1.0, saves_model=False, is_repeat=False)
        yield from filter(None, Scheduler([job], OneSlot(), command_in(tmp_path)).events(StopRequest()))

    return events


def forget_missing_file_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that remembers so long, from the first look, that the record was missing."""
    record, record_stamp, looks = PlannedRun.record, scheduler_module.record_stamp, list[float]()

    def is_remembered() -> bool:
        looks.append(time.monotonic())
        return looks[-1] < looks[0] + seconds

    def old_record(run: PlannedRun) -> RunRecord | None:
        return None if is_remembered() else record(run)

    monkeypatch.setattr(PlannedRun, "record", old_record)
    monkeypatch.setattr(scheduler_module, "record_stamp", lambda p: "none" if is_remembered() else record_stamp(p))


def test_record_that_is_not_visible_yet_is_waited_for(
    run: PlannedRun, start: Callable[[], Iterator[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = PlannedRun.record
    forget_missing_file_after(6, monkeypatch)
    events = list(start())
    assert [event.state for event in events] == ["running", "unseen", "done"]
    written = read(run)
    assert written is not None
    assert written.status == "ok"


def test_record_that_never_becomes_visible_is_a_failure_and_stays_as_it_is(
    run: PlannedRun, start: Callable[[], Iterator[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = PlannedRun.record
    forget_missing_file_after(1000, monkeypatch)
    monkeypatch.setattr(scheduler_module, "VISIBLE_SECONDS", 0.3)
    events = list(start())
    assert [event.state for event in events] == ["running", "unseen", "failed"]
    assert str(run.path) in str(events[-1].message)
    written = read(run)
    assert written is not None
    assert written.status == "ok"


def test_run_whose_log_cannot_be_written_is_invalid_with_the_name_of_the_log(
    run: PlannedRun, start: Callable[[], Iterator[Event]]
) -> None:
    folder = run.log_path.parent
    folder.parent.mkdir(parents=True)
    folder.touch()
    events = list(start())
    assert [event.state for event in events] == ["running", "invalid"]
    assert str(run.log_path) in str(events[-1].message)


def test_lock_that_this_machine_does_not_see_is_not_waited_for_without_end(
    run: PlannedRun, start: Callable[[], Iterator[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "is_free", lambda path: True)
    monkeypatch.setattr(scheduler_module, "ELSEWHERE_POLL_SECONDS", 0.1)
    monkeypatch.setattr(scheduler_module, "VISIBLE_SECONDS", 3.0)
    with hold_lock(lock_path(run.path)):
        states = [event.state for event in start()]
    assert states.count("elsewhere") == 1
    assert states[-1] == "failed"
    assert not run.path.exists()


def test_free_lock_of_a_run_elsewhere_is_left(tmp_path: Path) -> None:
    """It may be held on another machine, where locks are not shared; without its file a second run would begin."""
    scheduler = SteppedSweep(tmp_path, OneSlot(), 1).scheduler
    (job,) = scheduler.jobs.values()
    scheduler.states[job.run.run_id] = "elsewhere"
    lock = lock_path(job.run.path)
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert list(scheduler._check_elsewhere()) == []
    assert lock.exists()


def test_record_of_a_machine_whose_clock_is_late_is_a_new_one(
    run: PlannedRun, tmp_path: Path, start: Callable[[], Iterator[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [event.state for event in start()] == ["running", "done"]
    first = run.record()
    assert first is not None

    class LateClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(fake_run, "datetime", LateClock)
    repeat = Job(run, Estimate(None, "", 0), 1.0, saves_model=True, is_repeat=True)
    events = list(filter(None, Scheduler([repeat], OneSlot(), command_in(tmp_path)).events(StopRequest())))
    assert [event.state for event in events] == ["running", "done"]
    second = run.record()
    assert second is not None
    assert second.finished < first.finished


def test_run_that_another_sweep_has_finished_without_its_weights_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others start from it in this sweep alone."""
    monkeypatch.setattr(scheduler_module, "ELSEWHERE_POLL_SECONDS", 0.1)
    first, second = (SteppedSweep(tmp_path, OneSlot(), 1) for _ in range(2))
    ((run_id, job),) = second.scheduler.jobs.items()
    second.scheduler.jobs[run_id] = job._replace(saves_model=True)
    first.go_on_to_runs_that_wait()
    second.go_on(until=lambda: second.scheduler.in_state("elsewhere"))
    (tmp_path / "rte-0").unlink()
    first.go_on()
    second.go_on()
    assert [event.state for event in second.yielded][-2:] == ["running", "done"]
    assert len(second.starts()) == 2
    assert is_bundle(job.model_path)


def test_run_in_the_job_of_another_sweep_that_does_not_save_its_weights_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster finds the job of another sweep by its name."""
    monkeypatch.setattr(scheduler_module, "VISIBLE_SECONDS", 0.3)
    starts: list[Sequence[str]] = []

    def command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
        starts.append(args)
        end = args.index("--save-model") if len(starts) == 1 else len(args)
        return command_in(tmp_path)(config, processes, threads, args[:end])

    sweep = SteppedSweep(tmp_path, OneSlot(), 1, command=command)
    ((run_id, job),) = sweep.scheduler.jobs.items()
    sweep.scheduler.jobs[run_id] = job._replace(saves_model=True)
    sweep.go_on()
    assert [event.state for event in sweep.yielded] == ["running", "unseen", "running", "done"]
    assert "--overwrite" in starts[1]


class ThreeSlots(OneSlot):
    """An executor of three runs at a time."""

    slots = (Slot(),) * 3


def test_stop_request_between_two_starts_is_heeded_before_the_next(tmp_path: Path) -> None:
    """A cluster may take seconds for each."""
    sweep = SteppedSweep(tmp_path, ThreeSlots(), 3)
    for seed in range(3):
        (tmp_path / f"rte-{seed}").write_text("wait")  # no run ends before the request reaches it
    sweep.go_on(until=lambda: sweep.yielded)
    sweep.stop_request.signal = 15
    sweep.go_on()
    assert [event.state for event in sweep.yielded] == ["running"]
    assert len(sweep.scheduler.in_state("waiting")) == 3


class LimitedQueue(ThreeSlots):
    """A cluster that takes `limit` jobs; they never end."""

    def __init__(self, limit: int) -> None:
        self.limit, self.refusals = limit, 0

    def start(self, start: Start, slot: Slot) -> TiedSupervisor:
        if not self.limit:
            self.refusals += 1
            raise SubmissionRefused("--executor slurm: sbatch: error: AssocMaxSubmitJobLimit")
        self.limit -= 1
        return super().start(start, slot)


def test_job_that_the_cluster_refuses_waits_while_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "REFUSED_SECONDS", 1.0)
    cluster = LimitedQueue(2)
    sweep = SteppedSweep(tmp_path, cluster, 3)
    sweep.go_on_to_runs_that_wait(2)
    sweep.go_on(until=lambda: cluster.refusals == 2)
    assert [event.state for event in sweep.yielded] == ["running", "running", "waiting"], "it is told once"
    assert "AssocMaxSubmitJobLimit" in str(sweep.yielded[-1].message)
    cluster.limit = 1
    sweep.release()
    sweep.go_on()
    assert len(sweep.scheduler.in_state("done")) == 3


@pytest.mark.parametrize("has_queue, name", [(True, "submitted"), (False, "running")])
def test_jobs_that_may_wait_in_a_queue_are_not_called_running_and_their_time_is_unknown(
    has_queue: bool, name: str, tmp_path: Path
) -> None:
    cluster = ThreeSlots()
    cluster.has_queue = has_queue
    sweep = SteppedSweep(tmp_path, cluster, 2)
    sweep.go_on_to_runs_that_wait(2)
    (tmp_path / "rte-0").unlink()
    sweep.go_on(until=lambda: sweep.scheduler.in_state("done"))
    state = sweep_state(sweep.scheduler)
    assert state.startswith(f"1 {name}, 1 done")
    assert state.endswith(" left") != has_queue
    (tmp_path / "rte-1").unlink()
    sweep.go_on()


def test_job_that_the_cluster_refuses_ends_a_sweep_of_which_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(SubmissionRefused, match="AssocMaxSubmitJobLimit"):
        SteppedSweep(tmp_path, LimitedQueue(0), 1).go_on()


def test_time_left_is_unknown_after_a_job_of_a_task_whose_rows_are_unknown(tmp_path: Path) -> None:
    args = ["--tasks", "rte", "--seeds", "0", "1", "--test-mode", "--results", str(tmp_path / "results")]
    jobs = [
        Job(run, Estimate(None, "", 0), 0.0, saves_model=False, is_repeat=False)
        for run in expand(read_options(args)[1])
    ]
    scheduler = Scheduler(jobs, OneSlot(), command_in(tmp_path))
    left = [(event.state, scheduler.seconds_left) for event in filter(None, scheduler.events(StopRequest()))]
    assert left == [("running", None), ("done", None), ("running", None), ("done", 0.0)]
