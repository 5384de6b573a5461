"""A sweep whose runs are jobs of a real Slurm: jobs end, stop, are requeued, lost, cancelled and found again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.fake_run import command_in
from support.slurm_cluster import NODE_WITHOUT_FOLDER, can_hide, hidden_folder, reason_to_skip, slurm_cluster

from harness.commands.sweep import main, read_options
from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import make_executor, slurm_client
from harness.sweeps.executors import slurm as slurm_module
from harness.sweeps.executors.slurm import SlurmExecutor
from harness.sweeps.jobs import Job
from harness.sweeps.launch import SCRIPT, STOPPED, Start, launch_command
from harness.sweeps.plan import expand
from harness.sweeps.scheduler import Command, Event, Scheduler
from harness.system.signals import StopRequest

needs_slurm = pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip()))


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def cluster(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running cluster, which is asked ten times a second."""
    monkeypatch.setenv("SLURM_CONF", str(configuration))
    monkeypatch.setattr(slurm_client, "POLL_SECONDS", 0.1)


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slurm(*args: str) -> str:
    return subprocess.run(args, capture_output=True, text=True, check=True, timeout=60).stdout


class Sweep:
    """A sweep of rte with fake runs, in steps: a test reads its events, and can act between them."""

    def __init__(
        self, folder: Path, seeds: int, flags: Sequence[str] = (), command: Command | None = None, **settings: Any
    ) -> None:
        self.folder, self.stop_request = folder, StopRequest()
        numbers = [str(seed) for seed in range(seeds)]
        args = ["--tasks", "rte", "--seeds", *numbers, "--test-mode", "--results", str(folder / "results"), *flags]
        jobs = [Job(run, None, 1.0, False, False) for run in expand(read_options(args)[1], lambda task, model: [{}])]
        executor = SlurmExecutor(ExecutorSettings(name="slurm", **settings), test_mode=True)
        self.scheduler = Scheduler(jobs, executor, command or command_in(folder))
        self.events = self.scheduler.events(self.stop_request)
        self.yielded: list[Event] = []

    def go_on(self, until: Callable[[], object] = lambda: False, seconds: float = 120) -> list[Event]:
        """Works until the condition is true, or to the end of the sweep."""
        deadline = time.monotonic() + seconds
        for event in self.events:
            self.yielded += [event] if event else []
            assert time.monotonic() < deadline, self.yielded
            if until():
                break
        return self.yielded

    def go_on_to_a_run_that_waits(self) -> None:
        """Lets the run start, and wait until its file is removed."""
        (self.folder / "rte-0").write_text("wait")
        self.go_on(until=lambda: len(self.starts()) == 1)

    def go_on_in_requeued_job(self) -> None:
        """Lets the run end well when its requeued job starts, at once instead of after Slurm's two minutes."""
        job, requeued_at = self.job(), list[float]()

        def has_started() -> bool:
            if "PENDING" in slurm("squeue", "--noheader", "--format=%T", "--job", job):
                requeued_at.append(time.monotonic())
            if requeued_at and time.monotonic() > requeued_at[0] + 5:  # a node refuses a job that returns at once
                subprocess.run(
                    ["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True, check=False
                )
                requeued_at.clear()
            return len(self.starts()) == 2

        self.go_on(until=has_started)
        (self.folder / "rte-0").unlink()
        self.go_on()

    def starts(self) -> list[str]:
        file = self.folder / "starts"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def job(self) -> str:
        return self.scheduler.running[0].handle.job.job  # type: ignore[attr-defined, no-any-return]


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_every_run_is_a_job_and_is_done_once(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 6, max_jobs=4)
    sweep.go_on()
    assert sorted(sweep.starts()) == [f"rte-{seed} 1" for seed in range(6)]
    assert [event.state for event in sweep.yielded].count("done") == 6
    assert all("Slurm job" in (event.location or "") for event in sweep.yielded if event.state == "running")


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_stopped_sweep_ends_its_jobs_and_the_next_one_resumes(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 3, max_jobs=2)
    for seed in (0, 1, 2):
        (tmp_path / f"rte-{seed}").write_text("wait")
    sweep.go_on(until=lambda: len(sweep.starts()) == 2)
    sweep.stop_request.signal = 15
    sweep.go_on()
    assert len(sweep.scheduler.in_state("waiting")) == 3
    assert slurm("squeue", "--noheader", "--me").strip() == ""
    for seed in (0, 1, 2):
        (tmp_path / f"rte-{seed}").unlink()
    again = Sweep(tmp_path, 3)
    again.go_on()
    assert len(again.scheduler.in_state("done")) == 3


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_job_near_its_time_limit_requeues_itself_and_the_run_starts_again(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_a_run_that_waits()
    slurm("scancel", "--batch", "--signal=USR1", sweep.job())  # Slurm's own signal before the limit
    sweep.go_on_in_requeued_job()
    assert len(sweep.starts()) == 2
    assert [event.state for event in sweep.yielded] == ["running", "done"]


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_run_of_a_lost_node_starts_again_on_another(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_a_run_that_waits()
    node = slurm("squeue", "--noheader", "--format=%N", "--job", sweep.job()).strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    sweep.go_on_in_requeued_job()
    assert len(sweep.starts()) == 2
    assert len(sweep.scheduler.in_state("done")) == 1


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_cancelled_job_is_a_failure_that_names_its_state(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_a_run_that_waits()
    slurm("scancel", sweep.job())
    sweep.go_on()
    (failed,) = (event for event in sweep.yielded if event.state == "failed")
    assert "CANCELLED" in (failed.message or "")


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_job_of_an_earlier_sweep_is_found_by_its_name(tmp_path: Path) -> None:
    first = Sweep(tmp_path, 1)
    first.go_on_to_a_run_that_waits()
    second = Sweep(tmp_path, 1)
    second.go_on(until=lambda: second.scheduler.running)
    assert second.job() == first.job()
    (tmp_path / "rte-0").unlink()
    second.go_on()
    assert len(second.starts()) == 1
    assert len(second.scheduler.in_state("done")) == 1


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_run_that_dies_leaves_a_failed_record(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    (tmp_path / "rte-0").write_text("die")
    sweep.go_on()
    (failed,) = (event for event in sweep.yielded if event.state == "failed")
    assert failed.record is not None
    assert "it broke" in (failed.record.error or "")


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_unknown_partition_is_refused_in_the_message_of_sbatch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="partition"):
        Sweep(tmp_path, 1, slurm={"partition": "nowhere"}).go_on()


@needs_slurm
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("settings", [{"time": "4 hours"}, {"slurm": {"gres": "gpu:64"}}])
def test_request_that_sbatch_refuses_is_told_in_its_words(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"sbatch: error: .*(time|gres|configuration)"):
        Sweep(tmp_path, 1, **settings).go_on()


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_job_that_will_never_start_ends_the_sweep_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_client, "NEVER_SECONDS", 0.5)
    sweep = Sweep(tmp_path, 1, time="2-00:00:00")
    with pytest.raises(UserError, match="never start: Partition"):
        sweep.go_on()
    assert slurm("squeue", "--noheader", "--me").strip() == ""


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_results_folder_that_a_node_does_not_see_is_told_with_both(configuration: Path) -> None:
    folder = hidden_folder(configuration)
    if not can_hide(folder):
        pytest.skip("a mount namespace needs more rights")
    sweep = Sweep(folder, 2, slurm={"nodelist": NODE_WITHOUT_FOLDER})
    with pytest.raises(UserError, match=f"node {NODE_WITHOUT_FOLDER} .*{folder}"):
        sweep.go_on()
    assert sweep.starts() == []


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_run_on_two_nodes_is_recorded_with_its_processes(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1, ("--epochs", "1"), launch_command, nodes_per_run=2, slurm=dict(exclude="n3"))
    sweep.go_on()
    (done,) = (event for event in sweep.yielded if event.state == "done")
    assert done.record is not None
    assert done.record.environment is not None
    assert done.record.environment.processes == 2
    (log,) = tmp_path.glob("results/test-mode/logs/rte/*.log")
    assert log.read_text().count("fp32 on cpu") == 1, "only the first of the nodes' processes prints"


PROCESS = """
import os, signal, sys, time
def stop(*_):
    print("stopped", os.environ["RANK"], file=sys.stderr)
    time.sleep(2 * (os.environ["RANK"] == "0"))  # the checkpoint
    print("saved", os.environ["RANK"], file=sys.stderr)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU", "MASTER_PORT")
print("process", *map(os.environ.get, names), file=sys.stderr, flush=True)
time.sleep(60)
"""


@needs_slurm
@pytest.mark.usefixtures("cluster")
def test_stop_reaches_the_processes_on_all_nodes_which_end_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, log = tmp_path / "process.py", tmp_path / "log"
    script.write_text(PROCESS)
    monkeypatch.setattr(slurm_module, "SCRIPT", script)
    settings = ExecutorSettings(name="slurm", nodes_per_run=2, slurm={"exclude": "n3"})
    executor = SlurmExecutor(settings, test_mode=True)
    # a supervisor knows a run by the name of its script
    start = Start(tmp_path / "run.json", "none", log, (str(SCRIPT),), (), "", {})
    run = executor.start(start, executor.slots[0])
    wait_until(lambda: log.exists() and log.read_text().count("process ") == 2)
    run.stop()
    wait_until(lambda: run.exit_code() is not None)
    assert run.exit_code() == STOPPED
    lines = log.read_text().splitlines()
    first, second = sorted(line.split() for line in lines if line.startswith("process "))
    assert (first[1:5], second[1:5]) == (["0", "2", "0", "yes"], ["1", "2", "0", "yes"])
    assert first[5] == second[5]
    assert {"stopped 0", "saved 0", "stopped 1", "saved 1"} <= set(lines)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--executor", "slrum"], "slurm"),
        (["--partition", "gpu"], "--executor slurm"),
        (["--executor", "slurm", "--max-jobs", "0"], "--max-jobs: expected 1 or more, got 0"),
        (["--executor", "slurm", "--slurm", "account"], "account"),
        (["--executor", "slurm", "--slurm", "job-name=x"], "job-name"),
        (["--executor", "slurm", "--slurm", "cpus-per-task=none"], "cpus-per-task"),
    ],
)
def test_invalid_settings_are_refused(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UserError, match=message):
        make_executor(read_options(["--tasks", "rte", "--test-mode", *args])[1].sweep.executor, test_mode=True)


def test_missing_slurm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="sbatch"):
        main(["--tasks", "rte", "--test-mode", "--results", str(tmp_path), "--executor", "slurm"])


