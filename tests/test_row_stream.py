"""Rows some at a time: the same texts from any format, in order, and every fault with its place."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.rows.columns import Reading
from harness.rows.stream import Columns, Rows, from_file, from_lines

TEXT = ["plain", 'with "quotes", a comma', "two\nlines", "", "null", "NA", "Işık ığüşöç", "=1+1", " x\ty "]
PAIR = [f"pair {row}" for row in range(len(TEXT))]
COLUMNS = Columns(("a",), ("b",))
ONE = Columns(("a",), None)


def texts(path: Path, columns: Columns = COLUMNS, chunk: int = 4, **reading: str) -> list[Rows]:
    return list(from_file(path, columns, Reading(**reading), chunk))


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_texts_come_as_they_stand_in_every_format(ending: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    path = write_rows(tmp_path / f"rows.{ending}", {"b": PAIR, "id": list(range(len(TEXT))), "a": TEXT})
    chunks = texts(path)
    assert [len(rows.text) for rows in chunks] == [4, 4, 1]
    assert list(itertools.chain.from_iterable(rows.text for rows in chunks)) == TEXT
    assert list(itertools.chain.from_iterable(rows.pair or [] for rows in chunks)) == PAIR
    assert [rows.pair for rows in texts(path, ONE)] == [None] * 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_packed_files_are_read_too(ending: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    plain = write_rows(tmp_path / f"rows.{ending}", {"a": TEXT})
    packed = tmp_path / f"rows.{ending}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert texts(packed, ONE) == texts(plain, ONE)


def test_text_that_is_several_columns_is_these_one_below_the_other(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    path = write_rows(tmp_path / "rows.csv", {"title": ["T", ""], "body": ["B", "only"], "q": ["1", "2"]})
    (rows,) = texts(path, Columns(("title", "body"), ("q",)))
    assert rows == Rows(["T\nB", "only"], ["1", "2"])


def test_large_file_does_not_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("a\n")
        for row in range(10_000):
            file.write(f"{row} {'x' * 2000}\n")
    tracemalloc.start()
    try:
        assert sum(len(rows.text) for rows in from_file(path, ONE, Reading(), 200)) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10


def test_delimiter_and_encoding_are_as_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("a;b\nışık;şey\n".encode("iso-8859-9"))
    assert texts(path, delimiter=";", encoding="iso-8859-9") == [Rows(["ışık"], ["şey"])]


def test_lines_are_texts_and_tabs_part_pairs() -> None:
    assert list(from_lines(["one\n", "\n", "two, three"], is_pair=False)) == [Rows(["one", "", "two, three"], None)]
    assert list(from_lines(["a\tb\r\n", "c\td"], is_pair=True, chunk=1)) == [Rows(["a"], ["b"]), Rows(["c"], ["d"])]


@pytest.mark.parametrize("line, has", [("alone", 1), ("a\tb\tc", 3)])
def test_line_without_two_texts_is_told_with_its_number(line: str, has: int) -> None:
    with pytest.raises(UserError, match=rf"standard input: line 2 has {has} text\(s\); this task is on pairs"):
        list(from_lines(["a\tb", line], is_pair=True))


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("rows.csv", "", "there is no row in it"),
        ("rows.csv", "a,b\n", "there is no row in it"),
        ("rows.jsonl", "", "there is no row in it"),
        ("rows.csv", "a,c\nx,y\n", r"has no column 'b'; its columns: a, c\. --pair-column names another"),
        ("rows.csv", "A,b\nx,y\n", r"has no column 'a'; its columns: A, b\. Did you mean 'A'\? --text-column names an"),
        ("rows.csv", "a,b\nx,y\n1,2,3\n", r"rows\.csv:3: has 3 columns, the header 2\. A text that holds a ','"),
        ("rows.tsv", "a\tb\nx\n", r"rows\.tsv:2: has 1 columns, the header 2"),
        ("rows.csv", 'a,b\n"x,y\n', r"rows\.csv:2: cannot be read: a quote .* is never closed"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n{"a": "x"}\n', "column 'b' is missing in row 2"),
        ("rows.jsonl", '{"a": 5, "b": "y"}\n', "column 'a' is 5, not a text in row 1"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n[1]\n', r"rows\.jsonl:2: a row is an object"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n{"a"\n', "cannot be read as jsonl: line 2"),
        ("rows.parquet", "no parquet", "cannot be read as parquet"),
        ("rows.docx", "x", "does not end in one of csv, tsv, json"),
        ("rows", "x", "does not end in one of csv"),
    ],
)
def test_fault_is_told_with_its_place(name: str, content: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        texts(path)


def test_file_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("a,b\nx,y\nışık,şey\n".encode("iso-8859-9"))
    with pytest.raises(UserError, match=r"rows\.csv:3: is not UTF-8 .* give --encoding"):
        texts(path)


def test_missing_file_and_flags_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: there is no such file"):
        texts(tmp_path / "none.csv")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="--encoding latin-99: Python knows none"):
        texts(tmp_path / "rows.csv", encoding="latin-99")
    with pytest.raises(UserError, match="--delimiter '::': a delimiter is one sign"):
        texts(tmp_path / "rows.csv", delimiter="::")


def test_row_of_json_lines_counts_rows_and_not_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps({"a": "x"}) + "\n\n" + json.dumps({"a": None}) + "\n")
    with pytest.raises(UserError, match="column 'a' is missing in row 2"):
        texts(path, ONE)
