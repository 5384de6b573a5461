"""A sweep whose runs are jobs of a real Slurm: jobs end, stop, are requeued, lost, cancelled and found again."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.fake_run import command_in
from support.processes import wait_until
from support.slurm_cluster import NODE_WITHOUT_FOLDER, can_hide, hidden_folder
from support.slurm_sweep import Sweep, slurm

from harness.commands.reproduce import main as reproduce
from harness.commands.sweep import main, read_options
from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import make_executor, slurm_client
from harness.sweeps.executors import slurm as slurm_module
from harness.sweeps.executors.slurm import SlurmExecutor
from harness.sweeps.launch import SCRIPT, STOPPED, SUPERVISOR, Start


def no_job_is_listed() -> bool:
    """False also for a second after the last job has ended: Slurm lists it as completing."""
    return not slurm("squeue", "--noheader", "--me").strip()


@pytest.mark.usefixtures("cluster")
def test_every_run_is_a_job_and_is_done_once(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 6, max_jobs=4)
    sweep.go_on()
    assert sorted(sweep.starts()) == [f"rte-{seed} 1" for seed in range(6)]
    assert [event.state for event in sweep.yielded].count("done") == 6
    assert all("Slurm job" in (event.location or "") for event in sweep.yielded if event.state == "running")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("settings", [{}, {"workers": 1}])
def test_folder_may_have_any_characters(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Slurm replaces %j in the name of an output file."""
    folder = tmp_path / "50 %j 'ü"
    folder.mkdir()
    sweep = Sweep(folder, 1, **settings)
    sweep.go_on()
    assert len(sweep.scheduler.in_state("done")) == 1
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("cluster")
def test_stopped_sweep_ends_its_jobs_and_the_next_one_resumes(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 3, max_jobs=2)
    sweep.go_on_to_runs_that_wait(3, parallel=2)
    sweep.stop_request.signal = 15
    sweep.go_on()
    assert len(sweep.scheduler.in_state("waiting")) == 3
    wait_until(no_job_is_listed, seconds=10)
    sweep.release()
    again = Sweep(tmp_path, 3)
    again.go_on()
    assert len(again.scheduler.in_state("done")) == 3


