"""The `harness` command as it is called: it answers at once, hands on its arguments, and knows its own name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import __version__
from harness.__main__ import COMMANDS, main

HEAVY = ("accelerate", "datasets", "evaluate", "scipy", "sklearn", "torch", "transformers")
"""Seconds to import."""

PROGRAM = f"""
import json, sys
from harness.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))), file=sys.stderr)
"""

FREEZE_COUNT_PROGRAM = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count()))
from harness.__main__ import main
main(["tasks"])
"""


def test_the_end_of_a_command_collects_no_garbage() -> None:
    command = [sys.executable, "-c", FREEZE_COUNT_PROGRAM]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(output.split()[-1]) > 10_000  # objects that the last collection leaves out


def test_no_command_shows_the_usage_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert capsys.readouterr().out.startswith("usage: harness COMMAND")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([flag])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name, purpose in COMMANDS.items():
        assert f"harness {name}" in text
        assert purpose in text


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"harness {__version__}\n"


def test_unknown_command_is_an_error_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["task"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "'tasks'" in error
    assert all(name in error for name in COMMANDS)


def test_arguments_after_the_command_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tasks", "--names"])
    assert "rte" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("args", [["--help"], ["tasks"], ["run", "--task", "mrpc", "--help"], ["tasks", "--names"]])
def test_light_commands_load_no_heavy_library(args: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr) == []


@pytest.mark.parametrize(
    "args, is_unbuffered",
    [(["--help"], False), (["tasks"], False), (["run", "--task", "rte", "--help"], False), (["--help"], True)],
)
def test_closed_output_is_no_error(args: list[str], is_unbuffered: bool) -> None:
    """As `head` does when it has seen enough."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if is_unbuffered else ""}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *args], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_command_is_installed_next_to_python() -> None:
    command = Path(sys.executable).with_name("harness")
    if not command.exists():
        pytest.skip("the package is not installed, only on the path")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"harness {__version__}\n"


def test_folder_of_a_saved_model_is_checked_before_a_heavy_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").touch()
    args = ["run", "--task", "rte", "--test-mode", "--results", str(tmp_path), "--save-model", str(tmp_path / "model")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "thesis.tex" in done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
