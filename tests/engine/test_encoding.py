"""Token arrays: exactly the tokens that the tokenizer returns for each row alone, for any tokenizer and text."""

import numpy as np
import pytest
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    ByT5Tokenizer,
    CanineTokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from harness.engine import encoding
from harness.engine.batches import cut_batch
from harness.engine.encoding import encode, join_rows, tokenizer_identity
from harness.rows.splits import Split

LONG = "w1 w2 w3 " * 40
TEXTS = ["w1 c0s1", "", LONG, "w2", "w3 w4 w5 w6", "👩‍👩‍👧 w7", "日本 w1 ağaç\u2028w2", " \t ", "[SEP] </s> w3", LONG]
PAIRS = ["w7", "w8 w9", "w5", LONG, "", "w2 🙂", "\x00w1", "", "[CLS] <s> <mask>", LONG + "w9"]


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def _roberta():
    characters = [*"w0123456789", "Ġ", "Ã", "Ł"]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *characters, "Ġw"]
    return RobertaTokenizer(vocab={token: number for number, token in enumerate(vocabulary)}, merges=[("Ġ", "w")])


def _unigram():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁w", "▁", *"w0123456789c", "<mask>"]
    return XLMRobertaTokenizer(vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)])


class _ReplacingTokenizer(BertTokenizer):
    """A tokenizer that changes texts before they reach its backend."""

    def __call__(self, text, *pairs, **settings):
        return super().__call__([line.replace("w1", "w2") for line in text], *pairs, **settings)


@pytest.fixture(params=["wordpiece", "byte pairs", "unigram", "own call", "in Python"])
def tokenizer(request, tiny):
    return {
        "wordpiece": lambda: tiny,
        "byte pairs": _roberta,
        "unigram": _unigram,
        "own call": lambda: _ReplacingTokenizer(vocab=tiny.get_vocab()),
        "in Python": ByT5Tokenizer,
    }[request.param]()


@pytest.mark.parametrize("max_length", [4, 5, 8, 9, 512])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pair", [PAIRS, None], ids=["pairs", "singles"])
def test_encoded_rows_equal_those_of_the_tokenizer_one_by_one(tokenizer, max_length, side, pair, monkeypatch):
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    encoded = encode(Split(TEXTS, pair, np.arange(len(TEXTS))), tokenizer, max_length)
    for row, text in enumerate(TEXTS):
        second = [] if pair is None else [[pair[row]]]
        expected = tokenizer([text], *second, truncation=True, max_length=max_length)
        tokens = slice(encoded.offsets[row], encoded.offsets[row + 1])
        assert set(encoded.tokens) == set(expected) - {"attention_mask"}
        for name, flat in encoded.tokens.items():
            assert flat[tokens].tolist() == expected[name][0]
    assert len(encoded) == len(TEXTS)
    assert encoded.lengths.sum() == len(encoded.tokens["input_ids"])
    assert encoded.labels.tolist() == list(range(len(TEXTS)))


@pytest.mark.parametrize("labels", [np.arange(len(TEXTS)), None], ids=["labels", "hidden labels"])
def test_joined_rows_are_those_of_one_split(tiny, labels):
    def encoded(start, end):
        return encode(
            Split(TEXTS[start:end], PAIRS[start:end], None if labels is None else labels[start:end]), tiny, 16
        )

    joined, whole = join_rows(encoded(0, 4), encoded(4, len(TEXTS))), encoded(0, len(TEXTS))
    assert joined.offsets.tolist() == whole.offsets.tolist()
    assert {name: flat.tolist() for name, flat in joined.tokens.items()} == {
        name: flat.tolist() for name, flat in whole.tokens.items()
    }
    assert np.array_equal(joined.labels, whole.labels)
    for name in ("padding", "pads_left", "choices", "least_width"):
        assert getattr(joined, name) == getattr(whole, name)


