"""Describing rows: counts, lengths, what stands twice and what contradicts itself, on the terminal and as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.__main__ import main
from harness.engine.test_mode import tables
from harness.facts.tasks import TaskSpec, all_tasks, load_task
from harness.inspection.description import TOKEN_LEVELS, described
from harness.inspection.description_plots import label_bars, label_pie
from harness.rows.loading import Split, load_splits, shared_texts


def call(*words: Any, code: int = 0) -> None:
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        main(["describe", *map(str, words)])
    assert not code or (ended is not None and ended.value.code == code)


def seen(task: TaskSpec, splits: dict[str, Split], lengths: dict[str, Any] | None = None) -> Any:
    return described(task, splits, shared_texts(splits), lengths or {}, "model", 8)


@pytest.fixture
def rows(make_task: Callable[..., Path], tiny_model: Path) -> Path:
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


def test_everything_is_told_on_the_terminal_and_in_files(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("--task", rows, "--out", tmp_path / "out")
    told = json.loads((tmp_path / "out/description.json").read_text())
    train, test = told["splits"]["train"], told["splits"]["test"]
    assert train["counts"] == {"a": 4, "b": 2, "c": 0}
    assert (train["rows"], train["repeated"], train["empty"]) == (6, 1, 1)
    assert (test["counts"], test["rows"]) == (None, 2)
    lengths = train["lengths"]  # with the two tokens at the ends: 4, 3, 4, 2 + "=w4", 5, 2
    assert lengths["percentiles"]["100"] == 5
    assert (lengths["cut_rows"], lengths["cut_tokens"]) == (1, 1)
    assert told["shared_texts"] == {"train & validation": 1, "validation & test": 1}
    assert (told["conflicting_texts"], told["conflicting_rows"]) == (1, 3)
    assert told["hints"][-1] == "train: no row has 'c'; rows of validation do"
    assert [each["label"] for each in train["examples"]] == ["a", "b", "b"]
    conflicts = pd.read_csv(tmp_path / "out/conflicts.csv")
    assert conflicts[["split", "row", "label"]].to_numpy().tolist() == [
        ["train", 1, "a"],
        ["train", 3, "b"],
        ["validation", 1, "c"],
    ]
    pictures = {f"{name}.{form}" for name in ("labels-bars", "labels-pie", "lengths") for form in ("svg", "png")}
    tables = {"description.json", "labels.csv", "lengths.csv", "conflicts.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == pictures | tables
    printed = capsys.readouterr().out
    assert "1 texts in 3 rows have several labels" in printed
    assert "a / b / c" in printed
    assert "hidden" in printed


@pytest.mark.parametrize("name", ["stsb", "mnli", "ax"])
def test_any_task_is_described_in_test_mode(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("--task", name, "--test-mode", "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "examples" in printed
    assert ("values, by percentile" in printed) == (name == "stsb")
    assert (tmp_path / "values.svg").is_file() == (name == "stsb")
    assert (tmp_path / "labels-pie.svg").is_file() == (name == "mnli")


def test_own_data_with_several_labels_a_row(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], write_rows: Callable[..., Path]
) -> None:
    sets = [["x"], ["x", "y"], []] * 20
    write_rows(tmp_path / "mine.jsonl", {"text": [f"w{row % 30}" for row in range(60)], "label": sets})
    words = ["--train-file", tmp_path / "mine.jsonl", "--text-columns", "text", "--model", tiny_model]
    call(*words, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "kind: multi_label" in printed
    assert "rows that have each label" in printed
    told = json.loads((tmp_path / "out/description.json").read_text())
    splits = told["splits"].values()
    assert sum(each["counts"]["x"] for each in splits) == 40
    assert {size: sum(each["set_sizes"].get(size, 0) for each in splits) for size in "012"} == {
        "0": 20,
        "1": 20,
        "2": 20,
    }
    assert not (tmp_path / "out/labels-pie.svg").exists()
    assert told["conflicting_texts"] == 0, "rows 30 apart have the same set"


def test_sets_and_values_contradict_each_other_too() -> None:
    sets = load_task("rte").model_copy(update={"kind": "multi_label"})
    gold = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.int8)
    found = seen(sets, {"train": Split(["t", "t", "u", "u"], ["p", "p", "p", "p"], gold)}).conflicts
    assert [(c.text, c.pair) for c in found] == [("u", "p")]
    assert [label for *_, label in found[0].places] == [["not_entailment"], []]
    split = Split(["t", "t", "t"], ["p", "p", "q"], np.array([1.0, 2.5, 3.0]))
    (conflict,) = seen(load_task("stsb"), {"train": split}).conflicts
    assert conflict.places == [("train", 1, 1.0), ("train", 2, 2.5)]


def test_lengths_are_counted_before_they_are_cut() -> None:
    split = Split(["t"] * 100, ["p"] * 100, np.zeros(100, np.int64))
    facts = seen(load_task("rte"), {"train": split}, {"train": np.arange(1, 101)}).splits["train"]
    assert facts.repeated == 99
    assert facts.lengths.percentiles == {level: level for level in TOKEN_LEVELS}
    assert (facts.lengths.cut_rows, facts.lengths.cut_tokens) == (92, sum(range(1, 93)))
    assert facts.lengths.tokens == 5050


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.name)
def test_counts_of_every_registered_task_add_up(task: TaskSpec) -> None:
    found = seen(task, load_splits(task, tables(task), "standard", None))
    for name, facts in found.splits.items():
        assert (facts.counts is None and facts.values is None) == (name in task.predict)
        assert len(facts.examples) == 3
        if facts.counts:
            assert sum(facts.counts.values()) == facts.rows


def test_many_labels_are_drawn_as_the_most_frequent_and_the_others() -> None:
    counts = {f"l{number}$_$": number for number in range(1, 78)}
    pie = label_pie(counts, "Many")["svg"].decode()
    assert "l77$_$: 77 (2.6%)" in pie
    assert "68 others: 2,346 (78.1%)" in pie
    bars = label_bars({"train": counts}, {"train": 3003}, "Many")["svg"].decode()
    assert "40 most frequent of" in bars
    assert ">l77$_$<" in bars
    assert ">l37$_$<" not in bars


def test_model_that_nobody_named_and_cannot_be_had_is_a_note(
    make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_task(model=str(tmp_path / "none"))
    call("--task", path)
    printed = capsys.readouterr().out
    assert "note: tokens are not counted. --model " in printed
    assert "rows by label" in printed
    call("--task", path, "--model", tmp_path / "none", code=2)


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "--task: name a task, or --train-file"),
        (["--task", "rtf"], "Did you mean 'rte'?"),
        (["--task", "rte", "--train-file", "a.csv"], "--task rte: the rows are told by --train-file"),
        (["--task", "rte", "--test-mode", "--model", "x"], "--model: test mode brings its own"),
        (["--task", "rte", "--test-mode", "--max-length", "0"], "--max-length 0: a row has at least 1 token"),
        (["--task", "rte", "--test-mode", "--out", __file__], "this is a file; name a folder"),
        (["--task", "rte", "--data", "none"], "--data none: file or folder not found"),
    ],
)
def test_mistake_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    call(*words, code=2)
    assert told in capsys.readouterr().err