@pytest.mark.usefixtures("cluster")
def test_job_near_its_time_limit_requeues_itself_and_the_run_starts_again(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_runs_that_wait()
    slurm("scancel", "--batch", "--signal=USR1", sweep.job())  # Slurm's own signal before the limit
    sweep.go_on_in_requeued_job()
    assert len(sweep.starts()) == 2
    assert [event.state for event in sweep.yielded] == ["running", "done"]


@pytest.mark.usefixtures("cluster")
def test_stopped_sweep_does_not_wait_for_a_job_that_was_requeued_meanwhile(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_runs_that_wait()
    slurm("scancel", "--batch", "--signal=USR1", sweep.job())
    sweep.stop_request.signal = 15
    sweep.go_on(seconds=30)
    assert len(sweep.scheduler.in_state("waiting")) == 1
    assert slurm("squeue", "--noheader", "--me", "--states=PENDING").strip() == ""


@pytest.mark.usefixtures("cluster")
def test_run_of_a_lost_node_starts_again_on_another(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_runs_that_wait()
    node = slurm("squeue", "--noheader", "--format=%N", "--job", sweep.job()).strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    sweep.go_on_in_requeued_job()
    assert len(sweep.starts()) == 2
    assert len(sweep.scheduler.in_state("done")) == 1


@pytest.mark.usefixtures("cluster")
def test_cancelled_job_is_a_failure_that_names_its_state(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_runs_that_wait()
    slurm("scancel", sweep.job())
    sweep.go_on()
    (failed,) = (event for event in sweep.yielded if event.state == "failed")
    assert "CANCELLED" in (failed.message or "")


@pytest.mark.usefixtures("cluster")
def test_run_whose_supervisor_is_killed_is_a_failure_that_says_so(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.go_on_to_runs_that_wait()
    (supervisor,) = (
        each
        for each in psutil.process_iter(["cmdline"])
        if str(SUPERVISOR) in (each.info["cmdline"] or []) and each.environ().get("SLURM_JOB_ID") == sweep.job()
    )
    supervisor.kill()
    sweep.go_on()
    (failed,) = (event for event in sweep.yielded if event.state == "failed")
    assert "supervisor of this run was killed" in (failed.message or "")


@pytest.mark.usefixtures("cluster")
def test_job_of_an_earlier_sweep_is_found_by_its_name(tmp_path: Path) -> None:
    first = Sweep(tmp_path, 1)
    first.go_on_to_runs_that_wait()
    second = Sweep(tmp_path, 1)
    second.go_on(until=lambda: second.scheduler.running)
    assert second.job() == first.job()
    (tmp_path / "rte-0").unlink()
    second.go_on()
    assert len(second.starts()) == 1
    assert len(second.scheduler.in_state("done")) == 1


@pytest.mark.usefixtures("cluster")
def test_run_that_dies_leaves_a_failed_record(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, 1)
    (tmp_path / "rte-0").write_text("die")
    sweep.go_on()
    (failed,) = (event for event in sweep.yielded if event.state == "failed")
    assert failed.record is not None
    assert "it broke" in (failed.record.error or "")


@pytest.mark.usefixtures("cluster")
def test_unknown_partition_is_refused_in_the_message_of_sbatch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="partition"):
        Sweep(tmp_path, 1, slurm={"partition": "nowhere"}).go_on()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("settings", [{"time": "4 hours"}, {"slurm": {"gres": "gpu:64"}}])
def test_request_that_sbatch_refuses_is_told_in_its_words(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"sbatch: error: .*(time|gres|configuration)"):
        Sweep(tmp_path, 1, **settings).go_on()


@pytest.mark.usefixtures("cluster")
def test_job_that_will_never_start_ends_the_sweep_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_client, "NEVER_SECONDS", 0.5)
    sweep = Sweep(tmp_path, 1, time="2-00:00:00")
    with pytest.raises(UserError, match="never start: Partition"):
        sweep.go_on()
    wait_until(no_job_is_listed, seconds=10)


@pytest.mark.usefixtures("cluster")
def test_results_folder_that_a_node_does_not_see_is_told_with_both(slurm_configuration: Path) -> None:
    folder = hidden_folder(slurm_configuration)
    if not can_hide(folder):
        pytest.skip("a mount namespace needs more rights")
    sweep = Sweep(folder, 2, slurm={"nodelist": NODE_WITHOUT_FOLDER})
    with pytest.raises(UserError, match=f"node {NODE_WITHOUT_FOLDER} .*{folder}"):
        sweep.go_on()
    assert sweep.starts() == []


@pytest.mark.usefixtures("cluster")
def test_detached_sweep_starts_what_it_can_and_the_same_command_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def detach() -> str:
        args = ["--tasks", "rte", "--seeds", "0", "1", "2", "--test-mode", "--results", str(tmp_path / "results")]
        with pytest.raises(SystemExit) as end:
            main([*args, "--executor", "slurm", "--max-jobs", "2", "--detach"], command_in(tmp_path))
        assert end.value.code == 0
        return capsys.readouterr().out

    assert "2 started; 1 more" in detach()
    records = tmp_path / "results/test-mode/runs/rte"
    wait_until(lambda: len(list(records.glob("tiny*.json"))) == 2)
    assert f"1 started. To watch them:\nharness status --watch --results {tmp_path}/results/test-mode" in detach()
    wait_until(lambda: len(list(records.glob("tiny*.json"))) == 3)
    assert "3 finished" in detach()


@pytest.mark.usefixtures("cluster")
def test_detached_reproduction_gives_its_verdict_once_its_runs_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, results = tmp_path / "own.yaml", tmp_path / "results/test-mode"
    scores = "[{metric: accuracy, split: validation, value: 50.3}]"
    row.write_text(f"{{model: a/b, source: here, setting: x, recipe: {{}}, tasks: {{rte: {{scores: {scores}}}}}}}")
    args = [str(row), "--seeds", "2", "--test-mode", "--results", str(tmp_path / "results")]
    args += ["--executor", "slurm", "--detach"]
    for seed in (0, 1):
        (tmp_path / f"rte-{seed}").write_text("wait")
    reproduce(args, command_in(tmp_path))
    assert "2 started" in capsys.readouterr().out
    assert not list(results.glob("reproductions/own/reproduction.*"))
    for seed in (0, 1):
        (tmp_path / f"rte-{seed}").unlink()
    wait_until(lambda: len(list(results.glob("runs/rte/tiny*.json"))) == 2)
    with pytest.raises(SystemExit) as end:
        reproduce(args, command_in(tmp_path))
    assert end.value.code == 0
    assert len(list(results.glob("reproductions/own/reproduction.*"))) == 2


@pytest.mark.parametrize(
    "flags, message", [([], "local"), (["--executor", "slurm", "--grid", "learning_rate=1e-5,2e-5"], "grid")]
)
def test_detach_is_refused_where_the_sweep_is_needed(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UserError, match=f"--detach: .*{message}"):
        main(["--tasks", "rte", "--test-mode", "--results", str(tmp_path), "--detach", *flags])


PROCESS = """
import os, signal, socket, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal changes nothing
    print("stopped", os.environ["RANK"], file=sys.stderr)
    if os.environ["RANK"] == "0":
        time.sleep(3)  # the checkpoint
        connection.close()
    else:
        connection.recv(1)  # it waits for the end of the checkpoint
    print("saved", os.environ["RANK"], file=sys.stderr)
    sys.exit(143)
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    connection, _ = socket.create_server(address).accept()
while os.environ["RANK"] == "1":
    try:
        connection = socket.create_connection(address)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
signal.signal(signal.SIGTERM, stop)
print("connected", flush=True)
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU")
print("process", *map(os.environ.get, names), file=sys.stderr, flush=True)
time.sleep(60)
"""
"""A process of a run: it connects to the other one, and both save a checkpoint together when they are stopped.

The cluster kills the processes of a job two seconds after the first of them has failed: one that ended before the
checkpoint would end the other.
"""


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("outer_job", [{}, {"SLURM_JOB_ID": "1", "SLURM_GPUS": "1", "SLURM_MEM_PER_NODE": "2000"}])
def test_processes_on_two_nodes_connect_and_stop_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer_job: dict[str, str]
) -> None:
    """Also where the sweep is in a job of its own, whose variables srun would take for those of the run's job."""
    for name, value in outer_job.items():
        monkeypatch.setenv(name, value)
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
    processes = sorted(line for line in lines if line.startswith("process "))
    assert processes == ["process 0 2 0 yes", "process 1 2 0 yes"]
    assert lines.count("connected") == 1, "only the first process prints"
    assert {"stopped 0", "saved 0", "stopped 1", "saved 1"} <= set(lines)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--executor", "slrum"], "slurm"),
        (["--partition", "gpu"], "--executor slurm"),
        (["--executor", "slurm", "--max-jobs", "0"], "--max-jobs: expected 1 or more, got 0"),
        (["--executor", "slurm", "--max-jobs", "100000"], "--max-jobs 100000: .*10,000"),
        (["--executor", "slurm", "--nodes-per-run", "100000"], "--nodes-per-run 100000: .*10,000"),
        (["--executor", "slurm", "--slurm", "account"], "account"),
        (["--executor", "slurm", "--time", "1"], "--time 1: 60 s: expected more"),
        (["--executor", "slurm", "--slurm", "time=0:00:45"], "--time 0:00:45: 45 s: expected more"),
        (["--executor", "slurm", "--slurm", "job-name=x"], "job-name"),
        (["--executor", "slurm", "--slurm", "chdir=/scratch"], "chdir"),
        (["--executor", "slurm", "--slurm", "clusters=one,two"], "clusters=one,two: expected one"),
        (["--executor", "slurm", "--slurm", "cpus-per-task=none"], "cpus-per-task"),
    ],
)
def test_invalid_settings_are_refused(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UserError, match=message):
        make_executor(read_options(["--tasks", "rte", "--test-mode", *args])[1].sweep.executor, test_mode=True)


