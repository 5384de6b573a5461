"""The scores of a pretraining run's checkpoints on one task: tests between neighbours, and the last gain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord
from harness.stats.groups import Group, group_runs
from harness.stats.significance import Comparison, Evidence, assess
from harness.stats.uncertainty import PairwiseTest


class TrajectoryPoint(NamedTuple):
    """The score of one checkpoint."""

    checkpoint: int
    """Its number, in the order of pretraining."""
    group: Group
    evidence: Evidence
    """Its intervals, and its test against the best checkpoint."""
    to_previous: PairwiseTest | None
    """It less the checkpoint before it; None for the first, and without predictions of the same rows."""


class Trajectory(NamedTuple):
    """The scores of one task's checkpoints, in the order of pretraining."""

    task: TaskFacts
    points: list[TrajectoryPoint]
    best: int | None
    """The number of the checkpoint with the best score; None where no two can be compared."""
    no_gain_since: int | None
    """The first checkpoint than which no later one is significantly better; None where the seeds are too few to know,
    or no two checkpoints can be compared."""


def trajectories(
    records: Iterable[RunRecord], checkpoints: Mapping[str, int], resamples: int | None = None
) -> dict[str, Trajectory]:
    """The trajectory of each task.

    Neighbours are one family of tests, and all pairs another; p-values are Holm-corrected within each.

    Args:
        records: runs of one recipe per task.
        checkpoints: the number of the checkpoint that a run has fine-tuned, by run_id; numbers are in the order of
            pretraining.
        resamples: their number, by default `resample_number`.
    """
    by_task: dict[str, dict[int, Group]] = {}
    for group in sorted(group_runs(list(records)), key=Group.preference):
        by_task.setdefault(group.spec.task, {})[checkpoints[group.runs[0].run_id]] = group
    return {task: _trajectory(dict(sorted(groups.items())), resamples) for task, groups in by_task.items()}


def _trajectory(groups: Mapping[int, Group], resamples: int | None) -> Trajectory:
    scored = [group for group in groups.values() if group.score.center is not None]
    evidence = assess(list(groups.values()), scored, resamples)
    compared = evidence.compared
    to_previous = _tests_against_previous(compared) if compared else {}
    points = [
        TrajectoryPoint(number, group, evidence.by_group[group], to_previous.get(group))
        for number, group in groups.items()
    ]
    task = next(iter(groups.values())).task
    if compared is None:
        return Trajectory(task, points, None, None)
    numbers = {group: number for number, group in groups.items()}
    last_gain = _last_gain(compared)
    since = None if last_gain is None else numbers[compared.groups[last_gain]]
    return Trajectory(task, points, numbers[compared.groups[compared.best]], since)


def _tests_against_previous(compared: Comparison) -> dict[Group, PairwiseTest]:
    """Each group less the one before it."""
    later = np.arange(1, len(compared.groups))
    family = compared.test_pairs(later, later - 1)
    return {compared.groups[int(number)]: family.test(int(number) - 1) for number in later}


def _last_gain(compared: Comparison) -> int | None:
    """The first position than which no later group is significantly better; None where nothing is known about seeds."""
    earlier, later = np.triu_indices(len(compared.groups), 1)
    family = compared.test_pairs(later, earlier)
    if family.is_over_rows_only.all():
        return None
    assert compared.direction is not None
    is_gain = family.is_significant & (compared.direction * family.difference > 0)
    surpassed = set(earlier[is_gain].tolist())
    return next(number for number in range(len(compared.groups)) if number not in surpassed)
