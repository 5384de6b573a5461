"""Predictions of the runs of a group for each row, read from their records, and their agreement between seeds."""

from __future__ import annotations

import itertools
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.packing import unpack_array
from harness.stats.groups import Group


class SplitPredictions(NamedTuple):
    """Predictions of several runs for the rows of a split."""

    runs: NDArray[Any]
    """[runs, N], or [runs, N, C] for label sets, `in_smallest_type`."""
    gold: NDArray[Any]
    """[N], or [N, C] for label sets."""
    row_groups: NDArray[np.int64] | None
    """The number of each row's group, [N], in a task of groups."""

    @property
    def units(self) -> int:
        """Number of groups, or of rows where there are none: what another sample would draw."""
        return len(self.gold) if self.row_groups is None else len(np.unique(self.row_groups))


class Predictions(NamedTuple):
    """Predictions of several runs for the same rows."""

    metrics: tuple[str, ...]
    """The main metrics, whose mean is the score."""
    splits: dict[str, SplitPredictions]
    """The predictions by reported split."""
    key: tuple[Any, ...]
    """Equal for groups that predicted the same rows."""

    @property
    def units(self) -> int:
        """Number of groups, or of rows where there are none, of all splits."""
        return sum(one.units for one in self.splits.values())


def read_predictions(group: Group) -> Predictions | None:
    """The group's predictions; None where a record has none or the runs have other rows."""
    splits: dict[str, SplitPredictions] = {}
    for split in group.task.report:
        try:
            packed = [(run.predictions[split], run.gold[split]) for run in group.scored]
            predictions, gold = zip(*((unpack_array(p), unpack_array(g)) for p, g in packed), strict=True)
        except (KeyError, ValueError):
            return None
        is_complete = len(gold[0]) > 0 and all(one.shape == gold[0].shape for one in predictions)
        if not is_complete or any(not np.array_equal(gold[0], other) for other in gold):
            return None
        packed_groups = {run.row_groups.get(split) for run in group.scored}
        if len(packed_groups) > 1:
            return None
        (row_groups,) = packed_groups
        numbers = None if row_groups is None else unpack_array(row_groups)
        splits[split] = SplitPredictions(in_smallest_type(np.stack(predictions)), gold[0], numbers)
    if not splits:
        return None
    key = tuple(
        (
            split,
            len(one.gold),
            zlib.crc32(one.gold.tobytes()),
            None if one.row_groups is None else one.row_groups.tobytes(),
        )
        for split, one in splits.items()
    )
    return Predictions(tuple(group.task.main_metrics), splits, key)


def in_smallest_type(values: NDArray[Any]) -> NDArray[Any]:
    """Classes in the smallest integer type, since all runs of a task are in memory at once; values as they are."""
    if values.dtype.kind == "f":
        return values
    return values.astype(np.result_type(*map(np.min_scalar_type, (values.min(initial=0), values.max(initial=0)))))


def seed_disagreement(predictions: Predictions) -> float | None:
    """The change of predictions with the seed, over the rows of all splits; None for a single run.

    The share of rows whose label or label set differs between two runs, the mean over all pairs of runs, whose
    expectation does not depend on their number. For values, the standard deviation over runs, the mean over rows.
    """
    by_row = [_row_disagreement(one.runs) for one in predictions.splits.values() if len(one.runs) > 1]
    return float(np.concatenate(by_row).mean()) if by_row else None


def _row_disagreement(runs: NDArray[Any]) -> NDArray[np.float64]:
    """[N]: the share of pairs of runs that differ on a row; the standard deviation of its values."""
    if runs.dtype.kind == "f":
        return np.asarray(runs.std(axis=0, ddof=1))
    pairs = list(itertools.combinations(runs.reshape(*runs.shape[:2], -1), 2))
    differing = sum((one != other).any(axis=1).astype(np.int64) for one, other in pairs)
    return np.asarray(differing / len(pairs))
