"""Splits in canonical columns: texts unchanged, labels by name, rows in order, errors with their row."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UserError
from harness.facts.sources import FILE_FORMATS
from harness.facts.tasks import TaskSpec, apply_protocol, load_task, read_task
from harness.rows import loading
from harness.rows.files import file_hash, find_files
from harness.rows.loading import (
    Tables,
    data_facts,
    fingerprint,
    load_splits,
    read_tables,
    shared_texts,
    texts_fingerprint,
)
from harness.rows.splits import Split

Make = Callable[..., Path]
Write = Callable[[Path, Mapping[str, Sequence[Any]]], Path]

TEXTS = ["null", "NA", "", "nan", "None", "I", "İ", "ı", "i̇", " padded ", 'a "q" b', "two\nlines", "a,b\tc", "1.50"]
"""Texts that readers easily misread as other types, or change."""

LABELS = [("no", "yes")[row % 2] for row in range(len(TEXTS))]


def splits_of(path: Path, data: Path | None = None) -> dict[str, Split]:
    """The splits of a task file, as a run loads them."""
    task = read_task(path)
    return load_splits(task, read_tables(task, find_files(task, data)), "standard", None)


def in_memory(by_split: Mapping[str, Mapping[str, Sequence[Any]]]) -> Tables:
    return Tables({name: datasets.Dataset.from_dict(dict(rows)) for name, rows in by_split.items()}, "memory", None)


def numbered(names: list[str], numbers: list[int]) -> datasets.Dataset:
    """A row for each number of a class, in a column of `datasets.ClassLabel` with these names."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"text": [*"abc"[: len(numbers)]], "label": numbers}, features=features)


def labels_of(task: TaskSpec, table: datasets.Dataset) -> list[Any]:
    """The labels of a table's rows in a training split."""
    return load_splits(task, Tables({"train": table}, "memory", None), "standard", None)["train"].label.tolist()


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FILE_FORMATS)
def test_every_format_gives_the_same_texts(make_task: Make, ending: str) -> None:
    tables = {"train": {"text": TEXTS, "label": LABELS}, "validation": {"text": ["x"], "label": ["no"]}}
    train = splits_of(make_task(tables, ending=ending))["train"]
    assert train.text == TEXTS
    assert train.pair is None
    assert train.label.dtype == np.int64
    assert train.label.tolist() == [row % 2 for row in range(len(TEXTS))]


@pytest.mark.parametrize("ending", FILE_FORMATS)
def test_every_format_gives_pairs_and_values(make_task: Make, ending: str) -> None:
    rows = {"a": ["x", "y"], "b": ["u", "v"], "label": [0.5, 4]}
    keys = {"text": ["a", "b"], "labels": None, "metrics": ["pearson"], "main_metrics": "pearson"}
    train = splits_of(make_task({"train": rows, "validation": rows}, ending=ending, **keys))["train"]
    assert (train.text, train.pair) == (["x", "y"], ["u", "v"])
    assert train.label.dtype == np.float64
    assert train.label.tolist() == [0.5, 4.0]


@pytest.mark.parametrize("text", ["one\u2028line", "one\u0085line", "one\x0bline"])
def test_json_line_ends_at_a_line_feed_only(make_task: Make, text: str) -> None:
    """str.splitlines also cuts at these characters, which JSON texts may contain."""
    rows = {"text": [text, "other"], "label": ["no", "yes"]}
    assert splits_of(make_task({"train": rows, "validation": rows}, ending="jsonl"))["train"].text == rows["text"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_byte_order_mark_is_not_part_of_a_column_name(make_task: Make, ending: str) -> None:
    path = make_task(ending=ending)
    file = path.parent / "small" / f"train.{ending}"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert splits_of(path)["train"].text[0] == "w0 c0s0 w0"


def test_columns_come_from_every_json_row(make_task: Make) -> None:
    path = make_task(ending="jsonl")
    (path.parent / "small" / "train.jsonl").write_text('{"text": "a"}\n{"text": "b", "label": "no"}\n')
    with pytest.raises(UserError, match="row 1 of split 'train': hidden label"):
        splits_of(path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "train.csv",
            b"text,label\na,no,1\nb,yes,2\n",
            r" expected 2 columns .* row 1 \(line 2\) has 3, row 2 \(line 3\)",
        ),
        ("train.csv", b"text,label\na,no\nb,yes,2\n", r" expected 2 columns .* row 2 \(line 3\) has 3"),
        ("train.csv", b"text,label\na,no\nb\n", r" expected 2 columns .* row 2 \(line 3\) has 1"),
        ("train.csv", b'text,label\n"a,no\nb,yes\n', "2: missing closing quote"),
        ("train.csv", b"", " empty file"),
        ("train.csv", "text,label\nağaç,no\n".encode("iso-8859-9"), "2: not UTF-8 .*'ağaç,no'.*--encoding iso-8859-9"),
        ("train.jsonl", "{'text': 'ağaç'}".encode("iso-8859-9"), "1: not UTF-8 .*--encoding iso-8859-9"),
        ("train.jsonl", b'{"text": "a", "label": "no"}\n{"text":\n', " cannot be read as jsonl: .*line 2"),
        ("train.json", b'{"text": ["a"], "label": ["no"]}', " expected a list of rows, .*got an object"),
        ("train.jsonl", b"[1, 2]\n", " expected an object, .*row 1, got a list"),
        ("train.parquet", b"PAR1", " cannot be read as parquet"),
    ],
)
def test_damaged_file_is_named_with_the_reason(make_task: Make, name: str, content: bytes, message: str) -> None:
    path = make_task(ending=name.split(".")[1])
    (path.parent / "small" / name).write_bytes(content)
    with pytest.raises(UserError, match=f"small/{name}:{message}"):
        splits_of(path)


