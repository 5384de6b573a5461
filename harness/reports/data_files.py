"""leaderboard.json and leaderboard.csv: everything that the page shows, unrounded, for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.facts.metrics import METRICS, title_of
from harness.facts.records import RunRecord, record_path
from harness.reports.costs import cost_of
from harness.reports.references import references
from harness.reports.standings import AVERAGES, CONSTANT, Leaderboard, is_fraction, task_title
from harness.stats.entries import Row
from harness.stats.groups import MARKS, Group, in_order, main_metrics
from harness.stats.resampling import SEED
from harness.stats.significance import Evidence, PairwiseTest

SCHEMA_VERSION = 1
"""Of leaderboard.json; raised when a key changes its meaning."""

_DIGITS = 6
"""Of figures that come from sums over resamples, whose last bits differ between processors."""

_CSV_COLUMNS = [
    *("model", "revision", "variant", "task", "recipe", "task_version", "split", "metric", "is_headline", "mean"),
    *("std", "n", "seeds", "baseline", "marks", "apart", "definition", "fingerprint"),
    *("score", "score_low", "score_high", "seeds_low", "seeds_high", "split_low", "split_high", "is_best", "is_tied"),
    *("to_best", "to_best_low", "to_best_high", "p", "p_holm", "rows_per_second", "peak_bytes", "seconds", "source"),
]


def render_json(board: Leaderboard) -> str:
    """leaderboard.json: by row and task; std is the sample standard deviation over seeds."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "is_test_mode": board.is_test_mode,
        "columns": [_column(board, name) for name in board.tasks],
        "rows": [_row(board, row) for row in board.rows],
        "best_constant_answer": {
            "averages": _averages(board, CONSTANT),
            "tasks": {name: board.cells[CONSTANT, name].score for name in board.tasks},
            "shown": {name: board.cells[CONSTANT, name].shown for name in board.tasks},
        },
        "apart": [{**_identity(group.row), "reason": reason, **_entry(board, group)} for group, reason in board.apart],
        "references": [reference._asdict() for reference in _references(board)],
        "ranked_tasks": board.ranked_tasks,
        "resampling": {
            "resamples": board.resampling.number,
            "to_first_order": board.resampling.is_to_first_order,
            "seed": SEED,
        },
        "marks": MARKS,
        "notes": board.notes,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _references(board: Leaderboard) -> list[Any]:
    return [] if board.is_test_mode else references(board.tasks.keys())


def _column(board: Leaderboard, name: str) -> dict[str, Any]:
    task = board.tasks[name]
    directions = {METRICS[metric].lower_is_better if metric in METRICS else None for metric in task.main_metrics}
    panel = board.compared.get(name)
    return {
        "task": name,
        "heading": task_title(name),
        "title": task.title,
        "suite": task.suite,
        "main_metrics": task.main_metrics,
        "headline_titles": [title_of(metric) for metric in task.main_metrics],
        "report": task.report,
        "lower_is_better": next(iter(directions)) if len(directions) == 1 else None,
        "as_percent": all(map(is_fraction, task.main_metrics)),
        "compared": len(panel.groups) if panel else 0,
    }


def _identity(row: Row) -> dict[str, str]:
    return {"model": row.model, "revision": row.revision, "variant": row.variant}


def _averages(board: Leaderboard, row: Row) -> dict[str, float | None]:
    return {name: board.averages[row, name].score for name in AVERAGES} if board.averages else {}


def _row(board: Leaderboard, row: Row) -> dict[str, Any]:
    groups = {name: board.groups[row, name] for name in board.tasks if (row, name) in board.groups}
    rank, cost = board.ranks.get(row), cost_of(groups.values())
    return {
        **_identity(row),
        "label": row.label,
        "averages": _averages(board, row),
        "average_marks": {name: in_order(board.averages[row, name].marks) for name in AVERAGES if board.averages},
        "best_averages": [name for name in AVERAGES if board.averages and board.averages[row, name].is_best],
        "average_rank": rank and {key: round(value, _DIGITS) for key, value in rank._asdict().items()},
        "cost": cost._asdict(),
        "tasks": {name: _entry(board, group) for name, group in groups.items()},
    }


