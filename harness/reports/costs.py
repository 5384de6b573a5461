"""The cost of runs: seconds, device-seconds and memory, of a group and of an entry of the leaderboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
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
    gpu_joules: float | None
    """Energy of the GPUs, over the runs that measured it; None if none did."""
    processor_joules: float | None
    """The same for processor packages."""
    measured: dict[str, int]
    """Runs with the energy of the GPUs, and of the processors, by the name of the field."""


def cost_of(groups: Sequence[Group]) -> EntryCost:
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
    energies = [run.energy for group in groups for run in group.runs if run.trained_by is None and run.energy]
    gpu = [energy.gpu_joules for energy in energies if energy.gpu_joules is not None]
    processor = [energy.processor_joules for energy in energies if energy.processor_joules is not None]
    seconds, device_seconds, once_seconds, once_device_seconds = totals
    return EntryCost(
        tasks,
        runs,
        uncounted,
        seconds,
        device_seconds,
        once_seconds,
        once_device_seconds,
        gpu_joules=sum(gpu) if gpu else None,
        processor_joules=sum(processor) if processor else None,
        measured={"gpu_joules": len(gpu), "processor_joules": len(processor)},
    )


class GroupCost(NamedTuple):
    """The cost of a run of a group, over its runs with a score; None where no record has the number."""

    rows_per_second: float | None
    """The mean speed of training."""
    peak_bytes: int | None
    """Memory of the process with the highest peak, over all runs."""
    seconds: float | None
    """The mean wall clock from start to record."""
    precision: str
    """All precisions that were used."""
    devices: str
    """All sets of devices that were used, such as `2 × NVIDIA H100`."""
    parameters: int | None
    """Parameters of the model."""
    trainable_parameters: int | None
    """Parameters that training changes."""


def parameters_text(parameters: int | None, trainable: int | None) -> str:
    """`0.3 M of 22.7 M`: the parameters that training changes, of those of the model; the latter alone if equal."""
    if parameters is None:
        return ""
    counts = [parameters] if trainable is None or trainable == parameters else [trainable, parameters]
    return " of ".join(f"{count / 1e6:,.1f} M" if count >= 100_000 else f"{count:,}" for count in counts)


def energy_text(joules: float | None, measured: int, runs: int) -> str:
    """`12.3`, in kJ; `12.3 (2 of 5)` where only some runs measured it."""
    if joules is None:
        return ""
    return f"{joules / 1000:,.1f}" + (f" ({measured} of {runs})" if measured < runs else "")


def tuning_text(points: int, device_seconds: float, uncounted: int, **_: object) -> str:
    """`8 points, 0.21 h`: points tried and device-hours, and the runs whose cost is unknown."""
    hours = device_seconds / 3600
    shown = "<0.01 h" if 0 < hours < 0.005 else f"{hours:,.2f} h"
    unknown = f" ({uncounted:,} unknown)" if uncounted else ""
    return f"{points:,} point{'' if points == 1 else 's'}, {shown}{unknown}"


def group_cost(group: Group) -> GroupCost:
    """The cost of a run of this group."""
    speeds = [run.rows_per_second for run in group.scored if run.rows_per_second is not None]
    peaks = [run.peak_bytes for run in group.scored if run.peak_bytes is not None]
    seconds = [run.cost.seconds for run in group.scored if run.cost]
    environments = [run.environment for run in group.scored if run.environment]
    devices = [sorted(Counter(environment.devices).items()) for environment in environments]
    model = next((run.model for run in group.scored if run.model), None)
    return GroupCost(
        rows_per_second=fmean(speeds) if speeds else None,
        peak_bytes=max(peaks, default=None),
        seconds=fmean(seconds) if seconds else None,
        precision=", ".join(sorted({environment.precision for environment in environments})),
        parameters=model.parameters if model else None,
        trainable_parameters=model.trainable_parameters if model else None,
        devices=", ".join(sorted({" + ".join(f"{number} × {name}" for name, number in counts) for counts in devices})),
    )