# -- splits ------------------------------------------------------------------------------------------------------------


def test_source_splits_are_cut_by_expression(tmp_path: Path, write_rows: Write) -> None:
    """imdb has its validation and test from the two ends of one source split."""
    write_rows(tmp_path / "imdb" / "train.csv", {"text": ["a", "b"], "label": [0, 1]})
    numbers = range(25_000)
    test_rows = {"text": [f"t{number}" for number in numbers], "label": [int(number >= 12_500) for number in numbers]}
    write_rows(tmp_path / "imdb" / "test.parquet", test_rows)
    task = load_task("imdb")
    splits = load_splits(task, read_tables(task, find_files(task, tmp_path)), "standard", None)
    assert splits["train"].text == ["a", "b"]
    assert splits["validation"].text == [f"t{number}" for number in [*range(6_250, 12_500), *range(12_500, 18_750)]]
    assert splits["test"].text == [f"t{number}" for number in [*range(6_250), *range(18_750, 25_000)]]
    assert splits["test"].label.sum() == 6_250


def test_one_file_is_shuffled_like_pandas_and_cut(tmp_path: Path, write_rows: Write) -> None:
    task = load_task("ttc4900")
    names = list(task.labels)
    rows = {"category": [f"{names[row % 7]} " for row in range(4_900)], "text": [str(row) for row in range(4_900)]}
    path = write_rows(tmp_path / "mine.csv", rows)
    splits = load_splits(task, read_tables(task, find_files(task, path)), "standard", None)
    assert {name: len(split.text) for name, split in splits.items()} == {
        "train": 2_450,
        "validation": 1_225,
        "test": 1_225,
    }
    assert splits["train"].text[:5] == ["4657", "3539", "907", "4353", "3745"]
    for split in splits.values():
        assert split.label.tolist() == [int(text) % 7 for text in split.text]
    everything = [text for split in splits.values() for text in split.text]
    assert sorted(everything, key=int) == rows["text"]


@pytest.mark.parametrize("column, message", [("text", "missing text"), ("category", "hidden label")])
def test_row_of_a_shuffled_file_is_counted_as_in_the_file(
    tmp_path: Path, write_rows: Write, column: str, message: str
) -> None:
    rows: dict[str, list[Any]] = {"text": [str(row) for row in range(4_900)], "category": ["spor"] * 4_900}
    rows[column][1_233] = None
    path, task = write_rows(tmp_path / "rows.parquet", rows), load_task("ttc4900")
    with pytest.raises(UserError, match=f"column '{column}', row 1234 of split 'all': {message}"):
        load_splits(task, read_tables(task, find_files(task, path)), "standard", None)


@pytest.mark.parametrize("unused", ["unsupervised", "rain"])
def test_invalid_label_of_a_split_that_the_task_does_not_use_is_not_named(make_task: Make, unused: str) -> None:
    rows = {"text": ["a", "b"], "label": ["no", "maybe"]}
    tables = {unused: {"text": ["c"], "label": ["?"]}, "train": rows, "validation": rows}
    splits = {"train": "train", "validation": "validation"}
    with pytest.raises(UserError, match="row 2 of split 'train': unknown label 'maybe'"):
        splits_of(make_task(tables, splits=splits, rows=None))


def test_part_of_too_few_rows_is_empty(tmp_path: Path, write_rows: Write) -> None:
    """Here a part of one row begins behind the last row."""
    write_rows(tmp_path / "rows.csv", {"text": ["a"], "category": ["x"]})
    task = load_task("ttc4900")
    with pytest.raises(UserError, match="task ttc4900: split 'train' is empty"):
        load_splits(task, read_tables(task, find_files(task, tmp_path / "rows.csv")), "standard", None)


def test_missing_split_to_predict_is_listed(make_task: Make) -> None:
    path = make_task(splits={"train": "train", "validation": "validation", "test": "test"}, predict="test")
    task = read_task(path)
    tables = read_tables(task, find_files(task, None))
    splits = load_splits(task, tables, "standard", None)
    assert set(splits) == {"train", "validation"}
    assert data_facts(task, tables, splits, is_test_mode=False).missing_splits == ["test"]


def test_other_missing_split_is_an_error(make_task: Make) -> None:
    path = make_task(splits={"train": "train", "validation": "dev"})
    with pytest.raises(UserError, match=r"split 'validation' is 'dev', .*train \(16 rows\), validation"):
        splits_of(path)


def test_split_to_predict_has_no_labels_even_if_the_source_has(make_task: Make) -> None:
    path = make_task(splits={"train": "train", "validation": "validation", "test": "validation"}, predict="test")
    splits = splits_of(path)
    assert splits["test"].label is None
    assert splits["test"].text == splits["validation"].text


def test_split_to_predict_needs_no_label_column(make_task: Make) -> None:
    rows = {"text": ["a"], "label": ["no"]}
    tables = {"train": rows, "validation": rows, "test": {"text": ["b", "c"]}}
    splits = splits_of(make_task(tables, predict="test"))
    assert (splits["test"].text, splits["test"].label) == (["b", "c"], None)


