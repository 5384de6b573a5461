"""How a command ends: the user's mistakes in words and with code 2, our own with their traceback."""

from __future__ import annotations

import signal

import pytest

from harness.errors import UserError
from harness.system.exit_codes import exit_code_on_error
from harness.system.signals import Interrupted


def ended_by(error: BaseException) -> int:
    """The exit code of a command that this ends."""
    with pytest.raises(SystemExit) as end, exit_code_on_error():
        raise error
    assert isinstance(end.value.code, int)
    return end.value.code


def test_mistake_of_the_user_is_told_in_words_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(UserError("--seed x: not a number")) == 2
    assert capsys.readouterr() == ("", "error: --seed x: not a number\n")


def test_process_that_is_not_the_first_says_which_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert ended_by(UserError("no rows")) == 2
    assert capsys.readouterr().err == "[process 3] error: no rows\n"


def test_keyboard_interrupt_ends_with_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_ends_with_the_code_of_its_signal(number: int, code: int) -> None:
    assert ended_by(Interrupted(number, 7, True)) == code


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_code_that_was_asked_for_stays(code: int) -> None:
    assert ended_by(SystemExit(code)) == code


def test_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_code_on_error():
        raise ZeroDivisionError


def test_command_that_is_done_ends_nothing() -> None:
    with exit_code_on_error():
        pass
