"""Every mistake of a user's ends with code 2, says what is wrong, where and what to do, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.__main__ import main

Columns = Mapping[str, Sequence[Any]]


class World(NamedTuple):
    """What a mistake is made of."""

    folder: Path
    make_task: Callable[..., Path]
    write_rows: Callable[[Path, Columns], Path]
    model: Path

    def task(self, *args: Any, **keys: Any) -> list[str]:
        return ["--task", str(self.make_task(*args, **keys))]

    def rows(self, train: Columns) -> list[str]:
        """Of a task on texts and labels no and yes, whose validation rows are sound."""
        return self.task({"train": train, "validation": {"text": ["a", "b"], "label": ["no", "yes"]}})

    def spoilt_task(self, old: str, new: str) -> list[str]:
        path = self.make_task()
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return ["--task", str(path)]

    def copy_of_model(self) -> Path:
        return shutil.copytree(self.model, self.folder / "copy")


def _cut_off_weights(world: World) -> list[str]:
    copy = world.copy_of_model()
    (copy / "model.safetensors").write_bytes(b"cut off")
    return [*world.task(), "--model", str(copy)]


def _no_configuration(world: World) -> list[str]:
    copy = world.copy_of_model()
    (copy / "config.json").unlink()
    return [*world.task(), "--model", str(copy)]


def _two_formats(world: World) -> list[str]:
    for ending in ("csv", "tsv"):
        world.write_rows(world.folder / "given" / "rte" / f"train.{ending}", {"sentence1": ["a"]})
    return ["--task", "rte", "--data", str(world.folder / "given")]


def _wrong_checksum(world: World) -> list[str]:
    world.write_rows(world.folder / "rows.csv", {"text": ["a", "b"], "label": ["no", "yes"]})
    return world.task(
        {},
        source={"file": "rows.csv", "sha256": "0" * 64},
        splits={"train": "all[:1]", "validation": "all[1:]"},
        rows={},
    )


MISTAKES: dict[str, tuple[Callable[[World], list[str]], str]] = {
    # the task
    "unknown task": (lambda w: ["--task", "rtf"], r"--task rtf: .*Did you mean 'rte'\? .*ax, cola"),
    "no such task file": (
        lambda w: ["--task", f"{w.folder}/none.yaml"],
        r"--task .*/none\.yaml: file not found",
    ),
    "file that is not YAML": (lambda w: w.spoilt_task("labels:", "labels: ]"), r"small\.yaml:\d+: invalid YAML"),
    "unknown key": (lambda w: w.task(metrik="f1"), r"small\.yaml:\d+: unknown key 'metrik'\. Did you mean 'metrics'\?"),
    "value of a wrong type": (lambda w: w.task(rows="many"), r"small\.yaml:\d+: rows: .*\(got 'many'\)"),
    "unknown metric": (
        lambda w: w.task(metrics="acuracy", main_metrics="acuracy"),
        r"metric 'acuracy' is none of ours \(accuracy, f1, .*Did you mean 'accuracy'\?",
    ),
    "unknown hyperparameter": (lambda w: w.task(recipe={"epoch": 2}), r"'epoch'\. Did you mean 'epochs'\?"),
    # the command line
    "unknown flag": (lambda w: [*w.task(), "--epoch", "1"], r"--epoch\b[\s\S]*--epochs"),
    "number that is none": (lambda w: [*w.task(), "--epochs", "two"], r"Error parsing --epochs: .*'two'"),
    "number out of range": (lambda w: [*w.task(), "--epochs", "0"], r"--epochs\) is 0: .* greater than or equal to 1"),
    "model in test mode": (
        lambda w: [*w.task(), "--test-mode"],
        r"--model: test mode brings its own .*leave out --model",
    ),
    "device batch that does not divide": (
        lambda w: [*w.task(), "--global-batch-size", "8", "--device-batch-size", "3"],
        r"--device-batch-size 3: expected a divisor of 8.*2 or 4",
    ),
    "more training rows than there are": (
        lambda w: [*w.task(), "--train-rows", "99"],
        r"--train-rows 99: small .* 16 training rows",
    ),
    "more tokens than the model reads": (
        lambda w: [*w.task(), "--max-length", "65"],
        r"--max-length 65: this model reads 64 tokens at most",
    ),
    "holdout of a task that needs none": (
        lambda w: [*w.task(select_on="train"), "--protocol", "holdout"],
        r"--protocol holdout: small .*'train' .*--protocol standard",
    ),
    "unknown tracker": (lambda w: [*w.task(), "--tracker", "notebook"], r"notebook"),
    # the model
    "no such model folder": (
        lambda w: [*w.task(), "--model", f"{w.folder}/none"],
        r"--model .*/none: folder not found",
    ),
    "folder without a model": (_no_configuration, r"--model .*/copy: .*config\.json"),
    "damaged weights": (_cut_off_weights, r"--model .*/copy: cannot be loaded: .*\nThe folder must hold config\.json"),
    "model that cannot be reached": (
        lambda w: [*w.task(), "--model", "org/none"],
        r"--model org/none: cannot be loaded: .*\n.*HF_ENDPOINT.*--test-mode",
    ),
    "revision of a folder": (
        lambda w: [*w.task(), "--revision", "v1"],
        r"--revision v1: .* is a folder",
    ),
    # the rows
    "rows that cannot be reached": (
        lambda w: ["--task", "rte"],
        r"task rte: cannot load nyu-mll/glue \(rte\) from the Hub: .*\n.*HF_ENDPOINT.*--data DIR.*--test-mode",
    ),
    "no such data folder": (
        lambda w: ["--task", "rte", "--data", f"{w.folder}/none"],
        r"--data .*/none: file or folder not found",
    ),
    "data folder without the task": (
        lambda w: ["--task", "rte", "--data", str(w.folder)],
        r"--data .*: .*rte/<split>\.<format>",
    ),
    "two formats of one split": (_two_formats, r"train\.csv and .*train\.tsv"),
    "file with another checksum": (
        _wrong_checksum,
        r"rows\.csv: wrong checksum: .*--data FILE",
    ),
    "no such column": (
        lambda w: w.rows({"txt": ["a"], "label": ["no"]}),
        r"column 'text' not found in split 'train'; .*txt, label\. Did you mean 'txt'\?",
    ),
    "unknown label": (
        lambda w: w.rows({"text": ["a", "b"], "label": ["no", "yess"]}),
        r"column 'label', row 2 of split 'train': unknown label 'yess'; labels: no, yes\. Did you mean 'yes'\?",
    ),
    "hidden label": (
        lambda w: w.rows({"text": ["a", "b"], "label": ["no", "-1"]}),
        r"row 2 of split 'train': hidden label \('-1'\).*'predict'",
    ),
    "empty split": (lambda w: w.rows({"text": [], "label": []}), r"task small: split 'train' is empty"),
    # the machine
    "results below a file": (
        lambda w: [*w.task(), "--results", f"{w.write_rows(w.folder / 'file.csv', {})}/results"],
        r"--results .*/file\.csv/results: .*\(Not a directory\)",
    ),
}


def left_behind(results: Path) -> list[Path]:
    """Files of any kind, hidden ones too."""
    return [path for path in results.rglob("*") if not path.is_dir()]


@pytest.fixture
def world(tmp_path: Path, make_task: Any, write_rows: Any, tiny_model: Path) -> World:
    return World(tmp_path, make_task, write_rows, tiny_model)


def words_of(world: World, mistake: Callable[[World], list[str]]) -> list[str]:
    """The command, with the tiny model and a results folder where the mistake does not lie there."""
    words = mistake(world)
    given = {"--model": str(world.model), "--results": str(world.folder / "results")}
    return ["run", *words, *(word for flag in given if flag not in words for word in (flag, given[flag]))]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_and_leaves_nothing_behind(
    name: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    mistake, told = MISTAKES[name]
    words = words_of(world, mistake)
    with pytest.raises(SystemExit) as end:
        main(words)
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert re.search(told, error), error
    assert "Traceback" not in error
    assert left_behind(world.folder / "results") == []


def test_half_precision_on_a_cpu_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which trains in fp16")
    with pytest.raises(SystemExit) as end:
        main(words_of(world, lambda w: [*w.task(), "--precision", "fp16"]))
    assert end.value.code == 2
    assert "--precision fp16: CPUs train in bf16 or fp32 only; use --precision bf16" in capsys.readouterr().err
    assert left_behind(world.folder / "results") == []


def test_processes_that_are_not_connected_are_refused(world: World) -> None:
    """Each would take itself for the only one and write the results."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words_of(world, World.task)],
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "error: 2 processes were started, but accelerate connected 1" in done.stderr
    assert "torchrun --nproc_per_node 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(world.folder / "results") == []


def test_same_command_without_the_mistake_runs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Or the mistakes above would not be what ends it."""
    with pytest.raises(SystemExit) as end:
        main(words_of(world, World.task))
    assert end.value.code == 0, capsys.readouterr().err
    endings = sorted(path.name.split(".", 1)[1] for path in left_behind(world.folder / "results"))
    assert endings == ["json", "validation.parquet"]