def test_own_file_must_have_its_checksum(make_task: Make, tmp_path: Path, write_rows: Write) -> None:
    path = write_rows(tmp_path / "rows.csv", {"text": ["a", "b"], "label": ["no", "yes"]})
    facts: dict[str, Any] = dict(
        splits={"train": "all[:1]", "validation": "all[1:]"}, rows={"train": 1, "validation": 1}
    )
    right = make_task({}, source={"file": "rows.csv", "sha256": file_hash(path)}, **facts)
    assert splits_of(right)["validation"].text == ["b"]
    wrong = make_task({}, source={"file": "rows.csv", "sha256": "0" * 64}, **facts)
    with pytest.raises(UserError, match=f"rows.csv: wrong checksum: expected sha256 {'0' * 64}, got {file_hash(path)}"):
        splits_of(wrong)


def test_file_of_the_data_flag_may_have_another_checksum(make_task: Make, tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "rows.csv", {"text": ["a", "b"], "label": ["no", "yes"]})
    other = write_rows(tmp_path / "other.csv", {"text": ["c", "d"], "label": ["no", "yes"]})
    facts: dict[str, Any] = dict(
        splits={"train": "all[:1]", "validation": "all[1:]"}, rows={"train": 1, "validation": 1}
    )
    path = make_task({}, source={"file": "rows.csv", "sha256": "0" * 64}, **facts)
    assert splits_of(path, data=other)["train"].text == ["c"]


def test_source_that_cannot_be_reached_names_the_ways_out(make_task: Make) -> None:
    hub = read_task(make_task(name="hub", source={"hub": "org/rows"}))
    with pytest.raises(
        UserError, match=r"cannot load org/rows from the Hub: .*\n.*HF_ENDPOINT.*--data DIR.*--test-mode"
    ):
        read_tables(hub, None)
    url = read_task(make_task(name="url", source={"files": {"train": "http://127.0.0.1:9/rows.csv"}}))
    with pytest.raises(UserError, match=r"cannot download http://127.*\n.*--data FILE.*--test-mode"):
        read_tables(url, find_files(url, None))


def test_folder_with_the_name_of_a_hub_data_set_does_not_replace_it(
    tmp_path: Path, write_rows: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"sentence1": ["a"], "sentence2": ["b"], "label": [0]}
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "nyu-mll/glue/rte" / f"{split}.parquet", rows)
    (tmp_path / "nyu-mll/glue/README.md").write_text(
        "---\nconfigs: [{config_name: rte, data_files: [{split: train, path: rte/train.parquet}]}]\n---\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cannot load nyu-mll/glue .* from the Hub"):
        read_tables(load_task("rte"), None)


def _missing(path: Path) -> None:
    path.unlink()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def _flipped(path: Path) -> None:
    octets = path.read_bytes()
    assert octets.count(b"long text") > 1
    path.write_bytes(octets.replace(b"long text", b"long\xfftext"))


@pytest.mark.parametrize("damage", [_missing, _truncated, _flipped])
def test_damaged_cache_of_the_hub_names_the_folder_to_delete(
    damage: Callable[[Path], None], tmp_path: Path, make_task: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": [f"long text {row}" for row in range(20)], "label": ["no", "yes"] * 10}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    files = dict.fromkeys(("train", "validation"), str(tmp_path / "rows.parquet"))
    builder = datasets.load_dataset_builder("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    damage(Path(builder.cache_dir) / "parquet-train.arrow")
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **keys: builder)
    task = read_task(make_task(source={"hub": "org/rows"}))
    with pytest.raises(UserError, match=f"Delete {builder.cache_dir}"):
        load_splits(task, read_tables(task, None), "standard", None)


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def task(make_task: Make) -> TaskSpec:
    """Two classes: no is 0, yes is 1."""
    return read_task(make_task())


@pytest.mark.parametrize(
    "values",
    [["no", "yes", "yes"], [0, 1, 1], [0.0, 1.0, 1.0], ["0", "1", "1"], ["no ", "yes\t", " yes"], [False, True, True]],
)
def test_label_may_be_its_name_or_its_number(task: TaskSpec, values: list[Any]) -> None:
    assert labels_of(task, datasets.Dataset.from_dict({"text": list("abc"), "label": values})) == [0, 1, 1]


def test_class_labels_of_a_source_are_matched_by_name(task: TaskSpec) -> None:
    for names in (["yes", "no"], ["yes", "no", "a label without rows"]):
        assert labels_of(task, numbered(names, [0, 1, 1])) == [1, 0, 0]


def test_class_labels_with_other_names_are_matched_by_number(task: TaskSpec) -> None:
    assert labels_of(task, numbered(["neg", "pos"], [0, 1, 1])) == [0, 1, 1]


def test_class_labels_keep_their_names_in_parquet(make_task: Make) -> None:
    path = make_task(ending="parquet")
    pq.write_table(numbered(["yes", "no"], [0, 1]).data.table, path.parent / "small" / "train.parquet")
    train = splits_of(path)["train"]
    assert train.label.tolist() == [1, 0]


def test_label_is_the_same_in_either_form_of_unicode(make_task: Make) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "sağlık"), unicodedata.normalize("NFD", "sağlık")
    assert composed != decomposed
    for name, value in ((composed, decomposed), (decomposed, composed)):
        task = read_task(make_task(labels=["spor", name]))
        assert labels_of(task, datasets.Dataset.from_dict({"text": ["a", "b"], "label": [value, "spor"]})) == [1, 0]


