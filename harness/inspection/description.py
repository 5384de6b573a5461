"""What a task's rows are like: how they are labelled, how long they are, which stand twice, and which contradict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec

if TYPE_CHECKING:
    import pandas as pd

    from harness.rows.loading import Split

LEVELS = (0, 5, 25, 50, 75, 95, 100)
"""Percentiles of values."""

TOKEN_LEVELS = (50, 90, 95, 99, 100)
"""Percentiles of lengths."""

EXAMPLES = 3
"""Rows of a split that are shown."""


class Lengths(NamedTuple):
    """Of a split's rows in tokens, with those that the model adds, before anything is cut."""

    percentiles: dict[int, int]
    """By level of `TOKEN_LEVELS`: the shortest length that so many percent of the rows do not exceed."""
    mean: float
    cut_rows: int
    """Longer than max_length."""
    cut_tokens: int
    """What max_length takes away of them."""
    tokens: int
    """In all."""


class Example(NamedTuple):
    """A row as it is."""

    row: int
    """From 1."""
    label: Any
    """A name, a list of names, a value, or None where it is hidden."""
    text: str
    pair: str | None


class SplitFacts(NamedTuple):
    """What is told of one split."""

    rows: int
    counts: dict[str, int] | None
    """Rows by label, in the order of the labels; None for values and hidden labels."""
    set_sizes: dict[int, int] | None
    """Of a multi-label task: rows by how many labels they have."""
    values: dict[str, float] | None
    """Of a regression: percentiles by level, mean and standard deviation."""
    repeated: int
    """Rows whose text, with its pair, stands in a row above."""
    empty: int
    """Rows in which a text has nothing but blanks."""
    lengths: Lengths | None
    examples: list[Example]


class Conflict(NamedTuple):
    """A text, with its pair, that has several labels; texts are compared to the letter."""

    text: str
    pair: str | None
    places: list[tuple[str, int, Any]]
    """Split, row from 1, label; in the order of the splits."""


class Description(NamedTuple):
    """What is told of a task's rows."""

    task: TaskSpec
    splits: dict[str, SplitFacts]
    shared: dict[str, int]
    """`a & b`: rows of split b whose text stands in split a."""
    conflicts: list[Conflict]
    """Of the labelled splits together, those in most rows first."""
    hints: list[str]
    """What a reader should know of the labels."""
    model: str
    """Whose tokenizer counted."""
    max_length: int


def described(
    task: TaskSpec,
    splits: Mapping[str, Split],
    shared: Mapping[str, int],
    lengths: Mapping[str, NDArray[np.int64]],
    model: str,
    max_length: int,
) -> Description:
    """All of it; `shared` as `data.shared_texts` counts, `lengths` of rows in tokens by split, empty if not counted."""
    facts = {
        name: _split_facts(task, split, _lengths(lengths[name], max_length) if name in lengths else None)
        for name, split in splits.items()
    }
    hints = _hints(task, facts)
    return Description(task, facts, dict(shared), _conflicts(task, splits), hints, model, max_length)


def values_of(splits: Mapping[str, Split]) -> dict[str, NDArray[np.float64]]:
    """The values of a regression by labelled split."""
    return {name: split.label for name, split in splits.items() if split.label is not None}


