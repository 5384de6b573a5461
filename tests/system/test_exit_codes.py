"""The end of a command: mistakes and full disks as a message with exit code 2, our own faults with their traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.system.atomic import write_atomically
from harness.system.exit_codes import MAX_CHARACTERS, exit_code_on_error
from harness.system.signals import Interrupted

ROOT = Path(__file__).parents[2]


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that raises this error."""
    with pytest.raises(SystemExit) as end, exit_code_on_error():
        raise error
    assert isinstance(end.value.code, int)
    return end.value.code


def test_user_error_is_printed_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(UserError("--seed x: not a number")) == 2
    assert capsys.readouterr() == ("", "error: --seed x: not a number\n")


def test_message_names_a_process_that_is_not_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr("harness.system.exit_codes.FIRST_PROCESS_SECONDS", 0.0)
    assert exit_code_of(UserError("no rows")) == 2
    assert capsys.readouterr().err == "[process 3] error: no rows\n"


MISTAKE_OF_ALL = """
from harness.errors import UserError
from harness.system.exit_codes import exit_code_on_error
with exit_code_on_error():
    print("started", flush=True)
    raise UserError("no rows")
"""


def test_process_that_the_launcher_ends_leaves_the_message_to_the_first_one() -> None:
    command, environment = [sys.executable, "-c", MISTAKE_OF_ALL], os.environ | {"RANK": "3"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)  # the launcher sees the end of the first process
    process.terminate()
    assert process.communicate(timeout=60) == (b"", b"")


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM, 7, True), KeyboardInterrupt()])
def test_signal_is_reported_by_the_first_process_alone(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert exit_code_of(error) > 128
    assert capsys.readouterr().err == ""


def test_keyboard_interrupt_ends_with_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_python_without_docstrings_is_refused_before_anything_is_loaded() -> None:
    args = [sys.executable, "-OO", "-m", "harness", "tasks", "--names"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "PYTHONOPTIMIZE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_ends_with_the_code_of_its_signal(number: int, code: int) -> None:
    assert exit_code_of(Interrupted(number, 7, True)) == code


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_code_of_sys_exit_is_kept(code: int) -> None:
    assert exit_code_of(SystemExit(code)) == code


@pytest.mark.parametrize(
    "error, cause",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/record.json"), "a/record.json: no space left"),
        (
            OSError(errno.ENOSPC, "Error writing bytes to file. Detail: ...", "a/rows.parquet"),
            "a/rows.parquet: no space",
        ),
        (OSError(errno.ELOOP, os.strerror(errno.ELOOP), b"a/rows.csv"), "a/rows.csv: too many levels"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a"), "a: permission denied"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "file too large"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out of memory"),
        (ImportError("libgomp.so.1: failed to map segment from shared object"), "out of memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried 2 GiB"), "out of memory"),
    ],
)
def test_failure_of_the_outside_world_is_one_line(
    error: Exception, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(error) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {cause}")
    assert message.count("\n") == 1


def test_failed_write_has_the_name_of_the_file_not_of_its_temporary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SystemExit), exit_code_on_error():
        write_atomically(tmp_path / "table.md", "text")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/table.md: no space left on device. ")


def test_error_of_ours_keeps_its_traceback_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "run", "--tracker-token", "abc"])
    assert exit_code_of(ZeroDivisionError("of hf_abcdefghijkl")) == 1
    message = capsys.readouterr().err
    assert message.startswith("Traceback")
    assert "ZeroDivisionError: of ***" in message
    assert message.endswith("harness run --tracker-token '***'\n")
    assert "fault of the harness" in message


def test_message_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(UserError("a" * 10**6)) == 2
    assert len(capsys.readouterr().err) < MAX_CHARACTERS + 100


def test_command_without_error_does_not_exit() -> None:
    with exit_code_on_error():
        pass


@pytest.mark.parametrize(
    "message",
    [
        "[/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:63648.",
        "[/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:7065: Connection reset by peer",
        "NCCL error in: NCCLUtils.hpp:317, remote process exited or there was a network error, NCCL version 2.21.5",
    ],
)
def test_process_that_loses_another_one_reports_no_fault_of_its_own(
    message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("harness.system.exit_codes.FIRST_PROCESS_SECONDS", 0.0)
    assert exit_code_of(RuntimeError(message)) == 1
    error = capsys.readouterr().err
    assert error.startswith("[process 1] ")
    assert error.count("\n") == 1
    assert "error: " not in error, "a sweep shows the last of these messages"


def test_ctrl_c_while_the_libraries_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pydantic.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, ROOT / "harness/run.py", "--task", "rte", "--test-mode"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
