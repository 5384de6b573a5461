"""Parts of a split that have each label in the same proportion: `train[stratified :90%]`; equal texts stay together."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 42
"""Of the order within a label; it is part of what `stratified` means, so it never changes."""


class Part(NamedTuple):
    """`<split>[stratified <low>%:<high>%]`."""

    split: str
    low: int
    high: int
    """Percent, from 0 to 100."""


def part_of(expression: str) -> Part | None:
    """The stratified part that an expression names, or None for one in the syntax of `datasets`.

    Raises:
        ValueError: it is not written as it should be, or is empty.
    """
    if "stratified" not in expression:
        return None
    found = re.fullmatch(r"([\w.-]+)\[stratified (?:(\d+)%)?:(?:(\d+)%)?\]", expression)
    if found is None:
        raise ValueError("write it as train[stratified :90%], with whole percentages")
    part = Part(found[1], int(found[2] or 0), int(found[3] or 100))
    if not 0 <= part.low < part.high <= 100:
        raise ValueError(f"{part.low}% to {part.high}% is no part of a whole")
    return part


def rows_of(part: Part, texts: Sequence[tuple[str, ...]], labels: Sequence[Hashable]) -> NDArray[np.int64]:
    """int64[n]: the rows of a part, in row order.

    texts: what each row reads, of one or two texts; labels: what its share is kept by, the same value for a regression.

    Parts that do not overlap share neither rows nor texts. A row's place depends on the texts and labels alone, not on
    the order of the rows.
    """
    digests = [_digest(text) for text in texts]
    label_of: dict[bytes, str] = {}
    for digest, label in zip(digests, labels, strict=True):  # a text with two labels counts for the smaller
        label_of[digest] = min(repr(label), label_of.get(digest, repr(label)))
    order = sorted(label_of, key=lambda digest: (label_of[digest], digest))
    # Multiples of the golden ratio are spread evenly over the unit interval, as are those of any stretch of them: each
    # label is such a stretch, so each part gets its share of each label, and labels of a few rows get theirs together.
    ratio = (math.sqrt(5) - 1) / 2
    place = {digest: (number * ratio) % 1 * 100 for number, digest in enumerate(order)}
    return np.array([row for row, digest in enumerate(digests) if part.low <= place[digest] < part.high], np.int64)


def _digest(texts: tuple[str, ...]) -> bytes:
    counted = "".join(f"{len(text)}:{text}" for text in (str(SEED), *texts))  # where one ends and the next begins
    return hashlib.sha256(counted.encode("utf-8", "surrogatepass")).digest()
