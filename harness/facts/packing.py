"""Arrays of one value per row as short texts that a JSON file can hold."""

from __future__ import annotations

import base64
import functools
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_array(values: NDArray[Any]) -> str:
    """Base64 of a compressed .npy of any shape, in the smallest dtype that keeps every value."""
    smaller = np.float32 if values.dtype.kind == "f" else np.min_scalar_type(values.max(initial=0))
    exact = values.astype(smaller)
    if not np.array_equal(exact, values):  # negative numbers, or float64 that float32 would round
        exact = values
    with io.BytesIO() as file:
        np.save(file, exact, allow_pickle=False)
        return base64.b64encode(zlib.compress(file.getvalue(), 9)).decode()


def unpack_array(packed: str) -> NDArray[Any]:
    """The array that `pack_array` packed, integers as int64 and reals as float64.

    Raises:
        ValueError: not a packed array.
    """
    try:
        octets = zlib.decompress(base64.b64decode(packed, validate=True))
        start = _NPY_START + int.from_bytes(octets[_NPY_START - 2 : _NPY_START], "little")
        shape, dtype = _npy_header(octets[_NPY_START - 2 : start])
        values = np.frombuffer(octets, dtype, offset=start).reshape(shape)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"not a packed array: {error}") from None
    return np.asarray(values, np.float64 if values.dtype.kind == "f" else np.int64)


_NPY_START = 10
"""Bytes of an .npy file of version 1 before its header: magic, version, and two for the header's length."""


@functools.lru_cache(maxsize=64)
def _npy_header(octets: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype. Cached: parsing it takes most of the time of a small array, and few headers differ."""
    shape, _, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(octets))
    return shape, dtype