def test_label_keeps_its_case(task: TaskSpec) -> None:
    table = datasets.Dataset.from_dict({"text": ["a"], "label": ["Yes"]})
    with pytest.raises(UserError, match=r"unknown label 'Yes'; labels: no, yes\. Did you mean 'yes'\?"):
        labels_of(task, table)


def test_label_may_be_its_value_or_its_name(make_task: Make) -> None:
    task = read_task(make_task(labels={"negative": -2, "positive": 2}))
    table = datasets.Dataset.from_dict({"text": list("abcd"), "label": ["-2", "2", "negative", "positive"]})
    assert labels_of(task, table) == [0, 1, 0, 1]


def test_booleans_are_matched_by_name_where_labels_are_named_so(make_task: Make) -> None:
    """For Python, True equals 1, the class number of the label `false` here."""
    task = read_task(make_task(labels=["true", "false"]))
    assert labels_of(task, datasets.Dataset.from_dict({"text": ["a", "b"], "label": [True, False]})) == [0, 1]


def test_number_is_not_a_class_number_where_labels_have_values(make_task: Make) -> None:
    task = read_task(make_task(labels={"low": 1, "high": 2}))
    assert labels_of(task, datasets.Dataset.from_dict({"text": ["a", "b"], "label": [2, 1]})) == [1, 0]
    with pytest.raises(UserError, match="row 1 of split 'train': unknown label 0; labels: low, high"):
        labels_of(task, datasets.Dataset.from_dict({"text": ["a"], "label": [0]}))


@pytest.mark.parametrize("value", ["maybe", "", 2, 0.5, float("nan")])
def test_unknown_label_is_named_with_its_row(task: TaskSpec, value: Any) -> None:
    values = {str: ["no", "yes"], int: [0, 1], float: [0.0, 1.0]}[type(value)]
    table = datasets.Dataset.from_dict({"text": list("abc"), "label": [*values, value]})
    with pytest.raises(UserError, match=r"column 'label', row 3 of split 'train': unknown label .*; labels: no, yes"):
        labels_of(task, table)


@pytest.mark.parametrize("value", [-1, -1.0, "-1", None])
def test_hidden_label_in_a_scored_split_is_refused(task: TaskSpec, value: Any) -> None:
    known = "no" if isinstance(value, str) else 0
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [known, value]})
    with pytest.raises(UserError, match=r"row 2 of split 'train': hidden label .*'predict'"):
        labels_of(task, table)


def test_hidden_class_label_in_a_scored_split_is_refused(task: TaskSpec) -> None:
    with pytest.raises(UserError, match=r"row 2 of split 'train': hidden label \(-1\)"):
        labels_of(task, numbered(["yes", "no"], [0, -1]))


@pytest.mark.parametrize("value, advice", [("3,5", "decimal point"), ("high", ""), ("inf", ""), (None, "")])
def test_value_that_is_not_a_number_is_named_with_its_row(make_task: Make, value: Any, advice: str) -> None:
    task = read_task(make_task(labels=None, metrics=["pearson"], main_metrics="pearson"))
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["2.5 ", value]})
    with pytest.raises(UserError, match=f"row 2 of split 'train': expected a number, got {value!r}.*{advice}"):
        labels_of(task, table)


# -- texts and columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, message", [(None, "missing text"), (7, "7 is not a text")])
def test_value_that_is_not_a_text_is_named_with_its_row(task: TaskSpec, value: Any, message: str) -> None:
    texts = ["a", "b", value] if value is None else [value] * 3
    tables = in_memory({"train": {"text": texts, "label": ["no"] * 3}})
    with pytest.raises(UserError, match=f"column 'text', row {3 if value is None else 1} of split 'train': {message}"):
        load_splits(task, tables, "standard", None)


def test_missing_column_is_named_with_the_known_ones(make_task: Make) -> None:
    path = make_task(text="sentense", label="labl")
    with pytest.raises(UserError, match=r"column 'sentense' not found in split 'train'; its columns: text, label\.$"):
        splits_of(path)
    path = make_task(label="labl")
    with pytest.raises(UserError, match=r"column 'labl' not found in .*text, label\. Did you mean 'label'\?"):
        splits_of(path)


@pytest.mark.parametrize("ending", FILE_FORMATS)
def test_empty_split_is_refused(make_task: Make, ending: str) -> None:
    rows = {"text": ["a"], "label": ["no"]}
    path = make_task({"train": rows, "validation": {"text": [], "label": []}}, ending=ending)
    with pytest.raises(UserError, match=r"split 'validation' is empty|validation\.json(: no rows|l: empty file)"):
        splits_of(path)


def test_parquet_file_is_not_copied_into_a_cache(make_task: Make) -> None:
    splits_of(make_task(ending="parquet"))
    assert not list((Path(os.environ["HF_HOME"]) / "datasets").glob("parquet*"))


def test_names_of_folders_are_not_columns(tmp_path: Path, write_rows: Write, make_task: Make) -> None:
    """Other readers add a column for the folder `label=no`."""
    for split in ("train", "validation"):
        write_rows(tmp_path / "label=no" / "small" / f"{split}.parquet", {"text": ["a"]})
    with pytest.raises(UserError, match=r"column 'label' not found in split 'train'; its columns: text\."):
        splits_of(make_task(), tmp_path / "label=no")


