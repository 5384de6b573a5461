"""`harness reproduce` with runs that only pretend: verdicts, files, and what is refused before anything is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fake_run import command_in, run_here

from harness.api import run
from harness.commands.reproduce import main
from harness.errors import UserError
from harness.facts.published import read_row
from harness.sweeps.file import read_sweep

SCORE = 50.3
"""The accuracy of a run that only pretends, at the learning rate of test mode."""


class World:
    """A row of its own, and a results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.row = self.write("own", SCORE)

    def write(self, name: str, value: float, **keys: Any) -> Path:
        score = {"metric": "accuracy", "split": "validation", "value": value}
        tasks = {
            "rte": {"scores": [score]},
            "qnli": {"scores": [score]},
            "wnli": {"scores": [{**score, "split": "test"}]},
        }
        row = {"model": "org/base", "source": "here", "setting": "3 epochs", "recipe": {"layer_decay": 0.9}}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**row, "tasks": tasks, **keys}), encoding="utf-8")
        return path

    def reproduce(self, *args: str | Path) -> int:
        """Runs the command to its end and returns its exit code."""
        try:
            flags = ("--test-mode", "--results", self.folder / "results")
            main([*map(str, args), *map(str, flags)], command_in(self.folder))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    @property
    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def outcome(self, name: str = "own") -> dict[str, Any]:
        path = self.folder / f"results/test-mode/reproductions/{name}/reproduction.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_runs_agree_and_are_found_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.reproduce(world.row, "--seeds", "2", "--max-jobs", "2") == 0
    assert sorted(world.starts) == ["qnli-0", "qnli-1", "rte-0", "rte-1"]
    assert world.outcome()["tasks"] == {"rte": "agrees", "qnli": "agrees"}
    assert [one["task"] for one in world.outcome()["not_compared"]] == ["wnli"]
    assert "2 of 2 tasks agree within 1 point" in capsys.readouterr().out
    assert world.reproduce(world.row, "--seeds", "3", "--tasks", "rte") == 0
    assert len(world.starts) == 5, "finished runs are used"
    sweep = read_sweep(world.folder / "results/test-mode/reproductions/own/sweep.yaml")
    assert (list(sweep.tasks), sweep.seeds, sweep.tasks["rte"].recipe) == (["rte"], (0, 1, 2), {"layer_decay": 0.9})


def test_another_score_differs(world: World) -> None:
    assert world.reproduce(world.write("high", 60.0), "--seeds", "2", "--tasks", "rte") == 1
    assert world.outcome("high")["tasks"] == {"rte": "differs"}
    assert world.reproduce(world.write("high", 60.0), "--seeds", "2", "--tasks", "rte", "--margin", "10") == 0


def test_a_run_without_a_score_leaves_no_verdict(world: World) -> None:
    (world.folder / "rte-1").write_text("diverge")
    assert world.reproduce(world.row, "--seeds", "2", "--tasks", "rte") == 1
    assert world.outcome()["scores"][0]["reason"] == "1 of 2 runs diverged (seed 1)"


