"""Test mode, small enough for one CPU and no network: generated rows for any task, a vocabulary, and a tiny BERT.

The rows have the task's real columns and label types and follow a rule that can be learned, so that a broken training
loop shows as a score at the baseline. In tasks on pairs the rule is in the second text alone.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.facts.tasks import TaskSpec
from harness.facts.texts import TextSource

if TYPE_CHECKING:
    from harness.rows.loading import Tables

MODEL = "tiny-bert"
REVISION = "test-mode"

RECIPE: dict[str, Any] = dict(
    learning_rate=3e-3, epochs=8, global_batch_size=32, max_length=48, warmup=0.1, weight_decay=0.0, schedule="linear"
)
"""Hyperparameters with which the tiny BERT learns any generated task in seconds."""

ROWS = {"train": 384, "labelled": 96, "hidden": 32}

_FILLERS = [f"w{number}" for number in range(40)]
_WORDS_PER_CLASS = 3
_MAX_CLASSES = 20
_MAX_VALUE = 5
_ROWS_PER_GROUP = 4


def tables(task: TaskSpec) -> Tables:
    """Generates every split of the task in its source's format; the same rows each time."""
    import datasets

    from harness.rows.loading import Tables

    by_split: dict[str, datasets.Dataset] = {}
    for split in task.splits:
        kind = "train" if split == "train" else "hidden" if split in task.predict else "labelled"
        rng = np.random.default_rng(zlib.crc32(f"{task.name}/{split}".encode()))
        size = task.group_rows or 1
        columns = _columns(task, -(-ROWS[kind] // size) * size, kind == "hidden", rng)  # whole groups
        # Parts of one split of the source share no group.
        first = len(by_split) * ROWS["train"] if "[" in task.splits[split] else 0
        by_split[split] = datasets.Dataset.from_dict(columns | _id_columns(task, columns, first))
    return Tables(by_split, "generated", None)


def write_model(folder: Path) -> None:
    """Writes a checkpoint folder: a randomly initialised two-layer BERT without a head, and its tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_FILLERS]
    vocabulary += [_class_word(number, which) for number in range(_MAX_CLASSES) for which in range(_WORDS_PER_CLASS)]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)})
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = BertModel(config).state_dict()
    # save_pretrained writes on the first process only, but each process may have its own folder
    config.to_json_file(folder / "config.json")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def _columns(task: TaskSpec, rows: int, is_hidden: bool, rng: np.random.Generator) -> dict[str, list[Any]]:
    if task.candidates is not None:
        return _question_columns(task, rows // _ROWS_PER_GROUP, is_hidden, rng)
    values = list((task.labels or {}).values())
    has_class_numbers = not task.is_multi_label and bool(values) and isinstance(values[0], int)
    hidden = -1.0 if task.is_regression else -1 if has_class_numbers else None
    texts: list[list[str]] = [[] for _ in task.text]
    labels: list[Any] = []
    candidates: list[list[str]] = []
    for row in range(rows):
        signals, label = _signals(task, values, row, rng)
        labels.append(hidden if is_hidden else label)
        for column in texts:
            fillers = rng.integers(1, 3) if task.is_multi_label else rng.integers(4, 14)
            numbers = rng.integers(len(_FILLERS), size=int(fillers))  # as rng.choice draws them, in half its time
            tokens = [_FILLERS[number] for number in numbers.tolist()] + (signals if column is texts[-1] else [])
            rng.shuffle(tokens)
            column.append(" ".join(tokens))
        if task.choices:
            endings = [_class_word(int(number == row % len(values)), 0) for number in range(len(values))]
            beginnings = rng.choice(_FILLERS, size=(len(values), 3))
            candidates.append([" ".join([*first, last]) for first, last in zip(beginnings, endings, strict=True)])
    sources = [task.text_source(name) for name in (*task.text, *task.choices)]
    if len(task.choices) > 1:
        texts += [list(each) for each in zip(*candidates, strict=True)]
    columns = _text_columns(sources[: len(texts)], texts)
    if len(task.choices) == 1:
        columns[task.choices[0]] = candidates
    return {**columns, **_label_columns(task, labels)}


def _signals(task: TaskSpec, values: list[Any], row: int, rng: np.random.Generator) -> tuple[list[str], Any]:
    """Returns the tokens of a row that tell its label, and the label; a row of candidates has no such tokens itself."""
    if task.is_multi_label:
        switches = rng.integers(0, 2, size=len(values))
        choices = [(number, int(rng.integers(1, _WORDS_PER_CLASS)) * on) for number, on in enumerate(switches)]
        return [_class_word(number, which) for number, which in choices for _ in range(2)], switches
    if task.is_regression:
        target, which = int(rng.integers(0, _MAX_VALUE + 1)), row % _WORDS_PER_CLASS
        signals = [_class_word(0, which)] * target + [_class_word(1, which)] * (_MAX_VALUE - target)
        return signals, float(target)
    if task.choices:
        return [], values[row % len(values)]
    target = row // (task.group_rows or 1) % len(values)  # a minimal pair has one label
    return [_class_word(target, int(rng.integers(_WORDS_PER_CLASS))) for _ in range(3)], values[target]


def _question_columns(task: TaskSpec, rows: int, is_hidden: bool, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Returns questions with lists of candidates; the right ones end with the word of class 1."""
    assert task.candidates is not None
    names = [task.text_source(name) for name in task.text]
    parts = dict.fromkeys(part for source in names for part in source.parts if part != task.candidates)
    columns: dict[str, list[Any]] = {part: [] for part in parts} | {task.candidates: [], task.label_columns[0]: []}
    for _ in range(rows):
        number = int(rng.integers(3, 2 * _ROWS_PER_GROUP - 2))
        is_right = rng.permutation(number) < rng.integers(1, 3)
        candidates = [f"{rng.choice(_FILLERS)} {_class_word(int(right), 0)}" for right in is_right]
        for part in parts:
            tokens = map(str, rng.choice(_FILLERS, size=rng.integers(3, 7)))
            columns[part].append(" ".join([*tokens, *filter(None, [task.fill.get(part)])]))
        columns[task.candidates].append(candidates)
        right = [] if is_hidden else [each for each, is_one in zip(candidates, is_right, strict=True) if is_one]
        columns[task.label_columns[0]].append(right)
    return columns


def _text_columns(sources: list[TextSource], texts: list[list[str]]) -> dict[str, list[Any]]:
    """Returns the columns of the texts: a composed text is in the last of its columns that no later text has."""
    columns: dict[str, list[Any]] = {}
    for source, generated in reversed(list(zip(sources, texts, strict=True))):
        own = [part for part in source.parts if part not in columns]
        for part in own:
            other = "w0" if part in source.marks else ""
            columns[part] = generated if part == own[-1] else [other] * len(generated)
        for part, marks in source.marks.items():
            for span in marks.values():  # around the first token
                tokens = [text.split()[0] for text in columns[part]]
                lengths, zeros = [len(token) for token in tokens], [0] * len(tokens)
                values = {span.start: zeros, span.end: lengths, span.first_word: zeros, span.text: tokens}
                columns |= {name: column for name, column in values.items() if name is not None}
    return columns


def _id_columns(task: TaskSpec, generated: dict[str, list[Any]], first: int) -> dict[str, list[Any]]:
    """Returns the numbers of rows, and of their groups from `first`; `idx.question` is a part of an object in `idx`."""
    rows = len(next(iter(generated.values())))
    columns: dict[str, list[Any]] = {"idx": list(range(rows))}
    for column in (*task.id, *task.group):
        numbers = [first + row // _ROWS_PER_GROUP if column in task.group else row for row in range(rows)]
        whole, _, part = column.partition(".")
        if part:
            objects = columns.get(whole, [])
            before = objects if objects and isinstance(objects[0], dict) else [{} for _ in numbers]
            columns[whole] = [{**each, part: number} for each, number in zip(before, numbers, strict=True)]
        else:
            columns[column] = numbers
    return columns


def _label_columns(task: TaskSpec, labels: list[Any]) -> dict[str, list[Any]]:
    """Returns the label columns by name; label sets (0 or 1 per label) in the format of the task's source."""
    if not isinstance(task.label, str):
        return {c: [None if row is None else int(row[i]) for row in labels] for i, c in enumerate(task.label)}
    if not task.is_multi_label:
        return {task.label: labels}
    values = list((task.labels or {}).values())
    lists = [None if row is None else [values[number] for number in np.flatnonzero(row)] for row in labels]
    if task.separator is None:
        return {task.label: lists}
    return {task.label: [None if row is None else task.separator.join(map(str, row)) for row in lists]}


def _class_word(label: int, which: int) -> str:
    return f"c{label % _MAX_CLASSES}s{which}"
