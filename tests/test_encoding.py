"""Token arrays: to the token what the tokenizer gives for each row alone, whatever the tokenizer and the text."""

import numpy as np
import pytest
from transformers import AutoTokenizer, BertTokenizer, ByT5Tokenizer, RobertaTokenizer, XLMRobertaTokenizer

from harness.engine import encoding
from harness.engine.encoding import encode, tokenizer_identity
from harness.rows.loading import Split

LONG = "w1 w2 w3 " * 40
TEXTS = ["w1 c0s1", "", LONG, "w2", "w3 w4 w5 w6", "👩‍👩‍👧 w7", "日本 w1 ağaç\u2028w2", " \t ", "[SEP] </s> w3", LONG]
PAIRS = ["w7", "w8 w9", "w5", LONG, "", "w2 🙂", "\x00w1", "", "[CLS] <s> <mask>", LONG + "w9"]


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def _roberta():
    letters = [*"w0123456789", "Ġ", "Ã", "Ł"]
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "Ġw"]
    return RobertaTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[("Ġ", "w")])


def _unigram():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁w", "▁", *"w0123456789c", "<mask>"]
    return XLMRobertaTokenizer(vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)])


class _Shouting(BertTokenizer):
    """A class that does something of its own on the way to its backend."""

    def __call__(self, text, *pairs, **settings):
        return super().__call__([line.replace("w1", "w2") for line in text], *pairs, **settings)


@pytest.fixture(params=["wordpiece", "bytes of pairs", "unigram", "a call of its own", "written in Python"])
def tokenizer(request, tiny):
    return {
        "wordpiece": lambda: tiny,
        "bytes of pairs": _roberta,
        "unigram": _unigram,
        "a call of its own": lambda: _Shouting(vocab=tiny.get_vocab()),
        "written in Python": ByT5Tokenizer,
    }[request.param]()


@pytest.mark.parametrize("max_length", [4, 5, 8, 9, 512])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pair", [PAIRS, None], ids=["pairs", "singles"])
def test_encoded_rows_are_what_the_tokenizer_gives_one_by_one(tokenizer, max_length, side, pair, monkeypatch):
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    encoded = encode(Split(TEXTS, pair, np.arange(len(TEXTS))), tokenizer, max_length)
    for row, text in enumerate(TEXTS):
        second = [] if pair is None else [[pair[row]]]
        alone = tokenizer([text], *second, truncation=True, max_length=max_length)
        here = slice(encoded.offsets[row], encoded.offsets[row + 1])
        assert set(encoded.tokens) == set(alone) - {"attention_mask"}
        for name, flat in encoded.tokens.items():
            assert flat[here].tolist() == alone[name][0]
    assert len(encoded) == len(TEXTS)
    assert encoded.lengths.sum() == len(encoded.tokens["input_ids"])
    assert encoded.labels.tolist() == list(range(len(TEXTS)))


@pytest.mark.parametrize("characters", [1, 7, 100])
def test_encoding_in_many_calls_changes_nothing(tokenizer, monkeypatch, characters):
    split = Split(TEXTS, PAIRS, None)
    whole = encode(split, tokenizer, 16)
    monkeypatch.setattr(encoding, "CHARACTERS_AT_ONCE", characters)
    in_many = encode(split, tokenizer, 16)
    assert np.array_equal(whole.tokens["input_ids"], in_many.tokens["input_ids"])
    assert np.array_equal(whole.offsets, in_many.offsets)
    assert len(encoding._calls(split)) > 1


def test_a_tokenizer_is_left_with_the_settings_it_had(tiny):
    tiny.backend_tokenizer.enable_truncation(max_length=7)
    before = tiny.backend_tokenizer.to_str()
    encode(Split(["w1", "w2"], None, None), tiny, 16)
    tokenizer_identity(tiny)
    assert tiny.backend_tokenizer.to_str() == before


def test_identity_is_of_the_content_and_not_of_the_place(tiny, tiny_model, tmp_path):
    first = tokenizer_identity(tiny)
    tiny.save_pretrained(tmp_path / "copy")
    assert tokenizer_identity(AutoTokenizer.from_pretrained(tmp_path / "copy")) == first
    encode(Split(["w1", "w2"], None, None), tiny, 16)
    assert tokenizer_identity(tiny) == first


def test_identity_knows_whatever_changes_tokens(tiny, monkeypatch):
    vocabulary = tiny.get_vocab()
    swapped = vocabulary | {"w1": vocabulary["w2"], "w2": vocabulary["w1"]}
    left = BertTokenizer(vocab=vocabulary)
    left.truncation_side = "left"
    added = BertTokenizer(vocab=vocabulary)
    added.add_tokens(["w1 w2"])
    of_python = ByT5Tokenizer(), ByT5Tokenizer(extra_ids=3)
    others = [
        BertTokenizer(vocab=vocabulary),
        BertTokenizer(vocab=swapped),
        BertTokenizer(vocab=vocabulary, do_lower_case=False),
        BertTokenizer(vocab=vocabulary, split_special_tokens=True),
        _Shouting(vocab=vocabulary),
        left,
        added,
        *of_python,
    ]
    identities = [*map(tokenizer_identity, others)]
    assert len(set(identities)) == len(others)
    monkeypatch.setattr("tokenizers.__version__", "0.0.1")
    assert tokenizer_identity(others[0]) != identities[0]