def test_large_strings_and_dictionaries_of_arrow_are_texts(make_task: Make) -> None:
    path = make_task(ending="parquet")
    table = pa.table(
        {"text": pa.array(["a", "b"], pa.large_string()), "label": pa.array(["no", "yes"]).dictionary_encode()}
    )
    pq.write_table(table, path.parent / "small" / "train.parquet")
    assert splits_of(path)["train"].text == ["a", "b"]


# -- holdout and subsets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1_500, 277, 2])
def test_holdout_halves_are_those_of_datasets_shuffle(make_task: Make, rows: int) -> None:
    table = {"text": [str(row) for row in range(rows)], "label": [row % 2 for row in range(rows)]}
    task = apply_protocol(read_task(make_task({"train": table, "validation": table})), "holdout")
    splits = load_splits(task, in_memory({"train": table, "validation": table}), "holdout", None)
    shuffled = list(datasets.Dataset.from_dict(table).shuffle(seed=42)["text"])
    assert splits["validation"].text == shuffled[: rows // 2]
    assert splits["validation_holdout"].text == shuffled[rows // 2 :]
    assert len(splits["validation"].text) == rows // 2
    assert splits["train"].text == table["text"]
    for split in splits.values():
        assert split.label.tolist() == [int(text) % 2 for text in split.text]


def test_holdout_cuts_every_reported_split() -> None:
    task = apply_protocol(load_task("mnli"), "holdout")
    rows = {"premise": list("abcd"), "hypothesis": list("efgh"), "label": [0, 1, 2, 0]}
    names = ["train", "validation_matched", "validation_mismatched"]
    splits = load_splits(task, in_memory(dict.fromkeys(names, rows)), "holdout", None)
    assert {name: len(split.text) for name, split in splits.items()} == {
        "train": 4,
        "validation_matched": 2,
        "validation_mismatched": 2,
        "validation_matched_holdout": 2,
        "validation_mismatched_holdout": 2,
    }
    assert set(task.report) <= set(splits)


def test_training_subsets_are_nested_and_in_the_rows_order(task: TaskSpec) -> None:
    table = {"text": [str(row) for row in range(100)], "label": [row % 2 for row in range(100)]}
    tables = in_memory({"train": table, "validation": table})
    subsets = {rows: load_splits(task, tables, "standard", rows)["train"].text for rows in (1, 10, 50, 100)}
    assert [len(texts) for texts in subsets.values()] == [1, 10, 50, 100]
    assert set(subsets[1]) < set(subsets[10]) < set(subsets[50]) < set(subsets[100])
    assert all(texts == sorted(texts, key=int) for texts in subsets.values())
    assert subsets[10] == load_splits(task, tables, "standard", 10)["train"].text
    assert len(load_splits(task, tables, "standard", 10)["validation"].text) == 100


def test_more_training_rows_than_the_task_has_are_refused(task: TaskSpec) -> None:
    tables = in_memory({"train": {"text": ["a"], "label": ["no"]}})
    with pytest.raises(UserError, match=r"--train-rows 2: small .* 1 training rows"):
        load_splits(task, tables, "standard", 2)


def test_a_part_has_its_rows_of_every_column() -> None:
    pairs = [("x", "y"), ("z", "w"), ("u", "v")]
    numbers = np.array([0, 1, 1])
    split = Split(
        ["a", "b", "c"], ["d", "e", "f"], numbers, numbers, {"id": [5, 6, 7]}, pairs, ["p", "q", "r"], numbers
    )
    for field, values in split.take(np.array([2, 0]))._asdict().items():
        whole = getattr(split, field)
        if field == "ids":
            values, whole = values["id"], whole["id"]
        assert list(values) == [whole[2], whole[0]], field


# -- fields of the record ----------------------------------------------------------------------------------------------

ONE = Split(["a", "b"], ["c", "d"], np.array([0, 1]))


@pytest.mark.parametrize(
    "other",
    [
        ONE._replace(text=["a", "B"]),
        ONE._replace(pair=["c", "e"]),
        ONE._replace(pair=None),
        ONE._replace(label=np.array([1, 1])),
        ONE._replace(label=np.array([0.0, 1.0])),
        ONE._replace(text=["ab", ""]),
        ONE.take(np.array([1, 0])),
        ONE.take(np.array([0])),
    ],
)
def test_fingerprint_changes_with_every_text_label_and_order(other: Split) -> None:
    assert fingerprint({"train": ONE}) != fingerprint({"train": other})


def test_fingerprint_of_texts_changes_with_every_text_and_not_with_labels() -> None:
    assert texts_fingerprint(ONE) == texts_fingerprint(ONE._replace(label=None))
    choices = [ONE._replace(choices=[("x", "y"), ("z", last)]) for last in "vw"]
    others = [ONE._replace(text=["a", "B"]), ONE._replace(pair=["c", "e"]), ONE._replace(pair=None), *choices]
    assert len({texts_fingerprint(split) for split in (ONE, *others)}) == 6


def test_fingerprint_depends_on_the_split_of_the_rows() -> None:
    other = ONE._replace(text=["x", "y"])
    assert fingerprint({"train": ONE, "test": other}) == fingerprint({"test": other, "train": ONE})
    assert fingerprint({"train": ONE, "test": other}) != fingerprint({"train": other, "test": ONE})


def test_fingerprint_of_a_run_leaves_out_rows_with_hidden_labels(make_task: Make) -> None:
    rows = {"text": ["a", "b"], "label": ["no", "yes"]}
    task = read_task(make_task({"train": rows, "validation": rows, "test": rows}, predict="test"))
    facts = []
    for hidden in (["c"], ["d", "e"]):
        tables = in_memory({"train": rows, "validation": rows, "test": {"text": hidden}})
        facts.append(data_facts(task, tables, load_splits(task, tables, "standard", None), is_test_mode=False))
    assert facts[0].fingerprint == facts[1].fingerprint
    assert facts[0].rows != facts[1].rows


def test_rows_in_two_splits_are_counted_by_text_and_pair() -> None:
    first = Split(["a", "b", "c"], ["x", "x", "x"], None)
    second = Split(["a", "a", "b", "d"], ["x", "x", "y", "x"], np.array([0, 1, 0, 1]))
    assert shared_texts({"train": first, "validation": second}) == {"train & validation": 2}
    assert shared_texts({"train": first, "validation": second.take(np.array([2, 3]))}) == {}
    single = first._replace(pair=None)
    assert shared_texts({"train": single, "test": single}) == {"train & test": 3}


@pytest.mark.parametrize(
    "rows, is_test_mode, is_partial",
    [
        ({"train": 2, "validation": 2, "test": 2}, False, False),
        ({"train": 3, "validation": 2, "test": 2}, False, True),
        ({"train": 2, "validation": 1, "test": 2}, False, True),
        ({"train": 2, "validation": 2, "test": 9}, False, False),
        ({"train": 3, "validation": 2, "test": 2}, True, False),
        ({}, False, False),
    ],
)
def test_data_are_partial_when_a_labelled_split_has_another_number_of_rows(
    make_task: Make, rows: dict[str, int], is_test_mode: bool, is_partial: bool
) -> None:
    table = {"text": ["a", "b"], "label": ["no", "yes"]}
    names = ["train", "validation", "test"]
    task = read_task(make_task(dict.fromkeys(names, table), rows=rows, predict="test"))
    tables = in_memory(dict.fromkeys(names, table))
    facts = data_facts(task, tables, load_splits(task, tables, "standard", None), is_test_mode)
    assert facts.is_partial is is_partial
    assert facts.full_rows == rows
    assert facts.rows == {"train": 2, "validation": 2, "test": 2}


def test_subset_or_holdout_is_not_partial_data(make_task: Make) -> None:
    """The recipe selects these rows; the data are complete."""
    table = {"text": list("abcd"), "label": ["no", "yes"] * 2}
    task = apply_protocol(read_task(make_task({"train": table, "validation": table})), "holdout")
    tables = in_memory({"train": table, "validation": table})
    facts = data_facts(task, tables, load_splits(task, tables, "holdout", 2), is_test_mode=False)
    assert not facts.is_partial
    assert facts.rows == {"train": 2, "validation": 2, "validation_holdout": 2}


# -- texts of several columns ------------------------------------------------------------------------------------------

SPANS: dict[str, Any] = dict(
    text=["text", "question"],
    templates={"question": "Is it {what}? {{yes}}"},
    marks={"text": {"*": {"start": "first", "end": "last"}}},
)


def marked_rows(last: int = 6) -> dict[str, list[Any]]:
    return {
        "text": ["a bank", "a river"],
        "first": [2, 0],
        "last": [last, 1],
        "what": ["wet", "dry"],
        "label": ["no", "yes"],
    }


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_texts_are_composed_from_marked_columns_and_templates(make_task: Make, ending: str) -> None:
    path = make_task({"train": marked_rows(), "validation": marked_rows()}, ending=ending, **SPANS)
    split = splits_of(path)["train"]
    assert split.text == ["a * bank *", "* a * river"]
    assert split.pair == ["Is it wet? {yes}", "Is it dry? {yes}"]


def test_span_outside_its_text_is_named_with_its_row_and_split(make_task: Make) -> None:
    path = make_task({"train": marked_rows(), "validation": marked_rows(last=7)}, **SPANS)
    with pytest.raises(UserError, match=r"column 'text', row 1 of split 'validation': .*2 to 7"):
        splits_of(path)


@pytest.mark.parametrize("missing", ["what", "last"])
def test_template_or_span_with_an_unknown_column_is_named(make_task: Make, missing: str) -> None:
    rows = {name: values for name, values in marked_rows().items() if name != missing}
    with pytest.raises(UserError, match=f"column '{missing}' not found"):
        splits_of(make_task({"train": rows, "validation": rows}, **SPANS))


# -- groups of rows ----------------------------------------------------------------------------------------------------


def grouped(**keys: Any) -> TaskSpec:
    facts: dict[str, Any] = dict(
        name="grouped", title="Grouped", source={"file": "a.jsonl"}, text="text", labels=["no", "yes"], rows={}
    )
    facts |= dict(splits={"train": "all", "validation": "all"}, metrics=["accuracy"], main_metrics="accuracy")
    return TaskSpec(**{**facts, "group": ["idx.text", "idx.question"], **keys})


def answers(questions: Sequence[int], document: int = 0) -> dict[str, list[Any]]:
    """An answer to each of these questions."""
    return {
        "text": [f"q{question} a{row}" for row, question in enumerate(questions)],
        "label": ["no", "yes"] * (len(questions) // 2) + ["no"] * (len(questions) % 2),
        "idx": [{"text": document, "question": question, "answer": row} for row, question in enumerate(questions)],
    }


def test_groups_are_numbered_in_order_of_their_first_rows_and_ids_are_kept() -> None:
    task = grouped(splits={"train": "train", "validation": "validation"}, id="idx.answer")
    tables = in_memory({"train": answers([5, 5, 3, 5, 3]), "validation": answers([3, 5])})
    splits = load_splits(task, tables, "standard", None)
    assert splits["train"].row_groups.tolist() == [0, 0, 1, 0, 1]
    assert splits["train"].ids == {"idx.answer": [0, 1, 2, 3, 4]}
    assert fingerprint(splits) != fingerprint({name: split._replace(row_groups=None) for name, split in splits.items()})


def test_group_of_several_columns_is_read_from_a_file(make_task: Make) -> None:
    rows = answers([1, 1, 2, 2])
    path = make_task({"train": rows, "validation": rows}, ending="jsonl", group=["idx.text", "idx.question"])
    assert splits_of(path)["validation"].row_groups.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match=r"column 'idx\.query' not found"):
        splits_of(make_task({"train": rows, "validation": rows}, ending="jsonl", group="idx.query"))


def test_row_without_a_group_is_named() -> None:
    rows = answers([1, 1, 2])
    rows["idx"][1]["question"] = None
    with pytest.raises(UserError, match=r"column 'idx\.question', row 2 of split 'train': missing group"):
        load_splits(grouped(), in_memory({"train": rows}), "standard", None)


def test_group_in_two_parts_of_the_same_rows_is_refused() -> None:
    """Numbers that start again in another split of the source are other groups."""
    tables = in_memory({"train": answers([1, 1, 2]), "validation": answers([3, 2, 2])})
    parts = {"train": "all[:50%]", "validation": "all[50%:]"}
    for splits in (parts, {**parts, "validation": "all[50%:]+more"}):
        with pytest.raises(UserError, match=r"the group 0, 2 .*'train' and 'validation' \(row 2\)"):
            load_splits(grouped(splits=splits), tables, "standard", None)
    load_splits(grouped(splits={"train": "train", "validation": "validation[:50%]"}), tables, "standard", None)


def test_consecutive_rows_are_a_group_where_no_column_names_it(make_task: Make) -> None:
    keys: dict[str, Any] = dict(group_rows=2, metrics=["parity_by_group"], main_metrics="parity_by_group")
    rows = {"text": list("abcd"), "label": ["no", "yes"] * 2}
    train = splits_of(make_task({"train": rows, "validation": rows}, **keys))["train"]
    assert train.row_groups.tolist() == [0, 0, 1, 1]
    odd = {name: values[:3] for name, values in rows.items()}
    with pytest.raises(UserError, match=r"split 'validation' has 3 rows: .* 2 consecutive rows \(group_rows\)"):
        splits_of(make_task({"train": rows, "validation": odd}, **keys))


def test_stratified_parts_and_halves_keep_groups_whole() -> None:
    questions = [row // 3 for row in range(300)]
    parts = {"train": "all[stratified :70%]", "validation": "all[stratified 70%:]"}
    task = grouped(splits=parts)
    tables = Tables(loading.cut_splits(task, in_memory({"all": answers(questions)}).by_split), "memory", None)
    splits = load_splits(apply_protocol(task, "holdout"), tables, "holdout", None)
    counts = [np.bincount(split.row_groups) for split in splits.values()]
    assert sum(len(split.text) for split in splits.values()) == 300
    names = {name: {text.split()[0] for text in split.text} for name, split in splits.items()}
    assert sum(map(len, names.values())) == 100, "no question is in two of them"
    assert set(np.concatenate(counts).tolist()) <= {0, 3}
    assert abs(len(names["validation"]) - len(names["validation_holdout"])) <= 1


def test_subset_of_the_training_rows_has_whole_groups() -> None:
    """Rows of one group need not be next to each other."""
    questions = [row % 50 for row in range(300)]
    task = grouped(splits={"train": "train", "validation": "validation"})
    tables = in_memory({"train": answers(questions), "validation": answers([0])})
    small, large = (load_splits(task, tables, "standard", rows)["train"] for rows in (20, 100))
    for split, rows in ((small, 18), (large, 96)):
        assert len(split.text) == rows
        assert set(np.bincount(split.row_groups).tolist()) == {0, 6}
    assert set(small.text) < set(large.text)


def test_subset_of_rows_without_groups_is_the_same_as_ever(task: TaskSpec) -> None:
    """Its runs keep their run IDs."""
    tables = in_memory({"train": {"text": [f"{row}" for row in range(20)], "label": ["no", "yes"] * 10}})
    subset = load_splits(task, tables, "standard", 6)["train"]
    assert subset.text == ["7", "9", "10", "12", "14", "15"]


def test_part_of_a_split_that_cuts_a_group_is_refused(make_task: Make) -> None:
    rows = answers([1, 1, 2, 2, 3, 3])
    keys: dict[str, Any] = {"group": ["idx.text", "idx.question"], "ending": "jsonl"}

    def load(train: str, validation: str = "validation", **changes: Any) -> dict[str, Split]:
        splits = {"train": train, "validation": validation}
        return splits_of(make_task({"train": rows, "validation": rows}, splits=splits, **{**keys, **changes}))

    assert load("train[:4]")["train"].row_groups.tolist() == [0, 0, 1, 1]
    assert len(load("train[:1]+train[1:2]")["train"].text) == 2
    with pytest.raises(UserError, match=r"split 'train' is 'train\[:3\]', .* row 3 of 'train' without row 4"):
        load("train[:3]")
    with pytest.raises(UserError, match=r"split 'validation' .* row 6 of 'validation' without row 5"):
        load("train", "validation[5:]")
    consecutive = {"group": None, "group_rows": 2}
    assert load("train[2:4]", **consecutive)["train"].row_groups.tolist() == [0, 0]
    with pytest.raises(UserError, match=r"split 'train' .* row 2 of 'train' without row 1"):
        load("train[1:5]", **consecutive)
    with pytest.raises(UserError, match=r"column 'idx\.query' not found in split 'train'"):
        load("train[:3]", group="idx.query")


def test_part_of_a_hub_split_that_cuts_a_group_is_refused(
    tmp_path: Path, make_task: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": [f"text {row}" for row in range(8)], "label": ["no", "yes"] * 4, "pair": [0, 0, 1, 1, 2, 2, 3, 3]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    files = dict.fromkeys(("train", "validation"), str(tmp_path / "rows.parquet"))
    builder = datasets.load_dataset_builder("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **keys: builder)
    for groups in ({"group": "pair"}, {"group_rows": 2}):
        for part, is_whole in (("train[:50%]", True), ("train[:3]", False)):
            splits = {"train": part, "validation": "validation"}
            task = read_task(make_task(source={"hub": "org/rows"}, splits=splits, **groups))
            if is_whole:
                assert len(load_splits(task, read_tables(task, None), "standard", None)["train"].text) == 4
                continue
            with pytest.raises(UserError, match="row 3 of 'train' without row 4"):
                read_tables(task, None)


def test_consecutive_rows_of_a_group_are_shuffled_and_stratified_together(make_task: Make) -> None:
    rows = {"text": [f"{row // 3} {row % 3}" for row in range(300)], "label": ["no", "yes"] * 150}
    keys: dict[str, Any] = dict(group_rows=3, metrics=["parity_by_group"], main_metrics="parity_by_group")
    for parts in ("all[:60%]", "all[60%:]"), ("all[stratified :60%]", "all[stratified 60%:]"):
        splits = dict(zip(("train", "validation"), parts, strict=True))
        path = make_task({"all": rows}, splits=splits, rows=None, source=None, **keys)
        source = {"file": "small/all.csv", "shuffle": 7}
        path.write_text(path.read_text() + f"source: {source}\n")
        loaded = splits_of(path)
        assert sum(len(split.text) for split in loaded.values()) == 300
        for split in loaded.values():
            groups = [text.split()[0] for text in split.text]
            assert groups[::3] == groups[1::3] == groups[2::3]
            assert [text.split()[1] for text in split.text[:3]] == ["0", "1", "2"]
        if "stratified" not in parts[0]:
            assert loaded["train"].text[:1] != ["0 0"], "shuffled"


# -- multiple choice ---------------------------------------------------------------------------------------------------


def choice_rows(**columns: list[Any]) -> dict[str, list[Any]]:
    rows = {"text": ["q1", "q2"], "a": ["yes", "one"], "b": ["no", "two"], "label": [0, 1]}
    return {**rows, "list": [["yes", "no"], ["one", "two"]], **columns}


def choice_task(make_task: Make, rows: dict[str, list[Any]], **keys: Any) -> Path:
    facts: dict[str, Any] = dict(labels=None, choices=["a", "b"], ending="jsonl")
    return make_task({"train": rows, "validation": rows}, **{**facts, **keys})


def test_candidates_are_columns_templates_or_a_list(make_task: Make) -> None:
    columns = splits_of(choice_task(make_task, choice_rows()))["train"]
    assert columns.choices == [("yes", "no"), ("one", "two")]
    assert columns.label.tolist() == [0, 1]
    lists = splits_of(choice_task(make_task, choice_rows(), choices="list", labels=["a", "b"]))["train"]
    assert lists.choices == columns.choices
    keys = dict(choices=["c", "b"], templates={"c": "{text} {a}"}, labels={"first": "a", "second": "b"})
    written = splits_of(choice_task(make_task, choice_rows(label=["b", "a"]), **keys))
    assert written["train"].choices == [("q1 yes", "no"), ("q2 one", "two")]
    assert written["train"].label.tolist() == [1, 0]
    assert written["train"].texts == [("q1", "q1 yes | no"), ("q2", "q2 one | two")]
    assert fingerprint({"train": lists}) != fingerprint({"train": lists._replace(choices=written["train"].choices)})


@pytest.mark.parametrize(
    "columns, keys, message",
    [
        ({"b": ["no", None]}, {}, "column 'choices', row 2 of split 'train': missing text"),
        ({"list": [["yes", "no"], ["one"]]}, {"choices": "list", "labels": ["a", "b"]}, "row 2 .*2 candidates, got 1"),
        ({"list": [["yes", "no"], None]}, {"choices": "list", "labels": ["a", "b"]}, "row 2 .*missing candidates"),
        ({"label": [0, 2]}, {}, "column 'label', row 2 of split 'train': unknown label 2; labels: a, b"),
        ({"label": [0, None]}, {}, "row 2 of split 'train': hidden label"),
        ({"label": [[0, 1], [1]]}, {}, r"row 1 of split 'train': unknown label \[0, 1\]"),
        ({}, {"choices": ["a", "c"]}, "column 'c' not found"),
    ],
)
def test_row_without_all_candidates_or_one_right_one_is_named(
    make_task: Make, columns: dict[str, list[Any]], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        splits_of(choice_task(make_task, choice_rows(**columns), **keys))
