"""YAML as the harness reads it: labels stay text, and an error names its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.facts.yaml_file import MAX_DEPTH, MAX_DIGITS, MAX_ITEMS, line_number, read_yaml

TEXT = """\
first: 2e-5
labels: [no, 010, 2024-01-31]
deep:
  list:
    - one
    - {two: true}
"""

LAUGHS = "l0: &l0 [" + ", ".join(["lol"] * 10) + "]\n"
LAUGHS += "".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]\n" for level in range(1, 9))
"""Ninety aliases that repeat 10^9 items."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.yaml"
    file.write_text(TEXT)
    return file


def test_labels_stay_text_and_numbers_are_numbers(path: Path) -> None:
    values, _ = read_yaml(path, "")
    assert values == {"first": 2e-5, "labels": ["no", "010", "2024-01-31"], "deep": {"list": ["one", {"two": True}]}}


@pytest.mark.parametrize(
    "location, line",
    [(("labels",), 2), (("deep", "list", 0), 5), (("deep", "list", 1, "two"), 6), (("deep", "missing"), 3), ((), 1)],
)
def test_line_is_that_of_the_innermost_known_part(path: Path, location: tuple[str | int, ...], line: int) -> None:
    assert line_number(read_yaml(path, "")[1], location) == line


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\na: 2\n", r"file\.yaml:2: .*duplicate key 'a'"),
        ("a: 1\nb: ]\n", r"file\.yaml:2: invalid YAML"),
        ("- a\n", r"file\.yaml:1: .*soup: tomato"),
        ("", r"file\.yaml:1: .*soup: tomato"),
        ("a: \0\n", r"file\.yaml: invalid YAML: .*unacceptable character"),
        ("a: \x13\n", r"file\.yaml: invalid YAML: .*unacceptable character"),
        ("a: 1\nb: !!int foo\n", r"file\.yaml:2: .*int.*'foo'"),
        ("a: 1\nb: !!float foo\n", r"file\.yaml:2: .*float.*'foo'"),
        ("a: 1\nb: !!bool maybe\n", r"file\.yaml:2: .*bool.*'maybe'"),
        ("a: 1\nb: !!timestamp x\n", r"file\.yaml:2: .*timestamp.*'x'"),
        ("a: 1\nb: !!timestamp 2024-13-01\n", r"file\.yaml:2: .*timestamp.*'2024-13-01'"),
        ("a: 1\n!!int foo: 2\n", r"file\.yaml:2: .*int.*'foo'"),
        (f"a: 1\nb: [{'9' * 5000}]\n", rf"file\.yaml:2: .*{MAX_DIGITS:,} digits: '9+'\.\.\.\.$"),
        (f"a: 1\nb: {'[' * 5000}\n", rf"file\.yaml:2: .*{MAX_DEPTH} levels"),
        (f"a: 1\nb: {'{a: ' * 5000}\n", rf"file\.yaml:2: .*{MAX_DEPTH} levels"),
        (LAUGHS, rf"file\.yaml:[67]: .*{MAX_ITEMS:,} items"),
        ("a: 1\nb: &b [*b]\n", r"file\.yaml:2: .*alias"),
        ("a: 1\nb: &b {c: *b}\n", r"file\.yaml:2: .*alias"),
        ('a: 1\nb: "x\\ud800"\n', r"file\.yaml:2: .*surrogate"),
        ('a: 1\n"\\udfff": 1\n', r"file\.yaml:2: .*surrogate"),
    ],
)
def test_error_names_its_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_yaml(path, "soup: tomato")


def test_aliases_and_many_labels_stay_possible(path: Path) -> None:
    labels = [f"label {number}" for number in range(20_000)]
    path.write_text(f"labels: &all {labels}\nagain: [*all, *all]\nmerged: {{<<: {{x: 1}}, y: 2}}\n")
    values, _ = read_yaml(path, "")
    assert values == {"labels": labels, "again": [labels, labels], "merged": {"x": 1, "y": 2}}


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(UserError, match=r"fifo\.yaml: .*FIFO"):
        read_yaml(tmp_path / "fifo.yaml", "")


def test_text_that_is_not_utf8_is_named(path: Path) -> None:
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match=r"file\.yaml: .*utf-8"):
        read_yaml(path, "")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.yaml: .*no such file"):
        read_yaml(tmp_path / "missing.yaml", "")
