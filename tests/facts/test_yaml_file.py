"""YAML as the harness reads it: labels stay text, and an error names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.facts.yaml_file import line_number, read_yaml

TEXT = """\
first: 2e-5
labels: [no, 010, 2024-01-31]
deep:
  list:
    - one
    - {two: true}
"""


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
    ],
)
def test_error_names_its_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_yaml(path, "soup: tomato")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.yaml: .*No such file"):
        read_yaml(tmp_path / "missing.yaml", "")
