"""Flags of a command: every path among them is checked, and a message names it as the user does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from harness.commands.publish import PublishOptions
from harness.errors import UserError
from harness.requests.options import parse_options
from harness.system.command_line import parse_flags
from harness.system.exit_codes import FIRST_PROCESS_SECONDS, exit_code_on_error


@dataclass(frozen=True)
class Rows:
    """Some files."""

    train_files: tuple[int, ...] = ()


@dataclass(frozen=True)
class Options:
    """Some flags."""

    model: Annotated[Path, tyro.conf.Positional]
    file: tyro.conf.Positional[Path | None] = None
    data_folder: Path = Path("results")
    names: tuple[str, ...] = ()
    texts: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    from_: Annotated[tuple[str, ...], tyro.conf.arg(name="from")] = ()
    rows: tyro.conf.OmitArgPrefixes[Rows] = field(default_factory=Rows)


def test_paths_are_expanded_and_the_rest_is_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = parse_flags(Options, ["~/m", "--data-folder", "~", "--names", "~"], "show")
    assert options == Options(tmp_path / "m", None, tmp_path, ("~",))


@pytest.mark.parametrize(
    "args", [["--data-folder", "a", "--data_folder=b"], ["--names", "a", "--names", "b"], ["--train-files=1"] * 2]
)
def test_no_value_of_a_repeated_flag_is_lost(args: list[str]) -> None:
    with pytest.raises(UserError, match=f"^{args[0].partition('=')[0]}: duplicate"):
        parse_flags(Options, ["m", *args], "show")
    assert parse_flags(Options, ["m", "--texts", "a", "--texts", "b"], "show").texts == ("a", "b")


@pytest.mark.parametrize("flag", ["--names", "--from", "--train-files"])
def test_list_without_a_value_is_not_the_default(flag: str) -> None:
    for args in (["m", flag], [flag, "--data-folder", "a", "m"]):
        with pytest.raises(UserError, match=f"^{flag}: empty"):
            parse_flags(Options, args, "show")


@pytest.mark.parametrize(
    "args", [["m", "--data-folder", ""], ["--data_folder=", "m"], ["m", "--data-folder="], ["m", "--names", "a", ""]]
)
def test_empty_value_is_refused(args: list[str]) -> None:
    with pytest.raises(UserError, match=r"^--(data.folder|names): empty"):
        parse_flags(Options, args, "show")


def test_empty_argument_is_refused_and_an_empty_text_is_not() -> None:
    with pytest.raises(UserError, match=r"^argument: empty"):
        parse_flags(Options, [""], "show")
    assert parse_flags(Options, ["m", "--texts", "", "--texts="], "show").texts == ("", "")


@pytest.mark.parametrize(
    "args, name",
    [(["~nosuchuser/m"], "MODEL"), (["m", "/dev/null"], "FILE"), (["m", "--data-folder", "a" * 300], "--data-folder")],
)
def test_impossible_path_is_named_by_its_flag_or_position(args: list[str], name: str) -> None:
    with pytest.raises(UserError, match=f"^{name} "):
        parse_flags(Options, args, "show")


@pytest.mark.parametrize("args, code", [(["m", "--bogus", "1"], 2), (["--help"], 0)])
def test_first_process_alone_prints_help_and_errors(
    args: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.system.exit_codes.FIRST_PROCESS_SECONDS", 0.0)
    for parse in (lambda: parse_flags(Options, args, "show"), lambda: parse_options(["--task", "rte", *args[-2:]])):
        for rank in ("0", "1", ""):
            monkeypatch.setenv("RANK", rank)
            with pytest.raises(SystemExit) as end, exit_code_on_error():
                parse()
            assert end.value.code == code
            assert any(capsys.readouterr()) == (rank != "1")


def test_first_process_alone_prints_a_wrong_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit):
            parse_options(["--task", "rte", "--seed", "x"])
        assert any(capsys.readouterr()) == (rank == "0")


def test_empty_argument_after_a_switch_is_not_its_value() -> None:
    with pytest.raises(UserError, match=r"^argument: empty"):
        parse_flags(PublishOptions, ["--dry-run", ""], "publish")


def test_process_that_is_not_the_first_waits_for_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit), exit_code_on_error():
            parse_flags(Options, ["m", "--bogus", "1"], "show")
    assert slept == [FIRST_PROCESS_SECONDS]
