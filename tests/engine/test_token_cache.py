"""The token cache: never the tokens of other rows or tokenizers, never a damaged file, and no run depends on it."""

import os
import resource
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, BertTokenizer

from harness.engine import token_cache
from harness.engine.encoding import encode
from harness.engine.token_cache import cache_folder, encode_splits
from harness.errors import UserError
from harness.rows.splits import Split

SPLITS = {
    "train": Split(["w1 w2", "w3", "w4 w5"], ["w6", "", "w7 w8"], np.array([0, 1, 0])),
    "validation": Split(["w1"], None, None),
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def messages():
    return []


@pytest.fixture
def calls(monkeypatch):
    """The splits that were tokenised, in order."""
    splits = []

    def record(split, *rest):
        splits.append(split)
        return encode(split, *rest)

    monkeypatch.setattr(token_cache, "encode", record)
    return splits


def assert_equal(encoded, expected):
    for name, rows in expected.items():
        assert encoded[name].padding == rows.padding
        assert np.array_equal(encoded[name].offsets, rows.offsets)
        assert encoded[name].tokens.keys() == rows.tokens.keys()
        for key, flat in rows.tokens.items():
            assert encoded[name].tokens[key].dtype == np.int32
            assert np.array_equal(encoded[name].tokens[key], flat)
        assert (encoded[name].labels is None) == (rows.labels is None)


def test_rows_are_tokenised_once(tokenizer, folder, messages, calls):
    expected = {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()}
    assert_equal(encode_splits(SPLITS, tokenizer, 16, folder, messages.append), expected)
    assert len(calls) == 2
    assert_equal(encode_splits(SPLITS, tokenizer, 16, folder, messages.append), expected)
    assert len(calls) == 2
    assert messages == []
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"] * 2


def test_labels_come_from_the_split_and_not_from_the_cache(tokenizer, folder, messages, calls):
    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    other = SPLITS["train"]._replace(label=np.array([1.5, 2.5, 3.5]))
    assert encode_splits({"x": other}, tokenizer, 16, folder, messages.append)["x"].labels.tolist() == [1.5, 2.5, 3.5]
    assert len(calls) == 2


@pytest.mark.parametrize(
    "text, pair",
    [
        (["w1 w2", "w3", "w4 w6"], ["w6", "", "w7 w8"]),
        (["w1 w2", "w3w4", " w5"], ["w6", "", "w7 w8"]),  # the same characters, joined
        (["w3", "w1 w2", "w4 w5"], ["w6", "", "w7 w8"]),
        (["w6", "", "w7 w8"], ["w1 w2", "w3", "w4 w5"]),
        (["w1 w2", "w3", "w4 w5"], None),
        (["w1 w2", "w3", "w4 w5", "w6", "", "w7 w8"], None),
        (["w1 w2", "w3"], ["w6", ""]),
    ],
)
def test_other_texts_have_an_entry_of_their_own(tokenizer, folder, messages, calls, text, pair):
    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    assert_equal(
        encode_splits({"x": Split(text, pair, None)}, tokenizer, 16, folder, messages.append),
        {"x": encode(Split(text, pair, None), tokenizer, 16)},
    )
    assert len(calls) == 3


def test_another_length_or_tokenizer_has_an_entry_of_its_own(tokenizer, folder, messages, calls):
    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    encode_splits(SPLITS, tokenizer, 5, folder, messages.append)
    reversed_vocabulary = {token: len(tokenizer) - 1 - number for token, number in tokenizer.get_vocab().items()}
    other = BertTokenizer(vocab=reversed_vocabulary)
    encode_splits(SPLITS, other, 16, folder, messages.append)
    assert len(calls) == 6


def test_cached_tokens_are_a_mapping_of_the_file(tokenizer, folder, messages):
    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    encoded = encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    mapped = [line for line in open("/proc/self/maps").read().splitlines() if str(folder) in line]  # noqa: PTH123,SIM115
    assert len(mapped) == len(encoded)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def _flip_a_token(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _empty(path):
    path.write_bytes(b"")


def _other_content(path):
    other = next(other for other in path.parent.iterdir() if other != path)
    path.write_bytes(other.read_bytes())


def _without_hash(path):
    save_file(load_file(path), path)


def _longer(path):
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("damage", [_truncate, _flip_a_token, _empty, _other_content, _without_hash, _longer])
def test_damaged_file_is_named_and_written_again(tokenizer, folder, messages, calls, damage):
    expected = encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    damaged = sorted(folder.iterdir())[0]
    damage(damaged)
    assert_equal(encode_splits(SPLITS, tokenizer, 16, folder, messages.append), expected)
    assert len(calls) == 3
    assert len(messages) == 1
    assert str(damaged) in messages[0]
    assert_equal(encode_splits(SPLITS, tokenizer, 16, folder, messages.append), expected)
    assert (len(calls), len(messages)) == (3, 1)


def test_rows_in_use_survive_the_removal_of_their_file(tokenizer, folder, messages):
    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    encoded = encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    for path in folder.iterdir():
        path.unlink()
    assert_equal(encoded, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})


def test_unwritable_folder_is_reported_once_and_rows_are_tokenised(tokenizer, tmp_path, messages, calls):
    (tmp_path / "file").write_text("")
    encoded = encode_splits(SPLITS, tokenizer, 16, tmp_path / "file" / "tokens", messages.append)
    assert_equal(encoded, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})
    assert len(messages) == 1
    assert str(tmp_path / "file" / "tokens") in messages[0]
    assert len(calls) == 2