def test_a_variant_has_runs_and_files_of_its_own(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    conflict = {"source": "s", "note": "n", "recipe": {"layer_decay": 0.8}}
    row = world.write("own", SCORE, conflicts={"script": conflict})
    world.reproduce(row, "--seeds", "2", "--tasks", "rte")
    assert "another recipe" not in capsys.readouterr().out
    assert world.reproduce(row, "--seeds", "2", "--tasks", "rte", "--variant", "script") == 0
    assert "another recipe (rte)" in capsys.readouterr().out
    assert len(world.starts) == 4
    assert world.outcome("own-script")["variant"] == "script"


def test_dry_run_says_what_cannot_hold_and_writes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.reproduce(world.row, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "not compared: wnli" in shown
    assert "10 runs: 0 finished, 0 failed, 10 to do" in shown
    assert world.reproduce("roberta-large-lora", "--tasks", "rte", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "±2.5" in shown
    assert "note: " in shown
    assert not (world.folder / "results").exists()


def test_record_of_another_recipe_is_refused(world: World) -> None:
    assert world.reproduce(world.row, "--seeds", "2", "--tasks", "rte") == 0
    path = min((world.folder / "results/test-mode/runs/rte").glob("*.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["spec"]["recipe"]["epochs"] += 1
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match="another recipe"):
        world.reproduce(world.row, "--seeds", "2", "--tasks", "rte")


def test_missing_data_are_named_by_the_dry_run(world: World) -> None:
    args = ["roberta-base", "--tasks", "rte", "--dry-run", "--data", str(world.folder / "no")]
    with pytest.raises(UserError, match="--data"):
        main([*args, "--results", str(world.folder / "results")])


def test_output_folder(world: World) -> None:
    assert world.reproduce(world.row, "--seeds", "2", "--tasks", "rte", "--output", world.folder / "out") == 0
    assert sorted(path.name for path in (world.folder / "out").iterdir()) == [
        "reproduction.json",
        "reproduction.md",
        "sweep.yaml",
    ]


@pytest.mark.parametrize(
    "args, part",
    [
        ([], "missing row"),
        (["roberta-bse"], "'roberta-base'"),
        (["roberta-base", "--seeds", "1"], "--seeds 1"),
        (["roberta-base", "--seeds", "0"], "--seeds 0"),
        (["roberta-base", "--tasks", "wnli"], "--tasks wnli"),
        (["roberta-base", "--variant", "script"], "--variant script"),
        (["roberta-base", "--margin", "0"], "--margin"),
        (["roberta-base", "--margin", "nan"], "--margin"),
        (["roberta-base", "--model", "org/copy"], "--model"),
        (["roberta-base", "--epochs", "3"], "--epochs"),
        (["roberta-base", "--no-length-grouping"], "--no-length-grouping"),
        (["roberta-base", "--grid", "epochs=1,2"], "--grid"),
        (["roberta-base", "--grid-halving"], "--grid-halving: a row"),
        (["roberta-base", "--max-job", "3"], "--max-jobs"),
        (["bert-base-glue-server"], "hidden"),
        (["neobert-4096"], "recipe"),
    ],
)
def test_mistakes_are_named_before_anything_is_run(world: World, args: list[str], part: str) -> None:
    with pytest.raises(UserError) as error:
        world.reproduce(*args)
    assert part in str(error.value)
    assert world.starts == []


def test_best_of_n_needs_n_runs(world: World) -> None:
    row = world.write("best", SCORE, aggregate="best", seeds=3)
    with pytest.raises(UserError, match="--seeds 2"):
        world.reproduce(row, "--seeds", "2")
    assert world.reproduce(row, "--tasks", "rte") == 0
    assert world.starts == ["rte-0", "rte-1", "rte-2"]


def test_metric_that_is_no_percentage_needs_a_margin(world: World) -> None:
    score = {"metric": "mse", "split": "validation", "value": 0.5}
    row = world.write("mse", SCORE, tasks={"stsb": {"scores": [score]}})
    with pytest.raises(UserError, match="--margin"):
        world.reproduce(row)


def test_own_row_is_written_and_repeated(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    conflict = {"source": "s", "note": "n", "recipe": {"layer_decay": 0.8}}
    row = world.write("own", SCORE, conflicts={"script": conflict})
    world.reproduce(row, "--seeds", "3", "--max-jobs", "2")
    path = world.folder / "mine.yaml"
    main(["--write", str(path), "--results", str(world.folder / "results"), "--test-mode"])
    assert f"harness reproduce {path}" in capsys.readouterr().out
    written = read_row(path)
    assert (written.model, written.seeds, list(written.tasks)) == ("tiny-bert", (0, 1, 2), ["qnli", "rte"])
    assert written.tasks["rte"].scores[0].value == SCORE
    before = len(world.starts)
    assert world.reproduce(path) == 0
    assert len(world.starts) == before, "the same runs"
    assert "finished already" in capsys.readouterr().out
    assert world.outcome("mine")["tasks"] == {"qnli": "agrees", "rte": "agrees"}
    with pytest.raises(UserError, match="exists"):
        main(["--write", str(path), "--results", str(world.folder / "results"), "--test-mode"])
    with pytest.raises(UserError, match="--test-mode"):
        main([str(path), "--dry-run", "--results", str(world.folder / "results")])
    world.reproduce(row, "--seeds", "2", "--tasks", "rte", "--variant", "script")
    with pytest.raises(UserError, match="several recipes"):
        main(["--write", str(world.folder / "two.yaml"), "--results", str(world.folder / "results"), "--test-mode"])


def test_real_runs_are_had_again_exactly(tmp_path: Path, make_task: Callable[..., Path], tiny_model: Path) -> None:
    task, row = make_task(), tmp_path / "mine.yaml"
    for seed in (3, 8):
        run(str(task), model=str(tiny_model), seed=seed, epochs=2, results=tmp_path / "first")
    main(["--write", str(row), "--results", str(tmp_path / "first"), "--tasks", str(task)])
    with pytest.raises(SystemExit) as end:
        main([str(row), "--results", str(tmp_path / "second"), "--max-jobs", "2"], run_here)
    assert end.value.code == 0
    content = json.loads((tmp_path / "second/reproductions/mine/reproduction.json").read_text(encoding="utf-8"))
    (score,) = content["scores"]
    assert (score["verdict"], score["is_exact"], [run["seed"] for run in score["runs"]]) == ("agrees", True, [3, 8])


@pytest.mark.parametrize(
    "args, part",
    [
        (["--write", "row.yaml", "--seeds", "3"], "--write"),
        (["row", "--write", "row.yaml"], "--write"),
        (["--write", "row.yaml", "--max-jobs", "3"], "--write"),
        (["--write", "row.txt"], ".yaml"),
        (["--write", "row.yaml", "--results", "nowhere"], "no records"),
    ],
)
def test_mistakes_in_writing_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], part: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main(args)
    assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []
