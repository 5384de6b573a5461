"""Evaluation: the numbers that the run recorded, every labelled split side by side, tables and pictures as files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.facts.tasks import load_task, read_task
from harness.run import main as run
from harness.saved_models.bundles import read_bundle

TABLES = {"metrics.json", "metrics.csv", "mistakes.csv"}


def call(*words: Any, code: int = 0) -> None:
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        main(["evaluate", *map(str, words)])
    assert not code or (ended is not None and ended.value.code == code)


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two steps in test mode, with the record of its scores."""
    place = tmp_path_factory.mktemp("rte")
    words = ["--task", "rte", "--test-mode", "--max-steps", "2", "--results", str(place)]
    with pytest.raises(SystemExit):
        run([*words, "--save-model", str(place / "kept")])
    return place / "kept"


@pytest.fixture
def own(make_task: Callable[..., Path]) -> Callable[..., Path]:
    """A task with a train, validation and test split of 12 rows, labels and texts as told."""

    def make(**changes: Any) -> Path:
        texts = [f"w{row} c{row % 3}s0" for row in range(12)]
        rows = {
            "text": changes.pop("texts", texts),
            "label": changes.pop("gold", [("no", "yes")[r % 2] for r in range(12)]),
        }
        return make_task(dict.fromkeys(["train", "validation", "test"], rows), **changes)

    return make


def test_numbers_are_those_of_the_run(rte: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(rte, "--out", tmp_path / "out", "--worst", 3)
    told = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(told) == ["train", "validation"], "the labels of test are hidden"
    for name, value in read_bundle(rte).record.metrics["validation"].items():
        assert told["validation"][name] == pytest.approx(value, abs=1e-6)
    printed = capsys.readouterr().out
    assert re.search(r"^ +train +validation +validation, constant answer$", printed, re.MULTILINE)
    assert re.search(r"^accuracy( +[\d.]+){3}", printed, re.MULTILINE)
    assert "validation: gold (down) and predicted (across)" in printed
    mistake = r"^\d+ +(not_)?entailment +(not_)?entailment +0\.\d{4} +w\d+"
    assert len(re.findall(mistake, printed, re.MULTILINE)) == 3, "every column on a terminal of 80"
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES | {
        "classes.csv",
        "confusion.csv",
        "confusion.svg",
        "confusion.png",
    }
    with (tmp_path / "out/confusion.csv").open(newline="") as file:
        (_, *labels), *rows = csv.reader(file)
    assert labels == ["entailment", "not_entailment"]
    assert sum(int(cell) for row in rows for cell in row[1:]) == 96
    assert (tmp_path / "out/confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "not_entailment" in (tmp_path / "out/confusion.svg").read_text()
    with (tmp_path / "out/mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    assert len(mistakes) == 3
    assert all(row["gold"] != row["predicted"] and row["text"] and row["pair"] for row in mistakes)


def test_train_validation_and_test_stand_side_by_side(
    own: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own()
    call(make_bundle(read_task(path)), "--task", path, "--split", "test", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert re.search(r"^ +train +validation +test +test, constant answer$", printed, re.MULTILINE)
    assert "test: each label" in printed
    assert list(json.loads((tmp_path / "out/metrics.json").read_text())) == ["train", "validation", "test"]


def test_own_rows_are_asked_for_and_found_by_the_names_of_their_files(
    own: Callable[..., Path], make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = own()
    kept = make_bundle(read_task(path))
    call(kept, code=2)
    assert re.search(r"kept: was trained on the user's own train\.csv, .* with --data", capsys.readouterr().err)
    call(kept, "--data", path.parent / "small", "--only")
    assert "validation: each label" in capsys.readouterr().out


def test_one_split_only_where_that_is_asked(
    own: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = own()
    call(make_bundle(read_task(path)), "--task", path, "--split", "test", "--only", "--out", tmp_path / "out")
    assert list(json.loads((tmp_path / "out/metrics.json").read_text())) == ["test"]


def test_regression_has_errors_and_a_scatter_plot(
    own: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own(gold=[row / 2 for row in range(12)], labels=None, metrics=["pearson", "mae"], main_metrics="mae")
    call(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    names = {f"{name}.{form}" for name in ("scatter", "errors") for form in ("svg", "png")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == TABLES | names
    assert "validation: predicted minus gold, by percentile" in capsys.readouterr().out


def test_texts_that_are_formulas_are_none_in_a_file(
    own: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = own(texts=[f"=cmd|' /C calc'!A{row}" for row in range(12)])
    call(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    with (tmp_path / "out/mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(row["text"].startswith("'=cmd") for row in rows)


def test_many_labels_show_what_is_mixed_up_most(
    own: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [f"label{number}" for number in range(20)]
    path = own(gold=[labels[row % 20] for row in range(12)], labels=labels)
    call(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    assert "validation: mixed up most often" in capsys.readouterr().out
    with (tmp_path / "out/confusion.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 21


def test_gold_labels_of_the_diagnostic_set_are_scored_by_category(
    make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain"]
    lines = ["\t".join([*columns, "Premise", "Hypothesis", "Label"])]
    for row in range(12):
        cells = ["Quantifiers", "", "Negation" if row % 2 else "", "", "News", f"w{row}", f"c{row % 3}s0"]
        lines.append("\t".join([*cells, ("entailment", "neutral", "contradiction")[row % 3]]))
    (tmp_path / "diagnostic-full.tsv").write_text("\n".join(lines))
    model = make_bundle(load_task("mnli"))
    call(model, "--task", "ax", "--gold", tmp_path / "diagnostic-full.tsv", "--out", tmp_path / "out")
    told = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(told) == ["gold", "Lexical Semantics", "Logic"], "categories without a row are left out"
    assert set(told["Logic"]) == {"loss", "matthews_correlation", "accuracy"}
    assert told["Lexical Semantics"] == told["gold"], "all rows are of this category"
    assert "Lexical Semantics" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--split", "tset"], r"--split tset: the task rte has no such split\. Did you mean 'test'\?"),
        (
            ["--split", "test"],
            r"--split test: the labels of this split are hidden\. Labelled: train, validation; --gold",
        ),
        (
            ["--task", "cola"],
            r"--task cola: the model was trained on rte, which has other labels: \['entailment', 'not",
        ),
        (["--task", "wnli"], "--task wnli: the model was trained on rte, which has other labels"),
        (["--task", "none"], "--task none: task not found"),
        (["--gold", "none.csv"], "--gold none.csv: there is no such file"),
        (["--gold", "empty.csv"], "empty.csv: the file is empty"),
        (["--gold", "rows.csv"], "column 'sentence1' not found"),
        (["--out", "full"], "--out full: the folder is not empty; --overwrite replaces files in it"),
        (["--out", "rows.csv"], "--out rows.csv: this is a file; name a folder"),
        (["--out", "rows.csv/below"], "--out rows.csv/below: cannot be written"),
        (["--worst", "-1"], "--worst -1: give 0 or more"),
        (["--data", "none"], "--data none: file or folder not found"),
    ],
)
def test_mistake_is_told(
    words: list[str],
    told: str,
    rte: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "rows.csv").write_text("a,label\nx,entailment\n")
    call(rte, *words, code=2)
    assert re.search(told, capsys.readouterr().err)


def test_same_answers_give_the_same_pictures(rte: Path, tmp_path: Path) -> None:
    call(rte, "--only", "--out", tmp_path / "a")
    call(rte, "--only", "--out", tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
