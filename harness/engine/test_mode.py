"""A world small enough for one CPU and no network: generated rows for any task, a vocabulary, and a tiny BERT.

The rows have the task's real columns and label types and a rule that can be learned, so a broken training loop shows as
a score at the constant baseline. In tasks on pairs the rule lies in the second text alone.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.facts.tasks import TaskSpec

if TYPE_CHECKING:
    from harness.rows.loading import Tables

MODEL = "tiny-bert"
REVISION = "test-mode"

RECIPE: dict[str, Any] = dict(
    learning_rate=3e-3,
    epochs=8,
    global_batch_size=32,
    max_length=48,
    warmup=0.1,
    weight_decay=0.0,
    schedule="linear",
)
"""Hyperparameters under which the tiny BERT learns any generated task in seconds."""

ROWS = {"train": 384, "labelled": 96, "hidden": 32}

_FILLERS = [f"w{number}" for number in range(40)]
_SIGNALS_PER_CLASS = 3
_MOST_CLASSES = 20
_HIGHEST_VALUE = 5


def tables(task: TaskSpec) -> Tables:
    """Every split of the task, as its source would have it; the same rows each time."""
    import datasets

    from harness.rows.loading import Tables

    by_split = {}
    for split in task.splits:
        kind = "train" if split == "train" else "hidden" if split in task.predict else "labelled"
        rng = np.random.default_rng(zlib.crc32(f"{task.name}/{split}".encode()))
        by_split[split] = datasets.Dataset.from_dict(_columns(task, ROWS[kind], kind == "hidden", rng))
    return Tables(by_split, "generated", None)


def write_model(folder: Path) -> None:
    """A freshly drawn two-layer BERT without a head and its tokenizer, as a checkpoint folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_FILLERS]
    words += [_signal(number, which) for number in range(_MOST_CLASSES) for which in range(_SIGNALS_PER_CLASS)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = BertModel(config).state_dict()
    # save_pretrained writes on the first process only, and this folder may be each process's own
    config.to_json_file(folder / "config.json")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def _columns(task: TaskSpec, rows: int, is_hidden: bool, rng: np.random.Generator) -> dict[str, list[Any]]:
    texts: list[list[str]] = [[] for _ in task.text]
    labels: list[Any] = []
    values = list((task.labels or {}).values())
    for row in range(rows):
        if task.is_multi_label:
            switches = rng.integers(0, 2, size=len(values))
            spelled = [(number, int(rng.integers(1, _SIGNALS_PER_CLASS)) * on) for number, on in enumerate(switches)]
            signals = [_signal(number, which) for number, which in spelled for _ in range(2)]
            label: Any = None if is_hidden else switches
        elif task.is_regression:
            target = int(rng.integers(0, _HIGHEST_VALUE + 1))
            signals = [_signal(0, row % _SIGNALS_PER_CLASS)] * target
            signals += [_signal(1, row % _SIGNALS_PER_CLASS)] * (_HIGHEST_VALUE - target)
            label = -1.0 if is_hidden else float(target)
        else:
            target = row % len(values)
            signals = [_signal(target, int(rng.integers(_SIGNALS_PER_CLASS))) for _ in range(3)]
            hidden = -1 if isinstance(values[0], int) else None
            label = hidden if is_hidden else values[target]
        for position, column in enumerate(texts):
            fillers = rng.integers(1, 3) if task.is_multi_label else rng.integers(4, 14)
            words = list(rng.choice(_FILLERS, size=int(fillers)))
            if position == len(texts) - 1:
                words += signals
            rng.shuffle(words)
            column.append(" ".join(words))
        labels.append(label)
    columns = dict(zip(task.text, texts, strict=True))
    for joined, parts in task.join.items():
        columns |= {part: [""] * rows for part in parts} | {parts[-1]: columns.pop(joined)}
    return {**columns, **_label_columns(task, labels), "idx": list(range(rows))}


def _label_columns(task: TaskSpec, labels: list[Any]) -> dict[str, list[Any]]:
    """By column; switches (0 or 1 a label) of a multi-label task as its source writes them."""
    if not isinstance(task.label, str):
        return {c: [None if row is None else int(row[i]) for row in labels] for i, c in enumerate(task.label)}
    if not task.is_multi_label:
        return {task.label: labels}
    values = list((task.labels or {}).values())
    lists = [None if row is None else [values[number] for number in np.flatnonzero(row)] for row in labels]
    if task.separator is None:
        return {task.label: lists}
    return {task.label: [None if row is None else task.separator.join(map(str, row)) for row in lists]}


def _signal(label: int, which: int) -> str:
    return f"c{label % _MOST_CLASSES}s{which}"
