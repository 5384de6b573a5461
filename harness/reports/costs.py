"""What it took to fill a row of the leaderboard: seconds and device-seconds of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from harness.stats.groups import Group


class RowCost(NamedTuple):
    """Of the runs of a row, over all its tasks; runs that have no score are paid for too."""

    tasks: int
    runs: int
    uncounted: int
    """Runs among them whose record has no cost, as they broke off."""
    seconds: float
    """From start to record, summed over the runs."""
    device_seconds: float
    """Seconds times processes."""
    once_seconds: float
    """A run of each task: the sum of the tasks' means."""
    once_device_seconds: float


def cost_of(groups: Iterable[Group]) -> RowCost:
    """Predictions made within another task's run cost nothing of their own."""
    tasks = runs = uncounted = 0
    totals = [0.0, 0.0, 0.0, 0.0]
    for group in groups:
        own = [run for run in group.runs if run.trained_by is None]
        costs = [run.cost for run in own if run.cost]
        tasks, runs, uncounted = tasks + bool(own), runs + len(own), uncounted + len(own) - len(costs)
        if costs:
            sums = [sum(cost.seconds for cost in costs), sum(cost.device_seconds for cost in costs)]
            totals = [t + s for t, s in zip(totals, [*sums, *(s / len(costs) for s in sums)], strict=True)]
    return RowCost(tasks, runs, uncounted, *totals)