@pytest.mark.parametrize(
    "time, seconds",
    [
        ("1", 60),
        ("90:30", 5430),
        ("1:00:00", 3600),
        ("1-12", 129_600),
        ("1-0:10", 87_000),
        ("0-0:0:7", 7),
        ("0", 0),
        ("4 hours", None),
        ("UNLIMITED", None),
    ],
)
def test_time_limit_is_read_as_sbatch_reads_it(time: str, seconds: int | None) -> None:
    assert slurm_client.seconds_of(time) == seconds


@pytest.mark.parametrize("option", [{"gres": "gpu:a100:1"}, {"gpus-per-node": "1"}])
def test_gpus_that_no_run_would_use_are_refused(option: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UserError, match=r"^--slurm gp?.*=.*: .*--gpus-per-run"):
        SlurmExecutor(ExecutorSettings(name="slurm", slurm=option), test_mode=False)
    executor = SlurmExecutor(ExecutorSettings(name="slurm", slurm=option, gpus_per_run=1), test_mode=False)
    assert executor.slurm.options == option


def test_other_options_do_not_replace_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    options = {"gres": "nvme:1", "mem-per-gpu": "8G"}
    settings = ExecutorSettings(name="slurm", slurm=options, gpus_per_run=2)
    assert SlurmExecutor(settings, test_mode=False).slurm.options == {**options, "gres": "nvme:1,gpu:2"}


