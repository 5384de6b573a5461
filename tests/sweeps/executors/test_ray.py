"""A sweep whose runs are tasks of a real Ray: nodes and workers die, tasks are stopped, killed and given up."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.processes import wait_until
from support.ray_cluster import RayCluster, private_network, reason_to_skip
from support.stepped_sweep import SteppedSweep

from harness.commands.sweep import main, read_options
from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import make_executor, ray_nodes, ray_run
from harness.sweeps.executors.ray import RayExecutor
from harness.sweeps.executors.ray_run import RayRun, environment
from harness.sweeps.executors.ray_task import NODE
from harness.sweeps.launch import STOPPED, Start
from harness.system.devices import Slot


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Two nodes, each with two processors and what Ray takes for a GPU."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    # in a folder with a short name: the paths of sockets are limited
    with private_network(), tempfile.TemporaryDirectory(prefix="ray") as folder:
        cluster = RayCluster(Path(folder), nodes=2, num_cpus=2, num_gpus=1)
        yield cluster
        cluster.close()


class Sweep(SteppedSweep):
    """A sweep on the Ray cluster."""

    def __init__(self, folder: Path, cluster: RayCluster, seeds: int, **settings: Any) -> None:
        executor = RayExecutor(ExecutorSettings(name="ray", ray_address=cluster.address, **settings), test_mode=False)
        super().__init__(folder, executor, seeds)

    def states_at_the_end(self) -> list[str]:
        return [event.state for event in self.go_on()]

    def processes(self) -> list[psutil.Process]:
        """The fake runs that are alive."""
        return [each for each in psutil.process_iter(["cmdline"]) if str(self.folder) in (each.info["cmdline"] or ())]


def test_every_run_is_a_task_and_is_done_once(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # it would limit the threads of a run
    sweep = Sweep(tmp_path, cluster, 6)
    assert len(sweep.scheduler.free_slots) == 2
    states = sweep.states_at_the_end()
    assert sorted(sweep.starts()) == [f"rte-{seed} 2" for seed in range(6)]
    assert states.count("done") == 6


def test_runs_share_gpus(cluster: RayCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, 4, runs_per_device=2)
    sweep.go_on_to_runs_that_wait(4)
    locations = sorted(running.handle.location() for running in sweep.scheduler.running)
    assert [location.endswith(", GPU 0") for location in locations] == [True] * 4
    assert len(set(locations)) == 2
    sweep.release()
    assert sweep.states_at_the_end().count("done") == 4


def test_stopped_sweep_ends_its_tasks_and_the_next_one_resumes(cluster: RayCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, 3, max_jobs=3)  # one more than the nodes can do
    sweep.go_on_to_runs_that_wait(3, parallel=2)
    sweep.stop_request.signal = 15
    sweep.go_on()
    assert len(sweep.scheduler.in_state("waiting")) == 3
    assert sweep.processes() == []
    sweep.release()
    again = Sweep(tmp_path, cluster, 3)
    assert again.states_at_the_end().count("done") == 3


def test_run_of_a_killed_worker_stops_and_starts_again(cluster: RayCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, 1)
    sweep.go_on_to_runs_that_wait(1)
    worker_of(sweep).kill()
    sweep.go_on(until=lambda: len(sweep.starts()) == 2)
    assert len(sweep.processes()) == 1
    sweep.release()
    assert sweep.states_at_the_end()[-1] == "done"


def test_run_whose_task_is_given_up_starts_again_but_not_for_ever(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_run, "RETRIES", 0)
    monkeypatch.setattr(ray_run, "SUBMISSIONS", 2)
    sweep = Sweep(tmp_path, cluster, 1)
    sweep.go_on_to_runs_that_wait(1)
    worker_of(sweep).kill()
    sweep.go_on(until=lambda: len(sweep.starts()) == 2)
    worker_of(sweep).kill()
    assert sweep.states_at_the_end()[-1] == "failed"
    assert "2 times" in (sweep.yielded[-1].message or "")
    assert len(sweep.starts()) == 2


def test_second_interrupt_kills_a_run_that_does_not_stop(cluster: RayCluster, tmp_path: Path) -> None:
    executor = RayExecutor(ExecutorSettings(name="ray", ray_address=cluster.address), test_mode=False)
    program = "import signal; signal.signal(15, lambda *_: print('not yet', flush=True)); print('ready', flush=True)"
    command = [sys.executable, "-c", f"{program}\nwhile True: signal.pause()", str(tmp_path)]
    record, log = tmp_path / "results/runs/rte/0.json", tmp_path / "results/logs/rte/0.log"
    run = executor.start(Start(record, "none", log, [], command, "{}", {}), executor.slots[0])
    wait_until(lambda: "ready" in run.output())
    run.stop()
    wait_until(lambda: "not yet" in run.output())
    assert run.exit_code() is None
    run.kill()
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == STOPPED
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in (each.info["cmdline"] or ())]


def test_node_that_does_not_see_the_results_folder_is_named(cluster: RayCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, 3, max_jobs=3)
    sweep.go_on_to_runs_that_wait(3, parallel=2)
    waits = next(run.handle for run in sweep.scheduler.running if "waiting" in run.handle.location())
    Path(waits.log).unlink()  # type: ignore[attr-defined]
    sweep.release()
    states = sweep.states_at_the_end()
    (mistake,) = sweep.scheduler.messages.values()
    assert states.count("done") == 2
    assert "127.0.0." in mistake
    assert str(tmp_path / "results" / "test-mode") in mistake


PROCESS = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
names = ("WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS", "ACCELERATE_USE_CPU")
(folder / f"rank-{os.environ['RANK']}").write_text(" ".join(os.environ.get(name, "-") for name in names))
while not (folder / "go").exists():
    if (folder / "fail").exists():
        sys.exit("RuntimeError: connection reset by peer")
    time.sleep(0.02)
if os.environ["RANK"] == "0":
    Path(sys.argv[2]).write_text('{"status": "ok"}')
"""
"""The script of a process: it writes what it knows, and waits; the first one then writes the record."""


