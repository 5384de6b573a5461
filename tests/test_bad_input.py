"""A mistake of the user ends with exit code 2 and a message with value, location and remedy; it leaves no file."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from harness.__main__ import main
from harness.rows.compression import ALWAYS_ALLOWED

Columns = Mapping[str, Sequence[Any]]


class World(NamedTuple):
    """The folder, factories and model that the mistakes are made with."""

    folder: Path
    make_task: Callable[..., Path]
    write_rows: Callable[[Path, Columns], Path]
    model: Path

    def task(self, *args: Any, **keys: Any) -> list[str]:
        return ["--task", str(self.make_task(*args, **keys))]

    def task_with_rows(self, train: Columns) -> list[str]:
        """The arguments for a task with labels no and yes, these training rows and valid validation rows."""
        return self.task({"train": train, "validation": {"text": ["a", "b"], "label": ["no", "yes"]}})

    def task_with_replacement(self, old: str, new: str) -> list[str]:
        """The arguments for a task file in which `old` is replaced."""
        path = self.make_task()
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return ["--task", str(path)]

    def copy_model(self) -> Path:
        return shutil.copytree(self.model, self.folder / "copy")


def _truncated_weights(world: World) -> list[str]:
    copy = world.copy_model()
    (copy / "model.safetensors").write_bytes(b"truncated")
    return [*world.task(), "--model", str(copy)]


def _no_configuration(world: World) -> list[str]:
    copy = world.copy_model()
    (copy / "config.json").unlink()
    return [*world.task(), "--model", str(copy)]


def _two_formats(world: World) -> list[str]:
    for ending in ("csv", "tsv"):
        world.write_rows(world.folder / "data" / "rte" / f"train.{ending}", {"sentence1": ["a"]})
    return ["--task", "rte", "--data", str(world.folder / "data")]


def _wrong_checksum(world: World) -> list[str]:
    world.write_rows(world.folder / "rows.csv", {"text": ["a", "b"], "label": ["no", "yes"]})
    return world.task(
        {},
        source={"file": "rows.csv", "sha256": "0" * 64},
        splits={"train": "all[:1]", "validation": "all[1:]"},
        rows={},
    )


def _shuffled(world: World, seed: int) -> list[str]:
    world.write_rows(world.folder / "rows.csv", {"text": ["a", "b"], "label": ["no", "yes"]})
    return world.task(
        {}, source={"file": "rows.csv", "shuffle": seed}, splits={"train": "all", "validation": "all"}, rows={}
    )


def _own_rows(world: World, name: str, content: bytes | None) -> list[str]:
    """The arguments for a file of rows with this content; None: the file is there already, or never."""
    if content is not None:
        (world.folder / name).write_bytes(content)
    return ["--train-file", str(world.folder / name), "--text-columns", "text"]


def _bomb() -> bytes:
    return gzip.compress(b"text,label\n" + b"a,x\n" * (ALWAYS_ALLOWED // 4), 1)


def _link(world: World, name: str) -> str:
    (world.folder / name).symlink_to(name)
    return name


def _fifo(world: World) -> str:
    os.mkfifo(world.folder / "fifo.csv")
    return str(world.folder / "fifo.csv")


MISTAKES: dict[str, tuple[Callable[[World], list[str]], str]] = {
    # the task
    "unknown task": (lambda w: ["--task", "rtf"], r"--task rtf: .*Did you mean 'rte'\? .*ax, axb"),
    "missing task file": (lambda w: ["--task", f"{w.folder}/none.yaml"], r"--task .*/none\.yaml: file not found"),
    "file that is not YAML": (lambda w: w.task_with_replacement("labels:", "labels: ]"), r"small\.yaml:\d+: .*YAML"),
    "unknown key": (lambda w: w.task(metrik="f1"), r"small\.yaml:\d+: .*'metrik'.*Did you mean 'metrics'\?"),
    "value of a wrong type": (lambda w: w.task(rows="many"), r"small\.yaml:\d+: rows: .*'many'"),
    "unknown metric": (
        lambda w: w.task(metrics="acuracy", main_metrics="acuracy"),
        r"metric 'acuracy'.*accuracy, f1.*Did you mean 'accuracy'\?",
    ),
    "negative seed of the shuffle": (lambda w: _shuffled(w, -1), r"small\.yaml:\d+: source\.shuffle: .*-1"),
    "seed of the shuffle beyond 32 bits": (lambda w: _shuffled(w, 10**20), r"small\.yaml:\d+: source\.shuffle: .*1000"),
    "unknown hyperparameter": (lambda w: w.task(recipe={"epoch": 2}), r"'epoch'.*Did you mean 'epochs'\?"),
    # the command line
    "unknown flag": (lambda w: [*w.task(), "--epoch", "1"], r"--epoch\b[\s\S]*--epochs"),
    "text instead of a number": (lambda w: [*w.task(), "--epochs", "two"], r"--epochs: .*'two'"),
    "number out of range": (lambda w: [*w.task(), "--epochs", "0"], r"--epochs.* 0: .* 1"),
    "model in test mode": (lambda w: [*w.task(), "--test-mode"], r"--model .*: test mode"),
    "device batch that does not divide": (
        lambda w: [*w.task(), "--global-batch-size", "8", "--device-batch-size", "3"],
        r"--device-batch-size 3: .*8.*2 or 4",
    ),
    "more training rows than there are": (lambda w: [*w.task(), "--train-rows", "99"], r"--train-rows 99: small .*16"),
    "more tokens than the model reads": (lambda w: [*w.task(), "--max-length", "65"], r"--max-length 65: .*64 tokens"),
    "holdout of a task that needs none": (
        lambda w: [*w.task(select_on="train"), "--protocol", "holdout"],
        r"--protocol holdout: small .*'train' .*--protocol standard",
    ),
    "unknown tracker": (lambda w: [*w.task(), "--tracker", "notebook"], r"notebook"),
    # the model
    "empty name of a model": (lambda w: [*w.task(), "--model", ""], r"--model: empty"),
    "empty revision": (lambda w: [*w.task(), "--revision", ""], r"--revision: empty"),
    "missing model folder": (lambda w: [*w.task(), "--model", f"{w.folder}/none"], r"--model .*/none: .*not found"),
    "folder without a model": (_no_configuration, r"--model .*/copy: .*config\.json"),
    "damaged weights": (_truncated_weights, r"--model .*/copy: .*\n.*config\.json"),
    "unreachable model": (
        lambda w: [*w.task(), "--model", "org/none"],
        r"--model org/none: .*\n.*HF_ENDPOINT.*--test-mode",
    ),
    "revision of a folder": (lambda w: [*w.task(), "--revision", "v1"], r"--revision v1: .* is a folder"),
    # the rows
    "unreachable rows": (
        lambda w: ["--task", "rte"],
        r"task rte: .*nyu-mll/glue \(rte\).*\n.*HF_ENDPOINT.*--data DIR.*--test-mode",
    ),
    "missing data folder": (lambda w: ["--task", "rte", "--data", f"{w.folder}/none"], r"--data .*/none: .*not found"),
    "data folder without the task": (
        lambda w: ["--task", "rte", "--data", str(w.folder)],
        r"--data .*: .*rte/<split>\.<format>",
    ),
    "two formats of one split": (_two_formats, r"train\.csv and .*train\.tsv"),
    "file with another checksum": (_wrong_checksum, r"rows\.csv: .*checksum.*--data FILE"),
    "missing column": (
        lambda w: w.task_with_rows({"txt": ["a"], "label": ["no"]}),
        r"column 'text' not found in split 'train'.*txt, label.*Did you mean 'txt'\?",
    ),
    "unknown label": (
        lambda w: w.task_with_rows({"text": ["a", "b"], "label": ["no", "yess"]}),
        r"column 'label', row 2 of split 'train': .*'yess'.*no, yes.*Did you mean 'yes'\?",
    ),
    "hidden label": (
        lambda w: w.task_with_rows({"text": ["a", "b"], "label": ["no", "-1"]}),
        r"row 2 of split 'train': .*'-1'.*'predict'",
    ),
    "empty split": (lambda w: w.task_with_rows({"text": [], "label": []}), r"task small: .*'train' is empty"),
    # your own rows
    "decompression bomb": (lambda w: _own_rows(w, "bomb.csv.gz", _bomb()), r"bomb\.csv\.gz: decompression bomb"),
    "compressed file that is cut off": (
        lambda w: _own_rows(w, "rows.csv.gz", gzip.compress(b"text,label\na,x\n" * 99)[:-9]),
        r"rows\.csv\.gz: cannot be decompressed as gz",
    ),
    "integer beyond 64 bits": (
        lambda w: _own_rows(w, "rows.jsonl", f'{{"text": "a", "label": {10**30}}}\n'.encode()),
        r"rows\.jsonl: column 'label' has an integer beyond 64 bits in row 1",
    ),
    "integer of 5,000 digits": (
        lambda w: _own_rows(w, "rows.jsonl", f'{{"text": "a", "label": {"9" * 5000}}}\n'.encode()),
        r"rows\.jsonl: .*line 1",
    ),
    "rows that are nested 100,000 deep": (
        lambda w: _own_rows(w, "rows.jsonl", b"[" * 100_000),
        r"rows\.jsonl: .*line 1",
    ),
    "workbook that is no zip": (lambda w: _own_rows(w, "rows.xlsx", b"PK\3\4"), r"rows\.xlsx: not an \.xlsx workbook"),
    "Parquet that is cut off": (lambda w: _own_rows(w, "rows.parquet", b"PAR1\0\0"), r"rows\.parquet: cannot be read"),
    "encoding of names, not of files": (
        lambda w: [*_own_rows(w, "rows.csv", b"text,label\n"), "--encoding", "idna"],
        r"--encoding 'idna'",
    ),
    "file name that is too long": (lambda w: _own_rows(w, "a" * 5000, None), r"--train-file: .*task name"),
    "task name that is too long": (
        lambda w: [*_own_rows(w, "rows.csv", b"text,label\na,x\n"), "--name", "a" * 300],
        r"--name a+: .*100 bytes",
    ),
    "rows of an unknown user": (
        lambda w: ["--train-file", "~nosuchuser/rows.csv", "--text-columns", "text"],
        r"~nosuchuser/rows\.csv|--train-file.*home directory",
    ),
    "loop of symlinks": (lambda w: _own_rows(w, _link(w, "rows.csv"), None), r"rows\.csv.*([Ll]oop|symbolic links)"),
    "data folder whose name is too long": (
        lambda w: ["--task", "rte", "--data", "a" * 5000],
        r"--data a+\.\.\.: .*too long",
    ),
    "FIFO as data": (lambda w: ["--task", "ttc4900", "--data", _fifo(w)], r"--data .*/fifo\.csv: .*regular file"),
    "data of other columns": (
        lambda w: ["--task", "ttc4900", "--data", str(w.write_rows(w.folder / "rows.csv", {"a": ["b"] * 8}))],
        r"task ttc4900: column 'text' not found",
    ),
    "data of one row": (
        lambda w: ["--task", "ttc4900", "--data", str(w.write_rows(w.folder / "rows.csv", {"text": ["b"]}))],
        r"task ttc4900: (column 'category' not found|split 'train' is empty)",
    ),
    # the machine
    "results below a file": (
        lambda w: [*w.task(), "--results", f"{w.write_rows(w.folder / 'file.csv', {})}/results"],
        r"--results .*/file\.csv/results: .*not a directory",
    ),
}
"""The arguments of each mistake, and a pattern of the flags, values, lines and names in its message."""


def files_in(folder: Path) -> list[Path]:
    """Files of any kind, hidden ones too."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.fixture
