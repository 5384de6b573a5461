"""Your own rows: what the flags omit is inferred and printed, and invalid input is refused with its row."""

from __future__ import annotations

import gzip
import json
import os
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from support.own_rows import own, spec_of, splits_of

from harness.commands.tasks import main as tasks_command
from harness.errors import UserError
from harness.facts.tasks import TaskSpec, read_task
from harness.requests.options import parse_options
from harness.rows import loading
from harness.rows.files import file_hash, find_files
from harness.rows.label_inference import MAX_LABELS
from harness.rows.loading import read_tables
from harness.rows.own_data import OWN_DATA_FLAGS, OwnData
from harness.rows.own_task import infer_task

Write = Callable[..., Path]

ROWS = 40
TEXTS = [f"text {row}" for row in range(ROWS)]
LABELS = [("good ", "bad")[row % 2] for row in range(ROWS)]
GOOD = "text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Paths are relative to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_label_with_a_line_break_imitates_no_other_message(write_rows: Write) -> None:
    rows = {"text": TEXTS, "label": [("good", "bad\nlabels: other")[row % 2] for row in range(ROWS)]}
    write_rows(Path("train.jsonl"), rows)
    inferred = infer_task(own("train.jsonl"))
    assert "bad\nlabels: other" in inferred.task.labels
    assert any("bad\\u000alabels: other" in message for message in inferred.messages)
    assert not any("\n" in message for message in inferred.messages)


def task_of(rows: dict[str, Sequence[Any]], write_rows: Write, ending: str = "jsonl", **keys: Any) -> TaskSpec:
    write_rows(Path(f"train.{ending}"), rows)
    return infer_task(own(f"train.{ending}", **keys)).task


# -- problem type and labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
@pytest.mark.parametrize(
    "labels, expected",
    [
        (["b", "a"], {"a": 0, "b": 1}),
        ([10, 2, 1], {"1": 1, "2": 2, "10": 10}),
        ([-1, 1, 0], {"-1": -1, "0": 0, "1": 1}),
        (["Ç", "ç", "I", "ı"], {"I": 0, "Ç": 1, "ç": 2, "ı": 3}),
        ([" b ", "a", "b"], {"a": 0, "b": 1}),
    ],
)
def test_labels_are_those_of_the_training_rows_in_order(
    write_rows: Write, ending: str, labels: list[Any], expected: dict[str, Any]
) -> None:
    column = [labels[row % len(labels)] for row in range(ROWS)]
    task = task_of({"text": TEXTS, "label": column}, write_rows, ending)
    assert list(task.labels.items()) == list(expected.items())
    assert task.metrics[:2] == ("accuracy", "f1_macro")
    names = [str(label).strip() for label in column]
    for split in splits_of(task).values():
        assert [list(expected)[number] for number in split.label] == [
            names[int(text.split()[1])] for text in split.text
        ]


@pytest.mark.parametrize(
    "labels, names",
    [
        ([date(2026, 1, 31), date(2026, 2, 1)], ["2026-01-31", "2026-02-01"]),
        ([Decimal("1.50"), Decimal("2.50")], ["1.50", "2.50"]),
        ([0.5, 1.5], ["0.5", "1.5"]),
        ([1.0, 2.0], ["1", "2"]),
        ([2**63, 2**63 + 1], [str(2**63), str(2**63 + 1)]),
    ],
    ids=["dates", "decimals", "fractions", "whole numbers", "64 bits without a sign"],
)
def test_labels_of_any_type_are_read_as_they_are_inferred(labels: list[Any], names: list[str]) -> None:
    values = [labels[row % 2] for row in range(ROWS)]
    column = pa.array(values, pa.uint64() if labels[0] == 2**63 else None)
    pq.write_table(pa.table({"text": TEXTS, "label": column}), "train.parquet")
    task = infer_task(own("train.parquet", problem_type="single_label_classification")).task
    assert list(task.labels) == names
    assert set(splits_of(task)["train"].label) == {0, 1}


def test_label_may_be_a_part_of_an_object(write_rows: Write) -> None:
    meta = [{"label": label.strip(), "other": 1} for label in LABELS]
    write_rows(Path("train.jsonl"), {"text": TEXTS, "meta": meta})
    write_rows(Path("test.jsonl"), {"text": [f"t{text}" for text in TEXTS], "meta": meta})
    task = infer_task(own("train.jsonl", test_file=("test.jsonl",), label_column="meta.label")).task
    label = splits_of(task)["test"].label
    assert [list(task.labels)[number] for number in label] == [label.strip() for label in LABELS]


def test_digits_that_are_no_number_are_a_name() -> None:
    digits = "9" * 5000
    Path("train.csv").write_text("text,label\n" + "".join(f"{text},{digits}\n{text}!,1\n" for text in TEXTS))
    task = infer_task(own()).task
    assert task.labels == {"1": "1", digits: digits}
    assert set(splits_of(task)["train"].label) == {0, 1}


def test_names_that_look_like_numbers_are_not_class_numbers(write_rows: Write) -> None:
    task = task_of(
        {"text": TEXTS, "label": [("01", "2", "x", "10")[row % 4] for row in range(ROWS)]}, write_rows, "csv"
    )
    assert task.labels == {"01": "01", "10": "10", "2": "2", "x": "x"}


def test_label_is_the_same_in_both_unicode_forms_and_keeps_its_case(write_rows: Write) -> None:
    forms = [unicodedata.normalize(form, "sağlık") for form in ("NFC", "NFD")] + ["Sağlık", "İ", "i"]
    task = task_of({"text": TEXTS, "label": [forms[row % 5] for row in range(ROWS)]}, write_rows)
    assert set(task.labels) == {unicodedata.normalize("NFC", form) for form in forms}


@pytest.mark.parametrize(
    "labels, problem_type",
    [
        ([0.5, 1, 2.25], "regression"),
        (["0.5", "1", "2.25"], "regression"),
        ([1.0, 2.0, 5.0], "single_label_classification"),
        ([True, False], "single_label_classification"),
        (["null", "NA"], "single_label_classification"),
        (list(range(30)), "regression"),
        (list(range(21)), "regression"),
        (list(range(20)), "single_label_classification"),
        (["1", "2", "?"], "single_label_classification"),
    ],
)
def test_problem_type_is_inferred_from_the_label_column(
    write_rows: Write, labels: list[Any], problem_type: str
) -> None:
    write_rows(Path("train.parquet"), {"text": TEXTS, "label": [labels[row % len(labels)] for row in range(ROWS)]})
    task, messages = infer_task(own("train.parquet"))
    assert task.is_regression == (problem_type == "regression")
    assert any(message.startswith(f"problem type: {problem_type}") for message in messages)


def test_problem_type_of_the_flag_wins(write_rows: Write) -> None:
    rows = {"text": TEXTS, "label": [row % 5 for row in range(ROWS)]}
    assert task_of(rows, write_rows, problem_type="regression").is_regression
    assert not task_of(
        {**rows, "label": [row / 4 % 2 for row in range(ROWS)]}, write_rows, problem_type="single_label_classification"
    ).is_regression


def test_class_names_of_a_dataset_keep_its_order() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a", "x"])}
    )
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": [row % 2 for row in range(ROWS)]}, features=features)
    pq.write_table(table.data.table, "train.parquet")
    task, messages = infer_task(own("train.parquet"))
    assert list(task.labels) == ["z", "a"]
    assert any(message.endswith("left out: x") for message in messages)


