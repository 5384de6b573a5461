"""Label columns of one's own: several labels a row in every form, worked out and said, and the mistakes in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.commands.tasks import main as tasks_command
from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.requests.identity import identify, resolve_task
from harness.requests.options import parse
from harness.rows.files import find_files
from harness.rows.loading import Split, load_splits, read_tables
from harness.rows.own_data import OwnData, infer_task

Write = Callable[..., Path]

SETS = [["spor"], ["ekonomi", "spor"], [], ["dünya", "ekonomi"]] * 10
TEXTS = [f"text {row}" for row in range(len(SETS))]
NAMES = ["dünya", "ekonomi", "spor"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Paths are relative to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(train: str, **keys: Any) -> OwnData:
    return OwnData(**{"train_file": (train,), "text_columns": "text", **keys})


def splits_of(task: TaskSpec) -> dict[str, Split]:
    return load_splits(task, read_tables(task, find_files(task, None)), "standard", None)


def _switches(name: str) -> list[int]:
    return [int(name in names) for names in SETS]


FORMS: dict[str, tuple[str, dict[str, Sequence[Any]], dict[str, Any]]] = {
    "lists": ("rows.jsonl", {"label": SETS}, {}),
    "lists in Parquet": ("rows.parquet", {"label": SETS}, {}),
    "lists as JSON": ("rows.csv", {"label": [json.dumps(names) for names in SETS]}, {"kind": "multi_label"}),
    "separator worked out": ("rows.csv", {"label": ["|".join(names) for names in SETS]}, {"kind": "multi_label"}),
    "separator said": (
        "rows.tsv",
        {"label": [" / ".join(names) for names in SETS]},
        {"kind": "multi_label", "label_separator": " / "},
    ),
    "a column each": (
        "rows.csv",
        {name: _switches(name) for name in NAMES},
        {"label_column": ",".join(NAMES)},
    ),
    "a column each, of truth": (
        "rows.parquet",
        {name: [value == 1 for value in _switches(name)] for name in NAMES},
        {"label_column": ",".join(NAMES), "kind": "multi_label"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_sets_of_labels_are_the_same_however_they_are_written(form: str, write_rows: Write) -> None:
    path, columns, keys = FORMS[form]
    write_rows(Path(path), {"text": TEXTS, **columns})
    task, told = infer_task(own(path, **keys))
    assert task.is_multi_label
    assert list(task.labels or {}) == NAMES
    assert told[1].startswith("kind: multi_label")
    splits = splits_of(task)
    assert set(splits) == {"train", "validation"}
    for split in splits.values():
        assert split.label is not None
        for text, found in zip(split.text, split.label.tolist(), strict=True):
            names = SETS[int(text.split()[1])]
            assert found == [int(name in names) for name in NAMES]


@pytest.mark.parametrize("form", ["lists", "separator said", "a column each"])
def test_flags_and_the_file_they_write_are_the_same_run(form: str, write_rows: Write) -> None:
    path, columns, keys = FORMS[form]
    write_rows(Path(path), {"text": TEXTS, **columns})
    flags = [word for key, value in keys.items() for word in (f"--{key.replace('_', '-')}", value)]
    words = ["--train-file", path, "--text-columns", "text", *flags]
    tasks_command(["--new", "rows.yaml", *words])
    specs = []
    for given in (words, ["--task", "rows.yaml"]):
        options = parse([*given, "--model", "org/model"])
        task, _ = resolve_task(options)
        specs.append(identify(task, find_files(task, None), options))
    assert specs[0] == specs[1]


def test_validation_rows_have_each_set_in_its_proportion(write_rows: Write) -> None:
    rows = [{"text": f"t{row}", "label": SETS[row % 4]} for row in range(2_000)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    label = splits_of(infer_task(own("rows.jsonl")).task)["validation"].label
    assert label is not None
    assert abs(label.mean(axis=0) * 200 - [50, 100, 100]).max() <= 10


@pytest.mark.parametrize(
    "columns",
    [{}, {"a": [-1, -1], "b": [-1, -1]}, {"a": ["", ""], "b": ["", ""]}],
)
def test_test_file_without_labels_is_predicted(columns: dict[str, Any], write_rows: Write) -> None:
    write_rows(Path("rows.csv"), {"text": TEXTS, "a": _switches("spor"), "b": _switches("ekonomi")})
    write_rows(Path("test.csv"), {"text": ["x", "y"], **columns})
    task = infer_task(own("rows.csv", test_file=("test.csv",), label_column="a,b")).task
    assert task.predict == ("test",)
    assert splits_of(task)["test"].label is None


def test_label_that_no_training_row_has_is_said(write_rows: Write) -> None:
    write_rows(Path("rows.csv"), {"text": TEXTS, "a": _switches("spor"), "b": [0] * len(TEXTS)})
    assert (
        "no training row has b: nothing can be learned about it" in infer_task(own("rows.csv", label_column="a,b"))[1]
    )


def test_class_names_of_a_data_set_are_names_of_sets_too() -> None:
    import datasets

    from harness.rows.label_inference import answers_of

    feature = datasets.Features({"label": datasets.Sequence(datasets.ClassLabel(names=["low", "high"]))})
    table = datasets.Dataset.from_dict({"label": [[0], [0, 1], []]}, features=feature)
    assert answers_of(table, ["label"], None, None).known == ["high", "low"]


def _lists(*labels: Any, **keys: Any) -> OwnData:
    rows = (json.dumps({"text": f"t{row}", "label": label}) for row, label in enumerate(labels))
    Path("rows.jsonl").write_text("\n".join(rows))
    return own("rows.jsonl", **keys)


def _words(*labels: str, **keys: Any) -> OwnData:
    Path("rows.csv").write_text("text,label\n" + "".join(f't{n},"{label}"\n' for n, label in enumerate(labels)))
    return own("rows.csv", problem_type="multi_label_classification", **keys)


def _columns(*values: str, **keys: Any) -> OwnData:
    Path("rows.csv").write_text("text,a,b\n" + "".join(f"t{n},{value},1\n" for n, value in enumerate(values)))
    return own("rows.csv", label_column="a,b", **keys)


def _beside(label: Any) -> OwnData:
    Path("more.jsonl").write_text(json.dumps({"text": "m", "label": label}))
    return _lists(["x"], ["y"], ["x", "y"], validation_file=("more.jsonl",))


BAD: dict[str, tuple[Callable[[], OwnData], str]] = {
    "one label only": (lambda: _lists(["x"], ["x"], []), r"the training rows have 1 label; two or more are needed"),
    "no label at all": (lambda: _lists([], [], []), r"the training rows have 0 label"),
    "null in place of a list": (
        lambda: _lists(["x"], None, ["x", "y"]),
        r"1 of 3 training rows have no value, the first is row 2\. A row without labels has an empty text or list",
    ),
    "null in a list": (lambda: _lists(["x", None], ["y"]), r"a row has an empty label in its list"),
    "empty name in a list": (lambda: _lists(["x", " "], ["y"]), r"a row has an empty label in its list"),
    "nothing that separates": (lambda: _words("x", "y", "x"), r"no row has more than one label by any of \| ; ,"),
    "separator that no label row has": (
        lambda: _words("x;y", "x", "x", label_separator="|"),
        r"--label-separator '\|': it stands in no training row of 'label'",
    ),
    "switch that is none": (
        lambda: _columns(*["1", "0"] * 9, "yes"),
        r"column 'a' in row \d+ of split '\w+' is 'yes'; where each label has a column, it holds 0 or 1",
    ),
    "switch above one": (lambda: _columns(*["1", "0"] * 9, "2"), r"is '2'; where each label has a column"),
    "switch that is empty": (
        lambda: _columns(*["1", "0"] * 9, ""),
        r"column 'a' in row \d+ of split '\w+' is ''; where each label has a column",
    ),
    "several columns of a single label": (
        lambda: _columns("0", "1", kind="single_label_classification"),
        r"--problem-type single_label: several label columns are a multi_label task",
    ),
    "no such label column": (
        lambda: own("rows.csv", label_column="a,c", train_file=_columns("0", "1").train_file),
        r"--label-column: train has no column 'c'; its columns: text, a, b",
    ),
    "label that train does not have": (
        lambda: _beside(["x", "z"]),
        r"column 'label' in row 1 of split 'validation' is 'z', not one of the labels x, y",
    ),
    "text in place of a list": (lambda: _beside("x"), r"not a list of labels\. .*'separator: \";\"'"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistake_is_told(name: str) -> None:
    make, told = BAD[name]
    with pytest.raises(UserError) as error:
        splits_of(infer_task(make()).task)
    assert re.search(told, str(error.value)), str(error.value)