@pytest.mark.parametrize("characters", [1, 7, 100])
def test_encoding_in_many_calls_gives_the_same_tokens(tokenizer, monkeypatch, characters):
    split = Split(TEXTS, PAIRS, None)
    whole = encode(split, tokenizer, 16)
    monkeypatch.setattr(encoding, "CHARACTERS_PER_CALL", characters)
    chunked = encode(split, tokenizer, 16)
    assert np.array_equal(whole.tokens["input_ids"], chunked.tokens["input_ids"])
    assert np.array_equal(whole.offsets, chunked.offsets)
    assert len(encoding._chunks(encoding.input_texts(split))) > 1


def test_padding_is_that_of_the_tokenizer(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    monkeypatch.setattr(tokenizer, "_pad_token_type_id", 3)
    encoded = encode(Split(["w1"], None, None), tokenizer, 8)
    expected = {"input_ids": tokenizer.pad_token_id, "token_type_ids": 3}
    assert encoded.padding == {name: expected[name] for name in encoded.tokens}
    assert encoded.pads_left


def test_batch_is_as_wide_as_the_model_needs():
    encoded = encode(Split(["a", ""], None, None), CanineTokenizer(), 8)
    assert cut_batch(encoded, np.array([1])).inputs["input_ids"].shape == (1, 4)


def test_settings_of_the_tokenizer_are_restored(tiny):
    tiny.backend_tokenizer.no_truncation()
    identity = tokenizer_identity(tiny)
    tiny.backend_tokenizer.enable_truncation(max_length=7)
    before = tiny.backend_tokenizer.to_str()
    encode(Split(["w1", "w2"], None, None), tiny, 16)
    assert tokenizer_identity(tiny) == identity, "a call decides the truncation"
    assert tiny.backend_tokenizer.to_str() == before


def test_identity_depends_on_the_content_and_not_on_the_folder(tiny, tiny_model, tmp_path):
    first = tokenizer_identity(tiny)
    tiny.save_pretrained(tmp_path / "copy")
    assert tokenizer_identity(AutoTokenizer.from_pretrained(tmp_path / "copy")) == first
    encode(Split(["w1", "w2"], None, None), tiny, 16)
    assert tokenizer_identity(tiny) == first


def test_identity_differs_for_everything_that_changes_tokens(tiny, monkeypatch):
    vocabulary = tiny.get_vocab()
    swapped = vocabulary | {"w1": vocabulary["w2"], "w2": vocabulary["w1"]}
    left = BertTokenizer(vocab=vocabulary)
    left.truncation_side = "left"
    added = BertTokenizer(vocab=vocabulary)
    added.add_tokens(["w1 w2"])
    padded = BertTokenizer(vocab=vocabulary)
    padded.pad_token = "w1"
    others = [
        BertTokenizer(vocab=vocabulary),
        BertTokenizer(vocab=swapped),
        BertTokenizer(vocab=vocabulary, do_lower_case=False),
        BertTokenizer(vocab=vocabulary, split_special_tokens=True),
        _ReplacingTokenizer(vocab=vocabulary),
        left,
        added,
        padded,
        ByT5Tokenizer(),
        ByT5Tokenizer(extra_ids=3),
    ]
    identities = [*map(tokenizer_identity, others)]
    assert len(set(identities)) == len(others)
    monkeypatch.setattr("tokenizers.__version__", "0.0.1")
    assert tokenizer_identity(others[0]) != identities[0]


def test_each_candidate_is_the_second_text_of_a_pair_of_its_own(tiny):
    choices = [("w1", "w2 w3"), ("w4 w5 w6", "w7")]
    together = encode(Split(["w8", "w9 w10"], None, np.array([1, 0]), choices=choices), tiny, 32)
    pairs = encode(Split(["w8", "w8", "w9 w10", "w9 w10"], [c for each in choices for c in each], None), tiny, 32)
    assert (together.choices, len(together), len(pairs)) == (2, 2, 4)
    assert together.offsets.tolist() == pairs.offsets.tolist()
    for name, ids in together.tokens.items():
        assert ids.tolist() == pairs.tokens[name].tolist()
