"""A description of a task's rows: labels, lengths, duplicates, contradictory labels, and examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec
from harness.inspection.prediction_output import label_names

if TYPE_CHECKING:
    from harness.rows.splits import Split

VALUE_PERCENTS = (0, 5, 25, 50, 75, 95, 100)
"""Percentiles of values and of errors of a regression."""

TOKEN_PERCENTS = (50, 90, 95, 99, 100)
"""Percentiles of lengths in tokens."""

EXAMPLES = 3
"""Examples of a split."""

_FEW_ROWS = 10
"""A label with fewer training rows gets a note."""


class Lengths(NamedTuple):
    """Tokens per row of a split, special tokens included, before truncation."""

    percentiles: dict[int, int]
    """Smallest length that this percentage of the rows does not exceed, by percentage."""
    mean: float
    cut_rows: int
    """Rows longer than max_length."""
    cut_tokens: int
    """Tokens beyond max_length."""
    tokens: int
    """Sum over all rows."""


class Example(NamedTuple):
    """A row, unchanged."""

    row: int
    """Number of the row, from 1."""
    label: Any
    """A name, a list of names, a value, or None if hidden."""
    text: str
    pair: str | None


class SplitFacts(NamedTuple):
    """The facts about one split."""

    rows: int
    counts: dict[str, int] | None
    """Rows by label, in the order of the labels; None for a regression or hidden labels."""
    set_sizes: dict[int, int] | None
    """Rows by number of labels, in a multi-label task."""
    values: dict[str, float] | None
    """Percentiles, mean and standard deviation of a regression's values."""
    repeated: int
    """Rows whose text (and pair) is also in an earlier row."""
    empty: int
    """Rows with an empty or blank text."""
    group_sizes: dict[int, int] | None
    """Groups by their number of rows, in a task of groups."""
    lengths: Lengths | None
    """None if tokens are not counted."""
    examples: list[Example]

    @property
    def is_labelled(self) -> bool:
        return self.counts is not None or self.values is not None


class Conflict(NamedTuple):
    """A text (and pair) with different labels in different rows; texts are compared character by character."""

    text: str
    pair: str | None
    rows: list[tuple[str, int, Any]]
    """(split, number of the row from 1, label), in the order of the splits."""


class Description(NamedTuple):
    """The description of a task's rows."""

    task: TaskSpec
    splits: dict[str, SplitFacts]
    shared: dict[str, int]
    """`a & b`: number of rows of split b whose text (and pair) is also in split a."""
    conflicts: list[Conflict]
    """Conflicts within all labelled splits together, those of most rows first."""
    notes: list[str]
    """Notes on rare and missing labels."""
    values: dict[str, NDArray[np.float64]]
    """Values by labelled split; empty unless the task is a regression."""
    tokens: Mapping[str, NDArray[np.int64]]
    """Tokens per row by split; empty if not counted."""
    model: str
    """The model whose tokenizer counted them."""
    max_length: int


def describe_rows(
    task: TaskSpec,
    splits: Mapping[str, Split],
    shared: Mapping[str, int],
    tokens: Mapping[str, NDArray[np.int64]],
    model: str,
    max_length: int,
) -> Description:
    """The description of these splits; `shared` is counted by `loading.shared_texts`."""
    facts = {
        name: _split_facts(task, split, _lengths(tokens[name], max_length) if name in tokens else None)
        for name, split in splits.items()
    }
    values = {name: split.label for name, split in splits.items() if task.is_regression and split.label is not None}
    conflicts, notes = _conflicts(task, splits), _notes(task, facts)
    return Description(task, facts, dict(shared), conflicts, notes, values, tokens, model, max_length)


