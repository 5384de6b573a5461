"""Arrays of row values as short texts: unpacking gives the array that was packed."""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest

from harness.facts import packing
from harness.facts.packing import pack_array, unpack_array


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 1, 1, 0]),
        np.array([0, 70_000, 3]),
        np.array([-1, 255]),
        np.array([0.1, 1e-30, 5.0]),
        np.array([0.1, 2.5], np.float32),
        np.array([[True, False], [False, True]]),
        np.asfortranarray([[0, 1, 2], [3, 4, 5]]),
        np.array([], np.int64),
    ],
    ids=["classes", "many classes", "negative", "float64", "float32", "label sets", "columns first", "no row"],
)
def test_unpacked_array_is_the_packed_one(values: np.ndarray) -> None:
    unpacked = unpack_array(pack_array(values))
    assert unpacked.dtype == (np.float64 if values.dtype.kind == "f" else np.int64)
    assert np.array_equal(unpacked, values)


def test_packed_array_is_small() -> None:
    classes = np.random.default_rng(0).integers(2, size=5_000)
    assert len(pack_array(classes)) < 1_500
    assert len(pack_array(classes.astype(np.float32) + 0.1)) < 3_000


@pytest.mark.parametrize("packed", ["", "abc", "!", "eJwDAAAAAAE=", "bm90IHppcHBlZA=="])
def test_text_that_is_not_a_packed_array_is_refused(packed: str) -> None:
    with pytest.raises(ValueError, match="not a packed array"):
        unpack_array(packed)


def npy(values: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        np.save(file, values)
        return file.getvalue()


@pytest.mark.parametrize(
    "octets",
    [
        npy(np.array([1.0, np.nan])),
        npy(np.array([1.0, np.inf])),
        npy(np.array(["text"])),
        npy(np.array([1, "object"], object)),
        npy(np.array([1 + 2j])),
        npy(np.array(["2026-01-01"], "datetime64[s]")),
        npy(np.zeros(3, [("a", "<i4")])),
        npy(np.array([0, 1]))[:-1],
        npy(np.array([0, 1])).replace(b"(2,)", b"(3,)"),
        npy(np.array([0, 1])).replace(b"(2,)", b"[2,]"),
        npy(np.array([0, 1])).replace(b"'<i8'", b"'<q8'"),
        npy(np.array([0, 1])).replace(b"'descr'", b"[[[[[[["),
    ],
)
def test_array_of_anything_but_finite_numbers_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed array"):
        unpack_array(base64.b64encode(zlib.compress(octets)).decode())


def test_array_larger_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_array(np.arange(300))
    size = len(zlib.decompress(base64.b64decode(packed)))
    monkeypatch.setattr(packing, "MAX_BYTES", size)
    assert np.array_equal(unpack_array(packed), np.arange(300))
    monkeypatch.setattr(packing, "MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"at most {size - 1:,} bytes"):
        unpack_array(packed)