# -- texts and columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx"])
def test_texts_stay_as_they_are_in_every_format(write_rows: Write, ending: str) -> None:
    unusual = ["null", "NA", "nan", "I", "İ", "ı", "i̇", " padded ", 'a "q" b', "two\nlines", "a,b\tc;d"]
    texts = [*unusual, "1.50", "007", "#N/A"] * 3
    task = task_of({"text": texts, "label": [("x", "y")[row % 2] for row in range(len(texts))]}, write_rows, ending)
    assert sorted(text for split in splits_of(task).values() for text in split.text) == sorted(texts)


def test_several_text_columns_are_one_text_and_a_pair_is_two(write_rows: Write) -> None:
    rows = {"title": [f"t{row}" for row in range(ROWS)], "body": ["" if row == 3 else f"b{row}" for row in range(ROWS)]}
    rows |= {"other": [f"o{row}" for row in range(ROWS)], "label": LABELS}
    write_rows(Path("train.csv"), rows)
    task = infer_task(own(text_columns="title, body", pair_column="other")).task
    assert (task.text, task.join) == (("title+body", "other"), {"title+body": ("title", "body")})
    splits = splits_of(task)
    pairs = {first: second for split in splits.values() for first, second in zip(split.text, split.pair, strict=True)}
    assert len(pairs) == ROWS
    assert (pairs["t7\nb7"], pairs["t3"]) == ("o7", "o3")


def test_unused_columns_may_have_mixed_types(write_rows: Write) -> None:
    write_rows(Path("train.jsonl"), {"text": TEXTS, "label": LABELS, "meta": [1, "a"] * (ROWS // 2)})
    assert infer_task(own("train.jsonl")).task.rows["train"] > 0


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiter_is_inferred_from_the_header(delimiter: str, folder: Path) -> None:
    Path("train.csv").write_text(GOOD.replace(",", delimiter))
    task, messages = infer_task(own())
    assert task.source.delimiter == delimiter
    assert any(message.startswith(f"delimiter: {delimiter!r}") for message in messages)
    assert sum(len(split.text) for split in splits_of(task).values()) == ROWS


@pytest.mark.parametrize("first", ["sep=;\r\n", "\ufeffsep=;\n", '"sep=;"\n', "sep=\t\n"])
def test_first_line_that_excel_writes_names_the_delimiter(first: str, folder: Path) -> None:
    delimiter = "\t" if "\t" in first else ";"
    Path("train.csv").write_text(first + GOOD.replace(",", delimiter) + "one more\n", newline="")
    with pytest.raises(UserError, match=rf"row {ROWS + 1} \(line {ROWS + 3}\) has 1"):
        infer_task(own())
    Path("train.csv").write_text(first + GOOD.replace(",", delimiter), newline="")
    Path("test.csv").write_text("sep=|\n" + GOOD.replace(",", "|").replace("text ", "t "))
    task = infer_task(own(test_file=("test.csv",))).task
    assert task.source.delimiter == delimiter
    assert {name: split.text[0] for name, split in splits_of(task).items() if name != "validation"} == {
        "train": "text 0",
        "test": "t 0",
    }


@pytest.mark.parametrize("encoding", ["iso-8859-9", "cp1254", "utf-16", "utf-8-sig"])
def test_encoding_is_that_of_the_flag_or_of_the_byte_order_mark(encoding: str) -> None:
    Path("train.csv").write_bytes(GOOD.replace("text ", "ağaç şu ").encode(encoding))
    flag = None if encoding.startswith("utf") else encoding
    task = infer_task(own(encoding=flag, text_columns="text")).task
    assert splits_of(task)["train"].text[0].startswith("ağaç şu ")
    assert task.source.encoding == (flag and flag.replace("iso-8859-9", "iso8859-9"))


# -- files -------------------------------------------------------------------------------------------------------------


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_other_formats_may_be_compressed_too(write_rows: Write, ending: str) -> None:
    path = write_rows(Path(f"train.{ending}"), {"text": TEXTS, "label": LABELS})
    Path(f"p.{ending}.gz").write_bytes(gzip.compress(path.read_bytes()))
    _zip(Path("p.zip"), {f"deep/rows.{ending}": path.read_bytes()})
    for name in (f"p.{ending}.gz", "p.zip"):
        assert sum(infer_task(own(name)).task.rows.values()) == ROWS


@pytest.mark.parametrize("references", [("part-1.csv", "part-2.csv"), ("part-*.csv",), ("**/part-*.csv",)])
def test_rows_of_several_files_follow_each_other(references: tuple[str, ...]) -> None:
    lines = GOOD.splitlines(keepends=True)
    Path("part-1.csv").write_text("".join(lines[:21]))
    Path("part-2.csv").write_text("".join([lines[0], *lines[21:]]))
    task = infer_task(OwnData(train_file=references, text_columns="text", name="mine")).task
    files = find_files(task, None)
    whole = task.model_copy(update={"splits": {"train": "train"}})
    assert list(loading.read_tables(whole, files).by_split["train"]["text"]) == TEXTS


def test_sheet_is_chosen_by_name() -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for name in ("first", "second"):
        sheet = book.create_sheet(name)
        for row in [["text", "label"], *zip(TEXTS, LABELS, strict=True), [None, None]]:
            sheet.append([f"{name} {cell}" if cell in TEXTS else cell for cell in row])
    book.save("book.xlsx")
    keys: Any = dict(validation_file=("book.xlsx#sheet=second",))
    task = infer_task(own("book.xlsx#sheet=first", **keys)).task
    assert task.rows == {"train": ROWS, "validation": ROWS}
    assert splits_of(task)["validation"].text[0] == "second text 0"


def test_test_file_without_labels_is_predicted(write_rows: Write) -> None:
    Path("train.csv").write_text(GOOD)
    for rows in (
        {"text": ["a", "b"]},
        {"text": ["a", "b"], "label": ["", ""]},
        {"text": ["a", "b"], "label": [-1, -1]},
    ):
        write_rows(Path("test.csv"), rows)
        task = infer_task(own(test_file=("test.csv",))).task
        assert (task.predict, task.report) == (("test",), ("validation",))
        assert splits_of(task)["test"].label is None
    write_rows(Path("test.csv"), {"text": ["a", "b"], "label": ["good", "bad"]})
    task = infer_task(own(test_file=("test.csv",))).task
    assert (task.predict, task.evaluate, task.report) == ((), ("validation", "test"), ("test",))


# -- splits ------------------------------------------------------------------------------------------------------------


def test_validation_rows_are_a_tenth_of_each_label_with_texts_of_their_own(write_rows: Write) -> None:
    rows = 2_000
    texts = [f"text {row % 1_900}" for row in range(rows)]
    labels = ["rare" if row % 1_900 % 20 == 0 else "common" for row in range(rows)]
    splits = splits_of(task_of({"text": texts, "label": labels}, write_rows))
    train, validation = splits["train"], splits["validation"]
    assert len(train.text) + len(validation.text) == rows
    assert not set(train.text) & set(validation.text)
    for number, label in enumerate(("common", "rare")):
        share = (validation.label == number).sum() / labels.count(label)
        assert abs(share - 0.1) < 0.025


def test_validation_rows_have_as_many_of_each_of_many_labels(write_rows: Write) -> None:
    rows = {"text": [f"text {row}" for row in range(2_000)], "label": [f"label {row % 20}" for row in range(2_000)]}
    label = splits_of(task_of(rows, write_rows))["validation"].label
    assert np.bincount(label).tolist() == [10] * 20


def test_split_rows_do_not_depend_on_the_order_of_the_file(write_rows: Write) -> None:
    keys = dict(validation_percent=20, test_percent=30)
    first = splits_of(task_of({"text": TEXTS, "label": LABELS}, write_rows, **keys))
    second = splits_of(task_of({"text": TEXTS[::-1], "label": LABELS[::-1]}, write_rows, **keys))
    assert {name: sorted(split.text) for name, split in first.items()} == {
        name: sorted(split.text) for name, split in second.items()
    }
    assert {name: round(len(split.text) / ROWS, 1) for name, split in first.items()} == {
        "train": 0.5,
        "validation": 0.2,
        "test": 0.3,
    }


def test_row_of_an_invalid_label_is_that_of_the_file_also_next_to_rows_without_labels(write_rows: Write) -> None:
    write_rows(Path("train.csv"), {"text": TEXTS, "label": [*["1.5", "3"] * 19, "1.5", "2,25"]})
    write_rows(Path("test.csv"), {"text": ["a"]})
    task = infer_task(own(test_file=("test.csv",), problem_type="regression")).task
    assert task.predict == ("test",)
    with pytest.raises(UserError, match=rf"row {ROWS} of split 'train': expected a number, got '2,25'"):
        splits_of(task)


# -- task files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--validation-percent", "20", "--test-percent", "20"],
        ["--validation-file", "other.csv", "--test-file", "test.csv"],
        ["--text-columns", "text,label", "--label-column", "other"],
        ["--pair-column", "other"],
        ["--problem-type", "regression", "--label-column", "other"],
    ],
)
def test_flags_and_the_task_file_of_the_same_flags_are_the_same_run(
    flags: list[str], folder: Path, write_rows: Write
) -> None:
    columns = {"text": TEXTS, "label": LABELS, "other": [row % 3 + 2 for row in range(ROWS)]}
    write_rows(folder / "rows" / "mine.csv", columns)
    write_rows(Path("other.csv"), {**columns, "text": [f"o{text}" for text in TEXTS]})
    write_rows(Path("test.csv"), {**columns, "text": [f"t{text}" for text in TEXTS]})
    args = ["--train-file", "rows/mine.csv", *flags]
    args += [] if "--text-columns" in flags else ["--text-columns", "text"]
    tasks_command(["--new", "mine.yaml", *args])
    specs = [spec_of(*task_args, "--epochs", "2") for task_args in (args, ["--task", "mine.yaml"])]
    assert specs[0] == specs[1]
    assert specs[0].run_id == specs[1].run_id
    assert specs[0].task == "mine"


def test_written_task_file_has_relative_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows").mkdir()
    Path("rows/mine.csv").write_text(GOOD.replace(",", ";").replace("text ", "ağaç "), encoding="iso-8859-9")
    flags = ["--train-file", "rows/mine.csv", "--text-columns", "text", "--encoding", "latin5"]
    tasks_command(["--new", "mine.yaml", *flags])
    assert "files:\n    train: rows/mine.csv\n  delimiter: ;\n  encoding: iso8859-9" in Path("mine.yaml").read_text()
    assert "bad (20), good (20)" in Path("mine.yaml").read_text()
    assert splits_of(read_task(folder / "mine.yaml"))["train"].text[0].startswith("ağaç")
    assert "harness run --task mine.yaml" in capsys.readouterr().out


def test_identity_does_not_depend_on_the_folder_of_the_files(folder: Path) -> None:
    run_ids = []
    for name in ("a", "b"):
        Path(name).mkdir()
        (Path(name) / "mine.csv").write_text(GOOD)
        run_ids.append(spec_of("--train-file", f"{name}/mine.csv", "--text-columns", "text").run_id)
    assert run_ids[0] == run_ids[1]


def test_every_field_has_a_flag_of_the_run() -> None:
    assert {"--train-file", "--text-columns", "--label-column", "--problem-type", "--encoding"} <= set(OWN_DATA_FLAGS)


# -- notes on the data -------------------------------------------------------------------------------------------------


def test_empty_and_shared_texts_are_counted(write_rows: Write) -> None:
    write_rows(Path("train.csv"), {"text": ["a", "", " ", "b"] * 2, "label": ["x", "y"] * 4})
    write_rows(Path("valid.csv"), {"text": ["a", "c", "b"], "label": ["x", "y", "x"]})
    splits = splits_of(infer_task(own(validation_file=("valid.csv",))).task)
    empty, shared = loading.data_notes(splits, loading.shared_texts(splits))
    assert empty.startswith("train: 4 of 8 texts")
    assert empty.endswith("2, 3, 6, 7")
    assert shared.startswith("validation: 2 of 3 rows")


# -- invalid input -----------------------------------------------------------------------------------------------------

CSV = dict[str, str | bytes]


def _file(content: str | bytes, name: str = "train.csv", **keys: Any) -> tuple[OwnData, CSV]:
    return own(name, **keys), {name: content}


def _labelled(labels: Sequence[Any], **keys: Any) -> tuple[OwnData, CSV]:
    rows = "".join(f'text {row},"{label}"\n' for row, label in enumerate(labels))
    return _file(f"text,label\n{rows}", **keys)


def _json_rows(*rows: Any, **keys: Any) -> tuple[OwnData, CSV]:
    return _file("".join(json.dumps(row) + "\n" for row in rows), "train.jsonl", **keys)


def _with_test(test: str, **keys: Any) -> tuple[OwnData, CSV]:
    return own(test_file=("test.csv",), **keys), {"train.csv": GOOD, "test.csv": test}


def _zipped(members: dict[str, str]) -> tuple[OwnData, CSV]:
    _zip(Path("train.zip"), {name: content.encode() for name, content in members.items()})
    return own("train.zip"), {}


def test_dataset_of_several_configurations_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def split_names(*_: Any, **__: Any) -> list[str]:
        raise ValueError(
            "Config name is missing.\nPlease pick one among the available configs: ['cola', 'rte']\nExample"
        )

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(datasets, "get_dataset_split_names", split_names)
    with pytest.raises(UserError, match=r"--dataset org/glue: .* org/glue:cola\. It has: cola, rte\."):
        infer_task(OwnData(dataset="org/glue", text_columns="text"))


def _parquet(columns: list[Any], names: list[str], metadata: dict[str, str] | None = None) -> tuple[OwnData, CSV]:
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns]
    pq.write_table(pa.table(arrays, names=names).replace_schema_metadata(metadata), "train.parquet")
    return own("train.parquet"), {}


