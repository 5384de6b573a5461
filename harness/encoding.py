"""Rows become token arrays: flat, with offsets, each row tokenised once."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

TOKENISED_AT_ONCE = 10_000
"""Rows handed to the tokenizer in one call: enough to keep its threads busy, few enough to keep memory flat."""


class Rows(Protocol):
    """What `encode` needs of a split."""

    @property
    def text(self) -> list[str]: ...
    @property
    def pair(self) -> list[str] | None: ...
    @property
    def label(self) -> NDArray[Any] | None: ...


class Encoded(NamedTuple):
    """A split as flat token arrays: row r is `[offsets[r]:offsets[r + 1]]` of each."""

    tokens: dict[str, NDArray[np.int32]]
    """By name of the model's input: input_ids and, where the model knows them, token_type_ids; int32[tokens in all]."""
    offsets: NDArray[np.int64]
    """int64[N + 1]."""
    padding: dict[str, int]
    """By name of the model's input, the value that fills up a row."""
    labels: NDArray[Any] | None
    """int64[N] class numbers, float64[N] values, int8[N, C] label sets of 0 and 1, or None."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, int64[N]."""
        return np.diff(self.offsets)


def encode(split: Rows, tokenizer: Tokenizer, max_length: int) -> Encoded:
    """Every row tokenised and cut to `max_length` tokens, the longer text of a pair first."""
    parts: dict[str, list[NDArray[np.int32]]] = {}
    lengths: list[NDArray[np.int64]] = []
    for start in range(0, len(split.text), TOKENISED_AT_ONCE):
        here = slice(start, start + TOKENISED_AT_ONCE)
        pairs = [] if split.pair is None else [split.pair[here]]
        answer = tokenizer(
            split.text[here],
            *pairs,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
        )
        lengths.append(np.fromiter(map(len, answer["input_ids"]), np.int64))
        for name, rows in answer.items():
            flat = np.fromiter(itertools.chain.from_iterable(rows), np.int32, count=int(lengths[-1].sum()))
            parts.setdefault(name, []).append(flat)
    padding = dict.fromkeys(parts, 0) | {"input_ids": tokenizer.pad_token_id or 0}
    if "token_type_ids" in padding:
        padding["token_type_ids"] = tokenizer.pad_token_type_id
    return Encoded(
        tokens={name: np.concatenate(arrays) for name, arrays in parts.items()},
        offsets=np.concatenate([[0], np.concatenate(lengths).cumsum()]).astype(np.int64),
        padding=padding,
        labels=split.label,
    )
