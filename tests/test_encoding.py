"""Token arrays: no token lost or invented."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from harness.data import Split
from harness.encoding import encode


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_encoded_rows_are_what_the_tokenizer_gives_one_by_one(tokenizer):
    split = Split(["w1 c0s1", "w2", "w3 w4 w5 w6"], ["w7", "c1s0 w8 w9", "w1"], np.array([0, 1, 1]))
    encoded = encode(split, tokenizer, 8)
    for row, (text, pair) in enumerate(zip(split.text, split.pair, strict=True)):
        alone = tokenizer(text, pair, truncation=True, max_length=8)
        here = slice(encoded.offsets[row], encoded.offsets[row + 1])
        assert encoded.tokens["input_ids"][here].tolist() == alone["input_ids"]
        assert encoded.tokens["token_type_ids"][here].tolist() == alone["token_type_ids"]
    assert len(encoded) == 3
    assert encoded.lengths.max() <= 8


def test_encoding_in_chunks_changes_nothing(tokenizer, monkeypatch):
    split = Split([f"w{n % 40} " * (1 + n % 5) for n in range(23)], None, None)
    whole = encode(split, tokenizer, 16)
    monkeypatch.setattr("harness.encoding.TOKENISED_AT_ONCE", 4)
    chunked = encode(split, tokenizer, 16)
    assert np.array_equal(whole.tokens["input_ids"], chunked.tokens["input_ids"])
    assert np.array_equal(whole.offsets, chunked.offsets)
