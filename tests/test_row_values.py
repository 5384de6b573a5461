"""Values of rows as short texts: they come back as they were."""

from __future__ import annotations

import numpy as np
import pytest

from harness.facts.packing import pack_array, pack_hits, unpack_array, unpack_hits


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 15, 16, 17, 277, 1043])
def test_hits_come_back_whatever_their_number(rows: int) -> None:
    hits = np.random.default_rng(rows).integers(2, size=rows).astype(bool)
    back = unpack_hits(pack_hits(hits), rows)
    assert back.dtype == np.bool_
    assert back.tolist() == hits.tolist()


def test_hits_are_a_bit_a_row_first_row_highest() -> None:
    assert pack_hits(np.array([True] + [False] * 7)) == "gA=="  # 0x80
    assert len(pack_hits(np.ones(40_430, bool))) < 40_430 / 5


@pytest.mark.parametrize("rows", [0, 8, 17, 277])
def test_hits_of_another_number_of_rows_are_refused(rows: int) -> None:
    """Rows that are not there would count as wrong answers, or as whatever lay in memory."""
    with pytest.raises(AssertionError):
        unpack_hits(pack_hits(np.ones(9, bool)), rows)


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
    ids=["classes", "many classes", "negative", "double", "single", "several labels a row", "no row"],
)
def test_an_array_comes_back_as_it_was(values: np.ndarray) -> None:
    back = unpack_array(pack_array(values))
    assert back.dtype == (np.float64 if values.dtype.kind == "f" else np.int64)
    assert np.array_equal(back, values)


def test_an_array_is_packed_tightly() -> None:
    classes = np.random.default_rng(0).integers(2, size=5_000)
    assert len(pack_array(classes)) < 1_500
    assert len(pack_array(classes.astype(np.float32) + 0.1)) < 3_000


@pytest.mark.parametrize("packed", ["", "abc", "!", "eJwDAAAAAAE=", "bm90IHppcHBlZA=="])
def test_what_is_no_packed_array_is_refused(packed: str) -> None:
    with pytest.raises(ValueError, match="not a packed array"):
        unpack_array(packed)
