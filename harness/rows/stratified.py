"""Parts of a split with each label in the same proportion, `train[stratified :90%]`; equal texts stay together."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 42
"""Seed of the order within a label. It is part of the meaning of `stratified`, so it never changes."""


class StratifiedPart(NamedTuple):
    """`<split>[stratified <low>%:<high>%]`."""

    split: str
    low: int
    high: int
    """Percent, from 0 to 100."""


def parse_stratified(expression: str) -> StratifiedPart | None:
    """The stratified part of an expression, or None for one in the split syntax of `datasets`.

    Raises:
        ValueError: the expression is invalid, or the part is empty.
    """
    if "stratified" not in expression:
        return None
    match = re.fullmatch(r"([\w.-]+)\[stratified (?:(\d+)%)?:(?:(\d+)%)?\]", expression)
    if match is None:
        raise ValueError("expected whole percentages, as in train[stratified :90%]")
    part = StratifiedPart(match[1], int(match[2] or 0), int(match[3] or 100))
    if not 0 <= part.low < part.high <= 100:
        raise ValueError(f"expected 0% <= start < end <= 100%, got {part.low}% and {part.high}%")
    return part


def stratified_rows(
    part: StratifiedPart, texts: Sequence[tuple[str, ...]], labels: Sequence[Hashable]
) -> NDArray[np.int64]:
    """int64[n]: the rows of a part, in row order.

    texts: the one or two texts of each row; labels: the label to stratify by, one value for all rows of a regression.

    Parts that do not overlap share neither rows nor texts. The part of a row depends on all texts and labels, but not
    on the order of the rows.
    """
    digests = [_digest(text) for text in texts]
    label_of: dict[bytes, str] = {}
    for digest, label in zip(digests, labels, strict=True):  # a text with two labels counts as the smaller one
        label_of[digest] = min(repr(label), label_of.get(digest, repr(label)))
    order = sorted(label_of, key=lambda digest: (label_of[digest], digest))
    # Multiples of the golden ratio, modulo 1, are spread evenly over the unit interval, and so are those of any range
    # of consecutive numbers. The texts of a label are such a range, so each part gets its share of each label, also
    # together of labels that have few rows.
    ratio = (math.sqrt(5) - 1) / 2
    percentile = {digest: (number * ratio) % 1 * 100 for number, digest in enumerate(order)}
    return np.array([row for row, digest in enumerate(digests) if part.low <= percentile[digest] < part.high], np.int64)


def _digest(texts: tuple[str, ...]) -> bytes:
    unambiguous = "".join(f"{len(text)}:{text}" for text in (str(SEED), *texts))
    return hashlib.sha256(unambiguous.encode("utf-8", "surrogatepass")).digest()
