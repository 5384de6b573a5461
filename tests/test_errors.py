"""The user's mistake as an error, the nearest known name, and the first line of an error."""

from __future__ import annotations

import pytest

from harness.errors import (
    MAX_MESSAGE,
    UserError,
    boundary,
    did_you_mean,
    first_line,
    is_of_the_outside_world,
    is_out_of_memory,
    reason,
)

KNOWN = ["accuracy", "f1_macro", "Matthews", "rows"]


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("acuracy", "accuracy"),
        ("accuracy", "accuracy"),
        ("ACCURACY", "accuracy"),
        ("f1macro", "f1_macro"),
        ("row", "rows"),
    ],
)
def test_nearest_name_is_suggested(name: str, nearest: str) -> None:
    assert did_you_mean(name, KNOWN) == f" Did you mean {nearest!r}?"


def test_suggestion_is_spelled_like_the_known_name() -> None:
    assert did_you_mean("mathews", KNOWN) == " Did you mean 'Matthews'?"


@pytest.mark.parametrize("name", ["", "zzz", "learning_rate"])
def test_no_name_is_suggested_when_none_is_near(name: str) -> None:
    assert did_you_mean(name, KNOWN) == ""


def test_no_name_is_suggested_when_none_is_known() -> None:
    assert did_you_mean("accuracy", []) == ""


def test_known_names_may_come_from_a_generator() -> None:
    assert did_you_mean("rwos", (name for name in KNOWN)) == " Did you mean 'rows'?"


def test_user_error_is_its_message() -> None:
    assert str(UserError("--seed 1.5: not a whole number")) == "--seed 1.5: not a whole number"


def test_user_error_is_not_caught_with_value_errors() -> None:
    """A library that catches ValueError on its way, as pydantic does, must not wrap it."""
    assert not issubclass(UserError, (ValueError, OSError, AssertionError))


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("no rows\nmore"), "ValueError: no rows"),
        (OSError("\n\n  no rows  \n"), "OSError: no rows"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_first_line_of_an_error_has_its_type(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_message_without_end_is_cut_in_its_middle() -> None:
    message = str(UserError("--label x: unknown. Labels: " + "label, " * 10_000 + "Did you mean 'y'?"))
    assert len(message) < MAX_MESSAGE + 10
    assert message.startswith("--label x: unknown.")
    assert message.endswith("Did you mean 'y'?")


def test_border_leaves_the_message_of_a_border_inside_it() -> None:
    with pytest.raises(UserError, match=r"^rows\.csv: permission denied\.$"), boundary("--train-file", Exception):  # noqa: SIM117
        with boundary("rows.csv"):
            raise PermissionError(13, "Permission denied")


def fail(error: Exception) -> None:
    with boundary("--train-file rows.csv", KeyError, advice="Name another file."):
        raise error


@pytest.mark.parametrize(
    "error, cause",
    [
        (FileNotFoundError(2, "No such file or directory"), "no such file or directory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "UnicodeDecodeError: .*invalid start byte"),
        (MemoryError(), "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (KeyError("text"), "KeyError: 'text'"),
    ],
)
def test_failure_inside_a_boundary_has_its_name_its_cause_and_advice(error: Exception, cause: str) -> None:
    with pytest.raises(UserError, match=rf"^--train-file rows\.csv: {cause}\. Name another file\.$"):
        fail(error)


@pytest.mark.parametrize("error", [ValueError("ours"), BrokenPipeError(), UserError("--seed x")])
def test_other_errors_pass_a_boundary_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as outside:
        fail(error)
    assert outside.value is error


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ...",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_failed_allocation_of_torch_is_of_the_outside_world(message: str) -> None:
    error = RuntimeError(message)
    assert is_out_of_memory(error)
    assert is_of_the_outside_world(error)
    assert reason(error) == "out of memory"


def test_fault_of_the_code_is_not_of_the_outside_world() -> None:
    assert not any(map(is_of_the_outside_world, [ValueError("x"), RuntimeError("x"), RecursionError(), KeyError("x")]))