def _class_labels(labels: list[int]) -> tuple[OwnData, CSV]:
    """Class numbers of which only 0 and 1 have names."""
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return _parquet([[f"text {row}" for row in range(len(labels))], labels], ["text", "label"], metadata)


def _invalid_texts() -> pa.Array:
    offsets = b"".join(offset.to_bytes(4, "little") for offset in (0, 1, 2))
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"\xff\xfe")])


def _book(train: str = "train.xlsx", /, **sheets: list[list[Any]]) -> tuple[OwnData, CSV]:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save("train.xlsx")
    return own(train), {}


_ENTITIES = "".join(f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10))
_ENTITIES = f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{_ENTITIES}]>'
_ENTITY_ROW = '<row r="9"><c r="A9" t="inlineStr"><is><t>&a9;</t></is></c></row>'


def _changed_book(change: Callable[[str], str]) -> tuple[OwnData, CSV]:
    """A workbook of which the XML of the sheet is changed."""
    _book(one=_XLSX)
    with zipfile.ZipFile("train.xlsx") as book:
        members = {name: book.read(name) for name in book.namelist()}
    sheet = next(name for name in members if name.endswith("sheet1.xml"))
    members[sheet] = change(members[sheet].decode()).encode()
    _zip(Path("train.xlsx"), members)
    return own("train.xlsx"), {}


