"""A sweep with runs that only pretend: what is run, what is left alone, and that nothing is lost however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_run import command_in

from harness.commands.sweep import main, read_options
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record, read_records
from harness.sweeps.launch import sweep_lock_of
from harness.sweeps.plan import expand
from harness.system.locks import hold_lock, lock_of

ROOT = Path(__file__).resolve().parents[1]

DRIVER = f"""
import sys
from pathlib import Path
from harness.system.exit_codes import exit_code_on_error
from harness.commands.sweep import main
sys.path.append({str(ROOT / "tests")!r})
from fake_run import command_in
with exit_code_on_error():
    main(sys.argv[2:], command_in(Path(sys.argv[1])))
"""


class World(NamedTuple):
    """A results folder, and one that says what befalls each run."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def words(self, *words: str) -> list[str]:
        return [*words, "--test-mode", "--results", str(self.results)]

    def sweep(self, *words: str) -> int:
        """Runs the sweep to its end; its exit code."""

        with pytest.raises(SystemExit) as end:
            main(self.words(*words), command_in(self.folder))
        assert isinstance(end.value.code, int)
        return end.value.code

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Another sweep, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.folder), *self.words(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fate(self, run: str, word: str) -> Path:
        path = self.folder / run
        path.write_text(word)
        return path

    @property
    def starts(self) -> list[str]:
        """`<task>-<seed>` of each run that was started, in order."""
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_start(self, *runs: str) -> None:
        until = time.monotonic() + 60
        while not set(runs) <= set(self.starts):
            assert time.monotonic() < until, self.starts
            time.sleep(0.05)

    def records(self) -> dict[str, RunRecord]:
        found = read_records(self.results / "test-mode")
        assert found.problems == []
        return {f"{record.spec.task}-{record.spec.seed}": record for record in found.records}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_run_is_done_once_and_the_same_command_finds_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--tasks", "rte", "wnli", "--seeds", "0", "1", "--epochs", "2", "--jobs", "2")
    assert world.sweep(*words) == 0
    assert sorted(world.starts) == ["rte-0", "rte-1", "wnli-0", "wnli-1"]
    assert {record.spec.recipe.epochs for record in world.records().values()} == {2}
    assert "4 done, 0 failed, 0 not run" in capsys.readouterr().out
    assert world.sweep(*words) == 0
    assert len(world.starts) == 4
    assert "4 runs: 4 finished, 0 failed, 0 to do" in capsys.readouterr().out
    left = [path.name for path in world.results.rglob(".*")]
    assert left == [], "no lock stays"


def test_jobs_share_the_cores(world: World) -> None:
    cores = len(os.sched_getaffinity(0))
    environment = dict(os.environ)
    try:
        os.environ.pop("OMP_NUM_THREADS", None)
        assert world.sweep("--tasks", "rte", "--jobs", "2") == 0
    finally:
        os.environ.update(environment)
    assert (world.folder / "starts").read_text().split() == ["rte-42", str(max(1, cores // 2))]


def test_dry_run_shows_the_plan_and_starts_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    main(world.words("--tasks", "rte", "cola", "--seeds", "0", "3", "--epochs", "2", "--dry-run"))
    shown = capsys.readouterr().out
    assert "4 runs: 0 finished, 0 failed, 4 to do" in shown
    assert re.search(r"rte +tiny-bert +epochs=2 +0, 3 +\? +no record of this model", shown)
    assert "Of 4 nothing is known" in shown
    assert not world.results.exists()


def test_a_failed_run_leaves_a_record_and_stops_no_other(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("rte-0", "die")
    world.fate("rte-1", "kill")
    world.fate("rte-2", "fail")
    world.fate("rte-3", "diverge")
    words = ("--tasks", "rte", "--seeds", "0", "1", "2", "3", "4")
    assert world.sweep(*words, "--jobs", "2") == 1
    records = world.records()
    assert [records[f"rte-{seed}"].status for seed in range(5)] == ["failed"] * 3 + ["diverged", "ok"]
    assert records["rte-0"].error == "it died and left no record: RuntimeError: it broke in harness/run.py"
    assert "token ***\nRuntimeError" in records["rte-0"].notes[-1]
    assert records["rte-0"].command.startswith("harness/run.py --task rte")
    assert "so far so good" in records["rte-1"].notes[-1]
    assert records["rte-2"].error == "as it was told"
    assert "2 done, 3 failed, 0 not run" in capsys.readouterr().out
    for seed in range(4):
        (world.folder / f"rte-{seed}").unlink()
    before = len(world.starts)
    assert world.sweep(*words) == 1
    assert len(world.starts) == before, "not tried again unasked"
    assert "--retry-failed runs it again" in capsys.readouterr().out
    assert world.sweep(*words, "--retry-failed") == 0
    assert sorted(world.starts[before:]) == ["rte-0", "rte-1", "rte-2"]
    assert world.records()["rte-0"].status == "ok"


def test_two_sweeps_share_the_work(world: World) -> None:
    words = ("--tasks", "rte", "wnli", "--seeds", "0", "1", "2")
    sweeps = [world.start(*words), world.start(*words)]
    printed = [sweep.communicate(timeout=120)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], printed
    assert sorted(world.starts) == sorted(f"{task}-{seed}" for task in ("rte", "wnli") for seed in range(3))
    assert len(world.records()) == 6


def test_a_run_that_somebody_else_has_in_hand_is_waited_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "another sweep or start has rte tiny-bert seed 0 in hand" in printed
    assert sorted(world.starts) == ["rte-0", "rte-1"]


def test_a_run_that_was_started_by_hand_is_no_failure(world: World) -> None:
    _, request = read_options(world.words("--tasks", "rte", "--seeds", "0"))
    (run,) = expand(request, lambda task, model: [{}])
    with hold_lock(lock_of(run.path)):
        mine = world.start("--tasks", "rte", "--seeds", "0", "1")
        world.wait_for_start("rte-1")
    printed, _ = mine.communicate(timeout=60)
    assert mine.returncode == 0, printed
    assert sorted(world.starts) == ["rte-0", "rte-1"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_runs_and_the_same_command_goes_on(world: World, number: int, code: int) -> None:
    fate = world.fate("rte-0", "wait")
    sweep = world.start("--tasks", "rte", "--seeds", "0", "1")
    world.wait_for_start("rte-0")
    sweep.send_signal(number)
    printed, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == code, printed
    assert "the same command goes on" in printed
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
    until = time.monotonic() + 30
    while lock.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert world.records() == {}


def test_what_a_killed_run_left_beside_its_record_is_removed(world: World) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0")
    (path,) = (world.results / "test-mode" / "runs" / "rte").glob("*.json")
    sweep_lock_of(path).touch()
    lock_of(path).touch()
    checkpoint = world.results / "test-mode" / "checkpoints" / "rte" / path.stem / "step-00000007"
    checkpoint.mkdir(parents=True)
    world.sweep("--tasks", "rte", "--seeds", "0")
    assert sorted(entry.name for entry in (world.results / "test-mode").rglob("*") if entry.is_dir()) == [
        *("logs", "rte", "rte", "runs")
    ]
    assert list(path.parent.iterdir()) == [path]


def test_plain_lines_tell_what_happens(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0", "1")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("[0/2] started rte tiny-bert seed 0 on CPU") for line in lines)
    assert any(
        re.match(r"\[1/2\] ok rte tiny-bert seed 0: accuracy 0\.503\d; .*1 done, about \d+ s left", line)
        for line in lines
    )


def test_a_record_that_cannot_be_read_is_named(world: World) -> None:
    world.sweep("--tasks", "rte", "--seeds", "0")
    (path,) = (world.results / "test-mode" / "runs" / "rte").glob("*.json")
    assert read_record(path).status == "ok"
    path.write_text("{")
    with pytest.raises(UserError, match=r"not a readable record.*\n.*Remove the file"):
        main(world.words("--tasks", "rte", "--seeds", "0"))


# -- runs that start from others ---------------------------------------------------------------------------------------

FROM_MNLI = ("--tasks", "rte", "--seeds", "0", "1", "--init-from", "mnli", "--epochs", "1")


def test_a_run_comes_after_the_one_it_starts_from(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.sweep(*FROM_MNLI, "--jobs", "2") == 0
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


def test_weights_that_were_not_kept_are_made_again_when_a_run_needs_them(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.sweep("--tasks", "mnli", "--seeds", "0", "--epochs", "1") == 0
    assert world.sweep("--tasks", "rte", "--seeds", "0", "--init-from", "mnli", "--epochs", "1") == 0
    assert world.starts == ["mnli-0", "mnli-0", "rte-0"]
    assert (
        "again: mnli tiny-bert seed 0: others start from it, and its weights were not kept" in capsys.readouterr().out
    )
    shutil.rmtree(world.results / "test-mode" / "models")
    assert world.sweep("--tasks", "rte", "--seeds", "0", "--init-from", "mnli", "--epochs", "1") == 0
    assert len(world.starts) == 3, "nothing needs them any more"


def test_runs_wait_in_vain_for_one_that_fails(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("mnli-0", "die")
    assert world.sweep(*FROM_MNLI) == 1
    assert "rte-0" not in world.starts
    assert "rte-1" in world.starts
    assert "not run: rte tiny-bert seed 0: the run that it starts from has failed" in capsys.readouterr().out
    before = len(world.starts)
    assert world.sweep(*FROM_MNLI) == 1
    assert len(world.starts) == before
    assert "the run that it starts from has failed before" in capsys.readouterr().out
    (world.folder / "mnli-0").unlink()
    assert world.sweep(*FROM_MNLI, "--retry-failed") == 0
    assert world.starts[before:] == ["mnli-0", "rte-0"]


def test_tasks_that_start_from_each_other_are_told(tmp_path: Path) -> None:
    file = tmp_path / "circle.yaml"
    file.write_text("tasks: {rte: {recipe: {init_from: mnli}}, mnli: {recipe: {init_from: rte}}}")
    with pytest.raises(UserError, match="init_from: rte from mnli from rte: tasks cannot start from each other"):
        main([str(file), "--test-mode", "--results", str(tmp_path), "--dry-run"])


# -- grids -------------------------------------------------------------------------------------------------------------

SEARCH = ("--tasks", "rte", "--seeds", "3", "4", "--grid", "learning_rate=1e-3,4e-3,2e-3")


def test_what_a_grid_chooses_runs_with_every_seed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.sweep(*SEARCH) == 0
    assert world.starts == ["rte-3"] * 3 + ["rte-4"]
    (record,) = (record for name, record in world.records().items() if name == "rte-4")
    assert (record.spec.recipe.learning_rate, record.spec.recipe.protocol) == (4e-3, "holdout")
    assert record.task.report == ["validation_holdout"]
    shown = capsys.readouterr().out
    assert "Grid of 3 points, seed 3" in shown
    assert "chosen is learning_rate=0.004 (learning_rate=0.001: 0.5010; learning_rate=0.004: 0.5040" in shown
    (file,) = (world.results / "test-mode" / "grids").iterdir()
    assert f"stated in {file}" in shown
    assert world.sweep(*SEARCH) == 0
    assert len(world.starts) == 4


def test_choice_by_the_reported_score_is_recorded_as_such(world: World) -> None:
    assert world.sweep(*SEARCH, "--select-on-reported") == 0
    assert {record.spec.recipe.protocol for record in world.records().values()} == {"tuned_on_reported"}


def test_one_choice_for_a_model_holds_for_its_tasks(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--tasks", "rte", "wnli", "--seeds", "3", "--grid", "learning_rate=1e-3,4e-3", "--grid-per", "model")
    assert world.sweep(*words) == 0
    assert len(world.starts) == 4, "the chosen point has run already"
    assert "models:\n  tiny-bert:\n    recipe: {learning_rate: 0.004}" in capsys.readouterr().out


def test_dry_run_of_a_grid_starts_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    main(world.words(*SEARCH, "--dry-run"))
    shown = capsys.readouterr().out
    assert "3 runs: 0 finished, 0 failed, 3 to do" in shown
    assert "Then the chosen points with all seeds, 2 runs with those of the grid among them" in shown
    assert not world.results.exists()


def test_nothing_is_chosen_from_a_grid_with_a_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fate("rte-3", "once")
    assert world.sweep(*SEARCH) == 1
    assert "rte-4" not in world.starts
    assert "none is chosen" in capsys.readouterr().out
    assert world.sweep(*SEARCH, "--retry-failed") == 0
    assert world.starts[-2:] == ["rte-3", "rte-4"]


# -- mistakes ----------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], r"Name the tasks \(--tasks glue\), or a sweep file"),
    "unknown task": (["--tasks", "rtf"], r"there is no task or suite 'rtf'\. Did you mean 'rte'\? Known: glue"),
    "unknown suite": (["--tasks", "gluee"], r"there is no task or suite 'gluee'\. Did you mean 'glue'\?"),
    "no such task file": (["--tasks", "no/such.yaml"], r"no/such\.yaml: there is no such file"),
    "no such model folder": (["--tasks", "rte", "--models", "./none"], r"--model \./none: there is no such folder"),
    "task twice": (["--tasks", "rte", "rte"], "--tasks: 'rte' stands twice"),
    "model twice": (["--tasks", "rte", "--models", "a", "a"], "--models: 'a' stands twice"),
    "seed twice": (["--tasks", "rte", "--seeds", "1", "2", "1"], "--seeds: the seed 1 stands twice"),
    "seed out of range": (["--tasks", "rte", "--seeds", str(2**32)], "--seeds: 4294967296: seeds go from 0"),
    "no jobs": (["--tasks", "rte", "--jobs", "0"], "--jobs 0: give 1 or more"),
    "devices that are not there": (["--tasks", "rte", "--devices-per-run", "2"], "--devices-per-run 2: no GPU"),
    "unknown flag": (["--tasks", "rte", "--epoch", "1"], r"--epoch: neither sweep nor run has .*mean '--epochs'\?"),
    "flag of the sweep's own": (["--tasks", "rte", "--seed", "1"], "--seed: a sweep sets it .* with --seeds"),
    "hyperparameter of a wrong type": (["--tasks", "rte", "--epochs", "two"], "--epochs: epochs is 'two'"),
    "hyperparameter out of range": (["--tasks", "rte", "--epochs", "0"], "--epochs: epochs is '0': .* equal to 1"),
    "hyperparameter without a value": (["--tasks", "rte", "--epochs"], "--epochs: a value is missing"),
    "flag out of range": (
        ["--tasks", "rte", "--device-batch-size", "0"],
        "--device-batch-size 0: a batch has at least 1 row",
    ),
    "grid of an unknown name": (["--tasks", "rte", "--grid", "rate=1,2"], "--grid: there is no hyperparameter 'rate'"),
    "grid with a value of a wrong type": (["--tasks", "rte", "--grid", "epochs=1,x"], "--grid: epochs is 'x'"),
    "grid without values": (["--tasks", "rte", "--grid", "epochs"], "--grid epochs: give a hyperparameter and"),
    "grid of the protocol": (["--tasks", "rte", "--grid", "protocol=holdout"], "protocol: a grid sets it by itself"),
    "grid with a protocol": (["--tasks", "rte", "--grid", "epochs=1", "--protocol", "holdout"], "a grid sets it"),
    "grid of what is given": (["--tasks", "rte", "--grid", "epochs=1", "--epochs", "2"], "--epochs: the grid tries"),
    "grid of what is not trained": (["--tasks", "ax", "--grid", "epochs=1"], "--grid: ax is not trained itself"),
    "choice without a grid": (["--tasks", "rte", "--grid-per", "model"], "there is no grid"),
    "no such sweep file": (["none.yaml"], r"none\.yaml: .*No such file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    words, told = MISTAKES[name]
    with pytest.raises(UserError, match=told):
        main([*words, "--results", str(tmp_path / "results")])
    assert not (tmp_path / "results").exists()


def test_recipe_for_a_task_that_there_is_not_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("tasks: [rte]\nmodels: {a/b: {recipe_by_task: {colaa: {epochs: 1}}}}\n")
    with pytest.raises(UserError, match=r"models\.a/b\.recipe_by_task: there is no task 'colaa'\. Did you mean 'cola'"):
        main([str(tmp_path / "mine.yaml"), "--results", str(tmp_path / "results"), "--dry-run"])


def test_model_in_test_mode_is_refused(world: World) -> None:
    with pytest.raises(UserError, match="--test-mode: test mode brings its own model"):
        main(world.words("--tasks", "rte", "--models", "a/b"))


def test_folder_that_cannot_be_written_is_told_before_anything_runs(world: World) -> None:
    world.results.write_text("a file")
    with pytest.raises(UserError, match=r"--results .*: cannot write there"):
        main(world.words("--tasks", "rte"))


def test_value_that_a_run_does_not_know_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
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
