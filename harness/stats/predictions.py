"""Predictions of the runs of a group for each row, read from their records."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.packing import unpack_array
from harness.stats.groups import Group
from harness.stats.resampling import can_resample


class Predictions(NamedTuple):
    """Predictions of several runs for the same rows."""

    metrics: tuple[str, ...]
    """The main metrics, whose mean is the score."""
    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    """Predictions [runs, N] and gold labels [N] by reported split; [runs, N, C] and [N, C] for label sets."""
    key: tuple[Any, ...]
    """Equal for groups that predicted the same rows."""


def read_predictions(group: Group) -> Predictions | None:
    """The group's predictions; None where a metric cannot be resampled or a record has no predictions."""
    metrics = tuple(group.task.main_metrics)
    if not can_resample(metrics):
        return None
    splits = {}
    for split in group.task.report:
        try:
            packed = [(run.predictions[split], run.gold[split]) for run in group.scored]
            predictions, gold = zip(*((unpack_array(p), unpack_array(g)) for p, g in packed), strict=True)
        except (KeyError, ValueError):
            return None
        is_complete = len(gold[0]) > 0 and all(one.shape == gold[0].shape for one in predictions)
        if not is_complete or any(not np.array_equal(gold[0], other) for other in gold):
            return None
        splits[split] = np.stack(predictions), gold[0]
    if not splits:
        return None
    key = tuple((split, len(gold), zlib.crc32(gold.tobytes())) for split, (_, gold) in splits.items())
    return Predictions(metrics, splits, key)