def _split_facts(task: TaskSpec, split: Split, lengths: Lengths | None) -> SplitFacts:
    gold, names = split.label, list(task.labels or [])
    counts = sizes = values = None
    if gold is not None and task.is_regression:
        found = np.percentile(gold, LEVELS)
        values = {f"{level}%": float(value) for level, value in zip(LEVELS, found, strict=True)}
        values |= {"mean": float(gold.mean()), "sd": float(gold.std())}
    elif gold is not None and task.is_multi_label:
        counts = dict(zip(names, gold.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        found = np.bincount(gold.sum(axis=1, dtype=np.int64))
        sizes = {size: rows for size, rows in enumerate(found.tolist()) if rows}
    elif gold is not None:
        counts = dict(zip(names, np.bincount(gold, minlength=len(names)).tolist(), strict=True))
    texts = [split.text, *([] if split.pair is None else [split.pair])]
    return SplitFacts(
        rows=len(split.text),
        counts=counts,
        set_sizes=sizes,
        values=values,
        repeated=int(_frame(split).duplicated(["text", "pair"]).sum()),
        empty=sum(not all(map(str.strip, row)) for row in zip(*texts, strict=True)),
        lengths=lengths,
        examples=_examples(task, split),
    )


def _lengths(tokens: NDArray[np.int64], max_length: int) -> Lengths:
    found = np.percentile(tokens, TOKEN_LEVELS, method="inverted_cdf")
    return Lengths(
        {level: int(value) for level, value in zip(TOKEN_LEVELS, found, strict=True)},
        float(tokens.mean()),
        int((tokens > max_length).sum()),
        int(np.maximum(tokens - max_length, 0).sum()),
        int(tokens.sum()),
    )


def _examples(task: TaskSpec, split: Split) -> list[Example]:
    """The first row of each label or set of labels, the first rows of a regression; in row order."""
    rows: Sequence[int] = range(len(split.text))
    if split.label is not None and not task.is_regression:
        _, first = np.unique(split.label, axis=0, return_index=True)
        rows = list(dict.fromkeys([*sorted(first.tolist())[:EXAMPLES], *rows[:EXAMPLES]]))
    return [
        Example(
            row + 1,
            None if split.label is None else _named(task, split.label[row]),
            split.text[row],
            None if split.pair is None else split.pair[row],
        )
        for row in sorted(rows[:EXAMPLES])
    ]


def _named(task: TaskSpec, label: Any) -> Any:
    """A label as people read it."""
    names = list(task.labels or [])
    if task.is_multi_label:
        return [names[number] for number in np.flatnonzero(label)]
    return names[int(label)] if names else float(label)


def _frame(split: Split) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"text": split.text, "pair": "" if split.pair is None else split.pair})


def _conflicts(task: TaskSpec, splits: Mapping[str, Split]) -> list[Conflict]:
    import pandas as pd

    parts = []
    for name, split in splits.items():
        if split.label is not None:
            number = np.arange(len(split.text))
            parts.append(_frame(split).assign(split=name, row=number, label=_comparable(split.label)))
    if not parts:
        return []
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows.duplicated(["text", "pair"], keep=False)]
    groups = rows.groupby(["text", "pair"], sort=False)
    rows = rows[groups["label"].transform("nunique") > 1]
    found: dict[tuple[str, str], list[tuple[str, int, Any]]] = {}
    for text, pair, name, number in zip(rows["text"], rows["pair"], rows["split"], rows["row"].tolist(), strict=True):
        label = splits[name].label
        assert label is not None
        found.setdefault((text, pair), []).append((name, number + 1, _named(task, label[number])))
    is_pair = len(task.text) == 2
    conflicts = [Conflict(text, pair if is_pair else None, places) for (text, pair), places in found.items()]
    return sorted(conflicts, key=lambda conflict: -len(conflict.places))


def _comparable(labels: NDArray[Any]) -> list[Any]:
    """A value for each row, equal where its label is."""
    return list(labels.tolist() if labels.ndim == 1 else map(bytes, labels.astype(np.int8)))


_FEW = 10
"""Training rows below which a label is told."""


def _hints(task: TaskSpec, splits: Mapping[str, SplitFacts]) -> list[str]:
    told = []
    train = splits["train"].counts if "train" in splits else None
    for label, count in (train or {}).items():
        if count < _FEW:
            others = [name for name, facts in splits.items() if name != "train" and (facts.counts or {}).get(label)]
            where = f"; rows of {', '.join(others)} do" if others and not count else ""
            told.append(
                f"train: {count or 'no'} row{'s' * (count > 1)} {'have' if count > 1 else 'has'} {label!r}{where}"
            )
    for name, facts in splits.items():
        if facts.counts and not task.is_multi_label and sum(count > 0 for count in facts.counts.values()) == 1:
            told.append(f"{name}: all rows have one label")
    return told