def _fifo() -> tuple[OwnData, CSV]:
    os.mkfifo("train.csv")
    return own(), {}


def _loop() -> tuple[OwnData, CSV]:
    Path("train.csv").symlink_to("train.csv")
    return own(), {}


def _folder(name: str) -> tuple[OwnData, CSV]:
    Path(name).mkdir()
    return own(name), {}


_LATIN5 = "text,label\nhava güzel,iyi\nışık söndü,kötü\nağaç,iyi\nşu,kötü\n".encode("iso-8859-9")
_XLSX = [["text", "label"], ["a", "x"], ["b", "y"], ["c", "x"]]

BAD: dict[str, tuple[Callable[[], tuple[OwnData, CSV]], str]] = {
    # columns
    "no such text column": (
        lambda: _file(GOOD, text_columns="txt"),
        r"--text-columns: column 'txt' not found in train; .*text, label\. Did you mean 'text'\?",
    ),
    "no such label column": (
        lambda: _file(GOOD, label_column="labels"),
        r"--label-column: column 'labels' not found in train; .*Did you mean 'label'\?",
    ),
    "no such pair column": (
        lambda: _file(GOOD, pair_column="premis"),
        r"--pair-column: column 'premis' not found in train",
    ),
    "column that the test file lacks": (
        lambda: _with_test("body,label\na,good\n"),
        r"--text-columns: column 'text' not found in test; .*body, label",
    ),
    "no header": (
        lambda: _file("a text of five words,good\nanother one,bad\n"),
        r"column 'text' not found in train; its columns: a text of five words, good\. .*a line of column names",
    ),
    "column in two flags": (
        lambda: _file(GOOD, label_column="text"),
        r"--text-columns, .*--label-column: duplicate column 'text'",
    ),
    "empty name of a column": (lambda: _file(GOOD, text_columns="text,"), r"--text-columns 'text,': empty"),
    "missing --text-columns": (lambda: _file(GOOD, text_columns=None), r"--text-columns: missing"),
    "two columns of one name": (lambda: _file("text,label,text\na,x,b\n"), r"train\.csv: duplicate column 'text'"),
    "two columns of one name in Parquet": (
        lambda: _parquet([["a"], ["b"], ["x"]], ["text", "text", "label"]),
        r"train\.parquet: duplicate column 'text'",
    ),
    # labels
    "every label different": (
        lambda: _labelled([f"id-{row}" for row in range(30)]),
        r"--label-column label: 30 different labels in 30 rows",
    ),
    "every label different, with a problem type": (
        lambda: _labelled([f"id-{row}" for row in range(30)], problem_type="single_label_classification"),
        r"--label-column label: each of the 30 training rows has another label, such as 'id-0'",
    ),
    "row numbers as labels": (
        lambda: _labelled(range(30)),
        r"--label-column label: each of the 30 rows .*--problem-type regression",
    ),
    "folder in place of a file": (lambda: (own("/tmp"), {}), r"--train-file: /tmp is a folder\..*/tmp/\*\.csv"),
    "one class only": (lambda: _labelled(["a"] * 9), r"all 9 training row\(s\) have the label 'a': expected"),
    "one row only": (lambda: _labelled(["a"]), r"all 1 training row\(s\) have the label 'a': "),
    "one value only": (
        lambda: _labelled(["0.5"] * 9),
        r"all 9 training row\(s\) have the value '0\.5': expected",
    ),
    "row without a label": (
        lambda: _labelled(["a", "b", "", "a", " ", "b"]),
        r"2 of 6 training rows have no label: row 3, 5\.",
    ),
    "column without any label": (
        lambda: _labelled(["", " ", ""]),
        r"3 of 3 training rows have no label: row 1, 2, 3\. Name another column\. In an Excel file",
    ),
    "null label": (
        lambda: _json_rows({"text": "a", "label": "x"}, {"text": "b", "label": None}, {"text": "c", "label": "y"}),
        r"1 of 3 training rows have no label: row 2",
    ),
    "label of the test file that no training row has": (
        lambda: _with_test("text,label\na,good\nb,Bad\nc,Bad\nd,ugly\n"),
        r"--test-file: 3 rows have labels that no training row has: 'Bad' \(row 2\), 'ugly' \(row 4\)\. .*: bad, good",
    ),
    "label of the validation file that no training row has": (
        lambda: (own(validation_file=("v.csv",)), {"train.csv": GOOD, "v.csv": "text,label\na,fine\n"}),
        r"--validation-file: 1 rows have labels that no training row has: 'fine' \(row 1\)",
    ),
    "validation row without a label": (
        lambda: (own(validation_file=("v.csv",)), {"train.csv": GOOD, "v.csv": "text,label\na,good\nb,\n"}),
        r"column 'label', row 2 of split 'validation': unknown label ''",
    ),
    "decimal commas": (
        lambda: _labelled(["1,5", "2,25", "3", "0,5"]),
        r"comma: '1,5' in row 1, and 2 more\. .*thousands",
    ),
    "decimal comma in a regression": (
        lambda: _labelled(["1.5", *["3"] * 30, "2,25"], problem_type="regression"),
        r"row \d+ of split '(train|validation)': expected a number, got '2,25'.*decimal point",
    ),
    "one text among numbers": (lambda: _labelled([*(f"{row}.5" for row in range(30)), "n/a"]), r"row 31 is 'n/a'"),
    "infinite value": (
        lambda: _labelled(["1.5", "inf", "2"] * 9, problem_type="regression"),
        r"expected a number, got 'inf'",
    ),
    "text in a regression": (
        lambda: _labelled(["a", "b", "a"] * 9, problem_type="regression"),
        r"expected a number, got '[ab]'",
    ),
    "list as a single label": (
        lambda: _json_rows(
            {"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}, problem_type="single_label_classification"
        ),
        r"expected a single label in row 1, got \['x'\]",
    ),
    "separator of a single label": (
        lambda: _file(GOOD, label_separator=";"),
        r"--label-separator: needs --problem-type multi_label_classification",
    ),
    "infinite label": (
        lambda: _file("".join(f'{{"text": "t{row}", "label": 1e{row}00}}\n' for row in range(9)), "train.jsonl"),
        r"expected a single label in row 5, got inf",
    ),
    "integer beyond 64 bits": (
        lambda: _json_rows({"text": "a", "label": 1}, {"text": "b", "label": 10**30}),
        r"column 'label' has an integer beyond 64 bits in row 2",
    ),
    "integer of 5,000 digits": (
        lambda: _file(f'{{"text": "a", "label": {"9" * 5000}}}\n', "train.jsonl"),
        r"cannot be read as jsonl: line 1: .*4300 digits",
    ),
    "value beyond the range of training": (
        lambda: _labelled(["1.5", "1e300", "2"] * 9),
        r"row \d+ .*: expected a number, got '1e300'\. .*out of range",
    ),
    "class number without a name": (
        lambda: _class_labels([0, 1, 7] * 9),
        r"column 'label', row \d+ of split '\w+': unknown label 7; labels: ",
    ),
    "more labels than any task has": (
        lambda: _labelled([f"label {row % (MAX_LABELS + 1)}" for row in range(2 * MAX_LABELS + 2)]),
        r"--label-column label: expected at most 10,000 labels, got 10,001",
    ),
    "label that is nested 5,000 deep": (
        lambda: _labelled(["[" * 5000, "a"], problem_type="multi_label_classification"),
        r"--label-column label: no row has several labels",
    ),
    # texts
    "null text": (
        lambda: _json_rows(*({"text": None if row == 2 else f"t{row}", "label": "xy"[row % 2]} for row in range(9))),
        r"--text-columns: column 'text', row 3 of train: missing text \(1 of 9 rows\)",
    ),
    "text that is a number": (
        lambda: _json_rows(*({"text": row, "label": "xy"[row % 2]} for row in range(9))),
        r"--text-columns: column 'text', row 1 of train: 0 is not a text",
    ),
    "text that is an object": (
        lambda: _json_rows(*({"text": {"tr": f"a{row}"}, "label": "xy"[row % 2]} for row in range(30))),
        r"column 'text', row 1 .*: \{'tr': 'a0'\} is not a text",
    ),
    "second of two text columns with a number": (
        lambda: _json_rows(
            *({"text": f"t{row}", "size": row or None, "label": "xy"[row % 2]} for row in range(9)),
            text_columns="text,size",
        ),
        r"--text-columns: column 'size', row 2 of train: 1(\.0)? is not a text",
    ),
    "text that is sometimes a list": (
        lambda: _json_rows({"text": "a", "label": "x"}, {"text": ["b"], "label": "y"}),
        r"train\.jsonl: column 'text' has mixed types: a text .* a list in row 2: \['b'\]",
    ),
    "label that is a number in one row and a text in another": (
        lambda: _json_rows({"text": "a", "label": 1}, {"text": "b", "label": "1"}),
        r"column 'label' has mixed types: a number .* a text in row 2",
    ),
    "text that is nested 900 deep": (
        lambda: _file(f'{{"text": {"[" * 900}{"]" * 900}, "label": "x"}}\n' * 3, "train.jsonl"),
        r"train\.jsonl: unsupported columns",
    ),
    "text that is not UTF-8 in Parquet": (
        lambda: _parquet([_invalid_texts(), ["x", "y"]], ["text", "label"]),
        r"train\.parquet: cannot be read as parquet: .*UTF8",
    ),
    "half a character": (
        lambda: _file('{"text": "\\ud800", "label": "x"}\n{"text": "b", "label": "y"}', "train.jsonl"),
        r"column 'text' has half a character",
    ),
    # the file as text
    "empty file": (lambda: _file(""), r"train\.csv: empty file"),
    "file of empty lines": (lambda: _file("\n\n"), r"train\.csv: only empty lines"),
    "header without rows": (lambda: _file("text,label\n"), r"--train-file: train has no rows"),
    "row longer than the header": (
        lambda: _file("text,label\na,x\nb,y,z\nc,x\n"),
        r"train\.csv: expected 2 columns .* row 2 \(line 3\) has 3\. .*quotes",
    ),
    "row shorter than the header": (lambda: _file('text,label\n"two\nlines",x\nb\n'), r"row 2 \(line 4\) has 1\."),
    "many uneven rows": (
        lambda: _file("text,label\n" + "a,b,c\n" * 9),
        r"row 1 \(line 2\) has 3, row 2 .*, row 3 \(line 4\) has 3, .* 6 more rows",
    ),
    "quote that is never closed": (
        lambda: _file('text,label\na,x\n"b,y\nc,x\n'),
        r"train\.csv:3: missing closing quote",
    ),
    "Turkish in Latin-5": (
        lambda: _file(_LATIN5),
        r"train\.csv:2: not UTF-8 .*'.*hava güzel,iyi'.*--encoding iso-8859-9",
    ),
    "Russian in a code page": (
        lambda: _file("text,label\nхорошая погода,да\n".encode("cp1251")),
        r"cp1251 .*'.*хорошая.*'",
    ),
    "French in Latin-1": (lambda: _file("text,label\nété chaud,a\n".encode("latin-1")), r"iso-8859-1 .*'été"),
    "encoding other than that of the flag": (
        lambda: _file("text,label\nağaç,x\n", encoding="ascii"),
        r"train\.csv:2: not ASCII",
    ),
    "unknown encoding": (lambda: _file(GOOD, encoding="latin-99"), r"--encoding 'latin-99': unknown encoding"),
    "codec that is not of text": (lambda: _file(GOOD, encoding="base64"), r"--encoding 'base64': unknown encoding"),
    "delimiter of two characters": (lambda: _file(GOOD, delimiter="::"), r"--delimiter '::': expected one character"),
    "UTF-16 without a byte order mark": (
        lambda: _file(GOOD.encode("utf-16-le")),
        r"zero bytes\. .*--encoding utf-16-le",
    ),
    "binary file": (lambda: _file(b"\x01\x02\0\0\0\x05" * 50), r"train\.csv: not a text file: .*zero bytes"),
    "zero bytes in a later line": (
        lambda: _file(f"{GOOD * 9}te\0xt,good\n"),
        rf"train\.csv:{9 * (ROWS + 1) + 1}: .*zero bytes",
    ),
    "zero bytes at the end of JSON lines": (
        lambda: _file('{"text": "a", "label": "b"}\n' * 200 + "\0" * 9, "train.jsonl"),
        r"train\.jsonl:201: .*zero bytes",
    ),
    "zero bytes at the end of JSON": (
        lambda: _file(json.dumps([{"text": "a" * 9000, "label": "b"}]) + "\n\0", "train.json"),
        r"train\.json:2: .*zero bytes",
    ),
    "workbook called .csv": (lambda: _file(b"PK\x03\x04rest"), r"not a csv file, but a zip archive or an Excel"),
    "gzip called .csv": (lambda: _file(gzip.compress(b"a")), r"not a csv file, but a gzip file; .*\.gz"),
    "Parquet called .csv": (lambda: _file(b"PAR1rest"), r"not a csv file, but a Parquet file; .*\.parquet"),
    "web page saved as .csv": (lambda: _file("\n<!DOCTYPE html><html>404"), r"not a csv file, but a web page"),
    "Git LFS pointer": (lambda: _file("version https://git-lfs.github.com/spec/v1\n"), r"run 'git lfs pull'"),
    "JSON called .csv": (lambda: _file('{"text": "a"}\n'), r"not a csv file, but probably JSON; .*\.json or \.jsonl"),
    "header of a million characters": (
        lambda: _file("x" * 1_000_000),
        r"column 'text' not found in train; its columns: x{500,1000} \[\.\.\.\] x{500,1000}\.$",
    ),
    "text in an encoding that starts with a byte order mark": (
        lambda: _file(GOOD, encoding="utf-32"),
        r"train\.csv: cannot be read: .*UTF-32",
    ),
    # JSON
    "lines of JSON that are nested 100,000 deep": (
        lambda: _file("[" * 100_000, "train.jsonl"),
        r"cannot be read as jsonl: line 1: RecursionError",
    ),
    "broken line of JSON": (
        lambda: _file('{"text": "a", "label": "x"}\n{"text": \n', "train.jsonl"),
        r"cannot be read as jsonl: line 2: JSONDecodeError",
    ),
    "JSON lines called .json": (
        lambda: _file('{"text": "a"}\n{"text": "b"}\n', "train.json"),
        r"cannot be read as json: .*JSON Lines.*\.jsonl",
    ),
    "JSON object instead of rows": (
        lambda: _file('{"rows": []}', "train.json"),
        r"expected a list of rows, .*got an object",
    ),
    "row that is not an object": (
        lambda: _file('[{"text": "a"}, 5]', "train.json"),
        r"expected an object, .*in row 2, got a number",
    ),
    "empty list": (lambda: _file("[]", "train.json"), r"train\.json: no rows"),
    "blank lines": (lambda: _file("\n \n", "train.jsonl"), r"train\.jsonl: no rows"),
    # other formats
    "broken Parquet": (lambda: _file(b"PAR1 nothing", "train.parquet"), r"cannot be read as parquet: "),
    "broken Arrow": (lambda: _file(b"nothing at all", "train.arrow"), r"cannot be read as arrow: "),
    "broken workbook": (lambda: _file(b"nothing at all", "train.xlsx"), r"train\.xlsx: not an \.xlsx workbook"),
    "metadata that is no JSON": (
        lambda: _parquet([["a"], ["x"]], ["text", "label"], {"huggingface": "{"}),
        r"train\.parquet: unsupported columns: JSONDecodeError",
    ),
    "metadata of another type": (
        lambda: _parquet([["a"], ["x"]], ["text", "label"], {"huggingface": "[1]"}),
        r"train\.parquet: unsupported columns: TypeError",
    ),
    "workbook with entities that grow": (
        lambda: _changed_book(lambda sheet: _ENTITIES + sheet.replace("</sheetData>", f"{_ENTITY_ROW}</sheetData>")),
        r"train\.xlsx: cannot be read as xlsx: ParseError",
    ),
    "workbook that is cut off": (
        lambda: _changed_book(lambda sheet: sheet[: len(sheet) // 2]),
        r"train\.xlsx: cannot be read as xlsx: ParseError",
    ),
    "several sheets": (
        lambda: _book(one=_XLSX, two=_XLSX),
        r"2 sheets have rows \(one, two\)\. .*'.*train\.xlsx#sheet=one'",
    ),
    "unknown sheet": (
        lambda: _book("train.xlsx#sheet=tow", one=_XLSX, two=_XLSX),
        r"sheet 'tow' not found; .*one, two\. Did you mean 'two'\?",
    ),
    "empty workbook": (lambda: _book(one=[]), r"empty workbook"),
    "sheet of a CSV": (lambda: (own("train.csv#sheet=one"), {"train.csv": GOOD}), r"only an Excel workbook has sheets"),
    "old workbook": (lambda: _file(b"x", "train.xls"), r"'.*train\.xls': unsupported file format.*; save it as \.xlsx"),
    "pickle": (lambda: _file(b"x", "train.pkl"), r"save it as \.parquet: reading a pickle runs code"),
    "unknown ending": (lambda: _file(GOOD, "train.cvs"), r"Did you mean 'csv'\?"),
    "no ending": (lambda: _file(GOOD, "train"), r"'.*train': unsupported file format: .*csv, tsv"),
    # compressed
    "broken gzip": (lambda: _file(b"\x1f\x8b nothing", "train.csv.gz"), r"cannot be decompressed as gz: "),
    "gzip that is cut off": (
        lambda: _file(gzip.compress(GOOD.encode() * 99)[:-20], "train.csv.gz"),
        r"cannot be decompressed as gz: ",
    ),
    "text called .gz": (lambda: _file(GOOD, "train.csv.gz"), r"cannot be decompressed as gz"),
    "broken xz": (lambda: _file(b"nothing", "train.csv.xz"), r"cannot be decompressed as xz"),
    "broken bzip2": (lambda: _file(b"nothing", "train.csv.bz2"), r"cannot be decompressed as bz2"),
    "broken zstandard": (lambda: _file(b"nothing", "train.csv.zst"), r"cannot be decompressed as zst"),
    "gzip without a format": (lambda: _file(b"x", "train.gz"), r"missing format before \.gz: .*rows\.csv\.gz"),
    "text called .zip": (lambda: _file(GOOD, "train.zip"), r"cannot be decompressed as zip: .*not a zip file"),
    "zip of several": (
        lambda: _zipped({"a.csv": GOOD, "b.csv": GOOD}),
        r"expected one file in the zip, got 2 \(a\.csv, b\.csv\)",
    ),
    "zip of none": (lambda: _zipped({}), r"expected one file in the zip, got 0"),
    "zip that leaves its folder": (lambda: _zipped({"../../a.csv": GOOD}), r"unsafe zip: .*'\.\./\.\./a\.csv'"),
    "zip with a path from the root": (lambda: _zipped({"/etc/a.csv": GOOD}), r"unsafe zip: .*'/etc/a\.csv'"),
    "zip of something else": (lambda: _zipped({"a.docx": "x"}), r"unsupported file format of 'a\.docx'"),
    # which files
    "FIFO": (_fifo, r"train\.csv: expected a regular file"),
    "loop of symlinks": (_loop, r"train\.csv: too many levels of symbolic links"),
    "unknown user": (
        lambda: (own("~nosuchuser/train.csv"), {}),
        r"^--train-file ~nosuchuser/train\.csv: .*home directory",
    ),
    "path that is too long": (lambda: (own("a" * 5000 + ".csv", name="x"), {}), r" a{100,}\.\.\.: file name too long"),
    "no such file": (
        lambda: (own("trian.csv"), {"train.csv": GOOD}),
        r"file not found: .*trian\.csv\. Did you mean 'train\.csv'",
    ),
    "folder": (lambda: _folder("train.csv"), r"train\.csv is a folder\. .*\*\.csv'"),
    "pattern without a match": (lambda: (own("part-*.csv", name="x"), {}), r"no file matches .*part-\*\.csv"),
    "two formats in one split": (
        lambda: (own(train_file=("a.csv", "b.jsonl")), {"a.csv": GOOD, "b.jsonl": "{}"}),
        r"a\.csv and .*b\.jsonl have different formats",
    ),
    "files of other columns": (
        lambda: (own(train_file=("a.csv", "b.csv")), {"a.csv": GOOD, "b.csv": "text,mark\na,x\n"}),
        r"a\.csv and .*b\.csv: only one of them has the column 'label'",
    ),
    "training file as test file": (
        lambda: (own(test_file=("train.csv",)), {"train.csv": GOOD}),
        r"--test-file .*train\.csv: the same bytes .* train\.",
    ),
    "other checksum": (
        lambda: (own(f"train.csv#sha256={'0' * 64}"), {"train.csv": GOOD}),
        r"train\.csv: wrong checksum: expected sha256 0{64}, got [0-9a-f]{64}",
    ),
    "file that is named twice": (
        lambda: (OwnData(train_file=("train.csv", "./tr*.csv"), text_columns="text"), {"train.csv": GOOD}),
        r"--train-file .*train\.csv: duplicate file",
    ),
    "invalid checksum": (
        lambda: (own("train.csv#sha256=abc"), {"train.csv": GOOD}),
        r"#sha256=abc': invalid sha256: .*got 3 characters",
    ),
    "URL that does not answer": (
        lambda: (own("http://127.0.0.1:9/a.csv"), {}),
        r"cannot download http://127\.0\.0\.1:9/a",
    ),
    "unsupported kind of URL": (
        lambda: (own("ftp://host/a.csv"), {}),
        r"ftp://host/a\.csv: expected an http or https URL",
    ),
    "dataset and files": (lambda: _file(GOOD, dataset="org/rows"), r"--dataset org/rows: .*drop one"),
    "dataset that cannot be reached": (
        lambda: (OwnData(dataset="org/rows", text_columns="text"), {}),
        r"--dataset org/rows: cannot be loaded from the Hub: \w+",
    ),
    "invalid name of a dataset": (
        lambda: (OwnData(dataset="a/b/c", text_columns="text"), {}),
        r"--dataset a/b/c: expected organisation/name",
    ),
    "validation file only": (lambda: (OwnData(validation_file=("v.csv",)), {}), r"--train-file: missing"),
    # percentages and names
    "percentage and file": (lambda: _with_test(GOOD, test_percent=20), r"--test-percent 20: .*--test-file.*drop one"),
    "percentage of 100": (lambda: _file(GOOD, validation_percent=100), r"--validation-percent 100: expected 1 to 99"),
    "percentages that leave no rows": (
        lambda: _file(GOOD, validation_percent=50, test_percent=50),
        r"--validation-percent and --test-percent: expected a sum below 100",
    ),
    "percentage that leaves one row for two labels": (
        lambda: _labelled(["a", "b"] * 20, validation_percent=99),
        r"--validation-percent: 1 of 40 training rows left: expected at least 2",
    ),
    "percentage that leaves one row of a regression": (
        lambda: _labelled([f"{row}.5" for row in range(40)], test_percent=89),
        r"--test-percent: 1 of 40 training rows left: expected at least 2",
    ),
    "too few rows for a percentage": (
        lambda: _labelled(["a", "a", "b"], validation_percent=1),
        r"--validation-percent: validation would be empty: 3 training rows",
    ),
    "too few groups for a percentage": (
        lambda: _file("text,label,doc\na,x,1\nb,y,1\nc,x,1\n", validation_percent=50, group_column="doc"),
        r"validation would be empty: 3 training rows have too few different groups in column 'doc'",
    ),
    "name of a registered task": (lambda: _file(GOOD, "sst2.csv"), r"--train-file: 'sst2' .*--name"),
    "name that no folder can have": (
        lambda: (own(name="a" * 300), {"train.csv": GOOD}),
        r"--name a+: invalid task name: .*at most 100 bytes",
    ),
    "name that is a path": (lambda: (own(name="a/b"), {"train.csv": GOOD}), r"--name a/b: invalid task name"),
    "pattern without a name": (lambda: (own("*.csv"), {"a.csv": GOOD}), r"--train-file: invalid task name: set --name"),
}


@pytest.mark.parametrize("make, message", BAD.values(), ids=BAD)
def test_invalid_input_is_refused(make: Callable[[], tuple[OwnData, CSV]], message: str) -> None:
    own_data, files = make()
    for path, content in files.items():
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        splits_of(infer_task(own_data).task)
    assert re.search(message, str(error.value)), str(error.value)


def test_file_that_changes_while_it_is_read_is_refused() -> None:
    path = Path("train.csv")
    path.write_text(GOOD)
    task = infer_task(own()).task
    files = find_files(task, None)
    path.write_text(GOOD + "more,good\n")
    with pytest.raises(UserError, match=rf"train\.csv: changed while it was read: .*{file_hash(path)}"):
        read_tables(task, files)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--task", "rte", "--train-file", "a.csv"], r"--task rte: .*--train-file"),
        (["--data", "x", "--train-file", "a.csv"], r"--data x: .*--train-file"),
    ],
)
def test_own_rows_and_a_task_or_data_are_refused(args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_options(args)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--new", "mine.yaml"], r"--train-file: missing"),
        (["--train-file", "train.csv"], r"--new: "),
        (["--new", "mine.txt", "--train-file", "train.csv"], r"--new mine\.txt: .*\.yaml"),
        (["--new", "earlier.yaml", "--train-file", "train.csv"], r"--new earlier\.yaml: "),
        (["--new", "mine.yaml", "--train-file", "train.csv", "--name", "a"], r"--new mine\.yaml: .*--name a"),
    ],
)
def test_task_file_that_cannot_be_written_is_refused(args: list[str], message: str) -> None:
    Path("train.csv").write_text(GOOD)
    Path("earlier.yaml").write_text("")
    with pytest.raises(UserError, match=message):
        tasks_command([*args, "--text-columns", "text"])
    assert not Path("mine.yaml").exists()


