"""No cell is a formula for a spreadsheet."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from harness.system.spreadsheets import csv_text, escape_cell


@pytest.mark.parametrize("cell", ["-1", "+3.5", "-0,5", "a=b", "plain", "", 7, -0.5, None])
def test_numbers_and_plain_texts_are_unchanged(cell: Any) -> None:
    assert escape_cell(cell) == cell


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_formula_gets_an_apostrophe(text: str) -> None:
    assert escape_cell(text) == "'" + text.replace("\r", "\n")


def test_table_has_empty_cells_for_none_and_quotes_for_commas() -> None:
    header, row = csv.reader(csv_text(["=a", "b", "c"], [["x, y", None, -1]]).splitlines())
    assert header == ["'=a", "b", "c"]
    assert row == ["x, y", "", "-1"]
