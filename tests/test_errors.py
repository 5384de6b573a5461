"""The user's mistake as an error, and the nearest word that would have been right."""

from __future__ import annotations

import pytest

from harness.errors import UserError, did_you_mean

KNOWN = ["accuracy", "f1_macro", "Matthews", "rows"]


@pytest.mark.parametrize(
    "word, meant",
    [
        ("acuracy", "accuracy"),
        ("accuracy", "accuracy"),
        ("ACCURACY", "accuracy"),
        ("f1macro", "f1_macro"),
        ("row", "rows"),
    ],
)
def test_nearest_word_is_suggested(word: str, meant: str) -> None:
    assert did_you_mean(word, KNOWN) == f" Did you mean {meant!r}?"


def test_suggestion_is_spelled_as_the_known_word_is() -> None:
    assert did_you_mean("mathews", KNOWN) == " Did you mean 'Matthews'?"


@pytest.mark.parametrize("word", ["", "zzz", "learning_rate"])
def test_no_word_is_suggested_when_none_is_near(word: str) -> None:
    assert did_you_mean(word, KNOWN) == ""


def test_nothing_is_suggested_of_nothing() -> None:
    assert did_you_mean("accuracy", []) == ""


def test_known_words_may_come_from_a_generator() -> None:
    assert did_you_mean("rwos", (word for word in KNOWN)) == " Did you mean 'rows'?"


def test_user_error_is_its_message() -> None:
    assert str(UserError("--seed 1.5: not a whole number")) == "--seed 1.5: not a whole number"


def test_user_error_is_not_caught_with_value_errors() -> None:
    """A library that catches ValueError on its way, as pydantic does, must not make something else of it."""
    assert not issubclass(UserError, (ValueError, OSError, AssertionError))
