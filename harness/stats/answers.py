"""What the runs of a group answered to each row, as their records keep it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.records import RunRecord
from harness.facts.row_values import unpack_array, unpack_hits
from harness.stats.groups import Group
from harness.stats.resampling import can_resample

Both = tuple[NDArray[Any], NDArray[Any]]


class Answers(NamedTuple):
    """Of several runs, to the same rows."""

    metrics: tuple[str, ...]
    """Whose mean they are compared by."""
    quantity: str
    """`score`, or the metric that stands in for it."""
    splits: dict[str, Both]
    """By reported split: answers [runs, N] and gold [N]."""
    key: tuple[Any, ...]
    """Equal for groups that answered the same rows."""

    @property
    def hits(self) -> NDArray[np.bool_] | None:
        """[runs, N] where the quantity is the share of hits in one split; else None."""
        if self.metrics != ("accuracy",) or len(self.splits) > 1:
            return None
        ((answers, gold),) = self.splits.values()
        return np.asarray(answers == gold)


def answers_of(group: Group) -> Answers | None:
    """Those that the score can be computed from on resampled rows; None where the records do not keep them."""
    metrics = tuple(group.task.headline)
    if not can_resample(metrics):
        return None

    def kept(run: RunRecord, split: str) -> Both:
        return unpack_array(run.answers[split]), unpack_array(run.gold[split])

    found = _of_all(group, kept)
    if found is not None:
        key = tuple((split, len(gold), zlib.crc32(gold.tobytes())) for split, (_, gold) in found.items())
        return Answers(metrics, "score", found, key)
    if metrics == ("accuracy",) and (hits := hits_of(group)):
        return hits._replace(quantity="score")
    return None


def hits_of(group: Group) -> Answers | None:
    """Hits of a classification or squared errors of a regression, which every record keeps: accuracy or MSE."""

    def hits(run: RunRecord, split: str) -> Both:
        assert run.data is not None
        found = unpack_hits(run.hits[split], run.data.rows[split]).astype(np.int64)
        return found, np.ones_like(found)

    def errors(run: RunRecord, split: str) -> Both:
        found = np.sqrt(np.array(run.squared_errors[split], np.float64))
        return found, np.zeros_like(found)

    for metric, read in (("accuracy", hits), ("mse", errors)):
        found = _of_all(group, read)
        if found is not None:
            sizes = tuple((split, len(gold)) for split, (_, gold) in found.items())
            return Answers((metric,), metric, found, (metric, group.fingerprint, *sizes))
    return None


def _of_all(group: Group, read: Callable[[RunRecord, str], Both]) -> dict[str, Both] | None:
    """None where a run keeps nothing of a reported split, or something that does not fit the others."""
    splits = {}
    for split in group.task.report:
        try:
            answers, gold = zip(*(read(run, split) for run in group.scored), strict=True)
        except (KeyError, ValueError, AssertionError):
            return None
        is_whole = gold[0].ndim == 1 and len(gold[0]) > 0 and all(one.shape == gold[0].shape for one in answers)
        if not is_whole or any(not np.array_equal(gold[0], other) for other in gold):
            return None
        splits[split] = np.stack(answers), gold[0]
    return splits or None
