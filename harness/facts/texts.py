"""A text of a row, made from the source's columns: spans marked or placeholders filled, then a template or a join.

There is no code in a task file.

A mark surrounds a span as T5 does for the Winograd schemas (Raffel et al. 2020): the mark, a space, the span, a space,
the mark, as in `* the trophy * does not fit because # it # is too big`. Any encoder reads such a text, and its
tokenizer needs no new token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import model_validator

from harness.facts.yaml_file import KeysOfFile


class Span(KeysOfFile):
    """The columns that locate a span: its first and last character, or its first word and its text."""

    start: str | None = None
    """The column of the number of its first character, from 0."""
    end: str | None = None
    """The column of the number of the character after its last."""
    first_word: str | None = None
    """The column of the number of its first word, from 0; words are separated by white space."""
    text: str | None = None
    """The column of its text."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Its two columns."""
        return tuple(column for column in (self.start, self.end, self.first_word, self.text) if column is not None)

    @model_validator(mode="after")
    def _check(self) -> Span:
        if self.model_dump(exclude_none=True).keys() not in ({"start", "end"}, {"first_word", "text"}):
            raise ValueError("expected the columns start and end, or first_word and text")
        return self

    def locate(self, text: str, row: Mapping[str, Any]) -> tuple[int, int]:
        """The positions of the span's first character and of the one after its last.

        A span given by word and text is its text where that begins in the word, which may open with a quotation mark;
        otherwise as many words as its text has. Published data has both.

        Raises:
            ValueError: the span is empty or outside the text.
        """
        if self.start is not None and self.end is not None:
            start, end = _number(row, self.start), _number(row, self.end)
            if not 0 <= start < end <= len(text):
                raise ValueError(f"the span {start} to {end} is empty or outside the text, of {len(text)} characters")
            return start, end
        assert self.first_word is not None
        assert self.text is not None
        tokens, first, value = [*re.finditer(r"\S+", text)], _number(row, self.first_word), row[self.text]
        length = len(value.split()) if isinstance(value, str) else 0
        if not (length and 0 <= first <= first + length <= len(tokens)):
            raise ValueError(
                f"the span {value!r} from word {first} is empty or outside the text, of {len(tokens)} words"
            )
        at = text.find(value, tokens[first].start(), tokens[first].end() + len(value) - 1)
        return (at, at + len(value)) if at >= 0 else (tokens[first].start(), tokens[first + length - 1].end())


Marks = Mapping[str, Mapping[str, Span]]
"""The spans to mark in each column, by the mark."""


class TextSource(NamedTuple):
    """A text of each row and the columns that it is made from."""

    name: str
    """The column, or the name of the template or join."""
    parts: tuple[str, ...]
    """The columns with its text."""
    template: str | None = None
    """The text with `{column}` for each column; None: the parts are joined, one per line, without empty ones."""
    marks: Marks = MappingProxyType({})
    fill: Mapping[str, str] = MappingProxyType({})
    """The placeholder of each column in which the row's candidate replaces one."""
    candidate: str | None = None
    """The column of candidates."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it needs, each once."""
        spans = [column for part in self.parts for span in self.marks.get(part, {}).values() for column in span.columns]
        candidates = [self.candidate] if self.fill and self.candidate is not None else []
        return tuple(dict.fromkeys((*self.parts, *spans, *candidates)))

    @property
    def is_column(self) -> bool:
        """True when the text is a column as it is."""
        return self.parts == (self.name,) and self.template is None and not self.marks and not self.fill

    def compose(self, row: Mapping[str, Any]) -> str:
        """The text of a row, which has the values of `columns`.

        Raises:
            ValueError: a text is missing, a value is not a text, a span is outside its text, or a placeholder is not in
                it.
        """
        values = [self._filled(part, row) if part in self.fill else self._marked(part, row) for part in self.parts]
        if self.template is not None:
            by_name = dict(zip(self.parts, values, strict=True))
            return "".join(
                literal + (_text(by_name[name]) if name else "") for literal, name in template_parts(self.template)
            )
        if invalid := [value for value in values if value is not None and not isinstance(value, str)]:
            return _text(invalid[0])
        if all(value is None for value in values):
            return _text(None)
        return "\n".join(value for value in values if value) if len(values) > 1 else str(values[0])

    def _filled(self, part: str, row: Mapping[str, Any]) -> str:
        text, placeholder = _text(row[part]), self.fill[part]
        assert self.candidate is not None
        if placeholder not in text:
            raise ValueError(f"placeholder {placeholder!r} not found in the text of {part!r}")
        return text.replace(placeholder, _text(row[self.candidate]))

    def _marked(self, part: str, row: Mapping[str, Any]) -> Any:
        value, marks = row[part], self.marks.get(part)
        return (
            value if marks is None else mark_spans(_text(value), [(m, s.locate(value, row)) for m, s in marks.items()])
        )


class ChoiceSource(NamedTuple):
    """The candidates of each row and the columns that they are made from: one each, or a column of lists."""

    sources: tuple[TextSource, ...]
    number: int
    """Candidates of a row."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that they need, each once."""
        return tuple(dict.fromkeys(column for source in self.sources for column in source.columns))

    def compose(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The candidates of a row, which has the values of `columns`; a list may be written as JSON.

        Raises:
            ValueError: a candidate is missing or not a text.
        """
        if len(self.sources) > 1:
            return tuple(source.compose(row) for source in self.sources)
        value = row[self.sources[0].name]
        if isinstance(value, str):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if not isinstance(value, (list, tuple)):
            raise ValueError("missing candidates" if value is None else f"expected a list of candidates, got {value!r}")
        if len(value) != self.number:
            raise ValueError(f"expected {self.number} candidates, got {len(value)}")
        return tuple(map(_text, value))


def mark_spans(text: str, spans: Sequence[tuple[str, tuple[int, int]]]) -> str:
    """The text with each mark around its span; spans may be nested."""
    insertions = []
    for mark, (start, end) in spans:
        insertions += [(start, 1, -end, f"{mark} "), (end, 0, -start, f" {mark}")]
    pieces, position = [], 0
    for at, _, _, inserted in sorted(insertions):
        pieces += [text[position:at], inserted]
        position = at
    return "".join([*pieces, text[position:]])


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """The literal texts of a template, each with the column that follows it.

    Raises:
        ValueError: the template is invalid, or has no column.
    """
    parts = []
    for literal, name, form, conversion in Formatter().parse(template):
        if name is not None and (not name or form or conversion or "[" in name):
            raise ValueError(f"invalid {{{name}}} in {template!r}: expected {{column}}; write {{{{ for a brace")
        parts.append((literal, name))
    if not any(name for _, name in parts):
        raise ValueError(f"{template!r} has no {{column}}")
    return parts


def template_columns(template: str) -> tuple[str, ...]:
    """The columns of a template, each once, in its order."""
    return tuple(dict.fromkeys(name for _, name in template_parts(template) if name))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("missing text" if value is None else f"{value!r} is not a text")
    return value


def _number(row: Mapping[str, Any], column: str) -> int:
    try:
        return int(row[column])
    except (TypeError, ValueError):
        raise ValueError(f"column {column!r}: expected a whole number, got {row[column]!r}") from None
