"""Rows as flat token arrays with offsets: each row has exactly the tokens that the tokenizer returns for it alone."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray
from transformers import CanineTokenizer, FunnelTokenizer, PreTrainedModel, TokenizersBackend
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.errors import UserError
from harness.rows.files import file_hash
from harness.rows.splits import Split

CHARACTERS_PER_CALL = 2_000_000
"""Characters of one call of the tokenizer: enough to keep its threads busy, few enough to limit memory."""

LEAST_WIDTHS = {CanineTokenizer: 4, FunnelTokenizer: 5}
"""Tokens of the narrowest batch that a model can read, by its tokenizer."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A split as flat token arrays: row r is `[offsets[r]:offsets[r + 1]]` of each.

    In a task of multiple choice, a row has K inputs, its candidates: those of row r are inputs K r to K r + K - 1.
    """

    tokens: dict[str, NDArray[np.int32]]
    """int32[total tokens] for each input of the model: input_ids and, where the model has them, token_type_ids."""
    offsets: NDArray[np.int64]
    """int64[N K + 1], with one input of the model for each row (K = 1), or for each of its candidates."""
    padding: dict[str, int]
    """The padding value of each input of the model."""
    labels: NDArray[Any] | None
    """int64[N] class numbers, float64[N] values, int8[N, C] label sets, or None."""
    pads_left: bool = False
    """True where batches have their padding in front of the tokens."""
    choices: int = 1
    """K, the inputs of a row."""
    least_width: int = 1
    """Tokens of the narrowest batch that the model can read."""

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.choices

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, of all its inputs, int64[N]."""
        return np.diff(self.offsets[:: self.choices])

    @property
    def widths(self) -> NDArray[np.int64]:
        """Tokens of each row's longest input, int64[N], to which a batch pads."""
        return np.diff(self.offsets).reshape(-1, self.choices).max(axis=1, initial=0)


def encode(split: Split, tokenizer: Tokenizer, max_length: int) -> Encoded:
    """Tokenises every row and truncates it to `max_length` tokens, the longer text of a pair first.

    Each candidate of a row is the second text of a pair of its own.
    """
    texts, number = input_texts(split), len(split.choices[0]) if split.choices else 1
    lengths: list[NDArray[np.int64]] = []
    tokens: dict[str, list[NDArray[np.int32]]] = defaultdict(list)
    with _own_settings(tokenizer):
        for rows in _chunks(texts):
            columns = [column[rows] for column in texts]
            output = tokenizer(
                *columns, truncation=True, max_length=max_length, padding=False, return_attention_mask=False
            )
            lengths.append(np.fromiter(map(len, output["input_ids"]), np.int64))
            for name, ids in output.items():
                tokens[name].append(np.fromiter(itertools.chain.from_iterable(ids), np.int32, lengths[-1].sum()))
    padding = dict.fromkeys(tokens, 0) | {"input_ids": tokenizer.pad_token_id or 0}
    if "token_type_ids" in padding:
        padding["token_type_ids"] = tokenizer.pad_token_type_id
    return Encoded(
        tokens={name: np.concatenate(parts) for name, parts in tokens.items()},
        offsets=np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
        padding=padding,
        labels=split.label,
        pads_left=tokenizer.padding_side == "left",
        choices=number,
        least_width=least_width(tokenizer),
    )


def join_rows(first: Encoded, second: Encoded) -> Encoded:
    """Returns the rows of both, those of `second` last; the same tokenizer has encoded them."""
    labels = None
    if first.labels is not None and second.labels is not None:
        labels = np.concatenate([first.labels, second.labels])
    return replace(
        first,
        tokens={name: np.concatenate([flat, second.tokens[name]]) for name, flat in first.tokens.items()},
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        labels=labels,
    )


def least_width(tokenizer: Tokenizer) -> int:
    """Returns the tokens of the narrowest batch for the tokenizer's model: some merge neighbouring positions."""
    return next((width for kind, width in LEAST_WIDTHS.items() if isinstance(tokenizer, kind)), 1)


def check_ends(name: str, encoded: Encoded, tokenizer: Tokenizer, model: PreTrainedModel, rows_before: int = 0) -> None:
    """Checks that each text ends once: an encoder with a decoder is classified by the last of its end-of-text tokens.

    `name` is that of the split or file; `rows_before` is the number of its rows in front of these.

    Raises:
        UserError: a text contains that token.
    """
    if not model.config.is_encoder_decoder or tokenizer.eos_token is None:
        return
    before = np.concatenate([[0], (encoded.tokens["input_ids"] == tokenizer.eos_token_id).cumsum()])
    ends = np.diff(before[encoded.offsets])
    if (ends > ends.min()).any():
        row = rows_before + 1 + int(ends.argmax()) // encoded.choices
        raise UserError(
            f"{name}: row {row}: invalid text: it contains {tokenizer.eos_token!r}, the token by which a "
            f"{type(model).__name__} finds the end of a text. Remove it from the text."
        )


def input_texts(split: Split) -> list[list[str]]:
    """The texts of the model's inputs, one or two columns; with candidates, K inputs for each row."""
    if split.choices is None:
        return [column for column in (split.text, split.pair) if column is not None]
    contexts = [text for text, choices in zip(split.text, split.choices, strict=True) for _ in choices]
    return [contexts, [choice for choices in split.choices for choice in choices]]


def tokenizer_identity(tokenizer: Tokenizer) -> str:
    """Returns a hash of everything that decides the tokens of a text, wherever the tokenizer was read from."""
    facts: list[Any] = [
        transformers.__version__,
        tokenizers.__version__,
        f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}",
        tokenizer.model_input_names,
        tokenizer.truncation_side,
        tokenizer.pad_token_id,
        tokenizer.pad_token_type_id,
        getattr(tokenizer, "split_special_tokens", False),
    ]
    if isinstance(tokenizer, TokenizersBackend):
        with _own_settings(tokenizer):
            facts.append(tokenizer.backend_tokenizer.to_str())
    else:  # a tokenizer in Python cannot be serialised in memory: its saved files are hashed
        with TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            facts += [[path.name, file_hash(path)] for path in sorted(Path(folder).iterdir())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _chunks(columns: list[list[str]]) -> list[slice]:
    """Returns the inputs of each call of the tokenizer: chunks of about `CHARACTERS_PER_CALL` characters."""
    ends = np.zeros(len(columns[0]), np.int64)
    for texts in columns:
        ends += np.fromiter(map(len, texts), np.int64, count=len(texts))
    (starts,) = np.nonzero(np.diff(ends.cumsum() // CHARACTERS_PER_CALL, prepend=-1))
    return list(itertools.starmap(slice, itertools.pairwise([*starts.tolist(), len(ends)])))


@contextmanager
def _own_settings(tokenizer: Tokenizer) -> Iterator[None]:
    """Gives the backend neither truncation nor padding, and restores its settings: a call leaves its own behind."""
    if not isinstance(tokenizer, TokenizersBackend):
        yield
        return
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)
