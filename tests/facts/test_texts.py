"""A text of several columns: templates, and marks around spans that are given by characters or by words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.facts.texts import Span, TextSource, mark_spans

BY_CHARACTER = Span(start="start", end="end")
BY_WORD = Span(first_word="position", text="span")


def marked(text: str, mark: Span, **row: Any) -> str:
    return TextSource("text", ("text",), None, {"text": {"*": mark}}).compose({"text": text, **row})


def test_template_puts_every_column_in_its_place() -> None:
    source = TextSource("both", ("a", "b"), "{{{a}}} / {b} / {a}")
    assert source.columns == ("a", "b")
    assert source.compose({"a": "x {b}", "b": "y"}) == "{x {b}} / y / x {b}"


def test_join_skips_empty_columns_and_a_template_keeps_them() -> None:
    row = {"a": "", "b": "y"}
    assert TextSource("ab", ("a", "b")).compose(row) == "y"
    assert TextSource("ab", ("a", "b"), "{a}|{b}").compose(row) == "|y"


def test_candidate_replaces_every_placeholder_of_its_column() -> None:
    source = TextSource("both", ("a", "b"), "{a} | {b}", {}, {"a": "@"}, "names")
    assert (source.columns, source.is_column) == (("a", "b", "names"), False)
    assert source.compose({"a": "@ and @", "b": "@", "names": "{b}"}) == "{b} and {b} | @"
    assert not TextSource("a", ("a",), None, {}, {"a": "@"}, "names").is_column
    with pytest.raises(ValueError, match="placeholder '@' not found in the text of 'a'"):
        source.compose({"a": "none", "b": "@", "names": "x"})


def test_marks_surround_the_characters_of_the_span() -> None:
    assert marked("a bank of mud", BY_CHARACTER, start=2, end="6") == "a * bank * of mud"


# As T5 marks the schemas of Winograd: the word of the span counts, not an earlier occurrence of its text.
@pytest.mark.parametrize(
    "text, position, span, expected",
    [
        ("it said it was", 2, "it", "it said * it * was"),
        ("Mark told Pete a lie about himself, which", 6, "himself", "Mark told Pete a lie about * himself *, which"),
        ('He said: "I am here"', 2, "I am", 'He said: "* I am * here"'),
        ("Kamenev, old Zinoviev went", 0, "Kamenev and Zinoviev", "* Kamenev, old Zinoviev * went"),
        ("the end", 1, "end", "the * end *"),
    ],
)
def test_marks_surround_the_words_of_the_span(text: str, position: int, span: str, expected: str) -> None:
    assert marked(text, BY_WORD, position=position, span=span) == expected


def test_two_spans_of_one_text_are_both_marked_where_they_were() -> None:
    spans = {"*": BY_WORD, "#": Span(first_word="position2", text="span2")}
    source = TextSource("text", ("text",), None, {"text": spans})
    row = {"text": "the cup broke as it fell", "position": 4, "span": "it", "position2": 0, "span2": "the cup"}
    assert source.compose(row) == "# the cup # broke as * it * fell"
    assert source.columns == ("text", "position", "span", "position2", "span2")


@pytest.mark.parametrize(
    "inner, outer, expected",
    [
        ((4, 7), (0, 7), "# her * cat * # ran"),
        ((0, 3), (0, 7), "# * her * cat # ran"),
        ((0, 3), (3, 7), "* her *#  cat # ran"),
    ],
)
def test_spans_may_be_nested_or_touch(inner: tuple[int, int], outer: tuple[int, int], expected: str) -> None:
    for spans in ([("*", inner), ("#", outer)], [("#", outer), ("*", inner)]):
        assert mark_spans("her cat ran", spans) == expected


@pytest.mark.parametrize(
    "mark, row, message",
    [
        (BY_CHARACTER, {"start": 2, "end": 14}, "2 to 14 .* 13 characters"),
        (BY_CHARACTER, {"start": -1, "end": 4}, "-1 to 4"),
        (BY_CHARACTER, {"start": 4, "end": 4}, "4 to 4 is empty"),
        (BY_CHARACTER, {"start": None, "end": 4}, "column 'start': .*None"),
        (BY_CHARACTER, {"start": "two", "end": 4}, "column 'start': .*'two'"),
        (BY_WORD, {"position": 4, "span": "mud"}, "'mud' from word 4 .* 4 words"),
        (BY_WORD, {"position": 3, "span": "mud bank"}, "'mud bank' from word 3"),
        (BY_WORD, {"position": 0, "span": " "}, "' ' from word 0 is empty"),
        (BY_WORD, {"position": 0, "span": None}, "None from word 0 is empty"),
    ],
)
def test_span_outside_its_text_is_refused(mark: Span, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        marked("a bank of mud", mark, **row)


@pytest.mark.parametrize("value, message", [(None, "missing text"), (5, "5 is not a text")])
def test_value_that_is_no_text_is_refused(value: Any, message: str) -> None:
    for source in (TextSource("a", ("a", "b"), "{a} {b}"), TextSource("a", ("a",))):
        with pytest.raises(ValueError, match=re.escape(message)):
            source.compose({"a": value, "b": "text"})
