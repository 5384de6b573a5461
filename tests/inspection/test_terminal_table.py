"""Tables on a terminal show the control characters of data, and only rich's own reach the terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.inspection.terminal_table import DataConsole, print_table


def test_control_characters_of_cells_are_shown_on_a_terminal() -> None:
    table = Table("label\x1b[2J", title="title\x1b]0;x\x07")
    table.add_row(Text("\x9b2J", style="bold"))
    terminal = DataConsole(file=io.StringIO(), force_terminal=True, width=60)
    terminal.print(table)
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "label\\u0" in shown, "a table is as wide as its text without control characters"
    assert "\\u001b]0;x" in shown
    assert "\\u009b2J" in shown
    assert not any(control in shown for control in ("\x1b[2J", "\x1b]", "\x07", "\x9b"))
    assert "\x1b[1m" in shown, "styles stay"


def test_tables_without_control_characters_are_those_of_rich(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["a", "text"], [["1", "[bold]x[/bold]"]])
    assert "[bold]x[/bold]" in capsys.readouterr().out
    table = Table("a", "b")
    table.add_row("1", "é")
    plain, ours = Console(file=io.StringIO(), width=40), DataConsole(file=io.StringIO(), width=40)
    plain.print(table)
    ours.print(table)
    assert plain.file.getvalue() == ours.file.getvalue()  # type: ignore[attr-defined]


def test_line_break_in_a_cell_or_a_title_makes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title\nfake", ["", "n\rm"], [["label\nfake  9", "1"], ["b\u2028c", "2"]])
    assert len(capsys.readouterr().out.splitlines()) == len(["title", "head", "first", "second", "empty line"])


def test_wide_characters_are_cut_at_the_edge_of_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("title", ["label", "text"], [["日本", "語" * 50], ["b", "x" * 50]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(["title", "head", "first", "second", "empty line"])
    assert [line.rstrip()[-1] for line in lines[2:4]] == ["…", "…"]
    assert all(cell_len(line) <= 40 for line in lines)


def test_names_between_colons_become_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["", ":smile:", "text"], [["1", ":cat:", "a :red_heart:"]])
    shown = capsys.readouterr().out
    assert all(name in shown for name in (":smile:", ":cat:", "a :red_heart:"))