# -- groups of rows ----------------------------------------------------------------------------------------------------


def test_groups_stay_together_and_are_measured(write_rows: Write) -> None:
    rows: dict[str, Sequence[Any]] = {
        "text": [f"answer {row}" for row in range(120)],
        "label": [("no", "yes")[row % 2] for row in range(120)],
        "question": [f"q{row % 40}" for row in range(120)],
    }
    task = task_of(rows, write_rows, group_column="question")
    assert task.group == ("question",)
    assert task.main_metrics == ("accuracy", "exact_match_by_group")
    train, validation = (splits_of(task)[name] for name in ("train", "validation"))
    assert len(train.text) + len(validation.text) == 120
    groups = [{int(text.split()[1]) % 40 for text in split.text} for split in (train, validation)]
    assert not groups[0] & groups[1]
    with pytest.raises(UserError, match=r"--group-column: column 'query' not found in train; .*question"):
        task_of(rows, write_rows, group_column="query")


# -- multiple choice ---------------------------------------------------------------------------------------------------


def questions(label: Sequence[Any]) -> dict[str, Sequence[Any]]:
    numbers = range(len(label))
    candidates = {letter: [f"{letter} {number}" for number in numbers] for letter in ("a", "b", "c")}
    lists = [[candidates[letter][number] for letter in ("a", "b", "c")] for number in numbers]
    return {"text": [f"q{number}" for number in numbers], **candidates, "list": lists, "label": label}