def _split_facts(task: TaskSpec, split: Split, lengths: Lengths | None) -> SplitFacts:
    gold, names = split.label, list(task.labels or [])
    counts = sizes = values = None
    if gold is not None and task.is_regression:
        percentiles = np.percentile(gold, VALUE_PERCENTS).tolist()
        values = {f"{percent}%": value for percent, value in zip(VALUE_PERCENTS, percentiles, strict=True)}
        values |= {"mean": float(gold.mean()), "sd": float(gold.std())}
    elif gold is not None and task.is_multi_label:
        counts = dict(zip(names, gold.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        rows_by_size = np.bincount(gold.sum(axis=1, dtype=np.int64)).tolist()
        sizes = {size: rows for size, rows in enumerate(rows_by_size) if rows}
    elif gold is not None:
        counts = dict(zip(names, np.bincount(gold, minlength=len(names)).tolist(), strict=True))
    texts = split.texts
    return SplitFacts(
        rows=len(texts),
        counts=counts,
        set_sizes=sizes,
        values=values,
        repeated=len(texts) - len(set(texts)),
        empty=sum(not text.strip() or (pair is not None and not pair.strip()) for text, pair in texts),
        group_sizes=None if split.row_groups is None else _group_sizes(split.row_groups),
        lengths=lengths,
        examples=_examples(task, split),
    )


def _group_sizes(row_groups: NDArray[np.int64]) -> dict[int, int]:
    _, rows = np.unique(row_groups, return_counts=True)
    sizes, groups = np.unique(rows, return_counts=True)
    return dict(zip(sizes.tolist(), groups.tolist(), strict=True))


def _lengths(tokens: NDArray[np.int64], max_length: int) -> Lengths:
    percentiles = np.percentile(tokens, TOKEN_PERCENTS, method="inverted_cdf")
    return Lengths(
        {percent: int(length) for percent, length in zip(TOKEN_PERCENTS, percentiles, strict=True)},
        float(tokens.mean()),
        int((tokens > max_length).sum()),
        int(np.maximum(tokens - max_length, 0).sum()),
        int(tokens.sum()),
    )


def _examples(task: TaskSpec, split: Split) -> list[Example]:
    """The first row of each label or label set, or the first rows of a regression; in row order."""
    texts = split.texts
    rows = list(range(len(texts)))[:EXAMPLES]
    if split.label is not None and not task.is_regression:
        _, first = np.unique(split.label, axis=0, return_index=True)
        rows = sorted(list(dict.fromkeys([*sorted(first.tolist())[:EXAMPLES], *rows]))[:EXAMPLES])
    labels = [None] * len(rows) if split.label is None else label_names(task, split.label[rows])
    return [Example(row + 1, label, *texts[row]) for row, label in zip(rows, labels, strict=True)]


def _conflicts(task: TaskSpec, splits: Mapping[str, Split]) -> list[Conflict]:
    rows: dict[tuple[str, str | None], list[tuple[str, int, Any]]] = defaultdict(list)
    for name, split in splits.items():
        if split.label is not None:
            labels = label_names(task, split.label)
            for row, (text, label) in enumerate(zip(split.texts, labels, strict=True), start=1):
                rows[text].append((name, row, label))
    conflicts = [
        Conflict(*text, occurrences)
        for text, occurrences in rows.items()
        if any(label != occurrences[0][2] for _, _, label in occurrences)
    ]
    return sorted(conflicts, key=lambda conflict: -len(conflict.rows))


def _notes(task: TaskSpec, splits: Mapping[str, SplitFacts]) -> list[str]:
    notes = []
    train = splits["train"].counts if "train" in splits else None
    for label, count in (train or {}).items():
        if count < _FEW_ROWS:
            others = [name for name, facts in splits.items() if not count and (facts.counts or {}).get(label)]
            notes.append(
                f"train: rows with {label!r}: {count}" + (f", but more in {', '.join(others)}" if others else "")
            )
    for name, facts in splits.items():
        if facts.counts and not task.is_multi_label and sum(count > 0 for count in facts.counts.values()) == 1:
            notes.append(f"{name}: all rows have the same label")
    return notes
