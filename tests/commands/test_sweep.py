"""A sweep with runs that only pretend: what is run, what is left alone, and that nothing is lost however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support.fake_run import command_in
from support.processes import wait_until

from harness.commands.sweep import main, read_options
from harness.errors import UserError
from harness.facts.choices import read_choice
from harness.facts.records import RunRecord, read_record, read_records
from harness.facts.suites import load_suite
from harness.sweeps.launch import sweep_lock_path
from harness.sweeps.plan import expand
from harness.system.locks import hold_lock, lock_path

ROOT = Path(__file__).resolve().parents[2]

DRIVER = f"""
import sys
from pathlib import Path
from harness.system.exit_codes import exit_code_on_error
from harness.commands.sweep import main
sys.path.append({str(ROOT / "tests")!r})
from support.fake_run import command_in
with exit_code_on_error():
    main(sys.argv[2:], command_in(Path(sys.argv[1])))
"""


class World(NamedTuple):
    """A results folder, and a folder with the fate of each run."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def args(self, *args: str) -> list[str]:
        return [*args, "--test-mode", "--results", str(self.results)]

    def sweep(self, *args: str) -> int:
        """Runs the sweep to its end and returns its exit code."""

        with pytest.raises(SystemExit) as end:
            main(self.args(*args), command_in(self.folder))
        assert isinstance(end.value.code, int)
        return end.value.code

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Starts another sweep in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.folder), *self.args(*args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fate(self, run: str, fate: str) -> Path:
        path = self.folder / run
        path.write_text(fate)
        return path

    @property
    def starts(self) -> list[str]:
        """`<task>-<seed>` of each run that was started, in order."""
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_start(self, *runs: str) -> None:
        wait_until(lambda: set(runs) <= set(self.starts), state=lambda: self.starts)

    def records(self) -> dict[str, RunRecord]:
        records, messages = read_records(self.results / "test-mode")
        assert messages == []
        return {f"{record.spec.task}-{record.spec.seed}": record for record in records}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_run_is_done_once_and_found_by_the_same_command(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--tasks", "rte", "wnli", "--seeds", "0", "1", "--epochs", "2", "--max-jobs", "2")
    assert world.sweep(*args) == 0
    assert sorted(world.starts) == ["rte-0", "rte-1", "wnli-0", "wnli-1"]
    assert {record.spec.recipe.epochs for record in world.records().values()} == {2}
    assert "4 done, 0 failed, 0 not run" in capsys.readouterr().out
    assert world.sweep(*args) == 0
    assert len(world.starts) == 4
    assert "4 runs: 4 finished, 0 failed, 0 to do" in capsys.readouterr().out
    left = [path.name for path in world.results.rglob(".*")]
    assert left == [], "no lock stays"


def test_each_size_of_the_training_data_is_a_run(world: World) -> None:
    assert world.sweep("--tasks", "rte", "--seeds", "3", "4", "--train-rows", "8", "16", "None") == 0
    records = read_records(world.results / "test-mode").records
    sizes = sorted((record.spec.seed, record.spec.recipe.train_rows or 0) for record in records)
    assert sizes == [(seed, size) for seed in (3, 4) for size in (0, 8, 16)]


def test_one_size_is_a_hyperparameter_of_all_runs() -> None:
    _, request = read_options(["--tasks", "rte", "--train-rows", "8", "--init-from", "mnli"])
    assert request.sweep.train_rows == ()
    assert {run.task.name: run.spec.recipe.train_rows for run in expand(request)} == {
        "mnli": 8,
        "rte": 8,
    }


def test_jobs_share_the_cores(world: World) -> None:
    cores = len(os.sched_getaffinity(0))
    environment = dict(os.environ)
    try:
        os.environ.pop("OMP_NUM_THREADS", None)
        assert world.sweep("--tasks", "rte", "--max-jobs", "2") == 0
    finally:
        os.environ.update(environment)
    assert (world.folder / "starts").read_text().split() == ["rte-42", str(max(1, cores // 2))]


def test_dry_run_shows_the_plan_and_starts_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    main(world.args("--tasks", "rte", "cola", "--seeds", "0", "3", "--epochs", "2", "--dry-run"))
    shown = capsys.readouterr().out
    assert "4 runs: 0 finished, 0 failed, 4 to do" in shown
    assert re.search(r"rte +tiny-bert +epochs=2 +0, 3 +\? +no record of this model", shown)
    assert "4 runs unknown" in shown
    assert not world.results.exists()


@pytest.mark.parametrize(("sizes", "is_hinted"), [(["8"], False), (["8", "16"], True), (["8", "16", "None"], False)])
def test_two_numbers_of_training_rows_are_announced_to_be_no_curve(
    world: World, capsys: pytest.CaptureFixture[str], sizes: list[str], is_hinted: bool
) -> None:
    main(world.args("--tasks", "rte", "--train-rows", *sizes, "--dry-run"))
    assert ("learning curve" in capsys.readouterr().out) == is_hinted


def test_a_failed_run_leaves_a_record_and_stops_no_other(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("rte-0", "die")
    world.fate("rte-1", "kill")
    world.fate("rte-2", "fail")
    world.fate("rte-3", "diverge")
    args = ("--tasks", "rte", "--seeds", "0", "1", "2", "3", "4")
    assert world.sweep(*args, "--max-jobs", "2") == 1
    records = world.records()
    assert [records[f"rte-{seed}"].status for seed in range(5)] == ["failed"] * 3 + ["diverged", "ok"]
    assert records["rte-0"].error == "the run died without a record: RuntimeError: it broke in harness/run.py"
    assert "token ***\nRuntimeError" in records["rte-0"].notes[-1]
    assert records["rte-0"].command.startswith("harness/run.py --task rte")
    assert "so far so good" in records["rte-1"].notes[-1]
    assert records["rte-2"].error == "as requested"
    assert "2 done (1 diverged), 3 failed, 0 not run" in capsys.readouterr().out
    for seed in range(4):
        (world.folder / f"rte-{seed}").unlink()
    before = len(world.starts)
    assert world.sweep(*args) == 1
    assert len(world.starts) == before, "not tried again unasked"
    assert "--retry-failed runs it again" in capsys.readouterr().out
    assert world.sweep(*args, "--retry-failed") == 1, "a diverged run has no score"
    assert sorted(world.starts[before:]) == ["rte-0", "rte-1", "rte-2"]
    assert world.records()["rte-0"].status == "ok"


def test_sweep_whose_runs_diverge_has_no_score(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("rte-0", "diverge")
    args = ("--tasks", "rte", "--seeds", "0")
    assert world.sweep(*args) == 1
    assert "1 done (1 diverged), 0 failed" in capsys.readouterr().out
    assert world.sweep(*args) == 1
    assert "1 finished (1 diverged), 0 failed, 0 to do" in capsys.readouterr().out
    assert world.starts == ["rte-0"]


def test_mistake_that_runs_find_is_one_of_the_sweep_and_no_failed_record(world: World) -> None:
    for seed in range(2):
        world.fate(f"rte-{seed}", "mistake")
    args = ("--tasks", "rte", "--seeds", "0", "1", "2")
    with pytest.raises(UserError, match=r"seed 0 \(and 1 more runs\): --tracker nosuch: .*\nInstall it") as error:
        main(world.args(*args), command_in(world.folder))
    assert str(error.value).count("--tracker") == 1
    assert list(world.records()) == ["rte-2"]
    for seed in range(2):
        (world.folder / f"rte-{seed}").unlink()
    assert world.sweep(*args) == 0
    assert world.starts == ["rte-0", "rte-1", "rte-2", "rte-0", "rte-1"]


def test_two_sweeps_share_the_work(world: World) -> None:
    args = ("--tasks", "rte", "wnli", "--seeds", "0", "1", "2")
    sweeps = [world.start(*args), world.start(*args)]
    printed = [sweep.communicate(timeout=120)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], printed
    assert sorted(world.starts) == sorted(f"{task}-{seed}" for task in ("rte", "wnli") for seed in range(3))
    assert len(world.records()) == 6


def test_run_of_another_process_is_waited_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fate = world.fate("rte-0", "wait")
    other = world.start("--tasks", "rte", "--seeds", "0")
    world.wait_for_start("rte-0")
    fate.write_text("wait")
    mine = world.start("--tasks", "rte", "--seeds", "0", "1")
    world.wait_for_start("rte-1")
    fate.unlink()
    printed, _ = mine.communicate(timeout=60)
    other.communicate(timeout=60)
    assert (mine.returncode, other.returncode) == (0, 0), printed
    assert "another process works on rte tiny-bert seed 0" in printed
    assert sorted(world.starts) == ["rte-0", "rte-1"]


def test_run_started_by_hand_is_no_failure(world: World) -> None:
    _, request = read_options(world.args("--tasks", "rte", "--seeds", "0"))
    (run,) = expand(request)
    with hold_lock(lock_path(run.path)):
        mine = world.start("--tasks", "rte", "--seeds", "0", "1")
        world.wait_for_start("rte-1")
    printed, _ = mine.communicate(timeout=60)
    assert mine.returncode == 0, printed
    assert sorted(world.starts) == ["rte-0", "rte-1"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_runs_and_the_same_command_resumes(world: World, number: int, code: int) -> None:
    fate = world.fate("rte-0", "wait")
    sweep = world.start("--tasks", "rte", "--seeds", "0", "1")
    world.wait_for_start("rte-0")
    sweep.send_signal(number)
    printed, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == code, printed
    assert "the same command resumes" in printed
    assert world.records() == {}, "an interrupted run has not failed"
    fate.unlink()
    assert world.sweep("--tasks", "rte", "--seeds", "0", "1") == 0
    assert world.starts == ["rte-0", "rte-0", "rte-1"]


def test_runs_end_with_a_sweep_that_is_killed(world: World) -> None:
    world.fate("rte-0", "wait")
    sweep = world.start("--tasks", "rte", "--seeds", "0")
    world.wait_for_start("rte-0")
    (lock,) = world.results.rglob(".*-sweep.lock")
    sweep.kill()
    sweep.communicate()
    wait_until(lambda: not lock.exists(), 30)
    assert world.records() == {}


def test_leftovers_of_a_killed_run_are_removed(world: World) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0")
    (path,) = (world.results / "test-mode" / "runs" / "rte").glob("*.json")
    sweep_lock_path(path).touch()
    lock_path(path).touch()
    checkpoint = world.results / "test-mode" / "checkpoints" / "rte" / path.stem / "step-00000007"
    checkpoint.mkdir(parents=True)
    world.sweep("--tasks", "rte", "--seeds", "0")
    assert sorted(entry.name for entry in (world.results / "test-mode").rglob("*") if entry.is_dir()) == [
        *("logs", "rte", "rte", "runs")
    ]
    assert list(path.parent.iterdir()) == [path]


def test_events_are_printed_as_lines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0", "1")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("[0/2] started rte tiny-bert seed 0 on CPU") for line in lines)
    assert any(
        re.match(r"\[1/2\] ok rte tiny-bert seed 0: accuracy 0\.503\d; .*1 done, about \d+ s left", line)
        for line in lines
    )


def test_invalid_record_is_an_error(world: World) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0")
    (path,) = (world.results / "test-mode" / "runs" / "rte").glob("*.json")
    assert read_record(path).status == "ok"
    path.write_text("{")
    with pytest.raises(UserError, match=r"\.json.*\n.*Remove the file"):
        main(world.args("--tasks", "rte", "--seeds", "0"))


# -- runs that start from others ---------------------------------------------------------------------------------------

FROM_MNLI = ("--tasks", "rte", "--seeds", "0", "1", "--init-from", "mnli", "--epochs", "1")


def test_a_run_comes_after_the_one_it_starts_from(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.sweep(*FROM_MNLI, "--max-jobs", "2") == 0
    assert sorted(world.starts) == ["mnli-0", "mnli-1", "rte-0", "rte-1"]
    assert all(world.starts.index(f"mnli-{seed}") < world.starts.index(f"rte-{seed}") for seed in (0, 1))
    records = world.records()
    for seed in (0, 1):
        parent, child = records[f"mnli-{seed}"], records[f"rte-{seed}"]
        assert child.spec.parent == parent.run_id
        assert (parent.spec.recipe.init_from, parent.spec.recipe.epochs) == (None, 1)
        assert (world.results / "test-mode" / "models" / "mnli" / parent.run_id / "bundle.json").exists()
    assert world.sweep(*FROM_MNLI) == 0
    assert "2 runs: 2 finished, 0 failed, 0 to do" in capsys.readouterr().out


def test_unsaved_weights_are_trained_again_when_a_run_needs_them(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.sweep("--tasks", "mnli", "--seeds", "0", "--epochs", "1") == 0
    assert world.sweep("--tasks", "rte", "--seeds", "0", "--init-from", "mnli", "--epochs", "1") == 0
    assert world.starts == ["mnli-0", "mnli-0", "rte-0"]
    assert "again: mnli tiny-bert seed 0" in capsys.readouterr().out
    shutil.rmtree(world.results / "test-mode" / "models")
    assert world.sweep("--tasks", "rte", "--seeds", "0", "--init-from", "mnli", "--epochs", "1") == 0
    assert len(world.starts) == 3, "nothing needs them any more"


def test_run_is_skipped_if_the_run_it_starts_from_fails(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("mnli-0", "die")
    assert world.sweep(*FROM_MNLI) == 1
    assert "rte-0" not in world.starts
    assert "rte-1" in world.starts
    assert "not run: rte tiny-bert seed 0: the run that it starts from has failed" in capsys.readouterr().out
    before = len(world.starts)
    assert world.sweep(*FROM_MNLI) == 1
    assert len(world.starts) == before
    assert "not run: rte tiny-bert seed 0" in capsys.readouterr().out
    (world.folder / "mnli-0").unlink()
    assert world.sweep(*FROM_MNLI, "--retry-failed") == 0
    assert world.starts[before:] == ["mnli-0", "rte-0"]


def test_run_is_skipped_if_the_run_it_starts_from_diverges(world: World) -> None:
    world.fate("mnli-0", "diverge")
    for _ in range(2):
        assert world.sweep(*FROM_MNLI) == 1
    assert sorted(world.starts) == ["mnli-0", "mnli-1", "rte-1"]


def test_tasks_that_start_from_each_other_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "circle.yaml"
    file.write_text("tasks: {rte: {recipe: {init_from: mnli}}, mnli: {recipe: {init_from: rte}}}")
    with pytest.raises(UserError, match="init_from: rte from mnli from rte"):
        main([str(file), "--test-mode", "--results", str(tmp_path), "--dry-run"])


# -- grids -------------------------------------------------------------------------------------------------------------

SEARCH = ("--tasks", "rte", "--seeds", "3", "4", "--grid", "learning_rate=1e-3,4e-3,2e-3")


def test_chosen_point_runs_with_every_seed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.sweep(*SEARCH) == 0
    assert world.starts == ["rte-3"] * 3 + ["rte-4"]
    (record,) = (record for name, record in world.records().items() if name == "rte-4")
    assert (record.spec.recipe.learning_rate, record.spec.recipe.protocol) == (4e-3, "holdout")
    assert record.task.report == ["validation_holdout"]
    shown = capsys.readouterr().out
    assert "Grid of 3 points, seed 3" in shown
    assert "chosen learning_rate=0.004 (learning_rate=0.001: 0.5010; learning_rate=0.004: 0.5040" in shown
    (file,) = (world.results / "test-mode" / "grids").iterdir()
    assert f"written to {file}" in shown
    assert world.sweep(*SEARCH) == 0
    assert len(world.starts) == 4


def test_choice_by_the_reported_score_is_recorded(world: World) -> None:
    assert world.sweep(*SEARCH, "--select-on-reported") == 0
    assert {record.spec.recipe.protocol for record in world.records().values()} == {"tuned_on_reported"}


def test_one_choice_for_a_model_holds_for_its_tasks(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--tasks", "rte", "wnli", "--seeds", "3", "--grid", "learning_rate=1e-3,4e-3", "--grid-per", "model")
    assert world.sweep(*args) == 0
    assert len(world.starts) == 4, "the chosen point has run already"
    assert "models:\n  tiny-bert:\n    recipe: {learning_rate: 0.004}" in capsys.readouterr().out


def test_dry_run_of_a_grid_starts_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    main(world.args(*SEARCH, "--dry-run"))
    shown = capsys.readouterr().out
    assert "3 runs: 0 finished, 0 failed, 3 to do" in shown
    assert "2 runs, including those of the grid" in shown
    assert not world.results.exists()


def test_nothing_is_chosen_from_a_grid_with_a_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("rte-3", "once")
    assert world.sweep(*SEARCH) == 1
    assert "rte-4" not in world.starts
    shown = capsys.readouterr().out
    assert "none is chosen" in shown
    assert "models:" not in shown, "a sweep file cannot have this key without a model"
    assert world.sweep(*SEARCH, "--retry-failed") == 0
    assert world.starts[-2:] == ["rte-3", "rte-4"]


def test_point_that_diverges_is_only_not_chosen(world: World) -> None:
    points = ("--tasks", "rte", "--seeds", "3", "4", "--grid", "learning_rate=1e-3,4e-3")
    world.fate("rte-3", "diverge-once")
    assert world.sweep(*points) == 0
    assert world.starts == ["rte-3", "rte-3", "rte-4"]


HALVED = (*SEARCH, "--epochs", "4", "--grid-halving")
"""Three points: all with one epoch, two with two, and one with all four."""


def lengths(world: World) -> list[tuple[int, int, float]]:
    """Seed, epochs and learning rate of each run."""
    specs = [record.spec for record in read_records(world.results / "test-mode").records]
    return sorted((spec.seed, spec.recipe.epochs, spec.recipe.learning_rate) for spec in specs)


def test_halving_trains_the_better_half_longer_and_the_choice_with_every_seed(world: World) -> None:
    world.fate("rte-3", "once")
    assert world.sweep(*HALVED) == 1, "a point without a score ends the search: it could have been the best"
    assert world.sweep(*HALVED, "--retry-failed") == 0
    assert lengths(world) == [
        *((3, 1, rate) for rate in (1e-3, 2e-3, 4e-3)),
        *((3, 2, rate) for rate in (2e-3, 4e-3)),
        (3, 4, 4e-3),
        (4, 4, 4e-3),
    ]
    starts = len(world.starts)
    assert world.sweep(*HALVED) == 0
    assert len(world.starts) == starts, "the runs of all rungs are reused"
    (file,) = (world.results / "test-mode" / "grids").iterdir()
    choice = read_choice(file)
    assert choice.chosen == {"learning_rate": 4e-3}
    assert [point.rung for point in choice.points] == [1, 1, 1, 2, 2, 3]
    assert choice.number_of_points == 3
    assert len(choice.rejected_runs) == 5


def test_halving_with_one_choice_for_tasks_of_different_length(world: World, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: {rte: {recipe: {epochs: 4}}, wnli: {recipe: {epochs: 1}}}\nseeds: [3]\n")
    assert world.sweep(str(file), "--grid", "learning_rate=1e-3,4e-3", "--grid-halving", "--grid-per", "model") == 0
    assert lengths(world) == sorted(
        [(3, 2, 1e-3), (3, 2, 4e-3), (3, 4, 4e-3), (3, 1, 1e-3), (3, 1, 4e-3)]  # wnli has the same run in both rungs
    )


def test_dry_run_of_a_halving_has_every_rung_and_its_cost(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    main(world.args(*HALVED, "--dry-run"))
    shown = capsys.readouterr().out
    rungs = re.findall(r"Rung (\d) of 3: (\d) of 3 points, (\d) epoch", shown)
    assert rungs == [("1", "3", "1"), ("2", "2", "2"), ("3", "1", "4")]
    assert "train for 11 epochs; the whole grid for 12" in shown
    assert not world.results.exists()


# -- mistakes ----------------------------------------------------------------------------------------------------------

GRID_NAMES = "epochs max_length max_steps global_batch_size patience train_rows weight_decay warmup".split()
GRID = [f"{name}={','.join(map(str, range(4, 14)))}" for name in GRID_NAMES]

INVALID: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "--tasks"),
    "unknown task": (["--tasks", "rtf"], r"'rtf'\. Did you mean 'rte'\? .*glue"),
    "path of an unknown user": (
        ["--tasks", "~nosuch-user/rte.yaml"],
        "--tasks ~nosuch-user/rte.yaml: .*home directory",
    ),
    "unknown suite": (["--tasks", "gluee"], r"'gluee'\. Did you mean 'glue'"),
    "no such task file": (["--tasks", "no/such.yaml"], r"no/such\.yaml: .*not found"),
    "no such model folder": (["--tasks", "rte", "--models", "./none"], r"--model \./none: "),
    "task twice": (["--tasks", "rte", "rte"], "--tasks: .*'rte'"),
    "model twice": (["--tasks", "rte", "--models", "a", "a"], "--models: .*'a'"),
    "seed twice": (["--tasks", "rte", "--seeds", "1", "2", "1"], "--seeds: .*1"),
    "seed out of range": (["--tasks", "rte", "--seeds", str(2**32)], "--seeds: .*4294967296"),
    "no jobs": (["--tasks", "rte", "--max-jobs", "0"], "--max-jobs: expected 1 or more, got 0"),
    "devices that are not there": (["--tasks", "rte", "--gpus-per-run", "2"], "--gpus-per-run 2: no GPU"),
    "unknown flag": (["--tasks", "rte", "--epoch", "1"], r"--epoch: .*mean '--epochs'\?"),
    "name of a field that is no flag": (["--tasks", "rte", "--own-data", "x"], r"--own-data: unknown flag"),
    "flag of the sweep's own": (["--tasks", "rte", "--seed", "1"], "--seed: .* --seeds"),
    "parent of every run": (["--tasks", "rte", "--init-from", "mnli", "--parent", "x"], "--parent: a sweep sets it"),
    "hyperparameter of a wrong type": (["--tasks", "rte", "--epochs", "two"], "--epochs: epochs is 'two'"),
    "hyperparameter out of range": (["--tasks", "rte", "--epochs", "0"], "--epochs: epochs is '0': .* equal to 1"),
    "hyperparameter without a value": (["--tasks", "rte", "--epochs"], "--epochs: missing"),
    "flag out of range": (
        ["--tasks", "rte", "--device-batch-size", "0"],
        "--device-batch-size 0",
    ),
    "grid of an unknown name": (["--tasks", "rte", "--grid", "rate=1,2"], "--grid: .*'rate'"),
    "grid with a value of a wrong type": (["--tasks", "rte", "--grid", "epochs=1,x"], "--grid: epochs is 'x'"),
    "grid without values": (["--tasks", "rte", "--grid", "epochs"], "--grid epochs: "),
    "grid of the protocol": (["--tasks", "rte", "--grid", "protocol=holdout"], "protocol: "),
    "grid with a protocol": (["--tasks", "rte", "--grid", "epochs=1", "--protocol", "holdout"], "protocol: "),
    "grid of what is given": (["--tasks", "rte", "--grid", "epochs=1", "--epochs", "2"], "--epochs: .*grid"),
    "grid of what is not trained": (["--tasks", "ax", "--grid", "epochs=1"], "--grid: ax "),
    "grid of 10^8 points": (["--tasks", "rte", "--grid", *GRID], r"--grid: 100,000,000 points: .*1,000"),
    "more runs than one sweep has": (["--tasks", "glue", "--seeds", *map(str, range(2000))], r"18,000 runs: .*10,000"),
    "more jobs than one machine has": (
        ["--tasks", "rte", "--max-jobs", str(10**11)],
        r"--max-jobs 100000000000: .*1,000",
    ),
    "size of a wrong type": (["--tasks", "rte", "--train-rows", "1", "few"], "--train-rows: .*'few'"),
    "sizes with a grid": (
        ["--tasks", "rte", "--grid", "epochs=1,2", "--train-rows", "8", "16"],
        "--train-rows: .*grid",
    ),
    "grid of the size": (["--tasks", "rte", "--grid", "train_rows=1,2", "--train-rows", "8"], "--train-rows: .*grid"),
    "choice without a grid": (["--tasks", "rte", "--grid-per", "model"], "--grid-per"),
    "halving without a grid": (["--tasks", "rte", "--grid-halving"], "--grid-halving"),
    "halving of one point": (["--tasks", "rte", "--grid", "warmup=0", "--grid-halving"], "--grid-halving: .*got 1"),
    "halving of what the grid varies": (["--tasks", "rte", "--grid", "epochs=1,2", "--grid-halving"], "epochs"),
    "halving of steps": (
        ["--tasks", "rte", "--grid", "warmup=0,0.1", "--max-steps", "9", "--grid-halving"],
        "--grid-halving: .*max_steps=9",
    ),
    "halving of one epoch": (
        ["--tasks", "rte", "--grid", "warmup=0,0.1", "--epochs", "1", "--grid-halving"],
        "--grid-halving: .*one epoch",
    ),
    "repeated hyperparameter": (["--tasks", "rte", "--epochs", "1", "--epochs=2"], "--epochs: duplicate"),
    "no such sweep file": (["none.yaml"], r"none\.yaml"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_arguments_are_an_error_and_leave_nothing(name: str, tmp_path: Path) -> None:
    args, message = INVALID[name]
    with pytest.raises(UserError, match=message):
        main([*args, "--results", str(tmp_path / "results")])
    assert not (tmp_path / "results").exists()


def test_recipe_for_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("tasks: [rte]\nmodels: {a/b: {recipe_by_task: {colaa: {epochs: 1}}}}\n")
    with pytest.raises(UserError, match=r"models\.a/b\.recipe_by_task: .*'colaa'\. Did you mean 'cola'"):
        main([str(tmp_path / "mine.yaml"), "--results", str(tmp_path / "results"), "--dry-run"])


def test_model_in_test_mode_is_refused(world: World) -> None:
    with pytest.raises(UserError, match=r"--models.*--test-mode"):
        main(world.args("--tasks", "rte", "--models", "a/b"))


def test_unwritable_folder_is_an_error_before_anything_runs(world: World) -> None:
    world.results.write_text("a file")
    with pytest.raises(UserError, match=r"--results .*[Nn]ot a directory"):
        main(world.args("--tasks", "rte"))


def test_switches_of_a_run_can_be_turned_off(tmp_path: Path) -> None:
    flags = ["--no-predict", "--no-length-grouping"]
    _, request = read_options(["--tasks", "rte", *flags, "--test-mode", "--results", str(tmp_path)])
    (run,) = expand(request)
    assert (run.options.predict, run.spec.recipe.length_grouping) == (False, False)


def test_invalid_value_of_a_run_flag_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--tasks", "rte", "--precision", "int8"])
    assert end.value.code == 2
    assert "int8" in capsys.readouterr().err


def test_suite_stands_for_its_tasks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(
        ["--tasks", "glue", "ttc4900", "--models", "a/b", "--seeds", "0", "1", "--results", str(tmp_path), "--dry-run"]
    )
    shown = capsys.readouterr().out
    assert "20 runs: 0 finished, 0 failed, 20 to do" in shown
    assert all(
        name in shown for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ttc4900")
    )


def _planned(*args: str) -> list[str]:
    _, request = read_options([*args, "--test-mode"])
    return [run.task.name for run in expand(request) if run.is_requested]


SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "superglue_rte", "wic", "wsc")


def test_labelled_companions_are_runs_of_their_suite_but_not_in_a_grid() -> None:
    assert _planned("--tasks", "superglue") == [*SUPERGLUE, "axb", "axg"]
    grid = ["--grid", "epochs=1,2"]
    assert set(_planned("--tasks", "superglue", *grid)) == set(SUPERGLUE)


def test_runs_start_from_a_task_of_your_own_which_is_trained_first(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text((load_suite("superglue").folder / "cb.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    _, request = read_options(["--tasks", str(own), "rte", "--init-from", str(own), "--test-mode"])
    first, second = expand(request)
    assert (first.task.name, first.after, second.task.name, second.after) == ("own", None, "rte", first.run_id)


def test_suite_of_your_own_is_named_by_its_folder(tmp_path: Path) -> None:
    source = load_suite("superglue").folder
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("one", "two"):
        text = (source / "cb.yaml").read_text(encoding="utf-8")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"mine: suite\.yaml not found"):
        _planned("--tasks", f"{folder}/")
    (folder / "suite.yaml").write_text("title: Mine\ntasks: [two, one]\n", encoding="utf-8")
    assert _planned("--tasks", f"{folder}/") == ["two", "one"]


@pytest.mark.parametrize("grid", [[], ["--grid", "epochs=1,2"]])
def test_suite_without_a_trained_task_is_refused(tmp_path: Path, grid: list[str]) -> None:
    shutil.copy(load_suite("glue").path_of("ax"), tmp_path / "mine.yaml")
    (tmp_path / "suite.yaml").write_text("title: Mine\ntasks: [mine]\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"no task of {tmp_path}/ is trained"):
        main(["--tasks", f"{tmp_path}/", *grid, "--test-mode", "--results", str(tmp_path / "results")])