def _entry(board: Leaderboard, group: Group) -> dict[str, Any]:
    """A group: all its figures, and the records they come from."""
    evidence = board.evidence[group]
    cell = board.cells.get((group.row, group.spec.task))
    is_in_table = board.groups.get((group.row, group.spec.task)) is group
    return {
        "task": group.spec.task,
        "recipe": group.recipe,
        "task_version": group.spec.task_version,
        "task_fingerprint": group.spec.task_fingerprint,
        "fingerprint": group.fingerprint,
        "marks": in_order(group.marks),
        "shown": cell.shown if cell and is_in_table else None,
        "score": group.score.mean,
        "score_std": group.score.deviation,
        "n": len(group.scored),
        "is_best": bool(cell and cell.is_best and is_in_table),
        "is_tied": evidence.is_tied,
        "intervals": _intervals(evidence),
        "to_best": _versus(evidence.to_best),
        "figures": [
            {
                "split": split,
                "metric": metric,
                "is_headline": (split, metric) in main_metrics(group.task),
                "mean": group.over_seeds(split, metric).mean,
                "std": group.over_seeds(split, metric).deviation,
                "baseline": group.baseline(split, metric),
            }
            for split, metric in group.places
        ],
        "runs": [_run(group, run) for run in group.runs],
    }


def _intervals(evidence: Evidence) -> dict[str, Any]:
    """95 % intervals of the score: [low, high] or null."""
    found = {"total": evidence.total, "seeds": evidence.seeds, "split": evidence.split}
    rounded = {name: one and [round(end, _DIGITS) for end in one] for name, one in found.items()}
    return {**rounded, "split_method": evidence.split_method, "rows": evidence.rows}


def _versus(versus: PairwiseTest | None) -> dict[str, Any] | None:
    if versus is None:
        return None
    return {
        key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in versus._asdict().items()
    }


def _run(group: Group, run: RunRecord) -> dict[str, Any]:
    scores = dict(zip((scored.run_id for scored in group.scored), group.scores, strict=True))
    return {
        "run_id": run.run_id,
        "seed": run.spec.seed,
        "status": run.status,
        "record": record_path(Path(), run.spec.task, run.run_id).as_posix(),
        "score": scores.get(run.run_id),
        "trained_by": run.trained_by,
        "rows_per_second": run.rows_per_second,
        "peak_bytes": run.peak_bytes,
        "seconds": run.cost.seconds if run.cost else None,
        "device_seconds": run.cost.device_seconds if run.cost else None,
        "precision": run.environment.precision if run.environment else None,
        "devices": run.environment.devices if run.environment else [],
    }


def render_csv(board: Leaderboard) -> str:
    """leaderboard.csv: a line per row, task, split and metric; `apart` says why one is not in the table.

    A line with a `source` is a number published elsewhere.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_lines(board))
    return file.getvalue()


def _csv_lines(board: Leaderboard) -> Iterator[dict[str, Any]]:
    places = [(row, name) for row in board.rows for name in board.tasks if (row, name) in board.groups]
    for group, reason in [*((board.groups[place], "") for place in places), *board.apart]:
        entry = _entry(board, group)
        told = entry | _identity(group.row) | {"marks": ",".join(entry["marks"]), "apart": reason}
        told["seeds"] = " ".join(str(run.spec.seed) for run in group.scored)
        for name, key in (("score", "total"), ("seeds", "seeds"), ("split", "split")):
            told[f"{name}_low"], told[f"{name}_high"] = entry["intervals"][key] or (None, None)
        if versus := entry["to_best"]:
            told |= {"p": versus["p"], "p_holm": versus["p_holm"], "to_best": versus["difference"]}
            told |= {"to_best_low": versus["low"], "to_best_high": versus["high"]}
        for key, many in (("rows_per_second", _mean), ("peak_bytes", max), ("seconds", _mean)):
            known = [run[key] for run in entry["runs"] if run["score"] is not None and run[key] is not None]
            told[key] = many(known) if known else None
        yield from (told | figure for figure in entry["figures"] or [{}])
    for reference in _references(board):
        told = {key: getattr(reference, key) for key in ("model", "task", "split", "metric", "source")}
        yield told | {
            "mean": reference.score,
            "variant": reference.setting,
            "apart": "published elsewhere, not run here",
        }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