def world(tmp_path: Path, make_task: Any, write_rows: Any, tiny_model: Path) -> World:
    return World(tmp_path, make_task, write_rows, tiny_model)


def run_args(world: World, args: list[str]) -> list[str]:
    """The command with --model and --results, unless the arguments have their own."""
    defaults = {"--model": str(world.model), "--results": str(world.folder / "results")}
    return ["run", *args, *(part for flag in defaults if flag not in args for part in (flag, defaults[flag]))]


def run_mistake(world: World, args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Checks the exit code, the output and the results folder; returns the message."""
    with pytest.raises(SystemExit) as end:
        main(args)
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert "Traceback" not in error
    assert files_in(world.folder / "results") == []
    return error


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_reported_and_leaves_no_file(
    name: str, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    mistake, pattern = MISTAKES[name]
    error = run_mistake(world, run_args(world, mistake(world)), capsys)
    assert re.search(pattern, error), error


def test_half_precision_on_a_cpu_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which trains in fp16")
    error = run_mistake(world, run_args(world, [*world.task(), "--precision", "fp16"]), capsys)
    assert re.search(r"--precision fp16: .*--precision bf16", error)


@pytest.mark.parametrize("is_cpu_requested, cause", [(False, "connected 1"), (True, "MASTER_ADDR")])
def test_processes_that_are_not_connected_are_refused(
    is_cpu_requested: bool, cause: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise each of them would write the results. accelerate connects processes on CPUs in another way."""
    from accelerate.state import AcceleratorState

    results = ["--results", str(world.folder / "results")]
    args = ["run", "--task", "rte", "--test-mode", *results] if is_cpu_requested else run_args(world, world.task())
    AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
    with mock.patch.dict(os.environ, {"WORLD_SIZE": "2"}):
        error = run_mistake(world, args, capsys)
    assert "2 processes" in error
    assert cause in error
    assert "ACCELERATE_USE_CPU=yes torchrun --nproc_per_node 2" in error


def test_same_command_without_a_mistake_runs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise something else than the mistakes above would end it."""
    with pytest.raises(SystemExit) as end:
        main(run_args(world, world.task()))
    assert end.value.code == 0, capsys.readouterr().err
    endings = sorted(path.name.split(".", 1)[1] for path in files_in(world.folder / "results"))
    assert endings == ["json", "validation.parquet"]