@pytest.mark.parametrize("spellings", [["a", "b", "c"], [0, 1, 2], [1, 2, 3], ["A", "B", "C"]])
@pytest.mark.parametrize("columns", ["a,b,c", "list"])
def test_right_candidate_is_named_in_any_usual_way(write_rows: Write, spellings: list[Any], columns: str) -> None:
    if columns == "list" and spellings[0] == "a":
        spellings = ["choice1", "choice2", "choice3"]
    task = task_of(questions([spellings[row % 3] for row in range(60)]), write_rows, choice_columns=columns)
    assert (task.problem_type, task.classes, task.main_metrics) == ("multiple_choice", 3, ("accuracy",))
    split = splits_of(task)["train"]
    assert split.label.tolist() == [int(text[1:]) % 3 for text in split.text]
    assert all(choices[0] == text.replace("q", "a ") for text, choices in zip(split.text, split.choices, strict=True))


def test_numbers_of_candidates_count_from_0_unless_the_highest_occurs(write_rows: Write) -> None:
    task = task_of(questions([1, 2] * 30), write_rows, choice_columns="a,b,c")
    assert list(task.labels.values()) == [0, 1, 2]


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"problem_type": "multiple_choice"}, "--choice-columns: missing"),
        (
            {"choice_columns": "a,b,c", "problem_type": "regression"},
            "--problem-type regression: .*--choice-columns a,b,c",
        ),
        ({"choice_columns": "a,b", "pair_column": "c"}, "--pair-column c: .*--choice-columns a,b"),
        ({"choice_columns": "a,d"}, "--choice-columns: column 'd' not found"),
        ({"choice_columns": "a,text"}, "--choice-columns, .*duplicate column 'text'"),
        ({"choice_columns": "a,b"}, "--label-column label: '2' in row 3 names no candidate"),
        ({"choice_columns": "a"}, "--choice-columns a: expected a list of candidates in row 1"),
    ],
)
def test_invalid_choice_columns_are_named(write_rows: Write, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_of(questions([row % 3 for row in range(60)]), write_rows, **keys)


# -- answers among candidates ------------------------------------------------------------------------------------------


def lists_of_candidates(number: int = 30) -> dict[str, Sequence[Any]]:
    """Questions with two to four candidates, one or two of which are right."""
    entities = [[f"{letter} {row}" for letter in "abcd"[: 2 + row % 3]] for row in range(number)]
    return {
        "text": [f"passage {row}" for row in range(number)],
        "query": [f"who is @placeholder in {row}?" for row in range(number)],
        "entities": entities,
        "answers": [each[: 1 + row % 2] for row, each in enumerate(entities)],
    }


SELECTION: dict[str, Any] = {"candidates_column": "entities", "label_column": "answers"}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_candidates_are_second_texts_or_replace_a_placeholder(write_rows: Write, ending: str) -> None:
    rows = lists_of_candidates()
    if ending == "csv":
        rows = {**rows, **{name: [json.dumps(each) for each in rows[name]] for name in ("entities", "answers")}}
    for keys, pair in (
        ({}, "a 0"),
        ({"pair_column": "query"}, "who is @placeholder in 0?\na 0"),
        ({"pair_column": "query", "placeholder": "@placeholder"}, "who is a 0 in 0?"),
    ):
        task = task_of(rows, write_rows, ending, **SELECTION, **keys)
        assert (task.problem_type, list(task.labels)) == ("answer_selection", ["wrong", "right"])
        assert task.main_metrics == ("answer_f1", "answer_exact_match")
        splits = splits_of(task)
        assert sum(len(set(split.text)) for split in splits.values()) == 30, "questions are whole"
        (split,) = [split for split in splits.values() if "passage 0" in split.text]
        first = split.text.index("passage 0")
        assert (split.pair[first], split.label[first : first + 2].tolist()) == (pair, [1, 0])
        assert task.rows["train"] + task.rows["validation"] == 30


def test_one_text_may_have_the_placeholder(write_rows: Write) -> None:
    task = task_of(lists_of_candidates(), write_rows, **SELECTION, text_columns="query", placeholder="@placeholder")
    assert (task.text, task.fill) == (("query",), {"query": "@placeholder"})
    assert "who is a 0 in 0?" in [text for split in splits_of(task).values() for text in split.text]


def test_test_rows_without_right_candidates_are_predicted(write_rows: Write) -> None:
    rows = lists_of_candidates(6)
    write_rows(Path("test.jsonl"), {**rows, "answers": [[]] * 6})
    task = task_of(lists_of_candidates(), write_rows, test_file=("test.jsonl",), **SELECTION)
    assert (task.predict, task.report) == (("test",), ("validation",))
    assert splits_of(task)["test"].label is None


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"candidates_column": None, "problem_type": "answer_selection"}, "--candidates-column: missing"),
        ({"candidates_column": None, "placeholder": "@"}, "--candidates-column: missing"),
        ({"placeholder": "@nobody"}, "--placeholder @nobody: not found in any training row of text"),
        ({"problem_type": "regression"}, "--problem-type regression: .*--candidates-column entities"),
        ({"group_column": "query"}, "--group-column query: .*--candidates-column entities"),
        ({"choice_columns": "entities"}, "--choice-columns entities: .*--candidates-column entities"),
        ({"label_separator": ";"}, "--label-separator ;: .*--candidates-column entities"),
        ({"label_column": "answers,query"}, "--label-column answers,query: expected one column"),
        ({"pair_column": "entities"}, "--candidates-column, .*duplicate column 'entities'"),
        ({"candidates_column": "entitys"}, r"--candidates-column: column 'entitys' .*Did you mean 'entities'\?"),
        ({"candidates_column": None, "choice_columns": "entities"}, "--label-column answers: .*--candidates-column"),
    ],
)
def test_invalid_flags_of_candidates_are_named(write_rows: Write, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_of(lists_of_candidates(), write_rows, **{**SELECTION, **keys})


@pytest.mark.parametrize("flags", [[], ["--pair-column", "query", "--placeholder", "@placeholder"]])
def test_flags_of_candidates_and_their_task_file_are_the_same_run(
    flags: list[str], folder: Path, write_rows: Write
) -> None:
    write_rows(folder / "mine.jsonl", lists_of_candidates())
    columns = ["--text-columns", "text", "--candidates-column", "entities", "--label-column", "answers"]
    args = ["--train-file", "mine.jsonl", *columns, *flags]
    tasks_command(["--new", "mine.yaml", *args])
    assert spec_of(*args).run_id == spec_of("--task", "mine.yaml").run_id


@pytest.mark.parametrize("ending, delimiter", [("csv", ","), ("tsv", "\t")])
def test_quote_that_swallows_the_rows_up_to_another_one_is_named(folder: Path, ending: str, delimiter: str) -> None:
    rows = [f"text {row}{delimiter}{label.strip()}" for row, label in enumerate(LABELS)]
    rows[3], rows[8] = f'"quoted" {rows[3]}', f'"two\n""lines"""{delimiter}bad'
    rows[5], rows[6] = f'"a" "b"{delimiter}"good"', f'"a ""b""" {delimiter}bad'
    (folder / f"train.{ending}").write_text("\n".join([f"text{delimiter}label", *rows]))
    splits = splits_of(infer_task(own(f"train.{ending}")).task)
    texts = {text for split in splits.values() for text in split.text if '"' in text}
    assert texts == {'"quoted" text 3', '"a" "b"', 'a "b" ', 'two\n"lines"'}, "quotes that are no delimiters stay"
    assert sum(len(split.text) for split in splits.values()) == ROWS
    rows[3], rows[8] = f'"one{delimiter}bad', f'"other" one{delimiter}bad'
    (folder / f"train.{ending}").write_text("\n".join([f"text{delimiter}label", *rows]))
    with pytest.raises(UserError, match=rf"train\.{ending}:5: .*quote"):
        infer_task(own(f"train.{ending}"))


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx"])
def test_blanks_around_the_names_of_columns_are_no_part_of_them(write_rows: Write, ending: str) -> None:
    path = write_rows(Path(f"train.{ending}"), {"text ": TEXTS, " label": LABELS, " other": TEXTS})
    assert splits_of(infer_task(own(path.name)).task)["train"].text[:2] == TEXTS[:2]
    path = write_rows(Path(f"twice.{ending}"), {"text": TEXTS, "label": LABELS, " text": TEXTS})
    with pytest.raises(UserError, match=rf"twice\.{ending}: duplicate column 'text'"):
        infer_task(own(path.name))


@pytest.mark.parametrize(
    "labels, shown",
    [
        (["1", "0", "1.0", "0"], "'1', '1.0'"),
        (["1", "0", "01", "0"], "'01', '1'"),
        (["Good", "bad", "good", "bad"], "'Good', 'good'"),
        (["good", "bad", "good\u200b", "\ufeffbad"], r"'bad', '\ufeffbad'; 'good', 'good\u200b'"),
        (["TRUE", "False", "true", "False"], "'TRUE', 'true'"),
    ],
)
def test_labels_that_differ_only_in_spelling_are_shown(write_rows: Write, labels: list[str], shown: str) -> None:
    write_rows(Path("train.csv"), {"text": TEXTS, "label": labels * 10})
    (message,) = (message for message in infer_task(own()).messages if "spelling" in message)
    assert message.endswith(shown)


def test_labels_that_differ_in_more_than_spelling_have_no_message(write_rows: Write) -> None:
    write_rows(Path("train.csv"), {"text": TEXTS, "label": ["1", "10", "-1", "ı"] * 10})
    assert not any("spelling" in message for message in infer_task(own()).messages)


@pytest.mark.parametrize("separator", [None, ","])
def test_list_in_the_syntax_of_python_is_no_label(write_rows: Write, separator: str | None) -> None:
    write_rows(Path("train.csv"), {"text": TEXTS, "label": ["['a', 'b']", "['a']", "[]", "['c']"] * 10})
    with pytest.raises(UserError, match=r"--label-column label: .*row 1.*\['a', 'b'\].*JSON"):
        infer_task(own(problem_type="multi_label_classification", label_separator=separator))
