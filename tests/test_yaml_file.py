"""YAML as the harness reads it: what stands there is what is meant, and a fault knows its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.facts.yaml_file import line_of, read_yaml

TEXT = """\
first: 2e-5
answers: [no, 010, 2024-01-31]
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


def test_labels_stay_texts_and_numbers_are_numbers(path: Path) -> None:
    values, _ = read_yaml(path, "")
    assert values == {"first": 2e-5, "answers": ["no", "010", "2024-01-31"], "deep": {"list": ["one", {"two": True}]}}


@pytest.mark.parametrize(
    "location, line",
    [(("answers",), 2), (("deep", "list", 0), 5), (("deep", "list", 1, "two"), 6), (("deep", "none"), 3), ((), 1)],
)
def test_line_is_that_of_the_innermost_part_there_is(path: Path, location: tuple[str | int, ...], line: int) -> None:
    assert line_of(read_yaml(path, "")[1], location) == line


@pytest.mark.parametrize(
    "text, told",
    [
        ("a: 1\na: 2\n", r"file\.yaml:2: this is not YAML: the key 'a' stands twice"),
        ("a: 1\nb: ]\n", r"file\.yaml:2: this is not YAML"),
        ("- a\n", r"file\.yaml:1: a menu holds dishes\.$"),
        ("", r"file\.yaml:1: a menu holds dishes\.$"),
    ],
)
def test_fault_is_told_with_its_line(path: Path, text: str, told: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        read_yaml(path, "a menu holds dishes")


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml", "")
