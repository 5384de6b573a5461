"""The cache of tokens: never another row's or tokenizer's, never half a file, and no run that needs it."""

import os
import resource
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, BertTokenizer

from harness.engine import token_cache
from harness.engine.encoding import encode
from harness.engine.token_cache import cache_folder, encoded
from harness.errors import UserError
from harness.rows.loading import Split

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
def said():
    return []


@pytest.fixture
def calls(monkeypatch):
    """Splits that were tokenised, in order."""
    made = []

    def counting(split, *rest):
        made.append(split)
        return encode(split, *rest)

    monkeypatch.setattr(token_cache, "encode", counting)
    return made


def _equal(found, expected):
    for name, rows in expected.items():
        assert found[name].padding == rows.padding
        assert np.array_equal(found[name].offsets, rows.offsets)
        assert found[name].tokens.keys() == rows.tokens.keys()
        for key, flat in rows.tokens.items():
            assert found[name].tokens[key].dtype == np.int32
            assert np.array_equal(found[name].tokens[key], flat)
        assert (found[name].labels is None) == (rows.labels is None)


def test_rows_are_tokenised_once(tokenizer, folder, said, calls):
    expected = {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()}
    _equal(encoded(SPLITS, tokenizer, 16, folder, said.append), expected)
    assert len(calls) == 2
    _equal(encoded(SPLITS, tokenizer, 16, folder, said.append), expected)
    assert len(calls) == 2
    assert said == []
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"] * 2


def test_labels_are_those_of_the_split_and_no_part_of_the_cache(tokenizer, folder, said, calls):
    encoded(SPLITS, tokenizer, 16, folder, said.append)
    other = SPLITS["train"]._replace(label=np.array([1.5, 2.5, 3.5]))
    assert encoded({"x": other}, tokenizer, 16, folder, said.append)["x"].labels.tolist() == [1.5, 2.5, 3.5]
    assert len(calls) == 2


@pytest.mark.parametrize(
    "text, pair",
    [
        (["w1 w2", "w3", "w4 w6"], ["w6", "", "w7 w8"]),
        (["w1 w2", "w3w4", " w5"], ["w6", "", "w7 w8"]),  # the same characters in a row
        (["w3", "w1 w2", "w4 w5"], ["w6", "", "w7 w8"]),
        (["w6", "", "w7 w8"], ["w1 w2", "w3", "w4 w5"]),
        (["w1 w2", "w3", "w4 w5"], None),
        (["w1 w2", "w3", "w4 w5", "w6", "", "w7 w8"], None),
        (["w1 w2", "w3"], ["w6", ""]),
    ],
)
def test_other_texts_are_other_tokens(tokenizer, folder, said, calls, text, pair):
    encoded(SPLITS, tokenizer, 16, folder, said.append)
    _equal(
        encoded({"x": Split(text, pair, None)}, tokenizer, 16, folder, said.append),
        {"x": encode(Split(text, pair, None), tokenizer, 16)},
    )
    assert len(calls) == 3


def test_another_length_or_tokenizer_is_another_entry(tokenizer, folder, said, calls):
    encoded(SPLITS, tokenizer, 16, folder, said.append)
    encoded(SPLITS, tokenizer, 5, folder, said.append)
    turned = BertTokenizer(vocab={word: len(tokenizer) - 1 - number for word, number in tokenizer.get_vocab().items()})
    encoded(SPLITS, turned, 16, folder, said.append)
    assert len(calls) == 6


