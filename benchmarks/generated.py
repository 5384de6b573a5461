"""Models and rows without a network: any shape of BERT with random weights, rows as long as those of GLUE's tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.tasks import TaskSpec
from harness.rows.loading import Split

WORDS = 30_517
"""Of the vocabulary, beside five special tokens: together as many as bert-base-uncased has."""

LENGTHS = Path(__file__).with_name("glue_lengths.json")


class Shape(NamedTuple):
    """Of a BERT."""

    layers: int
    hidden: int
    heads: int
    positions: int = 512
    words: int = WORDS


SHAPES = {
    "tiny": Shape(2, 128, 2),
    "mini": Shape(4, 256, 4),
    "MiniLM": Shape(6, 384, 12),
    "medium": Shape(8, 512, 8),
    "base": Shape(12, 768, 12),
}
"""MiniLM's is that of all-MiniLM-L6-v2, the others' are those of the BERTs that Google published."""


def write_model(folder: Path, shape: Shape) -> Path:
    """A checkpoint folder with random weights and a tokenizer that knows the generated words; gives the folder."""
    import torch
    import transformers
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(shape.words))]
    config = BertConfig(
        vocab_size=len(words),
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
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    return folder


def split_like(task: TaskSpec, rows: int, seed: int = 0) -> Split:
    """Rows of a GLUE task's lengths and labels, of random words."""
    facts = json.loads(LENGTHS.read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    lengths = np.interp(rng.random(rows), facts["shares"], facts["quantiles"][task.name])
    return split_of(task, np.round(lengths).astype(np.int64), rng)


def split_of(task: TaskSpec, lengths: NDArray[np.int64], rng: np.random.Generator, words: int = WORDS) -> Split:
    """A row for each of these numbers of tokens, special ones included."""
    is_pair = len(task.text) == 2
    counts = np.maximum(lengths - (3 if is_pair else 2), len(task.text))  # words beside [CLS] and the [SEP]s
    ends = counts.cumsum()
    drawn = rng.integers(words, size=int(ends[-1])).tolist()
    vocabulary = [f"w{number}" for number in range(words)]
    texts = [[vocabulary[word] for word in drawn[end - count : end]] for end, count in zip(ends, counts, strict=True)]
    labels = rng.random(len(lengths)) * 5 if task.is_regression else rng.integers(task.classes, size=len(lengths))
    if not is_pair:
        return Split([" ".join(text) for text in texts], None, labels)
    return Split(
        [" ".join(text[: len(text) // 2]) for text in texts],
        [" ".join(text[len(text) // 2 :]) for text in texts],
        labels,
    )
