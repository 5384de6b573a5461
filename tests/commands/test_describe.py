"""`harness describe`: counts, lengths, duplicates and contradictory labels, on the terminal and as files."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.commands import run_harness

from harness.engine.test_mode import tables
from harness.facts.tasks import TaskSpec, all_tasks, load_task
from harness.inspection.description import TOKEN_PERCENTS, Description, describe_rows
from harness.inspection.pictures import label_bars, label_pie
from harness.rows.loading import load_splits, shared_texts
from harness.rows.splits import Split

run_describe = partial(run_harness, "describe")


def describe(task: TaskSpec, splits: dict[str, Split], tokens: dict[str, Any] | None = None) -> Description:
    return describe_rows(task, splits, shared_texts(splits), tokens or {}, "model", 8)


@pytest.fixture
def task_file(make_task: Callable[..., Path], tiny_model: Path) -> Path:
    """Three labels; a text twice in train, once more in validation, each time with another label."""
    train = {"text": ["w1 w2", "w3", "w1 w2", "=w4", "w5 w6 w7", " "], "label": ["a", "b", "b", "a", "a", "a"]}
    validation = {"text": ["w1 w2", "w9"], "label": ["c", "b"]}
    test = {"text": ["w9", "w8"], "label": ["", ""]}
    return make_task(
        {"train": train, "validation": validation, "test": test},
        labels=["a", "b", "c"],
        predict="test",
        model=str(tiny_model),
        recipe={"max_length": 4},
    )


def test_terminal_and_files_have_all_facts(task_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_describe("--task", task_file, "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out/description.json").read_text())
    train, test = facts["splits"]["train"], facts["splits"]["test"]
    assert train["counts"] == {"a": 4, "b": 2, "c": 0}
    assert (train["rows"], train["repeated"], train["empty"]) == (6, 1, 1)
    assert (test["counts"], test["rows"]) == (None, 2)
    lengths = train["lengths"]  # with the two special tokens: 4, 3, 4, 2 + "=w4", 5, 2
    assert lengths["percentiles"]["100"] == 5
    assert (lengths["cut_rows"], lengths["cut_tokens"]) == (1, 1)
    assert facts["shared_texts"] == {"train & validation": 1, "validation & test": 1}
    assert (facts["conflicting_texts"], facts["conflicting_rows"]) == (1, 3)
    assert re.search("train: .*'c': 0, .*validation", facts["notes"][-1])
    assert [example["label"] for example in train["examples"]] == ["a", "b", "b"]
    conflicts = pd.read_csv(tmp_path / "out/conflicts.csv")
    assert conflicts[["split", "row", "label"]].to_numpy().tolist() == [
        ["train", 1, "a"],
        ["train", 3, "b"],
        ["validation", 1, "c"],
    ]
    pictures = {f"{name}.{form}" for name in ("labels-bars", "labels-pie", "lengths") for form in ("svg", "png")}
    texts = {"description.json", "labels.csv", "lengths.csv", "conflicts.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == pictures | texts
    printed = capsys.readouterr().out
    assert "1 text in 3 rows" in printed
    assert re.search("train 1 +3 +a / b / c +w1 w2", printed)
    assert re.search("1 +hidden +w9", printed)


@pytest.mark.parametrize("name", ["stsb", "mnli", "ax"])
def test_any_task_is_described_in_test_mode(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_describe("--task", name, "--test-mode", "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "examples" in printed
    assert ("values, by percentile" in printed) == (name == "stsb")
    assert (tmp_path / "values.svg").is_file() == (name == "stsb")
    assert (tmp_path / "labels-pie.svg").is_file() == (name == "mnli")


def test_percentiles_of_small_labels_are_not_folded(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], write_rows: Callable[..., Path]
) -> None:
    rows = {"text": [f"w{row % 30} w{row}" for row in range(60)], "label": [row / 1e6 for row in range(1, 61)]}
    path = write_rows(tmp_path / "mine.jsonl", rows)
    run_describe("--train-file", path, "--text-columns", "text", "--model", tiny_model)
    table = capsys.readouterr().out.partition("values, by percentile")[2]
    assert re.search(r"^ +train +validation *$\n^0% +\d\.\d\de-06 +\d\.\d\de-0\d *$", table, re.MULTILINE)
    assert re.search(r"^sd +\d\.\d\de-05 +\d\.\d\de-0\d *$", table, re.MULTILINE)


def test_own_data_with_label_sets_is_described_by_set_size(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], write_rows: Callable[..., Path]
) -> None:
    sets = [["x"], ["x", "y"], []] * 20
    path = write_rows(tmp_path / "mine.jsonl", {"text": [f"w{row % 30}" for row in range(60)], "label": sets})
    out = tmp_path / "out"
    run_describe("--train-file", path, "--text-columns", "text", "--model", tiny_model, "--out", out)
    assert "multi_label_classification" in capsys.readouterr().out
    facts = json.loads((out / "description.json").read_text())
    splits = facts["splits"].values()
    assert sum(split["counts"]["x"] for split in splits) == 40
    assert [sum(split["set_sizes"].get(size, 0) for split in splits) for size in "012"] == [20, 20, 20]
    assert not (out / "labels-pie.svg").exists()
    assert facts["conflicting_texts"] == 0, "rows 30 apart have the same set"


def test_conflicts_of_label_sets_and_values_are_listed() -> None:
    multi_label = load_task("rte").model_copy(update={"problem_type": "multi_label_classification"})
    gold = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.int8)
    (conflict,) = describe(multi_label, {"train": Split(["t", "t", "u", "u"], ["p"] * 4, gold)}).conflicts
    assert (conflict.text, conflict.pair) == ("u", "p")
    assert conflict.rows == [("train", 3, ["not_entailment"]), ("train", 4, [])]
    split = Split(["t", "t", "t"], ["p", "p", "q"], np.array([1.0, 2.5, 3.0]))
    (conflict,) = describe(load_task("stsb"), {"train": split}).conflicts
    assert conflict.rows == [("train", 1, 1.0), ("train", 2, 2.5)]


def test_conflict_in_most_rows_comes_first() -> None:
    texts = ["few", "few", "many", "many", "many", "same", "same"]
    train = Split(texts, ["p"] * 7, np.array([0, 1, 0, 0, 1, 1, 1]))
    assert [conflict.text for conflict in describe(load_task("rte"), {"train": train}).conflicts] == ["many", "few"]


def test_lengths_are_counted_before_truncation() -> None:
    split = Split(["t"] * 100, ["p"] * 100, np.zeros(100, np.int64))
    facts = describe(load_task("rte"), {"train": split}, {"train": np.arange(1, 101)}).splits["train"]
    assert facts.repeated == 99
    assert facts.lengths is not None
    assert facts.lengths.percentiles == {percent: percent for percent in TOKEN_PERCENTS}
    assert (facts.lengths.cut_rows, facts.lengths.cut_tokens) == (92, sum(range(1, 93)))
    assert facts.lengths.tokens == 5050


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.name)
def test_counts_of_every_registered_task_add_up(task: TaskSpec) -> None:
    description = describe(task, load_splits(task, tables(task), "standard", None))
    for name, facts in description.splits.items():
        assert facts.is_labelled == (name not in task.predict)
        assert len(facts.examples) == 3
        if facts.counts:
            assert sum(facts.counts.values()) == facts.rows


def test_pictures_of_many_labels_show_the_most_frequent() -> None:
    counts = {f"l{number}$_$": number for number in range(1, 78)}
    pie = label_pie(counts, "Many")["svg"].decode()
    assert "l77$_$: 77 (2.6%)" in pie
    assert "68 others: 2,346 (78.1%)" in pie
    bars = label_bars({"train": counts}, {"train": 3003}, "Many")["svg"].decode()
    assert "40 most frequent of" in bars
    assert ">l77$_$<" in bars
    assert ">l37$_$<" not in bars


def test_default_model_that_cannot_be_loaded_is_a_note(
    make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_task(model=str(tmp_path / "none"))
    run_describe("--task", path)
    printed = capsys.readouterr().out
    assert re.search("^note: .*none", printed, re.MULTILINE)
    assert "rows by label" in printed
    run_describe("--task", path, "--model", tmp_path / "none", code=2)


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "--task.*--train-file"),
        (["--task", "rtf"], "rtf.*'rte'"),
        (["--task", "rte", "--train-file", "a.csv"], "--task rte: --train-file"),
        (["--task", "rte", "--test-mode", "--model", "x"], "--model x: --test-mode"),
        (["--task", "rte", "--test-mode", "--max-length", "0"], "--max-length 0"),
        (["--task", "rte", "--test-mode", "--max-length", "1" + "0" * 20], "--max-length 10+: .*1,000,000,000"),
        (["--task", "rte", "--test-mode", "--out", __file__], "--out .*: this is a file"),
        (["--task", "rte", "--data", "none"], "--data none: "),
    ],
)
def test_mistake_is_an_error_that_names_the_flag(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_describe(*args, code=2)
    assert re.search(message, capsys.readouterr().err)


def test_unreachable_hub_is_told_at_once(task_file: Path) -> None:
    """Without the check, the tokenizer of the default model is tried for a minute and a half."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    offline = {"HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in offline}
    command = [sys.executable, "-m", "harness", "describe", "--task", task_file, "--model", "nobody/nothing"]
    done = subprocess.run(
        command, env={**environment, "HF_ENDPOINT": url}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"{url} cannot be reached" in done.stdout
