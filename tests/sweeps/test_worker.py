"""A worker does the runs of a queue, one after the other, without a cluster in this test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fake_run import command_in

from harness.commands.sweep import read_options
from harness.sweeps import worker
from harness.sweeps.estimates import Estimate
from harness.sweeps.jobs import Job
from harness.sweeps.launch import LOCKED, STOPPED, Start, record_stamp, sweep_lock_path
from harness.sweeps.plan import PlannedRun, expand
from harness.sweeps.scheduler import Scheduler
from harness.sweeps.tied_supervisors import Supervisors
from harness.sweeps.worker_queue import QueuedRun, queue_folder, queued_runs
from harness.system.devices import Slot
from harness.system.locks import hold_lock


class NoExecutor:
    """An executor that starts nothing: the test reads the starts."""

    slots, device = (Slot(),), ""


@pytest.fixture
def runs(tmp_path: Path) -> list[PlannedRun]:
    args = ["--tasks", "rte", "--seeds", "0", "1", "2", "--test-mode", "--results", str(tmp_path / "results")]
    return expand(read_options(args)[1])


def start_of(run: PlannedRun, folder: Path) -> Start:
    job = Job(run, Estimate(None, "", 0), 1.0, saves_model=False, is_repeat=False)
    scheduler = Scheduler([job], NoExecutor(), command_in(folder))  # type: ignore[arg-type]
    return scheduler._start(job, Slot(), record_stamp(run.path))


@pytest.fixture
def queue(runs: list[PlannedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[QueuedRun]:
    """Three runs, in the queue in the order of their seeds."""
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    folder = queue_folder(runs[0].path)
    queue = [QueuedRun(folder, run.run_id) for run in runs]
    for queued, run in zip(queue, runs, strict=True):
        queued.put(start_of(run, tmp_path))
        time.sleep(0.01)  # a file system may count time in ticks
    return queue


def folder_of(queue: list[QueuedRun]) -> Path:
    return queue[0].start_file.parent


def test_worker_does_the_runs_in_order_and_ends(
    queue: list[QueuedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(folder_of(queue), "7", Supervisors(gpus=0, threads=1)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["UTC"] * 3, "as in the logs of the runs"
    assert (tmp_path / "starts").read_text().splitlines() == [f"rte-{seed} 1" for seed in range(3)]
    assert [queued.exit_code() for queued in queue] == [0, 0, 0]
    assert queued_runs(folder_of(queue)) == []


def test_exit_code_of_each_run_is_noted(queue: list[QueuedRun], runs: list[PlannedRun], tmp_path: Path) -> None:
    (tmp_path / "rte-0").write_text("die")
    with hold_lock(sweep_lock_path(runs[1].path)):  # another sweep does it
        assert worker.main(folder_of(queue), "7", Supervisors(gpus=0, threads=1)) == 0
    assert [queued.exit_code() for queued in queue] == [1, LOCKED, 0]


def test_run_of_another_worker_and_withdrawn_run_are_left_out(queue: list[QueuedRun], tmp_path: Path) -> None:
    queue[1].withdraw()
    with queue[0].take("6"):
        assert queue[0].job() == "6"
        assert worker.main(folder_of(queue), "7", Supervisors(gpus=0, threads=1)) == 0
    assert (tmp_path / "starts").read_text().splitlines() == ["rte-2 1"]
    assert queue[0].is_queued()


def test_run_of_a_stopped_worker_stays_in_the_queue(queue: list[QueuedRun], tmp_path: Path) -> None:
    (tmp_path / "rte-0").write_text("wait")
    command = [sys.executable, worker.__file__, str(folder_of(queue)), "0"]
    with subprocess.Popen(command, env={**os.environ, "SLURM_JOB_ID": "7"}) as process:
        while not (tmp_path / "starts").exists():
            time.sleep(0.02)
        assert queue[0].job() == "7"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == STOPPED
    assert [queued.is_queued() for queued in queue] == [True, True, True]
    assert queue[0].exit_code() is None
    assert queue[0].job() == ""


def test_run_of_a_killed_worker_is_done_by_the_next(queue: list[QueuedRun], tmp_path: Path) -> None:
    queue[0].job_file.write_text("6")
    queue[0].lock.touch()
    assert worker.main(folder_of(queue), "7", Supervisors(gpus=0, threads=1)) == 0
    assert queue[0].exit_code() == 0
