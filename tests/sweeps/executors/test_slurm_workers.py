"""Workers on a real Slurm: few jobs do many runs, each once, also when a worker or the sweep is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.slurm_sweep import Sweep, slurm

from harness.errors import UserError
from harness.sweeps.executor import SubmissionRefused
from harness.sweeps.executors import slurm_workers
from harness.sweeps.executors.slurm_client import Slurm
from harness.sweeps.worker_queue import queued_runs

pytestmark = pytest.mark.usefixtures("cluster")


def worker_jobs() -> set[str]:
    """Every worker that Slurm lists, also those that have ended."""
    listed = slurm("squeue", "--noheader", "--me", "--states=all", "--format=%i %j").splitlines()
    return {line.split()[0] for line in listed if "harness-workers" in line}


def job_of(folder: Path, seed: int) -> str:
    """The job of the worker that does a run."""
    (file,) = (folder / "results/test-mode/workers").glob(f"*/*-seed{seed}-*.job")
    return file.read_text()


def test_two_workers_do_six_runs_each_once(tmp_path: Path) -> None:
    earlier = worker_jobs()
    sweep = Sweep(tmp_path, 6, workers=2)
    sweep.go_on()
    assert sorted(sweep.starts()) == [f"rte-{seed} 1" for seed in range(6)]
    assert len(sweep.scheduler.in_state("done")) == 6
    assert len(worker_jobs() - earlier) == 2
    left = {path.suffix for path in (tmp_path / "results/test-mode/workers").glob("*/*")}
    assert left == {".log"}


def test_workers_that_the_cluster_takes_do_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, jobs = Slurm.submit, list[str]()

    def submit_one(self: Slurm, *args: Any) -> str:
        if jobs:
            raise SubmissionRefused("sbatch: error: AssocMaxSubmitJobLimit")
        jobs.append(submit(self, *args))
        return jobs[0]

    monkeypatch.setattr(Slurm, "submit", submit_one)
    sweep = Sweep(tmp_path, 3, workers=2)
    sweep.go_on()
    assert len(sweep.scheduler.in_state("done")) == 3


def test_run_of_a_cancelled_worker_is_done_by_another(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 3, workers=2)
    sweep.go_on_to_runs_that_wait(3, parallel=2)
    slurm("scancel", job_of(tmp_path, 0))
    (tmp_path / "rte-1").unlink()
    sweep.go_on(until=lambda: sweep.starts().count("rte-0 1") == 2)
    sweep.release()
    sweep.go_on()
    assert len(sweep.scheduler.in_state("done")) == 3
    assert sorted(sweep.starts()) == ["rte-0 1", "rte-0 1", "rte-1 1", "rte-2 1"]


def test_workers_finish_the_queue_of_a_dead_sweep_and_the_next_sweep_doubles_nothing(tmp_path: Path) -> None:
    earlier = worker_jobs()
    first = Sweep(tmp_path, 4, workers=2)
    first.go_on_to_runs_that_wait(4, parallel=2)  # from here on nobody looks after it
    second = Sweep(tmp_path, 4, workers=2)
    second.go_on(until=lambda: len(second.scheduler.running) == 4)
    second.release()
    second.go_on()
    assert sorted(second.starts()) == [f"rte-{seed} 1" for seed in range(4)]
    assert len(second.scheduler.in_state("done")) == 4
    assert len(worker_jobs() - earlier) == 2


def test_sweep_that_asks_for_other_nodes_has_workers_of_its_own(tmp_path: Path) -> None:
    first = Sweep(tmp_path, 1, workers=1)
    first.go_on_to_runs_that_wait()
    second = Sweep(tmp_path, 2, workers=1, slurm={"cpus-per-task": "2"})
    second.go_on(until=lambda: "rte-1 2" in second.starts(), seconds=30)
    (tmp_path / "rte-0").unlink()
    for sweep in (first, second):
        sweep.go_on()
    assert sorted(second.starts()) == ["rte-0 1", "rte-1 2"]


def test_stopped_sweep_empties_the_queue_and_ends_its_workers(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 3, workers=2)
    sweep.go_on_to_runs_that_wait(3, parallel=2)
    sweep.stop_request.signal = 15
    sweep.go_on()
    assert len(sweep.scheduler.in_state("waiting")) == 3
    (folder,) = (tmp_path / "results/test-mode/workers").iterdir()
    assert queued_runs(folder) == []
    assert len(sweep.starts()) == 2


def test_worker_that_fails_ends_the_sweep_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit('no interpreter here')")
    monkeypatch.setattr(slurm_workers, "WORKER", broken)
    sweep = Sweep(tmp_path, 2, workers=1)
    with pytest.raises(UserError, match="no interpreter here"):
        sweep.go_on()
    assert len(worker_jobs()) >= 1