def test_number_of_a_job_is_in_the_last_line_of_sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some clusters greet everybody who submits a job."""
    answer = subprocess.CompletedProcess([], 0, "Welcome to the cluster\n\n42;main\n", "")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", lambda args, text="": answer)
    slurm = slurm_client.Slurm(ExecutorSettings(name="slurm"), gpus=0)
    assert slurm.submit("run", tmp_path / "log", ["true"], "", {}) == "42"


@pytest.mark.parametrize("option", [{"clusters": "other"}, {"cluster": "other"}])
def test_jobs_of_another_cluster_are_asked_about_and_stopped_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: dict[str, str]
) -> None:
    commands: list[Sequence[str]] = []

    def answer(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        commands.append(args)
        return subprocess.CompletedProcess(args, 0, "42;other\n", "")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", answer)
    slurm = slurm_client.Slurm(ExecutorSettings(name="slurm", slurm=option), gpus=0)
    job = slurm_client.SlurmJob(slurm, slurm.submit("run", tmp_path / "log", ["true"], "", {}), tmp_path / "log")
    for question in (job.state, job.exit_status, job.stop, job.cancel):
        question()
    assert {command[0] for command in commands} == {"sbatch", "squeue", "scontrol", "scancel"}
    assert all(any(arg in ("--clusters=other", "--cluster=other") for arg in command) for command in commands)


@pytest.mark.parametrize(
    "lines, message",
    [
        ("sbatch: Verifying the account\nsbatch: error: Invalid account\n", "sbatch: error: Invalid account"),
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed\n", "--max-jobs"),
        ("no such plugin\n", "no such plugin"),
    ],
)
def test_refusal_of_sbatch_is_its_first_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: str, message: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", lambda args, text="": subprocess.CompletedProcess([], 1, "", lines))
    slurm = slurm_client.Slurm(ExecutorSettings(name="slurm"), gpus=0)
    with pytest.raises(UserError, match=f"^--executor slurm: .*{message}"):
        slurm.submit("run", tmp_path / "log", ["true"], "", {})


def test_slurm_that_does_not_answer_is_asked_once_for_all_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question may take a minute to fail, and a sweep asks about each of its jobs."""
    questions: list[object] = []

    def fail(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        questions.append(args)
        return subprocess.CompletedProcess(args, 1, "", "slurm_load_jobs error: Unable to contact slurm controller")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", fail)
    slurm = slurm_client.Slurm(ExecutorSettings(name="slurm"), gpus=0)
    slurm.listed["7"] = slurm_client.JobState("7", "run", "RUNNING", "node", "None")
    assert [slurm_client.SlurmJob(slurm, "7", Path("log")).state() for _ in range(3)] == [None] * 3
    assert len(questions) == 1


def test_stop_that_slurm_did_not_answer_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Sequence[str]] = []

    def answer(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        if args[0] == "scancel":
            sent.append(args)
        return subprocess.CompletedProcess(args, int(len(sent) < 2), "7|run|RUNNING|node|None\n", "")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", answer)
    monkeypatch.setattr(slurm_client, "SIGNAL_SECONDS", 0.0)
    slurm = slurm_client.Slurm(ExecutorSettings(name="slurm"), gpus=0)
    slurm.listed["7"] = slurm_client.JobState("7", "run", "RUNNING", "node", "None")
    run = slurm_module.SlurmRun(slurm, "7", Path("log"))
    run.stop()
    assert [run.exit_code() for _ in range(3)] == [None] * 3
    assert sent == [["scancel", "--batch", "--signal=TERM", "7"]] * 2


def test_job_that_is_requeued_during_an_outage_is_cancelled_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [0, 1, 0]  # of the request to stop, and of two cancellations

    def answer(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        code = codes.pop(0) if args[0] == "scancel" else 0
        return subprocess.CompletedProcess(args, code, "7|run|PENDING||BeginTime\n", "")

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_client, "call", answer)
    run = slurm_module.SlurmRun(slurm_client.Slurm(ExecutorSettings(name="slurm"), gpus=0), "7", Path("log"))
    run.stop()
    assert [run.exit_code() for _ in range(2)] == [None, STOPPED]


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


def test_sweep_file_may_give_a_time_and_a_partition_as_numbers(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: [rte]\nexecutor: {name: slurm, partition: 7, time: 90}\n")
    executor = read_options([str(file)])[1].sweep.executor
    assert (executor.partition, executor.time) == ("7", "90")
    file.write_text("tasks: [rte]\nexecutor: {name: slurm, time: true}\n")
    with pytest.raises(UserError, match=r"sweep.yaml:2: executor.time"):
        read_options([str(file)])


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
