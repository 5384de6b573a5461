"""The cost of an entry of the leaderboard: seconds and device-seconds of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from harness.stats.groups import Group


class EntryCost(NamedTuple):
    """The cost of an entry's runs over all its tasks, runs without a score included."""

    tasks: int
    runs: int
    uncounted: int
    """Failed runs whose record has no cost."""
    seconds: float
    """Wall clock from start to record, summed over the runs."""
    device_seconds: float
    """Seconds times processes."""
    once_seconds: float
    """The cost of one run of each task: the sum of the tasks' means."""
    once_device_seconds: float


def cost_of(groups: Iterable[Group]) -> EntryCost:
    """The sum over these groups; predictions made within another task's run cost nothing."""
    tasks = runs = uncounted = 0
    totals = [0.0, 0.0, 0.0, 0.0]
    for group in groups:
        own = [run for run in group.runs if run.trained_by is None]
        costs = [run.cost for run in own if run.cost]
        tasks, runs, uncounted = tasks + bool(own), runs + len(own), uncounted + len(own) - len(costs)
        if costs:
            sums = [sum(cost.seconds for cost in costs), sum(cost.device_seconds for cost in costs)]
            totals = [t + s for t, s in zip(totals, [*sums, *(s / len(costs) for s in sums)], strict=True)]
    return EntryCost(tasks, runs, uncounted, *totals)