def test_sweep_file_names_the_executor_and_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    file = tmp_path / "sweep.yaml"
    settings = "{name: slurm, partition: gpu, time: 4:00:00, gpus_per_run: 1, slurm: {cpus-per-task: 8, mem: 4G}}"
    file.write_text(f"tasks: [rte]\nexecutor: {settings}\n")
    flags = ["--time", "1:00:00", "--gpus-per-run", "2", "--max-jobs", "3", "--slurm", "mem=8G"]
    executor = make_executor(read_options([str(file), *flags])[1].sweep.executor, test_mode=False)
    assert isinstance(executor, SlurmExecutor)
    options = {"partition": "gpu", "time": "1:00:00", "mem": "8G", "gres": "gpu:2"}
    assert (executor.slurm.cpus, executor.slurm.options) == (8, options)
    assert [(len(slot.gpus), slot.threads) for slot in executor.slots] == [(2, 4)] * 3


def test_flag_that_names_another_executor_leaves_out_the_settings_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte]\nexecutor: {name: slurm, partition: gpu, gpus_per_run: 4}\n")
    executor = read_options([str(file), "--executor", "local", "--max-jobs", "2"])[1].sweep.executor
    assert executor == ExecutorSettings(name="local", max_jobs=2)


def test_unknown_setting_in_a_sweep_file_is_told_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte]\nexecutor:\n  name: slurm\n  partitoin: gpu\n")
    with pytest.raises(UserError, match=r"sweep.yaml:4: .*'partitoin'.*'partition'"):
        read_options([str(file)])
