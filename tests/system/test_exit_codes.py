"""The end of a command: the user's mistakes as a message with exit code 2, our own with their traceback."""

from __future__ import annotations

import signal

import pytest

from harness.errors import UserError
from harness.system.exit_codes import exit_code_on_error
from harness.system.signals import Interrupted


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
    assert exit_code_of(UserError("no rows")) == 2
    assert capsys.readouterr().err == "[process 3] error: no rows\n"


def test_keyboard_interrupt_ends_with_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_ends_with_the_code_of_its_signal(number: int, code: int) -> None:
    assert exit_code_of(Interrupted(number, 7, True)) == code


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_code_of_sys_exit_is_kept(code: int) -> None:
    assert exit_code_of(SystemExit(code)) == code


def test_error_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_code_on_error():
        raise ZeroDivisionError


def test_command_without_error_does_not_exit() -> None:
    with exit_code_on_error():
        pass