class TwoNodes:
    """A run on two nodes, whose processes wait for the file `go`."""

    def __init__(self, folder: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, script = folder, folder / "process.py"
        script.write_text(PROCESS)
        monkeypatch.setattr(ray_nodes, "SCRIPT", script)
        monkeypatch.setattr(ray_nodes, "GRACE_SECONDS", 1.0)
        settings = ExecutorSettings(name="ray", ray_address=cluster.address, nodes_per_run=2)
        self.executor = RayExecutor(settings, test_mode=True)
        self.record, self.log = folder / "results/runs/rte/0.json", folder / "results/logs/rte/0.log"

    def start(self) -> RayRun:
        """Starts the run, and waits until its processes have begun."""
        for number in (0, 1):
            self.rank(number).unlink(missing_ok=True)
        start = Start(self.record, "none", self.log, [str(self.folder), str(self.record)], [], "{}", {})
        run = self.executor.start(start, self.executor.slots[0])
        wait_until(lambda: all(self.rank(number).exists() for number in (0, 1)) or run.exit_code() is not None)
        return run

    def other_node(self) -> str:
        """The address of the second node, as its log names it last."""
        lines = Path(f"{self.log}.1").read_text().splitlines()
        return [line.removeprefix(NODE) for line in lines if line.startswith(NODE)][-1]

    def rank(self, number: int) -> Path:
        return self.folder / f"rank-{number}"

    def processes(self) -> list[psutil.Process]:
        """The first process and the second, without their launchers."""
        script = str(self.folder / "process.py")
        alive = [each for each in psutil.process_iter(["cmdline"]) if script in (each.info["cmdline"] or ())[:3]]
        return sorted(alive, key=lambda each: each.environ().get("RANK", ""))


def test_run_on_two_nodes_stops_on_both_and_starts_again(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    two = TwoNodes(tmp_path, cluster, monkeypatch)
    assert len(two.executor.slots) == 1
    run = two.start()
    assert len(two.processes()) == 2
    run.stop()
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == STOPPED
    assert two.processes() == []
    assert not two.record.exists()
    run = two.start()
    first = run.location().removeprefix("Ray node ")
    assert {two.rank(number).read_text() for number in (0, 1)} == {f"2 {first} 2 yes"}
    assert first != two.other_node()
    (tmp_path / "go").touch()
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == 0


def test_run_on_two_nodes_ends_on_both_when_a_process_of_one_dies(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    two = TwoNodes(tmp_path, cluster, monkeypatch)
    run = two.start()
    two.processes()[1].kill()
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == STOPPED  # the first time
    assert run.end is not None
    assert "A node ended" in run.end[1]
    assert "exit code -9" in run.end[1], "not the last line of torchrun's report"
    assert two.processes() == []


def test_run_on_two_nodes_that_fails_because_one_is_lost_has_no_failed_record(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    two = TwoNodes(tmp_path, cluster, monkeypatch)
    monkeypatch.setattr(ray_nodes, "GRACE_SECONDS", 60.0)
    run = two.start()
    cluster.kill_node(two.other_node())
    (tmp_path / "fail").touch()
    wait_until(two.record.exists)
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == STOPPED
    assert not two.record.exists()
    cluster.add_node()


def test_run_of_a_killed_node_starts_again_on_another(cluster: RayCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, cluster, 1)
    sweep.go_on_to_runs_that_wait(1)
    address = sweep.scheduler.running[0].handle.location().split()[-3].rstrip(",")
    cluster.kill_node(address)
    sweep.go_on(until=lambda: len(sweep.starts()) == 2)
    assert address not in sweep.scheduler.running[0].handle.location()
    sweep.release()
    assert sweep.states_at_the_end() == ["running", "done"]


def worker_of(sweep: Sweep) -> psutil.Process:
    """Ray's worker, above the guard, the supervisor and the fake run."""
    (run,) = sweep.processes()
    return run.parents()[2]


def test_missing_ray_is_told_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install glue-harness\[ray\]"):
        main(["--tasks", "rte", "--test-mode", "--results", str(tmp_path), "--executor", "ray"])


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--executor ray --gpus-per-run 1 --runs-per-device 4", "--gpus-per-run"),
        ("--executor ray --partition gpu", "--executor slurm"),
        ("--ray-address auto", "--executor ray"),
        ("--executor ray --runs-per-device 0", "--runs-per-device: expected 1 or more, got 0"),
    ],
)
def test_invalid_settings_are_refused(flags: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_executor(read_options(["--tasks", "rte", *flags.split()])[1].sweep.executor, test_mode=True)


def test_variables_of_a_run_go_along_and_those_of_the_node_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "https_proxy", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "here")
    passed = environment(Slot((), 3))
    assert passed.keys() & {"HF_HOME", "https_proxy", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS", "PATH"} == {
        "HF_HOME",
        "https_proxy",
    }
    assert passed["OMP_NUM_THREADS"] == "3"
    assert os.environ.get("OMP_NUM_THREADS") != "3"
