"""leaderboard.json and leaderboard.csv: all content of the leaderboard, unrounded, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.facts.records import RunRecord, record_path
from harness.metrics.registry import direction_of, title_of
from harness.reports.cells import group_cell, is_shown_as_percent
from harness.reports.costs import cost_of, group_cost
from harness.reports.standings import Leaderboard
from harness.stats.calibration import GroupCalibration
from harness.stats.entries import Entry
from harness.stats.groups import MARKS, Group, reported_metrics, sort_marks
from harness.stats.resampling import SEED
from harness.stats.significance import Evidence
from harness.system.spreadsheets import csv_text

SCHEMA_VERSION = 5
"""The version of leaderboard.json, raised when a key is added, renamed or changes its meaning."""

_DIGITS = 6
"""The decimals of numbers from sums over resamples, whose last bits differ between processors; below 0.001, of which p
and small errors are, the significant digits."""

_CSV_COLUMNS = [
    *("model", "revision", "variant", "task", "recipe", "task_version", "split", "metric", "is_main_metric", "value"),
    *("aggregate", "std", "n", "seeds", "baseline", "marks", "not_ranked", "task_fingerprint", "fingerprint"),
    *("training_rows", "verification"),
    *("score", "score_low", "score_high", "seeds_low", "seeds_high", "split_low", "split_high", "is_best", "is_tied"),
    "seed_disagreement",
    *("to_best", "to_best_low", "to_best_high", "p", "p_holm", "rows_per_second", "peak_bytes", "seconds"),
    *("smallest_difference", "smallest_difference_ten_seeds", "smallest_difference_any_number"),
    *("parameters", "trainable_parameters", "tuning_points", "tuning_device_seconds", "source"),
]


def render_json(board: Leaderboard) -> str:
    """leaderboard.json: results by entry and task; std is the sample standard deviation over seeds."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "is_test_mode": board.is_test_mode,
        "aggregate": board.aggregate,
        "columns": [_column(board, name) for name in board.tasks],
        "entries": [_entry(board, entry) for entry in board.entries],
        "baseline": {
            "label": board.baseline.label,
            "averages": _averages(board, board.baseline),
            "tasks": {name: board.cells[board.baseline, name].score for name in board.tasks},
            "shown": {name: board.cells[board.baseline, name].text for name in board.tasks},
        },
        "not_ranked": [
            {**_identity(group.entry), "reason": reason, **_result(board, group)} for group, reason in board.not_ranked
        ],
        "references": [reference._asdict() for reference in board.published],
        "ranked_tasks": board.ranked_tasks if board.ranks else [],
        "resampling_seed": SEED,
        "marks": MARKS,
        "notes": board.notes,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _column(board: Leaderboard, name: str) -> dict[str, Any]:
    task, compared = board.tasks[name], board.compared.get(name)
    direction, variances = direction_of(task.main_metrics), board.column(name)
    return {
        "task": name,
        "heading": board.headings[name],
        "title": task.title,
        "suite": task.suite,
        "problem_type": task.problem_type,
        "main_metrics": task.main_metrics,
        "main_metric_titles": [title_of(metric) for metric in task.main_metrics],
        "report": task.report,
        "lower_is_better": None if direction is None else direction < 0,
        "as_percent": is_shown_as_percent(task),
        "compared": len(compared.groups) if compared else 0,
        "smallest_differences": variances and _rounded_values(variances.smallest_differences()._asdict()),
        "resamples": max((one.sample.resampled.shape[1] for one in board.assessments[name].comparisons), default=0),
    }


def _identity(entry: Entry) -> dict[str, str]:
    return {"model": entry.model, "revision": entry.revision, "variant": entry.variant}


def _averages(board: Leaderboard, entry: Entry) -> dict[str, float | None]:
    return {name: board.averages[entry, name].score for name in board.average_names}


def _entry(board: Leaderboard, entry: Entry) -> dict[str, Any]:
    groups, averages = board.groups_of(entry), {name: board.averages[entry, name] for name in board.average_names}
    rank, cost, tuning = board.ranks.get(entry), cost_of(groups), board.tuning.get(entry)
    return {
        **_identity(entry),
        "label": entry.label,
        "averages": _averages(board, entry),
        "average_intervals": {name: _intervals(average.evidence) for name, average in averages.items()},
        "average_marks": {name: sort_marks(average.marks) for name, average in averages.items()},
        "best_averages": [name for name, average in averages.items() if average.is_best],
        "average_rank": rank and _rounded_values(rank._asdict()),
        "cost": cost._asdict(),
        "tuning": tuning and tuning._asdict(),
        "verification": board.level(entry),
        "tasks": {group.spec.task: _result(board, group) for group in groups},
    }


