"""Data of one's own: what the flags do not say is worked out and said, and every unusable file is told with its row."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.commands.tasks import main as tasks_command
from harness.errors import UserError
from harness.facts.tasks import TaskSpec, read_task
from harness.requests.identity import identify, resolve_task
from harness.requests.options import parse
from harness.rows import loading
from harness.rows.files import file_hash, find_files
from harness.rows.loading import Split, load_splits, read_tables
from harness.rows.own_data import FLAGS, OwnData, infer_task

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


def own(train: str = "train.csv", **keys: Any) -> OwnData:
    return OwnData(**{"train_file": (train,), "text_columns": "text", **keys})


def splits_of(task: TaskSpec) -> dict[str, Split]:
    return load_splits(task, read_tables(task, find_files(task, None)), "standard", None)


def task_of(rows: dict[str, Sequence[Any]], write_rows: Write, ending: str = "jsonl", **keys: Any) -> TaskSpec:
    write_rows(Path(f"train.{ending}"), rows)
    return infer_task(own(f"train.{ending}", **keys)).task


# -- kind and labels ---------------------------------------------------------------------------------------------------


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
    assert list((task.labels or {}).items()) == list(expected.items())
    assert task.metrics[:2] == ("accuracy", "f1_macro")
    names = [str(label).strip() for label in column]
    for split in splits_of(task).values():
        assert split.label is not None
        assert [list(expected)[number] for number in split.label] == [
            names[int(text.split()[1])] for text in split.text
        ]


def test_names_that_look_like_numbers_are_no_positions(write_rows: Write) -> None:
    task = task_of(
        {"text": TEXTS, "label": [("01", "2", "x", "10")[row % 4] for row in range(ROWS)]}, write_rows, "csv"
    )
    assert task.labels == {"01": "01", "10": "10", "2": "2", "x": "x"}


def test_label_is_one_in_either_form_of_unicode_and_keeps_its_case(write_rows: Write) -> None:
    forms = [unicodedata.normalize(form, "sağlık") for form in ("NFC", "NFD")] + ["Sağlık", "İ", "i"]
    task = task_of({"text": TEXTS, "label": [forms[row % 5] for row in range(ROWS)]}, write_rows)
    assert set(task.labels or {}) == {unicodedata.normalize("NFC", form) for form in forms}


@pytest.mark.parametrize(
    "labels, kind",
    [
        ([0.5, 1, 2.25], "regression"),
        (["0.5", "1", "2.25"], "regression"),
        ([1.0, 2.0, 5.0], "single_label_classification"),
        ([True, False], "single_label_classification"),
        (["null", "NA"], "single_label_classification"),
        (list(range(30)), "regression"),
        (["1", "2", "?"], "single_label_classification"),
    ],
)
def test_kind_follows_from_the_label_column(write_rows: Write, labels: list[Any], kind: str) -> None:
    write_rows(Path("train.parquet"), {"text": TEXTS, "label": [labels[row % len(labels)] for row in range(ROWS)]})
    task, told = infer_task(own("train.parquet"))
    assert task.is_regression == (kind == "regression")
    assert any(sentence.startswith(f"kind: {kind}") for sentence in told)


def test_said_kind_holds(write_rows: Write) -> None:
    rows = {"text": TEXTS, "label": [row % 5 for row in range(ROWS)]}
    assert task_of(rows, write_rows, kind="regression").is_regression
    assert not task_of(
        {**rows, "label": [row / 4 % 2 for row in range(ROWS)]}, write_rows, kind="single_label_classification"
    ).is_regression


def test_class_names_of_a_data_set_keep_its_order() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a", "x"])}
    )
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": [row % 2 for row in range(ROWS)]}, features=features)
    pq.write_table(table.data.table, "train.parquet")
    task, told = infer_task(own("train.parquet"))
    assert list(task.labels or {}) == ["z", "a"]
    assert "labels that no training row has are left out: x" in told


# -- texts and columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx"])
def test_texts_stay_as_they_are_in_every_format(write_rows: Write, ending: str) -> None:
    odd = [
        "null",
        "NA",
        "nan",
        "I",
        "İ",
        "ı",
        "i̇",
        " padded ",
        'a "q" b',
        "two\nlines",
        "a,b\tc;d",
        "1.50",
        "007",
        "#N/A",
    ]
    texts = odd * 3
    task = task_of({"text": texts, "label": [("x", "y")[row % 2] for row in range(len(texts))]}, write_rows, ending)
    found = [text for split in splits_of(task).values() for text in split.text]
    assert sorted(found) == sorted(texts)


def test_several_text_columns_are_one_text_and_a_pair_is_two(write_rows: Write) -> None:
    rows = {"title": [f"t{row}" for row in range(ROWS)], "body": ["" if row == 3 else f"b{row}" for row in range(ROWS)]}
    rows |= {"other": [f"o{row}" for row in range(ROWS)], "label": LABELS}
    write_rows(Path("train.csv"), rows)
    task = infer_task(own(text_columns="title, body", pair_column="other")).task
    assert (task.text, task.join) == (("title+body", "other"), {"title+body": ("title", "body")})
    splits = splits_of(task)
    pairs = {
        first: second for split in splits.values() for first, second in zip(split.text, split.pair or [], strict=True)
    }
    assert len(pairs) == ROWS
    assert (pairs["t7\nb7"], pairs["t3"]) == ("o7", "o3")


def test_columns_that_are_not_asked_for_may_hold_anything(write_rows: Write) -> None:
    write_rows(Path("train.jsonl"), {"text": TEXTS, "label": LABELS, "meta": [1, "a"] * (ROWS // 2)})
    assert infer_task(own("train.jsonl")).task.rows["train"] > 0


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_delimiter_is_told_by_the_header(sign: str, folder: Path) -> None:
    Path("train.csv").write_text(GOOD.replace(",", sign))
    task, told = infer_task(own())
    assert task.source.delimiter == sign
    assert f"delimiter: {sign!r}, by the header" in told
    assert sum(len(split.text) for split in splits_of(task).values()) == ROWS


@pytest.mark.parametrize("encoding", ["iso-8859-9", "cp1254", "utf-16", "utf-8-sig"])
def test_encoding_is_read_as_said_or_as_the_file_is_marked(encoding: str) -> None:
    Path("train.csv").write_bytes(GOOD.replace("text ", "ağaç şu ").encode(encoding))
    said = None if encoding.startswith("utf") else encoding
    task = infer_task(own(encoding=said, text_columns="text")).task
    assert splits_of(task)["train"].text[0].startswith("ağaç şu ")
    assert task.source.encoding == said.replace("iso-8859-9", "iso8859-9") if said else task.source.encoding is None


# -- files -------------------------------------------------------------------------------------------------------------


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _zstd(path: Path, content: bytes) -> None:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as file:
        file.write(content)


PACK: dict[str, Callable[[Path, bytes], Any]] = {
    "gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    "bz2": lambda path, content: path.write_bytes(bz2.compress(content)),
    "xz": lambda path, content: path.write_bytes(lzma.compress(content)),
    "zst": _zstd,
    "zip": lambda path, content: _zip(path, {"inside.csv": content, "__MACOSX/._inside.csv": b"x"}),
}


@pytest.mark.parametrize("packing", PACK)
def test_compressed_file_is_the_file(packing: str) -> None:
    Path("plain.csv").write_text(GOOD)
    PACK[packing](Path(f"packed.csv.{packing}"), GOOD.encode())
    plain, packed = (infer_task(own(name)).task for name in ("plain.csv", f"packed.csv.{packing}"))
    assert packed.name == "packed"
    assert splits_of(packed)["train"].text == splits_of(plain)["train"].text


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_other_formats_may_be_compressed_too(write_rows: Write, ending: str) -> None:
    path = write_rows(Path(f"train.{ending}"), {"text": TEXTS, "label": LABELS})
    Path(f"p.{ending}.gz").write_bytes(gzip.compress(path.read_bytes()))
    _zip(Path("p.zip"), {f"deep/rows.{ending}": path.read_bytes()})
    for name in (f"p.{ending}.gz", "p.zip"):
        assert sum(infer_task(own(name)).task.rows.values()) == ROWS


@pytest.mark.parametrize("words", [("part-1.csv", "part-2.csv"), ("part-*.csv",), ("**/part-*.csv",)])
def test_several_files_or_a_pattern_are_one_after_the_other(words: tuple[str, ...]) -> None:
    lines = GOOD.splitlines(keepends=True)
    Path("part-1.csv").write_text("".join(lines[:21]))
    Path("part-2.csv").write_text("".join([lines[0], *lines[21:]]))
    task = infer_task(OwnData(train_file=words, text_columns="text", name="mine")).task
    found = find_files(task, None)
    assert found is not None
    assert (
        list(
            loading.read_tables(task.model_copy(update={"splits": {"train": "train"}}), found).by_split["train"]["text"]
        )
        == TEXTS
    )


def test_sheet_is_named_where_there_are_several() -> None:
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


def test_validation_rows_are_a_tenth_of_each_label_and_share_no_text(write_rows: Write) -> None:
    rows = 2_000
    texts = [f"text {row % 1_900}" for row in range(rows)]
    labels = ["rare" if row % 1_900 % 20 == 0 else "common" for row in range(rows)]
    splits = splits_of(task_of({"text": texts, "label": labels}, write_rows))
    train, validation = splits["train"], splits["validation"]
    assert len(train.text) + len(validation.text) == rows
    assert not set(train.text) & set(validation.text)
    for number, label in enumerate(("common", "rare")):
        assert validation.label is not None
        share = (validation.label == number).sum() / labels.count(label)
        assert abs(share - 0.1) < 0.025


def test_shares_are_the_same_whatever_the_order_of_the_rows(write_rows: Write) -> None:
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


# -- the same as a task file -------------------------------------------------------------------------------------------


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
def test_flags_and_the_file_they_write_are_the_same_run(flags: list[str], folder: Path, write_rows: Write) -> None:
    columns = {"text": TEXTS, "label": LABELS, "other": [row % 3 + 2 for row in range(ROWS)]}
    write_rows(folder / "rows" / "mine.csv", columns)
    write_rows(Path("other.csv"), {**columns, "text": [f"o{text}" for text in TEXTS]})
    write_rows(Path("test.csv"), {**columns, "text": [f"t{text}" for text in TEXTS]})
    words = [
        "--train-file",
        "rows/mine.csv",
        *([] if "--text-columns" in flags else ["--text-columns", "text"]),
        *flags,
    ]
    tasks_command(["--new", "mine.yaml", *words])
    model = ["--model", "org/model", "--epochs", "2"]
    specs = []
    for given in (words, ["--task", "mine.yaml"]):
        options = parse([*given, *model])
        task, _ = resolve_task(options)
        specs.append(identify(task, find_files(task, None), options))
    assert specs[0] == specs[1]
    assert specs[0].run_id == specs[1].run_id
    assert specs[0].task == "mine"


def test_written_task_file_names_files_below_it_from_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows").mkdir()
    Path("rows/mine.csv").write_text(GOOD.replace(",", ";").replace("text ", "ağaç "), encoding="iso-8859-9")
    flags = ["--train-file", "rows/mine.csv", "--text-columns", "text", "--encoding", "latin5"]
    tasks_command(["--new", "mine.yaml", *flags])
    assert "files:\n    train: rows/mine.csv\n  delimiter: ;\n  encoding: iso8859-9" in Path("mine.yaml").read_text()
    assert "# labels, as the training rows have them: bad (20), good (20)" in Path("mine.yaml").read_text()
    assert splits_of(read_task(folder / "mine.yaml"))["train"].text[0].startswith("ağaç")
    assert "harness run --task mine.yaml" in capsys.readouterr().out


def test_identity_does_not_depend_on_where_the_files_lie(folder: Path) -> None:
    found = []
    for place in ("here", "there"):
        Path(place).mkdir()
        (Path(place) / "mine.csv").write_text(GOOD)
        options = parse(["--train-file", f"{place}/mine.csv", "--text-columns", "text", "--model", "org/model"])
        task, _ = resolve_task(options)
        found.append(identify(task, find_files(task, None), options).run_id)
    assert found[0] == found[1]


def test_every_field_has_a_flag_of_the_run() -> None:
    assert {"--train-file", "--text-columns", "--label-column", "--problem-type", "--encoding"} <= set(FLAGS)


# -- what a reader of the numbers should know --------------------------------------------------------------------------


def test_empty_and_shared_texts_are_counted(write_rows: Write) -> None:
    write_rows(Path("train.csv"), {"text": ["a", "", " ", "b"] * 2, "label": ["x", "y"] * 4})
    write_rows(Path("valid.csv"), {"text": ["a", "c", "b"], "label": ["x", "y", "x"]})
    splits = splits_of(infer_task(own(validation_file=("valid.csv",))).task)
    assert loading.remarks(splits, loading.shared_texts(splits)) == [
        "train: 4 of 8 texts are empty, in row 2, 3, 6, 7",
        "validation: 2 of 3 rows have a text of train",
    ]


# -- bad input ---------------------------------------------------------------------------------------------------------

CSV = dict[str, str | bytes]


def _file(content: str | bytes, name: str = "train.csv", **keys: Any) -> tuple[OwnData, CSV]:
    return own(name, **keys), {name: content}


def _labelled(labels: Sequence[Any], **keys: Any) -> tuple[OwnData, CSV]:
    rows = "".join(f'text {row},"{label}"\n' for row, label in enumerate(labels))
    return _file(f"text,label\n{rows}", **keys)


def _json_rows(*rows: Any, **keys: Any) -> tuple[OwnData, CSV]:
    return _file("".join(json.dumps(row) + "\n" for row in rows), "train.jsonl", **keys)


def _beside(test: str, **keys: Any) -> tuple[OwnData, CSV]:
    return own(test_file=("test.csv",), **keys), {"train.csv": GOOD, "test.csv": test}


def _zipped(members: dict[str, str]) -> tuple[OwnData, CSV]:
    _zip(Path("train.zip"), {name: content.encode() for name, content in members.items()})
    return own("train.zip"), {}


def _parquet(columns: list[Any], names: list[str]) -> tuple[OwnData, CSV]:
    pq.write_table(pa.table([pa.array(column) for column in columns], names=names), "train.parquet")
    return own("train.parquet"), {}


def _book(**sheets: list[list[Any]]) -> tuple[OwnData, CSV]:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save("train.xlsx")
    return own("train.xlsx"), {}


def _folder(name: str) -> tuple[OwnData, CSV]:
    Path(name).mkdir()
    return own(name), {}


_LATIN5 = "text,label\nhava güzel,iyi\nışık söndü,kötü\nağaç,iyi\nşu,kötü\n".encode("iso-8859-9")
_XLSX = [["text", "label"], ["a", "x"], ["b", "y"], ["c", "x"]]

BAD: dict[str, tuple[Callable[[], tuple[OwnData, CSV]], str]] = {
    # columns
    "no such text column": (
        lambda: _file(GOOD, text_columns="txt"),
        r"--text-columns: train has no column 'txt'; its columns: text, label\. Did you mean 'text'\?",
    ),
    "no such label column": (
        lambda: _file(GOOD, label_column="labels"),
        r"--label-column: train has no column 'labels'; .*Did you mean 'label'\?",
    ),
    "no such pair column": (lambda: _file(GOOD, pair_column="premis"), r"--pair-column: train has no column 'premis'"),
    "column that the test file lacks": (
        lambda: _beside("body,label\na,good\n"),
        r"--text-columns: test has no column 'text'; its columns: body, label",
    ),
    "column named twice": (lambda: _file(GOOD, label_column="text"), r"the column 'text' is named twice"),
    "empty name of a column": (
        lambda: _file(GOOD, text_columns="text,"),
        r"--text-columns 'text,': a name .* is empty",
    ),
    "no text column said": (lambda: _file(GOOD, text_columns=None), r"--text-columns: name the column of the text"),
    "two columns of one name": (
        lambda: _file("text,label,text\na,x,b\n"),
        r"train\.csv: the column 'text' stands twice",
    ),
    "two columns of one name in Parquet": (
        lambda: _parquet([["a"], ["b"], ["x"]], ["text", "text", "label"]),
        r"train\.parquet: the column 'text' stands twice",
    ),
    # labels
    "every label another": (
        lambda: _labelled([f"id-{row}" for row in range(30)]),
        r"30 different labels in 30 rows; is this the column of the label\?",
    ),
    "every label another, though said to be labels": (
        lambda: _labelled([f"id-{row}" for row in range(30)], kind="single_label_classification"),
        r"each of the 30 training rows has a label of its own, such as 'id-0'",
    ),
    "numbering as a label": (lambda: _labelled(range(30)), r"each of the 30 rows has another whole number"),
    "one class only": (lambda: _labelled(["a"] * 9), r"all 9 training rows have the one label 'a'"),
    "one value only": (lambda: _labelled(["0.5"] * 9), r"all 9 rows have the value '0\.5'"),
    "row without a label": (
        lambda: _labelled(["a", "b", "", "a", " ", "b"]),
        r"2 of 6 training rows have no label: row 3, 5\.",
    ),
    "null label": (
        lambda: _json_rows({"text": "a", "label": "x"}, {"text": "b", "label": None}, {"text": "c", "label": "y"}),
        r"1 of 3 training rows have no label: row 2",
    ),
    "label of the test file that no training row has": (
        lambda: _beside("text,label\na,good\nb,Bad\nc,Bad\nd,ugly\n"),
        r"--test-file: 3 rows have labels that no training row has: 'Bad' \(row 2\), 'ugly' \(row 4\)\. .*: bad, good",
    ),
    "label of the validation file that no training row has": (
        lambda: (own(validation_file=("v.csv",)), {"train.csv": GOOD, "v.csv": "text,label\na,fine\n"}),
        r"--validation-file: 1 rows have labels that no training row has: 'fine' \(row 1\)",
    ),
    "validation row without a label": (
        lambda: (own(validation_file=("v.csv",)), {"train.csv": GOOD, "v.csv": "text,label\na,good\nb,\n"}),
        r"column 'label' in row 2 of split 'validation' is ''",
    ),
    "decimal commas": (
        lambda: _labelled(["1,5", "2,25", "3", "0,5"]),
        r"row 1 is '1,5', as are 2 more: numbers with a decimal comma\. Write a decimal point",
    ),
    "decimal comma in a regression": (
        lambda: _labelled(["1.5", *["3"] * 30, "2,25"], kind="regression"),
        r"in row \d+ of split '(train|validation)' is '2,25', not a number\. Write a decimal point",
    ),
    "one text among numbers": (
        lambda: _labelled([*(f"{row}.5" for row in range(30)), "n/a"]),
        r"most are numbers, but row 31 is 'n/a'",
    ),
    "infinite value": (lambda: _labelled(["1.5", "inf", "2"] * 9, kind="regression"), r"is 'inf', not a number"),
    "text in a regression": (lambda: _labelled(["a", "b", "a"] * 9, kind="regression"), r"is '[ab]', not a number"),
    "list as a single label": (
        lambda: _json_rows({"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}, kind="single_label_classification"),
        r"row 1 is \['x'\], which is no single label",
    ),
    "separator of a single label": (
        lambda: _file(GOOD, label_separator=";"),
        r"--label-separator: it belongs to --problem-type multi_label",
    ),
    # texts
    "null text": (
        lambda: _json_rows(*({"text": None if row == 2 else f"t{row}", "label": "xy"[row % 2]} for row in range(9))),
        r"column 'text' is missing in row \d+ of split '(train|validation)'",
    ),
    "text that is a number": (
        lambda: _json_rows(*({"text": row, "label": "xy"[row % 2]} for row in range(9))),
        r"column 'text' is \d, not a text in row 1 of split '\w+'",
    ),
    "text that is an object": (
        lambda: _json_rows(*({"text": {"tr": f"a{row}"}, "label": "xy"[row % 2]} for row in range(30))),
        r"column 'text' is \{'tr': 'a\d+'\}, not a text",
    ),
    "text that is sometimes a list": (
        lambda: _json_rows({"text": "a", "label": "x"}, {"text": ["b"], "label": "y"}),
        r"train\.jsonl: column 'text' has a text in its first rows, but a list in row 2: \['b'\]",
    ),
    "label that is a number here and a text there": (
        lambda: _json_rows({"text": "a", "label": 1}, {"text": "b", "label": "1"}),
        r"column 'label' has a number in its first rows, but a text in row 2",
    ),
    "half a character": (
        lambda: _file('{"text": "\\ud800", "label": "x"}\n{"text": "b", "label": "y"}', "train.jsonl"),
        r"column 'text' has half a character",
    ),
    # the file as text
    "empty file": (lambda: _file(""), r"train\.csv: the file is empty"),
    "file of empty lines": (lambda: _file("\n\n"), r"train\.csv: has no line but empty ones"),
    "header without rows": (lambda: _file("text,label\n"), r"--train-file: train has columns and no rows"),
    "row longer than the header": (
        lambda: _file("text,label\na,x\nb,y,z\nc,x\n"),
        r"train\.csv: cannot be read: the header has 2 columns, but row 2 \(line 3\) has 3\. .*needs quotes",
    ),
    "row shorter than the header": (
        lambda: _file('text,label\n"two\nlines",x\nb\n'),
        r"but row 2 \(line 4\) has 1\.",
    ),
    "many uneven rows": (
        lambda: _file("text,label\n" + "a,b,c\n" * 9),
        r"row 1 \(line 2\) has 3, row 2 .*, row 3 \(line 4\) has 3, and 6 more rows are uneven",
    ),
    "quote that is never closed": (
        lambda: _file('text,label\na,x\n"b,y\nc,x\n'),
        r"train\.csv:3: cannot be read: a quote .* never closed",
    ),
    "Turkish in Latin-5": (
        lambda: _file(_LATIN5),
        r"train\.csv:2: is not UTF-8 .* As iso-8859-9 it reads '.*hava güzel,iyi'.*--encoding iso-8859-9",
    ),
    "Russian in a code page": (
        lambda: _file("text,label\nхорошая погода,да\n".encode("cp1251")),
        r"As cp1251 it reads '.*хорошая.*'",
    ),
    "French in Latin-1": (lambda: _file("text,label\nété chaud,a\n".encode("latin-1")), r"As iso-8859-1 it reads 'été"),
    "other encoding than said": (
        lambda: _file("text,label\nağaç,x\n", encoding="ascii"),
        r"train\.csv:2: is not ASCII",
    ),
    "unknown encoding": (lambda: _file(GOOD, encoding="latin-99"), r"--encoding 'latin-99': no encoding that Python"),
    "codec that is no encoding": (lambda: _file(GOOD, encoding="base64"), r"--encoding 'base64': no encoding"),
    "delimiter of two signs": (lambda: _file(GOOD, delimiter="::"), r"--delimiter '::': one character"),
    "UTF-16 without its mark": (
        lambda: _file(GOOD.encode("utf-16-le")),
        r"has zero bytes\. It may be UTF-16: try --encoding utf-16-le",
    ),
    "binary file": (lambda: _file(b"\x01\x02\0\0\0\x05" * 50), r"train\.csv: is no text, it has zero bytes"),
    "workbook called .csv": (lambda: _file(b"PK\x03\x04rest"), r"is no csv file, it is a zip archive or an Excel"),
    "gzip called .csv": (lambda: _file(gzip.compress(b"a")), r"it is a gzip file; end its name in \.gz"),
    "Parquet called .csv": (lambda: _file(b"PAR1rest"), r"it is a Parquet file; end its name in \.parquet"),
    "web page saved as .csv": (
        lambda: _file("\n<!DOCTYPE html><html>404"),
        r"it is a web page: .*download the raw file",
    ),
    "pointer of Git LFS": (lambda: _file("version https://git-lfs.github.com/spec/v1\n"), r"run 'git lfs pull'"),
    "JSON called .csv": (lambda: _file('{"text": "a"}\n'), r"it looks like JSON; end its name in \.json or \.jsonl"),
    # JSON
    "broken line of JSON": (
        lambda: _file('{"text": "a", "label": "x"}\n{"text": \n', "train.jsonl"),
        r"cannot be read as jsonl: line 2: JSONDecodeError",
    ),
    "JSON lines called .json": (
        lambda: _file('{"text": "a"}\n{"text": "b"}\n', "train.json"),
        r"cannot be read as json: .*Is it JSON lines\? Then end its name in \.jsonl",
    ),
    "object where rows should be": (lambda: _file('{"rows": []}', "train.json"), r"it holds an object, where a list"),
    "row that is no object": (
        lambda: _file('[{"text": "a"}, 5]', "train.json"),
        r"row 2 is a number; a row is an object",
    ),
    "empty list": (lambda: _file("[]", "train.json"), r"--text-columns: train has no column 'text'; its columns: \."),
    # other formats
    "broken Parquet": (
        lambda: _file(b"PAR1 nothing", "train.parquet"),
        r"cannot be read as parquet: .*Is the file whole",
    ),
    "broken Arrow": (lambda: _file(b"nothing at all", "train.arrow"), r"cannot be read as arrow: .*Is the file whole"),
    "broken workbook": (lambda: _file(b"nothing at all", "train.xlsx"), r"train\.xlsx: is no \.xlsx workbook"),
    "several sheets": (
        lambda: _book(one=_XLSX, two=_XLSX),
        r"2 sheets have rows \(one, two\)\. Say which one: '.*train\.xlsx#sheet=one'",
    ),
    "unknown sheet": (
        lambda: (_book(one=_XLSX, two=_XLSX)[0], {})[:0] or (own("train.xlsx#sheet=tow"), {}),
        r"has no sheet 'tow', but one, two\. Did you mean 'two'\?",
    ),
    "empty workbook": (lambda: _book(one=[]), r"the workbook is empty"),
    "sheet of a CSV": (lambda: (own("train.csv#sheet=one"), {"train.csv": GOOD}), r"only an Excel workbook has sheets"),
    "old workbook": (lambda: _file(b"x", "train.xls"), r"'.*train\.xls' does not end in .*; save it as \.xlsx"),
    "pickle": (lambda: _file(b"x", "train.pkl"), r"save it as \.parquet: reading a pickle runs code"),
    "unknown ending": (lambda: _file(GOOD, "train.cvs"), r"Did you mean 'csv'\?"),
    "no ending": (lambda: _file(GOOD, "train"), r"'.*train' does not end in one of csv, tsv"),
    # compressed
    "broken gzip": (
        lambda: _file(b"\x1f\x8b nothing", "train.csv.gz"),
        r"cannot be unpacked as gz: .*Is the file whole",
    ),
    "gzip that is cut off": (
        lambda: _file(gzip.compress(GOOD.encode() * 99)[:-20], "train.csv.gz"),
        r"cannot be unpacked as gz: .*Is the file whole",
    ),
    "gzip that is none": (lambda: _file(GOOD, "train.csv.gz"), r"cannot be unpacked as gz"),
    "broken xz": (lambda: _file(b"nothing", "train.csv.xz"), r"cannot be unpacked as xz"),
    "broken bzip2": (lambda: _file(b"nothing", "train.csv.bz2"), r"cannot be unpacked as bz2"),
    "broken zstandard": (lambda: _file(b"nothing", "train.csv.zst"), r"cannot be unpacked as zst"),
    "gzip of what?": (
        lambda: _file(b"x", "train.gz"),
        r"\.gz of what\? Name it after its format too, as in rows\.csv\.gz",
    ),
    "zip that is none": (lambda: _file(GOOD, "train.zip"), r"cannot be unpacked as zip: File is not a zip file"),
    "zip of several": (lambda: _zipped({"a.csv": GOOD, "b.csv": GOOD}), r"the zip has 2 files \(a\.csv, b\.csv\)"),
    "zip of none": (lambda: _zipped({}), r"the zip has 0 files; it must have one"),
    "zip that leaves its folder": (
        lambda: _zipped({"../../a.csv": GOOD}),
        r"a member '\.\./\.\./a\.csv', outside its own",
    ),
    "zip with a path from the root": (
        lambda: _zipped({"/etc/a.csv": GOOD}),
        r"a member '/etc/a\.csv', outside its own",
    ),
    "zip of something else": (lambda: _zipped({"a.docx": "x"}), r"the zip has 'a\.docx', which is no file of rows"),
    # which files
    "no such file": (
        lambda: (own("trian.csv"), {"train.csv": GOOD}),
        r"trian\.csv does not exist\. Did you mean 'train\.csv'",
    ),
    "folder": (lambda: _folder("train.csv"), r"train\.csv is a folder\. Name the files in it, such as '.*\*\.csv'"),
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
        r"--test-file .*train\.csv: it has the same bytes as a file of train",
    ),
    "other checksum": (
        lambda: (own(f"train.csv#sha256={'0' * 64}"), {"train.csv": GOOD}),
        r"train\.csv is not the file it should be: its sha256 is [0-9a-f]{64}, expected 0{64}",
    ),
    "checksum that is none": (lambda: (own("train.csv#sha256=abc"), {"train.csv": GOOD}), r"a sha256 has 64 digits"),
    "address that answers nothing": (
        lambda: (own("http://127.0.0.1:9/a.csv"), {}),
        r"cannot download http://127\.0\.0\.1:9/a",
    ),
    "other kind of address": (lambda: (own("ftp://host/a.csv"), {}), r"only http and https are known"),
    "data set and files": (lambda: _file(GOOD, dataset="org/rows"), r"either a data set of the Hub or files, not both"),
    "data set that cannot be reached": (
        lambda: (OwnData(dataset="org/rows", text_columns="text"), {}),
        r"--dataset org/rows: cannot get it from the Hub",
    ),
    "name that is no data set": (
        lambda: (OwnData(dataset="a/b/c", text_columns="text"), {}),
        r"--dataset a/b/c: write organisation/name",
    ),
    "validation file alone": (lambda: (OwnData(validation_file=("v.csv",)), {}), r"--train-file: name the file"),
    # shares and names
    "share beside a file": (
        lambda: _beside(GOOD, test_percent=20),
        r"--test-percent 20: there is a --test-file already",
    ),
    "share above all": (lambda: _file(GOOD, validation_percent=100), r"--validation-percent 100: give whole percents"),
    "shares that leave nothing": (
        lambda: _file(GOOD, validation_percent=50, test_percent=50),
        r"together they leave no training rows",
    ),
    "too few rows to share": (
        lambda: _labelled(["a", "a", "b"], validation_percent=1),
        r"validation would be empty, 3 rows are too few to share",
    ),
    "name of a registered task": (lambda: _file(GOOD, "sst2.csv"), r"--train-file: 'sst2' is a registered task"),
    "name that is a path": (
        lambda: (own(name="a/b"), {"train.csv": GOOD}),
        r"--name a/b: give the task a --name of letters",
    ),
    "pattern without a name": (lambda: (own("*.csv"), {"a.csv": GOOD}), r"--train-file: give the task a --name"),
}


def test_there_are_many_kinds_of_bad_input() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    make, told = BAD[name]
    asked, files = make()
    for path, content in files.items():
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        splits_of(infer_task(asked).task)
    assert re.search(told, str(error.value)), str(error.value)


def test_file_that_changes_while_it_is_read_is_refused() -> None:
    path = Path("train.csv")
    path.write_text(GOOD)
    task = infer_task(own()).task
    files = find_files(task, None)
    path.write_text(GOOD + "more,good\n")
    with pytest.raises(UserError, match=rf"train\.csv: changed while it was read: .* now it is {file_hash(path)}"):
        read_tables(task, files)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--task", "rte", "--train-file", "a.csv"], r"--task rte: the rows are told by --train-file or --dataset"),
        (["--data", "x", "--train-file", "a.csv"], r"--data x: the rows are told by --train-file"),
    ],
)
def test_own_data_goes_with_no_other_task(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(words)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--new", "mine.yaml"], r"--train-file: name the file"),
        (["--train-file", "train.csv"], r"--new: name the task file that is to be written"),
        (["--new", "mine.txt", "--train-file", "train.csv"], r"--new mine\.txt: a task file ends in \.yaml"),
        (["--new", "there.yaml", "--train-file", "train.csv"], r"there\.yaml: the file is there already"),
        (["--new", "mine.yaml", "--train-file", "train.csv", "--name", "a"], r"leave out --name a or rename the file"),
    ],
)
def test_task_file_that_cannot_be_written_is_told(words: list[str], told: str) -> None:
    Path("train.csv").write_text(GOOD)
    Path("there.yaml").write_text("")
    with pytest.raises(UserError, match=told):
        tasks_command([*words, "--text-columns", "text"])
    assert not Path("mine.yaml").exists()
