"""Standard output: nothing that is printed, and no reader that goes away, can fail a command or command a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.output import escape_controls, standard_streams

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from harness.system.exit_codes import exit_code_on_error
with exit_code_on_error(is_output_optional={is_optional}):
    for number in range(10_000):
        print("epoch", number)
    open(sys.argv[1], "w").close()
"""
"""A command that prints more than a pipe holds, and then leaves its result."""


def finish(is_optional: bool, result: Path, redirect: str) -> subprocess.CompletedProcess[str]:
    """Runs the program with its standard output redirected by a shell."""
    command = f'"$0" -c "$1" "$2" {redirect}; exit ${{PIPESTATUS[0]}}'
    args = ["bash", "-c", command, sys.executable, PROGRAM.format(is_optional=is_optional), str(result)]
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("redirect", ["| head -1", "2>&1 | head -1", "> /dev/full", ">&-", ">&- 2>&-", "<&- >&-"])
def test_run_whose_output_is_lost_goes_on_to_its_result(redirect: str, tmp_path: Path) -> None:
    done = finish(True, tmp_path / "result", redirect)
    assert (done.returncode, (tmp_path / "result").exists()) == (0, True), done.stderr
    assert done.stderr.count("\n") == (redirect == "> /dev/full")


@pytest.mark.parametrize("redirect, code, lines", [("| head -1", 0, 0), ("> /dev/full", 2, 1)])
def test_command_whose_output_is_its_result_stops(redirect: str, code: int, lines: int, tmp_path: Path) -> None:
    done = finish(False, tmp_path / "result", redirect)
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "result").exists()) == (code, lines, False)
    assert "standard output: no space left on device" in done.stderr or not lines


def test_full_disk_at_the_end_of_a_command_that_exits_is_one_line() -> None:
    program = "import sys; from harness.system.exit_codes import exit_code_on_error\nwith exit_code_on_error():\n    "
    args = ["bash", "-c", '"$0" -c "$1" > /dev/full', sys.executable, f"{program}print('short'); sys.exit(1)"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(args, cwd=ROOT, env=buffered, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("error: standard output: no space left on device.")


@pytest.mark.parametrize(
    "encoding, shown", [("ascii", "\\u00b1 \\ud83d\\ude00"), ("latin-1", "± \\ud83d\\ude00"), ("utf-8", "± 😀")]
)
def test_character_that_the_encoding_lacks_is_escaped_as_in_json(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(octets, encoding=encoding))
    with standard_streams(is_output_optional=False):
        print(json.dumps("± 😀", ensure_ascii=False), flush=True)
    assert octets.getvalue().decode(encoding) == f'"{shown}"\n'
    assert json.loads(octets.getvalue().decode(encoding)) == "± 😀"


def test_control_characters_of_data_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with standard_streams(is_output_optional=False):
        print("a\x1b]0;title\x07\x9b2J\tb\rc\x7f")
        print("\r10 % \x1b[32mgreen\x1b[0m\x1b]0;title\x07", file=sys.stderr)
    shown, progress = capsys.readouterr()
    assert shown == "a\\u001b]0;title\\u0007\\u009b2J\tb\\u000dc\\u007f\n"
    assert progress == "\r10 % \x1b[32mgreen\x1b[0m\\u001b]0;title\\u0007\n", "those of progress bars stay"


def test_streams_are_restored(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with standard_streams(is_output_optional=False), standard_streams(is_output_optional=True):
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bytes_of_another_encoding_reach_the_reader_as_surrogates(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("ğ".encode() + b"\xff"), encoding=encoding))
    with standard_streams(is_output_optional=False):
        assert sys.stdin.read() == "ğ\udcff"


def test_escaped_text_needs_no_further_escape() -> None:
    assert escape_controls(escape_controls("\x1b[2J")) == "\\u001b[2J"
    assert os.linesep in escape_controls(f"a{os.linesep}")