def test_full_disk_is_reported_once_and_leaves_no_file(tokenizer, folder, messages):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        encoded = encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_equal(encoded, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})
    assert len(messages) == 1
    assert list(folder.iterdir()) == []


def test_without_a_folder_nothing_is_cached(tokenizer, tmp_path, messages, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode_splits(SPLITS, tokenizer, 16, None, messages.append)
    assert list(tmp_path.iterdir()) == []
    assert messages == []


def test_unread_files_are_removed_when_another_is_written(tokenizer, folder, messages):
    def age(path):
        long_ago = time.time() - (token_cache.UNUSED_DAYS + 1) * 24 * 3600
        os.utime(path, (long_ago, long_ago))

    encode_splits(SPLITS, tokenizer, 16, folder, messages.append)
    for path in folder.iterdir():
        age(path)
    (folder / "notes.txt").write_text("a file of the user")
    (folder / ".half.safetensors-4711").write_text("")
    age(folder / "notes.txt")
    age(folder / ".half.safetensors-4711")
    encode_splits({"train": SPLITS["train"]}, tokenizer, 16, folder, messages.append)  # reading marks it as used
    (used,) = [path for path in folder.glob("*.safetensors") if time.time() - path.stat().st_mtime < 60]
    encode_splits({"train": SPLITS["train"]}, tokenizer, 8, folder, messages.append)
    left = set(folder.iterdir())
    assert len(left) == 3
    assert {used, folder / "notes.txt"} < left


@pytest.mark.parametrize("column, row", [("text", 2), ("pair", 3)])
def test_half_a_character_is_an_error_that_names_its_row(tokenizer, folder, messages, column, row):
    split = SPLITS["train"]
    texts = list(getattr(split, column))
    texts[row - 1] = "w1 \ud83d"
    with pytest.raises(UserError, match=rf"row {row} of split 'train'.*'\\ud83d'"):
        encode_splits({"train": split._replace(**{column: texts})}, tokenizer, 16, folder, messages.append)


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"HARNESS_CACHE": "/a", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/a/tokens"),
        ({"HARNESS_CACHE": "~/a", "HOME": "/h"}, "/h/a/tokens"),
        ({"HARNESS_CACHE": "", "HOME": "/h"}, None),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/glue-harness/tokens"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/glue-harness/tokens"),
        ({"HOME": "/h"}, "/h/.cache/glue-harness/tokens"),
    ],
)
def test_folder_of_the_cache(monkeypatch, environment, expected):
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = cache_folder()
    assert (None if folder is None else str(folder)) == expected