def _result(board: Leaderboard, group: Group) -> dict[str, Any]:
    """All numbers of a group, and the records they come from."""
    evidence, pair = board.evidence[group], (group.entry, group.spec.task)
    cell = board.cells[pair] if board.groups.get(pair) is group else group_cell(group, evidence)
    return {
        "task": group.spec.task,
        "recipe": group.recipe,
        "recipe_without_train_rows": group.recipe_without_train_rows,
        "training_rows": group.training_rows,
        "task_version": group.spec.task_version,
        "task_fingerprint": group.spec.task_fingerprint,
        "fingerprint": group.fingerprint,
        "marks": sort_marks(cell.marks),
        "shown": cell.text,
        "score": group.score.center,
        "score_std": group.score.deviation,
        "n": len(group.scored),
        "is_best": cell.is_best,
        "is_tied": evidence.is_tied,
        "intervals": _intervals(evidence),
        "seed_disagreement": _rounded_value(evidence.seed_disagreement),
        "to_best": evidence.to_best and _rounded_values(evidence.to_best._asdict()),
        "figures": [
            {
                "split": split,
                "metric": metric,
                "is_main_metric": (split, metric) in reported_metrics(group.task),
                "value": group.over_seeds(split, metric).center,
                "std": group.over_seeds(split, metric).deviation,
                "baseline": group.baseline(split, metric),
            }
            for split, metric in group.metrics
        ],
        "cost": group_cost(group)._asdict(),
        "calibration": _calibration(board.calibrations.get(pair) if board.groups.get(pair) is group else None),
        "verification": board.levels[group],
        "runs": [_run(board, group, run) for run in group.runs],
    }


def _calibration(calibration: GroupCalibration | None) -> dict[str, Any] | None:
    """The number of runs, and the calibration without and with a fitted temperature."""
    if calibration is None:
        return None
    plain, scaled = (each and _rounded_values(each._asdict()) for each in (calibration.plain, calibration.scaled))
    return {"runs": calibration.runs, "plain": plain, "scaled": scaled}


def _intervals(evidence: Evidence) -> dict[str, Any]:
    """95 % intervals of the score: [low, high] or null."""
    intervals = {"total": evidence.total, "seeds": evidence.seeds, "split": evidence.split}
    rounded = {name: one and [_rounded_value(end) for end in one] for name, one in intervals.items()}
    return {
        **rounded,
        "is_over_rows_only": evidence.is_over_rows_only,
        "split_method": evidence.split_method,
        "rows": evidence.rows,
    }


def _rounded_values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _rounded_value(value) for key, value in values.items()}


def _rounded_value(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if abs(value) < 0.001 else round(value, _DIGITS)


def _run(board: Leaderboard, group: Group, run: RunRecord) -> dict[str, Any]:
    scores = dict(zip((scored.run_id for scored in group.scored), group.scores, strict=True))
    return {
        "run_id": run.run_id,
        "seed": run.spec.seed,
        "status": run.status,
        "record": record_path(Path(), run.spec.task, run.run_id).as_posix(),
        "score": scores.get(run.run_id),
        "trained_by": run.trained_by,
        "reruns": [rerun.path for rerun in board.reruns.get(run.run_id, [])],
        "rows_per_second": run.rows_per_second,
        "peak_bytes": run.peak_bytes,
        "seconds": run.cost.seconds if run.cost else None,
        "device_seconds": run.cost.device_seconds if run.cost else None,
        "energy": run.energy and run.energy.model_dump(),
        "precision": run.environment.precision if run.environment else None,
        "devices": run.environment.devices if run.environment else [],
    }


def render_csv(board: Leaderboard) -> str:
    """leaderboard.csv: a line per entry, task, split and metric; `not_ranked` has the reason of those not in the table.

    A line with a `source` is a published result.
    """
    return csv_text(_CSV_COLUMNS, (map(line.get, _CSV_COLUMNS) for line in _csv_lines(board)))


def _csv_lines(board: Leaderboard) -> Iterator[dict[str, Any]]:
    pairs = [(entry, name) for entry in board.entries for name in board.tasks if (entry, name) in board.groups]
    columns = {name: _column(board, name) for name in board.tasks}
    for group, reason in [*((board.groups[pair], "") for pair in pairs), *board.not_ranked]:
        result = _result(board, group)
        line = result | _identity(group.entry) | {"marks": ",".join(result["marks"]), "not_ranked": reason}
        line["aggregate"] = group.aggregate
        if tuning := None if reason else board.tuning.get(group.entry):
            line |= {"tuning_points": tuning.points, "tuning_device_seconds": tuning.device_seconds}
        line["seeds"] = " ".join(str(run.spec.seed) for run in group.scored)
        for name, key in (("score", "total"), ("seeds", "seeds"), ("split", "split")):
            line[f"{name}_low"], line[f"{name}_high"] = result["intervals"][key] or (None, None)
        if test := result["to_best"]:
            line |= {"p": test["p"], "p_holm": test["p_holm"], "to_best": test["difference"]}
            line |= {"to_best_low": test["low"], "to_best_high": test["high"]}
        compared = board.compared.get(group.spec.task)
        if compared and group in compared.groups and (resolution := columns[group.spec.task]["smallest_differences"]):
            line["smallest_difference"] = resolution["with_present_seeds"]
            line["smallest_difference_ten_seeds"] = resolution["with_ten_seeds"]
            line["smallest_difference_any_number"] = resolution["with_any_number"]
        yield from (line | result["cost"] | figure for figure in result["figures"] or [{}])
    for reference in board.published:
        line = {key: getattr(reference, key) for key in ("model", "task", "split", "metric", "source")}
        yield line | {"value": reference.score, "variant": reference.setting, "not_ranked": "published result"}
