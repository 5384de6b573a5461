"""`harness evaluate`: the scores that the run recorded, all labelled splits in one table, and files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.commands import run, run_harness

from harness.facts.tasks import load_task, read_task
from harness.saved_models.bundles import read_bundle

TEXT_FILES = {"metrics.json", "metrics.csv", "errors.csv"}

run_evaluate = partial(run_harness, "evaluate")


def metrics_in(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "metrics.json").read_text())


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two steps in test mode, with the record of its scores."""
    folder = tmp_path_factory.mktemp("rte")
    args = ("--task", "rte", "--test-mode", "--max-steps", 2, "--results", folder)
    run(*args, "--save-model", folder / "model")
    return folder / "model"


@pytest.fixture
def own_task(make_task: Callable[..., Path]) -> Callable[..., Path]:
    """`own_task(texts=..., gold=..., **keys)`: a task with the same 12 rows in train, validation and test."""

    def make(**keys: Any) -> Path:
        texts = keys.pop("texts", [f"w{row} c{row % 3}s0" for row in range(12)])
        gold = keys.pop("gold", ["no", "yes"] * 6)
        rows = {"text": texts, "label": gold}
        return make_task({"train": rows, "validation": rows, "test": rows}, **keys)

    return make


def test_metrics_equal_those_of_the_run(rte: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run_evaluate(rte, "--out", out, "--worst", 3)
    metrics = metrics_in(out)
    assert list(metrics) == ["train", "validation"], "the labels of test are hidden"
    for name, value in read_bundle(rte).record.metrics["validation"].items():
        assert metrics["validation"][name] == pytest.approx(value, abs=1e-6)
    printed = capsys.readouterr().out
    assert re.search(r"^ +train +validation +validation, .*baseline$", printed, re.MULTILINE)
    assert re.search(r"^accuracy( +[\d.]+){3}$", printed, re.MULTILINE)
    error = r"^\d+ +(not_)?entailment +(not_)?entailment +0\.\d{4} +w\d+"
    assert len(re.findall(error, printed, re.MULTILINE)) == 3, "every column on a terminal of 80"
    pictures = {"confusion.svg", "confusion.png"}
    assert {path.name for path in out.iterdir()} == TEXT_FILES | pictures | {
        "calibration.csv",
        "classes.csv",
        "confusion.csv",
    }
    labels = ["entailment", "not_entailment"]
    confusion = lines_of(out / "confusion.csv")
    assert [line["gold"] for line in confusion] == labels
    assert sum(int(line[label]) for line in confusion for label in labels) == 96
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "not_entailment" in (out / "confusion.svg").read_text()
    errors = lines_of(out / "errors.csv")
    assert len(errors) == 3
    assert all(line["gold"] != line["predicted"] and line["text"] and line["pair"] for line in errors)


def test_all_labelled_splits_are_in_one_table(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = own_task(), tmp_path / "out"
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--split", "test", "--out", out)
    printed = capsys.readouterr().out
    assert re.search(r"^ +train +validation +test +test, .*baseline$", printed, re.MULTILINE)
    assert "test: worst errors" in printed
    assert list(metrics_in(out)) == ["train", "validation", "test"]


def test_own_files_are_named_with_data(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_task()
    bundle = make_bundle(read_task(path))
    run_evaluate(bundle, code=2)
    assert re.search(r"bundle: .*train\.csv.* --data", capsys.readouterr().err)
    run_evaluate(bundle, "--data", path.parent / "small", "--only")
    assert "validation: worst errors" in capsys.readouterr().out


def test_holdout_fits_the_temperature_on_the_selection_half_alone(tmp_path: Path) -> None:
    args = ("--task", "rte", "--test-mode", "--max-steps", 2, "--protocol", "holdout", "--results", tmp_path)
    run(*args, "--save-model", tmp_path / "model")
    run_evaluate(tmp_path / "model", "--out", tmp_path / "out")
    lines = lines_of(tmp_path / "out/calibration.csv")
    assert [line["split"] for line in lines] == ["train", "validation", "validation_holdout", "validation_holdout"]
    *plain, fitted = (float(line["temperature"]) for line in lines)
    assert plain == [1, 1, 1] != fitted
    metrics = metrics_in(tmp_path / "out")
    for line in lines[:3]:
        assert float(line["log_loss"]) == pytest.approx(metrics[line["split"]]["loss"], rel=1e-6)


def test_without_holdout_no_temperature_is_fitted(rte: Path, tmp_path: Path) -> None:
    run_evaluate(rte, "--out", tmp_path / "out")
    lines = lines_of(tmp_path / "out/calibration.csv")
    assert [(line["split"], float(line["temperature"])) for line in lines] == [("train", 1), ("validation", 1)]


def test_only_scores_one_split(own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    path, out = own_task(), tmp_path / "out"
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--split", "test", "--only", "--out", out)
    assert list(metrics_in(out)) == ["test"]


def test_regression_has_error_percentiles_and_plots(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gold = [row / 2 for row in range(12)]
    path = own_task(gold=gold, labels=None, metrics=["pearson", "mae"], main_metrics="mae")
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    names = {f"{name}.{form}" for name in ("scatter", "errors") for form in ("svg", "png")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == TEXT_FILES | names
    errors = re.findall(r"^(\d+%|mean) +[-+]\d+\.\d{4} *$", capsys.readouterr().out, re.MULTILINE)
    assert errors == ["0%", "5%", "25%", "50%", "75%", "95%", "100%", "mean"]


def test_label_sets_have_metrics_by_label_and_no_confusion_matrix(
    make_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = dict(problem_type="multi_label_classification", metrics=["f1_micro"], main_metrics="f1_micro")
    rows = {"text": [f"w{row}" for row in range(12)], "label": ["no", "no;yes", ""] * 4}
    path, out = make_task({"train": rows, "validation": rows}, separator=";", **keys), tmp_path / "out"
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--out", out)
    pictures = {"labels.svg", "labels.png"}
    assert {file.name for file in out.iterdir()} == TEXT_FILES | pictures | {"classes.csv"}
    assert [(line["label"], line["rows"]) for line in lines_of(out / "classes.csv")] == [("no", "8"), ("yes", "4")]
    wrong = re.findall(r"^([012]) +(\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert sum(int(rows) for _, rows in wrong) == 12


def test_no_label_of_a_set_is_broken_on_a_terminal(
    make_task: Callable[..., Path],
    make_bundle: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    labels = [f"label-of-topic-{number}" for number in range(8)]
    keys = dict(problem_type="multi_label_classification", labels=labels, separator=";", metrics=["f1_micro"])
    rows = {"text": [f"w{row}" for row in range(8)], "label": [";".join(labels[: row + 1]) for row in range(8)]}
    path = make_task({"train": rows, "validation": rows}, main_metrics="f1_micro", **keys)
    run_evaluate(make_bundle(read_task(path)), "--task", path)
    names = re.findall(r"[\w-]*(?:label|topic)[\w-]*", capsys.readouterr().out.partition("worst errors")[2])
    assert len(names) > 20
    assert set(names) <= set(labels)


def test_gold_rows_can_be_a_sheet_of_a_workbook(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
        for sheet in ("one", "two"):
            pd.DataFrame({"text": ["w1", "w2"], "label": ["no", "yes"]}).to_excel(book, sheet_name=sheet)
    model = make_bundle(read_task(own_task()))
    run_evaluate(model, "--gold", tmp_path / "book.xlsx", code=2)
    run_evaluate(model, "--gold", tmp_path / "book.xlsx#sheet=two")


def test_texts_in_a_file_are_no_formulas(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = own_task(texts=[f"=cmd|' /C calc'!A{row}" for row in range(12)])
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    errors = lines_of(tmp_path / "out/errors.csv")
    assert errors
    assert all(line["text"].startswith("'=cmd") for line in errors)


def test_many_labels_show_the_most_frequent_confusions(
    own_task: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [f"label{number}" for number in range(20)]
    path = own_task(gold=labels[:12], labels=labels)
    run_evaluate(make_bundle(read_task(path)), "--task", path, "--out", tmp_path / "out")
    assert "validation: most frequent confusions" in capsys.readouterr().out
    assert len(lines_of(tmp_path / "out/confusion.csv")) == 20


def test_diagnostic_set_is_scored_by_category(
    make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain"]
    lines = ["\t".join([*columns, "Premise", "Hypothesis", "Label"])]
    for row in range(12):
        cells = ["Quantifiers", "", "Negation" if row % 2 else "", "", "News", f"w{row}", f"c{row % 3}s0"]
        lines.append("\t".join([*cells, ("entailment", "neutral", "contradiction")[row % 3]]))
    (tmp_path / "diagnostic-full.tsv").write_text("\n".join(lines))
    model, out = make_bundle(load_task("mnli")), tmp_path / "out"
    run_evaluate(model, "--task", "ax", "--gold", tmp_path / "diagnostic-full.tsv", "--out", out)
    metrics = metrics_in(out)
    assert list(metrics) == ["gold", "Lexical Semantics", "Logic"], "categories without a row are left out"
    assert set(metrics["Logic"]) == {"loss", "matthews_correlation", "accuracy"}
    assert metrics["Lexical Semantics"] == metrics["gold"], "all rows are of this category"
    assert "Lexical Semantics" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args, message",
    [
        (["--split", "tset"], "--split tset: .*rte.*'test'"),
        (["--split", "test"], "--split test: .*train, validation.*--gold"),
        (
            ["--task", "cola"],
            r"--task cola: .*rte.*\['entailment', 'not_entailment'\].*\['unacceptable', 'acceptable'\]",
        ),
        (["--task", "wnli"], "--task wnli: .*rte"),
        (["--task", "none"], "--task none: "),
        (["--gold", "none.csv"], "--gold none.csv: "),
        (["--gold", "empty.csv"], "empty.csv: .*empty"),
        (["--gold", "rows.csv"], "'sentence1'"),
        (["--gold", "twice.csv"], "--gold twice.csv: duplicate column 'label'"),
        (["--out", "full"], "--out full: .*--overwrite"),
        (["--out", "rows.csv"], "--out rows.csv: this is a file"),
        (["--out", "rows.csv/below"], "--out rows.csv/below: "),
        (["--worst", "-1"], "--worst -1: "),
        (["--data", "none"], "--data none: "),
    ],
)
def test_mistake_is_an_error_that_names_the_flag(
    args: list[str],
    message: str,
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
    (tmp_path / "twice.csv").write_text("sentence1,Label,label\nx,entailment,y\n")
    run_evaluate(rte, *args, code=2)
    assert re.search(message, capsys.readouterr().err)


def test_same_predictions_give_the_same_bytes(rte: Path, tmp_path: Path) -> None:
    run_evaluate(rte, "--only", "--out", tmp_path / "a")
    run_evaluate(rte, "--only", "--out", tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("has_own_metric", [True, False])
def test_metric_of_a_saved_model_that_is_a_program_is_not_run(
    has_own_metric: bool,
    own_task: Callable[..., Path],
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, marker = tmp_path / "own.py", tmp_path / "marker"
    program.write_text(f"open({str(marker)!r}, 'w').close()")
    metrics = ["accuracy"] * has_own_metric + [str(program)]
    task = read_task(own_task(metrics=metrics, main_metrics=str(program)))
    run_evaluate(make_bundle(task), "--cpu", "--data", tmp_path / task.name, code=0 if has_own_metric else 2)
    printed = capsys.readouterr()
    assert "--task" in printed.err
    assert ("accuracy" in printed.out) == has_own_metric
    assert not marker.exists()
