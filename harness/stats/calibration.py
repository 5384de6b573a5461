"""The calibration of runs, from the scores that they stored: as they are, and at a temperature that was fitted apart.

Guo et al. 2017, "On Calibration of Modern Neural Networks": one number divides all scores of a model; it is fitted on
rows that are not reported, and changes no prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from harness.errors import UserError
from harness.facts.packing import unpack_array
from harness.facts.prediction_files import StoredPredictions, prediction_path, read_prediction_file
from harness.facts.records import RunRecord
from harness.metrics.calibration import Calibration, calibration, fit_temperature
from harness.stats.groups import Group


class RunCalibration(NamedTuple):
    """The calibration of a run on its reported rows, all splits together."""

    plain: Calibration
    """Calibration of the model's own probabilities."""
    scaled: Calibration | None
    """Calibration at the temperature with the lowest log loss on the selection split; None if that is reported."""


class GroupCalibration(NamedTuple):
    """The mean over the runs of a group whose scores are stored."""

    runs: int
    plain: Calibration
    scaled: Calibration | None
    """None, too, where only some of these runs have a temperature."""


def read_calibrations(records: Sequence[RunRecord], results: Path) -> tuple[dict[str, RunCalibration], list[str]]:
    """The calibration of each classification run with its files of predictions, by run_id; messages about the files."""
    by_run, messages = {}, []
    for run in records:
        try:
            if (one := _read(run, results)) is not None:
                by_run[run.run_id] = one
        except UserError as error:
            messages.append(str(error))
    return by_run, messages


def _read(run: RunRecord, results: Path) -> RunCalibration | None:
    task = run.task
    if task.problem_type != "single_label_classification" or not task.report or run.status not in ("ok", "collapsed"):
        return None
    splits = [split for split in dict.fromkeys([*task.report, task.select_on]) if split in run.prediction_files]
    paths = {split: prediction_path(run, results, split) for split in splits}
    if not all(split in paths and paths[split].exists() for split in task.report):
        return None
    stored = {split: read_prediction_file(path, task) for split, path in paths.items() if path.exists()}
    for split in task.report:
        if not _is_of_record(stored[split], run, split):
            raise UserError(f"{paths[split]}: predictions of another run than the record next to it.")
    if any(stored[split].gold is None for split in task.report):
        return None
    scores = np.concatenate([stored[split].scores for split in task.report])
    gold = np.concatenate([labels for split in task.report if (labels := stored[split].gold) is not None])
    plain, selection = calibration(scores, gold), stored.get(task.select_on)
    if task.select_on in task.report or selection is None or selection.gold is None:
        return RunCalibration(plain, None)
    return RunCalibration(plain, calibration(scores, gold, fit_temperature(selection.scores, selection.gold)))


def _is_of_record(stored: StoredPredictions, run: RunRecord, split: str) -> bool:
    """False where the record has other predictions or gold labels, as where folders with the same run were joined."""
    pairs = ((run.predictions, stored.predictions), (run.gold, stored.gold))
    return all(
        np.array_equal(unpack_array(packed[split]), values)
        for packed, values in pairs
        if split in packed and values is not None
    )


def group_calibration(group: Group, by_run: Mapping[str, RunCalibration]) -> GroupCalibration | None:
    """The mean over the group's runs that have one; None if none has."""
    runs = [by_run[run.run_id] for run in group.scored if run.run_id in by_run]
    if not runs:
        return None
    scaled = [run.scaled for run in runs if run.scaled is not None]
    plain = _mean([run.plain for run in runs])
    return GroupCalibration(len(runs), plain, _mean(scaled) if len(scaled) == len(runs) else None)


def _mean(calibrations: Sequence[Calibration]) -> Calibration:
    return Calibration(*(fmean(values) for values in zip(*calibrations, strict=True)))