def test_what_is_read_is_a_mapping_of_the_file(tokenizer, folder, said):
    encoded(SPLITS, tokenizer, 16, folder, said.append)
    found = encoded(SPLITS, tokenizer, 16, folder, said.append)
    mapped = [line for line in open("/proc/self/maps").read().splitlines() if str(folder) in line]  # noqa: PTH123,SIM115
    assert len(mapped) == len(found)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def _flip_a_token(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _empty(path):
    path.write_bytes(b"")


def _another_ones(path):
    other = next(other for other in path.parent.iterdir() if other != path)
    path.write_bytes(other.read_bytes())


def _without_hash(path):
    save_file(load_file(path), path)


def _longer(path):
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("damage", [_truncate, _flip_a_token, _empty, _another_ones, _without_hash, _longer])
def test_damaged_file_is_named_and_written_anew(tokenizer, folder, said, calls, damage):
    expected = encoded(SPLITS, tokenizer, 16, folder, said.append)
    damaged = sorted(folder.iterdir())[0]
    damage(damaged)
    _equal(encoded(SPLITS, tokenizer, 16, folder, said.append), expected)
    assert len(calls) == 3
    (sentence,) = said
    assert str(damaged) in sentence
    assert "tokenising again" in sentence
    _equal(encoded(SPLITS, tokenizer, 16, folder, said.append), expected)
    assert (len(calls), len(said)) == (3, 1)


def test_rows_in_use_outlive_their_file(tokenizer, folder, said):
    encoded(SPLITS, tokenizer, 16, folder, said.append)
    found = encoded(SPLITS, tokenizer, 16, folder, said.append)
    for path in folder.iterdir():
        path.unlink()
    _equal(found, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})


def test_a_place_that_is_no_folder_is_told_once_and_costs_only_the_cache(tokenizer, tmp_path, said, calls):
    (tmp_path / "file").write_text("")
    found = encoded(SPLITS, tokenizer, 16, tmp_path / "file" / "tokens", said.append)
    _equal(found, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})
    (sentence,) = said
    assert str(tmp_path / "file" / "tokens") in sentence
    assert "without a cache" in sentence
    assert len(calls) == 2


def test_a_full_disk_is_told_once_and_leaves_nothing_half_written(tokenizer, folder, said):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        found = encoded(SPLITS, tokenizer, 16, folder, said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    _equal(found, {name: encode(split, tokenizer, 16) for name, split in SPLITS.items()})
    assert len(said) == 1
    assert list(folder.iterdir()) == []


def test_no_folder_keeps_nothing(tokenizer, tmp_path, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoded(SPLITS, tokenizer, 16, None, said.append)
    assert list(tmp_path.iterdir()) == []
    assert said == []


def test_files_that_nobody_reads_any_more_go_with_the_next_that_is_written(tokenizer, folder, said):
    def age(path):
        long_ago = time.time() - (token_cache.UNUSED_DAYS + 1) * 24 * 3600
        os.utime(path, (long_ago, long_ago))

    encoded(SPLITS, tokenizer, 16, folder, said.append)
    for path in folder.iterdir():
        age(path)
    (folder / "notes.txt").write_text("not ours")
    (folder / ".half.safetensors.4711").write_text("")
    age(folder / "notes.txt")
    age(folder / ".half.safetensors.4711")
    encoded({"train": SPLITS["train"]}, tokenizer, 16, folder, said.append)  # read: young again
    (used,) = [path for path in folder.glob("*.safetensors") if time.time() - path.stat().st_mtime < 60]
    encoded({"train": SPLITS["train"]}, tokenizer, 8, folder, said.append)
    left = set(folder.iterdir())
    assert len(left) == 3
    assert {used, folder / "notes.txt"} < left


@pytest.mark.parametrize("where, row", [(("text", 2), 2), (("pair", 3), 3)])
def test_half_a_character_is_named_with_its_row(tokenizer, folder, said, where, row):
    column, number = where
    split = SPLITS["train"]
    texts = list(getattr(split, column))
    texts[number - 1] = "w1 \ud83d"
    with pytest.raises(UserError, match=rf"row {row} of split 'train' holds '\\ud83d'"):
        encoded({"train": split._replace(**{column: texts})}, tokenizer, 16, folder, said.append)


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
def test_where_the_cache_is(monkeypatch, environment, expected):
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = cache_folder()
    assert (None if found is None else str(found)) == expected
