"""Models and rows without a network: any shape of BERT with random weights, rows as long as those of GLUE's tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec
from harness.rows.loading import Split

WORD_COUNT = 30_517
"""Words of the vocabulary; with five special tokens as many as bert-base-uncased has."""

LENGTHS = Path(__file__).with_name("glue_lengths.json")


class Shape(NamedTuple):
    """The dimensions of a BERT."""

    layers: int
    hidden: int
    heads: int
    positions: int = 512
    word_count: int = WORD_COUNT


SHAPES = {
    "tiny": Shape(2, 128, 2),
    "mini": Shape(4, 256, 4),
    "MiniLM": Shape(6, 384, 12),
    "medium": Shape(8, 512, 8),
    "base": Shape(12, 768, 12),
}
"""MiniLM has the shape of all-MiniLM-L6-v2, the others those of the BERTs that Google published."""


def write_bert(folder: Path, shape: Shape) -> Path:
    """Writes a checkpoint with random weights and a tokenizer that knows the generated words; returns its folder."""
    import torch
    import transformers
    from transformers import BertConfig, BertModel, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_vocabulary(shape.word_count)]
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.positions,
    )
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.disable_progress_bar()
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    return folder


def generate_split(task: TaskSpec, rows: int, seed: int = 0) -> Split:
    """Returns rows of random words whose lengths are distributed as those of a GLUE task's training rows."""
    facts = json.loads(LENGTHS.read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    lengths = np.interp(rng.random(rows), facts["shares"], facts["quantiles"][task.name])
    return split_with_lengths(task, np.round(lengths).astype(np.int64), rng)


def split_with_lengths(
    task: TaskSpec, lengths: NDArray[np.int64], rng: np.random.Generator, word_count: int = WORD_COUNT
) -> Split:
    """Returns rows of random words and labels with these numbers of tokens, special tokens included."""
    is_pair = len(task.text) == 2
    counts = np.maximum(lengths - (3 if is_pair else 2), len(task.text))  # without [CLS] and the [SEP]s
    ends = counts.cumsum()
    drawn = rng.integers(word_count, size=int(ends[-1])).tolist()
    vocabulary = _vocabulary(word_count)
    texts = [[vocabulary[index] for index in drawn[end - count : end]] for end, count in zip(ends, counts, strict=True)]
    labels = rng.random(len(lengths)) * 5 if task.is_regression else rng.integers(task.classes, size=len(lengths))
    if not is_pair:
        return Split([" ".join(text) for text in texts], None, labels)
    return Split(
        [" ".join(text[: len(text) // 2]) for text in texts],
        [" ".join(text[len(text) // 2 :]) for text in texts],
        labels,
    )


def _vocabulary(word_count: int) -> list[str]:
    return [f"w{number}" for number in range(word_count)]
