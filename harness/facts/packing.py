"""Arrays of one value per row as short texts for a JSON file."""

from __future__ import annotations

import base64
import io
import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 28
"""Size of the largest array that is unpacked; a short text may claim to have any number of zeros."""

_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|b1|\|[iu]1|<[iu][248]|<f[248])', 'fortran_order': False, "
    rb"'shape': \((\d{1,12}(?:, \d{1,12})*),?\), \} *\n",
    re.DOTALL,
)
"""The header of the .npy that `pack_array` writes: dtype and shape."""


def pack_array(values: NDArray[Any]) -> str:
    """Base64 of a compressed .npy of one or more dimensions, in the smallest dtype that keeps every value."""
    smaller = np.float32 if values.dtype.kind == "f" else np.min_scalar_type(values.max(initial=0))
    exact = values.astype(smaller)
    if not np.array_equal(exact, values):  # negative numbers, or float64 that float32 would round
        exact = values
    with io.BytesIO() as file:
        np.save(file, np.ascontiguousarray(exact), allow_pickle=False)
        return base64.b64encode(zlib.compress(file.getvalue(), 9)).decode()


def unpack_array(packed: str) -> NDArray[Any]:
    """The array that `pack_array` packed, integers as int64 and reals as float64.

    Raises:
        ValueError: not a packed array, an array larger than MAX_BYTES, or a value that is not finite.
    """
    try:
        stream = zlib.decompressobj()
        octets = stream.decompress(base64.b64decode(packed, validate=True), MAX_BYTES)
        header = _NPY.match(octets)
        if header is None or not stream.eof:
            raise ValueError(f"expected a complete .npy of at most {MAX_BYTES:,} bytes")
        shape = [int(length) for length in header[2].split(b", ")]
        values = np.frombuffer(octets, header[1].decode(), offset=header.end()).reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError("expected finite numbers")
    except (zlib.error, ValueError) as error:
        raise ValueError(f"not a packed array: {error}") from None
    return np.asarray(values, np.float64 if values.dtype.kind == "f" else np.int64)
