"""Candidates of questions: a row with a list of them becomes a row for each, and the list of right ones its labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.metrics.answers import agreement, normalize_answer
from harness.rows.columns import column_values
from harness.rows.labels import parse_label_list

if TYPE_CHECKING:
    import datasets

MAX_CANDIDATES = 1000
"""Candidates of one question."""


class Candidates(NamedTuple):
    """The candidates of all questions of a table, in the order of its rows."""

    rows: NDArray[np.int64]
    """The row of each one's question, from 0, int64[N]."""
    texts: list[str]
    agreement: NDArray[np.float64] | None
    """Agreement with the right answers, 1 for a right one, float64[N]; None if they are hidden."""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """1 for a right candidate and 0 for a wrong one, int64[N]."""
        return None if self.agreement is None else (self.agreement == 1).astype(np.int64)


def read_candidates(task: TaskSpec, split: str, table: datasets.Dataset, hidden: bool) -> Candidates:
    """The candidates of a split's questions; of several right answers, the best counts, as in ReCoRD's evaluation.

    Raises:
        UserError: a row has no list of texts, or no right answer, or in the training split one that is no candidate.
    """
    assert task.candidates is not None
    assert isinstance(task.label, str)
    lists = _lists(task, split, task.candidates, column_values(table, task.candidates))
    if hidden:
        by_question: list[tuple[list[str], list[str]]] = [(candidates, []) for candidates in lists]
    else:
        answers = _lists(task, split, task.label, column_values(table, task.label))
        by_question = list(zip(lists, answers, strict=True))
    if split == "train":
        _check_answers(task, by_question)
    values = [agreement(each, right) for candidates, right in by_question for each in candidates]
    return Candidates(
        np.repeat(np.arange(len(by_question)), [len(candidates) for candidates, _ in by_question]),
        [each for candidates, _ in by_question for each in candidates],
        None if hidden else np.array(values, np.float64),
    )


def question_candidates(value: Any) -> list[str]:
    """The candidates of one question: a list of texts, or one written as JSON.

    Raises:
        ValueError: it is not a list, it is empty or too long, or an item is not a text.
    """
    items = parse_label_list(value)
    if items is None:
        raise ValueError("missing list" if value is None else f"expected a list of texts, got {value!r:.200}")
    if not 1 <= len(items) <= MAX_CANDIDATES:
        raise ValueError(f"expected a list of 1 to {MAX_CANDIDATES:,} texts, got {len(items):,}")
    if invalid := [item for item in items if not isinstance(item, str) or not item.strip()]:
        raise ValueError(f"{invalid[0]!r:.200} is not a text")
    return items


def _lists(task: TaskSpec, split: str, column: str, values: list[Any]) -> Iterator[list[str]]:
    for row, value in enumerate(values, start=1):
        try:
            yield question_candidates(value)
        except ValueError as error:
            advice = (
                " A split with hidden answers belongs under 'predict' and is never scored."
                if column == task.label and not value
                else ""
            )
            raise UserError(
                f"task {task.name}: column {column!r}, row {row} of split {split!r}: {error}.{advice}"
            ) from None


def _check_answers(task: TaskSpec, by_question: list[tuple[list[str], list[str]]]) -> None:
    for row, (candidates, answers) in enumerate(by_question, start=1):
        known = set(map(normalize_answer, candidates))
        if unknown := next((answer for answer in answers if normalize_answer(answer) not in known), None):
            raise UserError(
                f"task {task.name}: column {task.label!r}, row {row} of split 'train': the right answer {unknown!r} is "
                f"not among the candidates in {task.candidates!r}: {', '.join(map(repr, candidates[:10]))}."
            )
