"""The rows of a task: their source, texts, candidates, groups and labels, as keys of its YAML file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness.facts.sources import Source
from harness.facts.texts import ChoiceSource, Span, TextSource, template_columns
from harness.facts.yaml_file import KeysOfFile
from harness.metrics.metric import ProblemType

MAX_NAME_BYTES = 100
"""Length of a task's or split's name, so that the names of a run's files stay below the 255 bytes of file systems."""


def _check_file_name(name: str) -> str:
    is_safe = name.isprintable() and re.fullmatch(r"[^./\\&\s]([^/\\&]*\S)?", name)
    if not is_safe or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"files are named after it: expected at most {MAX_NAME_BYTES} bytes, no dot or space in front, and no "
            "slash, backslash, ampersand or control character"
        )
    return name


FileName = Annotated[str, AfterValidator(_check_file_name)]
"""A name that files and folders may have on every system; it leads into no other folder."""


def _number_labels(labels: Any) -> Any:
    """Labels with their values in the source: a list numbers its names from 0, as the Hub does; a number is its own
    value."""
    if isinstance(labels, list):
        if others := [name for name in labels if type(name) not in (str, int)]:
            raise ValueError(f"{others[0]!r} is not a text; put quotes around a label such as 'true' or '1.5'")
        if len(set(map(str, labels))) != len(labels):
            raise ValueError("duplicate label")
        labels = {str(name): name if isinstance(name, int) else number for number, name in enumerate(labels)}
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise ValueError("expected a list of labels")
    if len(labels) < 2:
        raise ValueError("a classification needs two labels or more; remove 'labels' for a regression")
    for name, value in labels.items():
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is not a text; write the name before its value, as in 'negative: 0'")
        if not isinstance(value, (str, int)):
            raise ValueError(f"the value of {name!r} is {value!r}: expected a text or a whole number")
    values = [str(value) for value in labels.values()]
    if len(set(values)) != len(values):
        raise ValueError("duplicate value: two labels have the same one")
    for name, value in zip(labels, values, strict=True):
        if value in labels and value != name:
            raise ValueError(
                f"{labels[name]!r} is the value of {name!r} and the name of another label; write numbers without "
                "quotes, as in [1, 2], or each name with its value, as in 'bad: 1'"
            )
    return labels


Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One name or a list of names."""


class TaskRows(KeysOfFile):
    """The rows of a task. Field names are keys of its YAML file."""

    name: FileName
    title: str
    """Name in tables."""
    version: Annotated[int, Field(ge=1, lt=2**63)] = 1
    """Increased when the same model would score differently; the leaderboard never mixes versions."""
    source: Source
    predicted_by: str | None = None
    """The task whose models predict this one, which has no training rows of its own."""
    text: Annotated[Names, Field(min_length=1)]
    """The source's text column, or both columns of a pair."""
    join: dict[str, Annotated[Names, Field(min_length=1)]] = {}
    """Texts joined from several columns, one per line: `article: [title, body]`. Empty columns are skipped."""
    templates: dict[str, str] = {}
    """Texts written from columns: `claim: "{speaker} says: {statement}"`; `{{` is a brace."""
    marks: dict[str, dict[Annotated[str, Field(min_length=1)], Span]] = {}
    """Spans to mark in a column, by the mark: `sentence: {"*": {start: first, end: last}}`; see `facts/texts.py`."""
    choices: Names = ()
    """The columns of a row's candidates, one of which is right, or a column of lists; `labels` name their positions."""
    candidates: str | None = None
    """A column of lists of candidates: each makes a row of its own, of the group that is its question. The label column
    has the list of right ones, of which any number may be right; see `rows/candidates.py`."""
    fill: dict[str, str] = {}
    """The placeholder in a column that the row's candidate replaces: `query: "@placeholder"`."""
    group: Names = ()
    """Columns whose values name the group of a row, such as the question that it answers; see `metric_over_groups`."""
    group_rows: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Rows of each group, where groups are consecutive rows that no column names, such as minimal pairs."""
    id: Names = ()
    """Columns that identify a row; they are copied into the files of predictions. `idx.answer` is a part of `idx`."""
    problem_type: ProblemType
    """One label per row (the default), a value (the default without labels), or any number of labels."""
    label: str | tuple[str, ...] = "label"
    """The source's label column; in a multi-label task also one column of 0 and 1 per label."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Separator of a multi-label row's labels in a text column; absent for lists."""
    labels: Annotated[dict[str, str | int], BeforeValidator(_number_labels)] | None = None
    """Names in the order of the classes, or name: value in the source; absent for a regression."""

    @property
    def is_regression(self) -> bool:
        return self.labels is None

    @property
    def is_multi_label(self) -> bool:
        return self.problem_type == "multi_label_classification"

    @property
    def selects_answers(self) -> bool:
        """True when rows are candidates, of which the one with the best score is predicted for each question."""
        return self.problem_type == "answer_selection"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The source's label column, or all of them when each label has its own."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def classes(self) -> int:
        """Columns of a model's scores: the number of labels, or 1 for a regression."""
        return 1 if self.labels is None else len(self.labels)

    def text_source(self, name: str) -> TextSource:
        """The columns of the text with this name, and how it is made from them."""
        template = self.templates.get(name)
        parts = self.join.get(name, (name,)) if template is None else template_columns(template)
        marks = {part: self.marks[part] for part in parts if part in self.marks}
        fill = {part: self.fill[part] for part in parts if part in self.fill}
        return TextSource(name, parts, template, marks, fill, self.candidates)

    @property
    def choice_source(self) -> ChoiceSource | None:
        """The candidates of a row, in a task of multiple choice."""
        return ChoiceSource(tuple(map(self.text_source, self.choices)), self.classes) if self.choices else None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The source's columns that make up the texts."""
        return tuple(column for name in (*self.text, *self.choices) for column in self.text_source(name).columns)

    @property
    def columns(self) -> set[str]:
        """All columns of the source that the task uses; of an object, its column."""
        columns = {*self.text_columns, *self.label_columns, *self.group, *self.id, *filter(None, [self.candidates])}
        return columns | {column.split(".")[0] for column in columns}

    @model_validator(mode="before")
    @classmethod
    def _infer_defaults(cls, values: Any) -> Any:
        """Fills in labels from label columns, and the problem type from labels."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("label"), (list, tuple)) and values.get("labels") is None:
            values = {**values, "labels": list(values["label"])}
        choices = values.get("choices")
        if choices and isinstance(choices, (list, tuple)) and values.get("labels") is None:
            values = {**values, "labels": list(choices)}
        candidates = values.get("candidates")
        if candidates and values.get("labels") is None:
            values = {**values, "labels": ["wrong", "right"]}
        default = "regression" if values.get("labels") is None else "single_label_classification"
        default = "multiple_choice" if choices else "answer_selection" if candidates else default
        return {**values, "problem_type": values.get("problem_type") or default}

    @model_validator(mode="after")
    def _check_rows(self) -> TaskRows:
        self._check_texts()
        self._check_labels()
        self._check_choices()
        self._check_candidates()
        if self.group and self.group_rows:
            raise ValueError("group_rows: not used with 'group': drop one")
        return self

    def _check_texts(self) -> None:
        if len(self.text) > 2:
            raise ValueError(f"text: expected a text or a pair, got {len(self.text)} columns: join them into one text")
        names = (*self.text, *self.choices)
        check_subset("join", self.join, "text", names)
        check_subset("templates", self.templates, "text", names)
        if both := self.join.keys() & self.templates:
            raise ValueError(f"templates: {min(both)!r} is also in 'join': drop one")
        for name, template in self.templates.items():
            try:
                template_columns(template)
            except ValueError as error:
                raise ValueError(f"templates: {name}: {error}") from None
        parts = [part for name in names for part in self.text_source(name).parts]
        check_subset("marks", self.marks, "the columns of the texts", parts)
        check_subset("fill", self.fill, "the columns of the texts", parts)

    def _check_labels(self) -> None:
        if self.problem_type == "regression" and self.labels is not None:
            raise ValueError("problem_type: a regression has no labels: remove 'labels', or change the problem type")
        if self.problem_type != "regression" and self.labels is None:
            raise ValueError(f"problem_type: {self.problem_type} needs labels, such as 'labels: [first, second]'")
        if not self.is_multi_label:
            if not isinstance(self.label, str):
                raise ValueError("label: several label columns need 'problem_type: multi_label_classification'")
            if self.separator is not None:
                raise ValueError("separator: needs 'problem_type: multi_label_classification'")
        elif not isinstance(self.label, str):
            if self.separator is not None:
                raise ValueError("separator: not used with one column per label: remove it")
            if len(self.label) != self.classes or len(set(self.label)) != self.classes:
                raise ValueError(f"label: expected {self.classes} different columns, one per label")

    def _check_shape(self, key: str, problem_type: ProblemType) -> None:
        """Raises ValueError unless the file has the key and the problem type, or neither."""
        if getattr(self, key) and self.problem_type != problem_type:
            raise ValueError(f"{key}: needs 'problem_type: {problem_type}', got {self.problem_type}")
        if not getattr(self, key) and self.problem_type == problem_type:
            raise ValueError(f"problem_type: {problem_type} needs '{key}'")

    def _check_choices(self) -> None:
        self._check_shape("choices", "multiple_choice")
        if self.choices and (len(self.text) > 1 or self.group):
            raise ValueError("choices: the candidates are second texts and a group: expected one text and no 'group'")
        if len(self.choices) > 1 and len(self.choices) != self.classes:
            raise ValueError(
                f"choices: expected a label for each of {len(self.choices)} candidates, got {self.classes}"
            )

    def _check_candidates(self) -> None:
        self._check_shape("candidates", "answer_selection")
        if self.candidates is None:
            if self.fill:
                raise ValueError(
                    "fill: needs 'candidates', the column of the lists whose items replace the placeholder"
                )
            return
        if self.choices or self.group or self.group_rows:
            raise ValueError("candidates: they are the rows of a group: remove 'choices', 'group' and 'group_rows'")
        if self.classes != 2:
            raise ValueError(f"candidates: expected two labels, for wrong and right candidates, got {self.classes}")
        if both := self.fill.keys() & self.marks:
            raise ValueError(f"fill: {min(both)!r} is also in 'marks': drop one")
        if empty := next((column for column, placeholder in self.fill.items() if not placeholder), None):
            raise ValueError(f"fill: {empty}: expected the text that a candidate replaces, such as '@placeholder'")
        if not any(self.candidates in self.text_source(name).columns for name in self.text):
            raise ValueError(
                f"candidates: {self.candidates!r} is in no text: name it under 'text', in a template, or use 'fill'"
            )


def check_subset(key: str, names: Iterable[str], known_key: str, known: Collection[str]) -> None:
    """Raises ValueError when one of the names is unknown."""
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not in {known_key} ({', '.join(known)})")
