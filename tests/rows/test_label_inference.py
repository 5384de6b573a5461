"""Label columns of your own rows: several labels per row in every format, inferred, and invalid ones refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.own_rows import own, spec_of, splits_of

from harness.commands.tasks import main as tasks_command
from harness.errors import UserError
from harness.rows.label_inference import infer_labels
from harness.rows.own_data import OwnData
from harness.rows.own_task import infer_task

Write = Callable[..., Path]

SETS = [["spor"], ["ekonomi", "spor"], [], ["dünya", "ekonomi"]] * 10
TEXTS = [f"text {row}" for row in range(len(SETS))]
NAMES = ["dünya", "ekonomi", "spor"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Paths are relative to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _binary(name: str) -> list[int]:
    return [int(name in names) for names in SETS]


FORMATS: dict[str, tuple[str, dict[str, Sequence[Any]], dict[str, Any]]] = {
    "lists": ("rows.jsonl", {"label": SETS}, {}),
    "lists in Parquet": ("rows.parquet", {"label": SETS}, {}),
    "lists as JSON": (
        "rows.csv",
        {"label": [json.dumps(names) for names in SETS]},
        {"problem_type": "multi_label_classification"},
    ),
    "inferred separator": (
        "rows.csv",
        {"label": ["|".join(names) for names in SETS]},
        {"problem_type": "multi_label_classification"},
    ),
    "separator of the flag": (
        "rows.tsv",
        {"label": [" / ".join(names) for names in SETS]},
        {"problem_type": "multi_label_classification", "label_separator": " / "},
    ),
    "one column per label": ("rows.csv", {name: _binary(name) for name in NAMES}, {"label_column": ",".join(NAMES)}),
    "one boolean column per label": (
        "rows.parquet",
        {name: [value == 1 for value in _binary(name)] for name in NAMES},
        {"label_column": ",".join(NAMES), "problem_type": "multi_label_classification"},
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_label_sets_are_the_same_in_every_format(form: str, write_rows: Write) -> None:
    path, columns, keys = FORMATS[form]
    write_rows(Path(path), {"text": TEXTS, **columns})
    task, messages = infer_task(own(path, **keys))
    assert task.is_multi_label
    assert list(task.labels) == NAMES
    assert messages[1].startswith("problem type: multi_label_classification")
    splits = splits_of(task)
    assert set(splits) == {"train", "validation"}
    for split in splits.values():
        for text, label_set in zip(split.text, split.label.tolist(), strict=True):
            names = SETS[int(text.split()[1])]
            assert label_set == [int(name in names) for name in NAMES]


@pytest.mark.parametrize("form", ["lists", "separator of the flag", "one column per label"])
def test_flags_and_the_task_file_of_the_same_flags_are_the_same_run(form: str, write_rows: Write) -> None:
    path, columns, keys = FORMATS[form]
    write_rows(Path(path), {"text": TEXTS, **columns})
    flags = [arg for key, value in keys.items() for arg in (f"--{key.replace('_', '-')}", value)]
    args = ["--train-file", path, "--text-columns", "text", *flags]
    tasks_command(["--new", "rows.yaml", *args])
    assert spec_of(*args) == spec_of("--task", "rows.yaml")


def test_validation_rows_have_each_label_set_in_its_proportion(write_rows: Write) -> None:
    rows = [{"text": f"t{row}", "label": SETS[row % 4]} for row in range(2_000)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    label = splits_of(infer_task(own("rows.jsonl")).task)["validation"].label
    assert abs(label.mean(axis=0) * 200 - [50, 100, 100]).max() <= 10


@pytest.mark.parametrize("columns", [{}, {"a": [-1, -1], "b": [-1, -1]}, {"a": ["", ""], "b": ["", ""]}])
def test_test_file_without_labels_is_predicted(columns: dict[str, Any], write_rows: Write) -> None:
    write_rows(Path("rows.csv"), {"text": TEXTS, "a": _binary("spor"), "b": _binary("ekonomi")})
    write_rows(Path("test.csv"), {"text": ["x", "y"], **columns})
    task = infer_task(own("rows.csv", test_file=("test.csv",), label_column="a,b")).task
    assert task.predict == ("test",)
    assert splits_of(task)["test"].label is None


def test_label_twice_in_a_row_counts_as_one_row(write_rows: Write) -> None:
    write_rows(Path("rows.csv"), {"text": TEXTS[:4], "label": ["a|a", "a", "b|a|b", ""]})
    messages = infer_task(own("rows.csv", problem_type="multi_label_classification", validation_percent=50)).messages
    assert any("a (3), b (1)" in message for message in messages)


def test_texts_that_combine_labels_get_the_flag_that_reads_them_as_sets(write_rows: Write) -> None:
    flag = "--problem-type multi_label_classification"

    def messages(*labels: str) -> str:
        write_rows(Path("rows.csv"), {"text": TEXTS, "label": labels * 10})
        return "\n".join(infer_task(own("rows.csv")).messages)

    assert flag in messages("spor", "ekonomi|spor", "ekonomi", "dünya|ekonomi")
    assert flag not in messages("Paris, France", "Lyon, France", "Rome, Italy", "Bonn")
    with pytest.raises(UserError, match=f"10 of 40 training rows have no label: row 3, .*{flag}"):
        messages("spor", "ekonomi|spor", "", "ekonomi")


def test_label_without_training_rows_is_reported(write_rows: Write) -> None:
    write_rows(Path("rows.csv"), {"text": TEXTS, "a": _binary("spor"), "b": [0] * len(TEXTS)})
    messages = infer_task(own("rows.csv", label_column="a,b")).messages
    assert any("without training rows" in message and message.endswith(": b") for message in messages)


def test_class_names_of_a_dataset_are_names_in_label_sets_too() -> None:
    feature = datasets.Features({"label": datasets.Sequence(datasets.ClassLabel(names=["low", "high"]))})
    table = datasets.Dataset.from_dict({"label": [[0], [0, 1], []]}, features=feature)
    assert infer_labels(table, ["label"], None, None).names == ["high", "low"]


def _lists(*labels: Any, **keys: Any) -> OwnData:
    rows = (json.dumps({"text": f"t{row}", "label": label}) for row, label in enumerate(labels))
    Path("rows.jsonl").write_text("\n".join(rows))
    return own("rows.jsonl", **keys)


def _texts(*labels: str, **keys: Any) -> OwnData:
    Path("rows.csv").write_text("text,label\n" + "".join(f't{n},"{label}"\n' for n, label in enumerate(labels)))
    return own("rows.csv", problem_type="multi_label_classification", **keys)


def _columns(*values: str, **keys: Any) -> OwnData:
    Path("rows.csv").write_text("text,a,b\n" + "".join(f"t{n},{value},1\n" for n, value in enumerate(values)))
    return own("rows.csv", label_column="a,b", **keys)


def _with_validation(label: Any) -> OwnData:
    Path("more.jsonl").write_text(json.dumps({"text": "m", "label": label}))
    return _lists(["x"], ["y"], ["x", "y"], validation_file=("more.jsonl",))


BAD: dict[str, tuple[Callable[[], OwnData], str]] = {
    "one label": (lambda: _lists(["x"], ["x"], []), r"--label-column label: expected two labels or more .*got 1\."),
    "no label": (lambda: _lists([], [], []), r"--label-column label: expected two labels or more .*got 0\."),
    "null instead of a list": (
        lambda: _lists(["x"], None, ["x", "y"]),
        r"1 of 3 training rows have no value, .* row 2\. .*empty text or list",
    ),
    "null in a list": (lambda: _lists(["x", None], ["y"]), r"empty label"),
    "empty name in a list": (lambda: _lists(["x", " "], ["y"]), r"empty label"),
    "list in a list": (lambda: _lists([["x"]], [["x"], ["y"]]), r"expected a list of labels in row 1, got \[\['x'\]\]"),
    "vectors of 0 and 1": (
        lambda: _lists([0, 1, 0], [0, 0, 0], [1, 1, 0]),
        r"--label-column label: vectors of 0 and 1, such as \[0, 1, 0\]: .*one column",
    ),
    "vectors of 0 and 1 as JSON": (
        lambda: _texts("[0.0, 1.0, 0.0]", "[1.0, 0.0, 0.0]"),
        r"--label-column label: vectors of 0 and 1, such as \[0\.0, 1\.0, 0\.0\]",
    ),
    "no separator": (lambda: _texts("x", "y", "x"), r"separated by one of \| ; ,\..*--label-separator"),
    "separator that no row has": (
        lambda: _texts("x;y", "x", "x", label_separator="|"),
        r"--label-separator '\|': not found in any training row of 'label'",
    ),
    "text in a column of 0 and 1": (
        lambda: _columns(*["1", "0"] * 9, "yes"),
        r"column 'a', row \d+ of split '\w+': expected 0 or 1, got 'yes'",
    ),
    "2 in a column of 0 and 1": (lambda: _columns(*["1", "0"] * 9, "2"), r"expected 0 or 1, got '2'"),
    "empty text in a column of 0 and 1": (
        lambda: _columns(*["1", "0"] * 9, ""),
        r"column 'a', row \d+ of split '\w+': expected 0 or 1, got ''",
    ),
    "several columns of a single label": (
        lambda: _columns("0", "1", problem_type="single_label_classification"),
        r"--problem-type single_label_classification: .*multi_label_classification",
    ),
    "missing label column": (
        lambda: own("rows.csv", label_column="a,c", train_file=_columns("0", "1").train_file),
        r"--label-column: column 'c' not found in train; its columns: text, a, b",
    ),
    "label that no training row has": (
        lambda: _with_validation(["x", "z"]),
        r"column 'label', row 1 of split 'validation': unknown label 'z'; labels: x, y",
    ),
    "text instead of a list": (lambda: _with_validation("x"), r"expected a list .*'separator: \";\"'"),
}


@pytest.mark.parametrize("make, message", BAD.values(), ids=BAD)
def test_invalid_input_is_refused(make: Callable[[], OwnData], message: str) -> None:
    with pytest.raises(UserError) as error:
        splits_of(infer_task(make()).task)
    assert re.search(message, str(error.value)), str(error.value)
