"""Arrays of row values as short texts: unpacking gives the array that was packed."""

from __future__ import annotations

import numpy as np
import pytest

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
        np.array([], np.int64),
    ],
    ids=["classes", "many classes", "negative", "float64", "float32", "label sets", "no row"],
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
