"""Chunks of rows: the same texts from any format, in order, and an error is named with its row or line."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import tracemalloc
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from harness.errors import UserError
from harness.facts.texts import ChoiceSource, Span, TextSource
from harness.rows.columns import ReadOptions
from harness.rows.splits import Split
from harness.rows.stream import TextColumns, stream_file, stream_lines

TEXT = ["plain", 'with "quotes", a comma', "two\nlines", "", "null", "NA", "Işık ığüşöç", "=1+1", " x\ty "]
PAIR = [f"pair {row}" for row in range(len(TEXT))]
COLUMNS = TextColumns((TextSource("a", ("a",)), TextSource("b", ("b",))))
ONE = TextColumns((TextSource("a", ("a",)),))


def texts(path: Path, columns: TextColumns = COLUMNS, chunk: int = 4, **options: str) -> list[Split]:
    return list(stream_file(path, columns, ReadOptions(**options), chunk))


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_texts(ending: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    path = write_rows(tmp_path / f"rows.{ending}", {"b": PAIR, "id": list(range(len(TEXT))), "a": TEXT})
    chunks = texts(path)
    assert [len(rows.text) for rows in chunks] == [4, 4, 1]
    assert list(itertools.chain.from_iterable(rows.text for rows in chunks)) == TEXT
    assert list(itertools.chain.from_iterable(rows.pair for rows in chunks)) == PAIR
    assert [rows.pair for rows in texts(path, ONE)] == [None] * 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_compressed_files_are_read_too(ending: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    plain = write_rows(tmp_path / f"rows.{ending}", {"a": TEXT})
    compressed = tmp_path / f"rows.{ending}.gz"
    compressed.write_bytes(gzip.compress(plain.read_bytes()))
    assert texts(compressed, ONE) == texts(plain, ONE)


def test_several_columns_are_joined_into_one_text(tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    path = write_rows(tmp_path / "rows.csv", {"title": ["T", ""], "body": ["B", "only"], "q": ["1", "2"]})
    (rows,) = texts(path, TextColumns((TextSource("article", ("title", "body")), TextSource("q", ("q",)))))
    assert rows == Split(["T\nB", "only"], ["1", "2"], None)


def test_large_file_does_not_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("a\n")
        for row in range(10_000):
            file.write(f"{row} {'x' * 2000}\n")
    tracemalloc.start()
    try:
        assert sum(len(rows.text) for rows in stream_file(path, ONE, ReadOptions(), 200)) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10


def test_delimiter_and_encoding_are_those_of_the_options(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("a;b\nışık;şey\n".encode("iso-8859-9"))
    assert texts(path, delimiter=";", encoding="iso-8859-9") == [Split(["ışık"], ["şey"], None)]


def test_line_is_a_text_or_a_pair_with_a_tab() -> None:
    lines = ["one\n", "\n", "two, three"]
    assert list(stream_lines(lines, is_pair=False)) == [Split(["one", "", "two, three"], None, None)]
    chunks = list(stream_lines(["a\tb\r\n", "c\td"], is_pair=True, chunk=1))
    assert chunks == [Split(["a"], ["b"], None), Split(["c"], ["d"], None)]


@pytest.mark.parametrize("line, texts", [("alone", 1), ("a\tb\tc", 3)])
def test_line_without_two_texts_is_named_with_its_number(line: str, texts: int) -> None:
    with pytest.raises(UserError, match=rf"standard input:2: expected two texts .*got {texts}"):
        list(stream_lines(["a\tb", line], is_pair=True))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("rows.csv", "", "empty file"),
        ("rows.csv", "a,b\n", "no rows"),
        ("rows.jsonl", "", "empty file"),
        ("rows.jsonl", "\n \n", "no rows"),
        ("rows.json", "[]", "no rows"),
        ("rows.csv", "a,c\nx,y\n", r"column 'b' not found; its columns: a, c\. .*--pair-column"),
        ("rows.csv", "A,b\nx,y\n", r"column 'a' not found; .* A, b\. Did you mean 'A'\? .*--text-column"),
        ("rows.csv", "a,b\nx,y\n1,2,3\n", r"rows\.csv: expected 2 columns .* row 2 \(line 3\) has 3\. .*','"),
        ("rows.tsv", "a\tb\nx\n", r"rows\.tsv: expected 2 columns .* row 1 \(line 2\) has 1"),
        ("rows.csv", 'a,b\n"x,y\n', r"rows\.csv:2: missing closing quote"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n{"a": "x"}\n', "column 'b', row 2: missing text"),
        ("rows.jsonl", '{"a": 5, "b": "y"}\n', "column 'a', row 1: 5 is not a text"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n[1]\n', r"rows\.jsonl: expected an object, .*row 2, got a list"),
        ("rows.jsonl", '{"a": "x", "b": "y"}\n{"a"\n', "cannot be read as jsonl: line 2"),
        ("rows.parquet", "no parquet", "cannot be read as parquet"),
        ("rows.docx", "x", "'.*rows.docx': unsupported file format: .*csv, tsv, json"),
        ("rows", "x", "'.*rows': unsupported file format: .*csv"),
    ],
)
def test_error_is_named_with_its_row_or_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        texts(path)


def test_joined_text_needs_one_of_its_columns_as_for_training(tmp_path: Path) -> None:
    columns, path = TextColumns((TextSource("a+b", ("a", "b")),)), tmp_path / "rows.jsonl"
    path.write_text('{"a": "x", "b": null}\n{"a": "y", "b": "z"}\n')
    (rows,) = stream_file(path, columns, ReadOptions())
    assert rows.text == ["x", "y\nz"]
    path.write_text('{"a": "x", "b": "z"}\n{"a": null, "b": null}\n')
    with pytest.raises(UserError, match=r"row 2: missing text \(in 'a', 'b'\)"):
        list(stream_file(path, columns, ReadOptions()))


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow", "xlsx"])
def test_dates_and_times_are_texts_as_in_a_csv(ending: str, tmp_path: Path) -> None:
    days = [date(2024, 2, 29), date(2024, 3, 1)]
    table = pd.DataFrame({"a": days, "b": pd.to_datetime(["2024-02-29 10:00:00", "2024-03-01 10:30:00"])})
    path = tmp_path / f"rows.{ending}"
    if ending == "arrow":
        with pa.ipc.new_file(path, (arrow := pa.Table.from_pandas(table)).schema) as file:
            file.write_table(arrow)
    else:
        write = {"csv": partial(table.to_csv, index=False), "parquet": table.to_parquet, "xlsx": table.to_excel}
        write[ending](path)
    (rows,) = texts(path)
    assert rows.text == ["2024-02-29", "2024-03-01"]
    assert rows.pair == ["2024-02-29 10:00:00", "2024-03-01 10:30:00"]


def test_sheet_of_a_workbook_is_named_as_for_training(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
        for sheet in ("one", "two"):
            pd.DataFrame({"a": [sheet]}).to_excel(book, sheet_name=sheet)
    with pytest.raises(UserError, match="#sheet=one"):
        texts(tmp_path / "book.xlsx", ONE)
    assert texts(tmp_path / "book.xlsx#sheet=two", ONE) == [Split(["two"], None, None)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_delimiter_is_inferred_from_the_header_as_for_training(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("a;b;c\nx,1;y\t;z\n", encoding="utf-8")
    assert texts(tmp_path / name) == [Split(["x,1"], ["y\t"], None)]


@pytest.mark.parametrize("delimiter", ["tab", "\\t", "\t"])
def test_tab_has_the_names_that_it_has_for_training(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\tb\nx\ty\n", encoding="utf-8")
    assert texts(tmp_path / "rows.csv", delimiter=delimiter) == [Split(["x"], ["y"], None)]


@pytest.mark.parametrize("line", ["Turkish \udcfe\n", "\ud800", "\udcff\tb\n"])
def test_line_that_is_no_text_is_named(line: str) -> None:
    """As standard input has it for bytes that are not UTF-8."""
    with pytest.raises(UserError, match=r"standard input:2: .*not UTF-8"):
        list(stream_lines(["plain\n", line], is_pair=False))


def test_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("a,b\nx,y\nışık,şey\n".encode("iso-8859-9"))
    with pytest.raises(UserError, match=r"rows\.csv:3: not UTF-8 .*--encoding"):
        texts(path)


def test_missing_file_and_invalid_flags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--file .*missing\.csv: file not found"):
        texts(tmp_path / "missing.csv")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    for encoding in ("latin-99", "", "idna", "punycode", "undefined", "base64", "a\0"):
        with pytest.raises(UserError, match=f"--encoding {encoding}: unknown encoding"):
            texts(tmp_path / "rows.csv", encoding=encoding)
    with pytest.raises(UserError, match="--delimiter '::': expected one character"):
        texts(tmp_path / "rows.csv", delimiter="::")


@pytest.mark.parametrize("name", ["a" * 300 + ".csv", "fifo.csv", "loop.csv", "folder.csv"])
def test_path_that_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"^--file .*/\w+(\.csv|\.\.\.): "):
        texts(tmp_path / name)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_parts_of_objects_are_read_as_in_training(ending: str, tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    objects = [{"a": "x", "b": "y"}, {"a": "z", "b": None}]
    path = write_rows(tmp_path / f"rows.{ending}", {"text": objects})
    part = TextSource("text.a", ("text.a",))
    assert texts(path, TextColumns((part,)), chunk=1) == [Split(["x"], None, None), Split(["z"], None, None)]
    with pytest.raises(UserError, match=r"column 'text\.b', row 2: missing text"):
        texts(path, TextColumns((part, TextSource("text.b", ("text.b",)))), chunk=1)
    with pytest.raises(UserError, match=r"column 'text\.aa' not found; its columns: text\.a, text\.b\. .*'text\.a'\?"):
        texts(path, TextColumns((TextSource("text.aa", ("text.aa",)),)))


def test_row_of_json_lines_counts_rows_and_not_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps({"a": "x"}) + "\n\n" + json.dumps({"a": None}) + "\n")
    for chunk in (1, 4):
        with pytest.raises(UserError, match="column 'a', row 2: missing text"):
            texts(path, ONE, chunk)


def test_candidates_come_from_columns_lists_or_a_line(tmp_path: Path) -> None:
    one = TextSource("a", ("a",))
    (tmp_path / "rows.csv").write_text("a,c,d\nq,x,y\n")
    sources = (TextSource("c", ("c",)), TextSource("d", ("d", "a"), "{d} {a}"))
    (rows,) = texts(tmp_path / "rows.csv", TextColumns((one,), ChoiceSource(sources, 2)))
    assert rows == Split(["q"], None, None, choices=[("x", "y q")])
    path, lists = tmp_path / "rows.jsonl", ChoiceSource((TextSource("c", ("c",)),), 2)
    path.write_text(json.dumps({"a": "q", "c": ["x", "y"]}) + "\n" + json.dumps({"a": "q", "c": ["x"]}) + "\n")
    with pytest.raises(UserError, match="row 2: expected 2 candidates, got 1"):
        texts(path, TextColumns((one,), lists))
    assert list(stream_lines(["q\tx\ty\n"], is_pair=False, choices=2)) == [
        Split(["q"], None, None, choices=[("x", "y")])
    ]
    with pytest.raises(UserError, match=r"standard input:1: expected 3 texts .* got 2"):
        list(stream_lines(["q\tx\n"], is_pair=False, choices=2))


def test_spans_of_a_file_are_marked_and_one_outside_its_text_is_named_with_its_row(tmp_path: Path) -> None:
    marked = TextSource("a", ("a",), None, {"a": {"*": Span(start="first", end="last")}})
    path = tmp_path / "rows.csv"
    path.write_text("a,first,last\na bank of mud,2,6\n")
    (rows,) = texts(path, TextColumns((marked,)))
    assert rows.text == ["a * bank * of mud"]
    path.write_text("a,first,last\na bank of mud,2,6\na bank,2,7\n")
    with pytest.raises(UserError, match=r"rows\.csv: row 2: .*2 to 7"):
        texts(path, TextColumns((marked,)))
