"""The leaderboard of a results folder: leaderboard.md, .csv and .json, and a table in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from harness.groups import MARKS, Group, Row, headline, in_order
from harness.leaderboard_page import legend, lines, page_title, render_markdown, titles
from harness.records import read_records, record_path, write_atomically
from harness.standings import AVERAGES, CONSTANT, NO_SCORE, Leaderboard, build

SCHEMA_VERSION = 1
"""Of leaderboard.json; raised when a key changes its meaning."""

_CSV_COLUMNS = [
    *("model", "revision", "variant", "task", "task_version", "split", "metric", "is_headline", "mean"),
    *("std", "n", "seeds", "baseline", "marks", "apart", "definition", "fingerprint"),
]


def _entry(group: Group) -> dict[str, Any]:
    """A group as JSON: all its figures, unrounded, and the records they come from."""
    return {
        "task": group.spec.task,
        "task_version": group.spec.task_version,
        "definition": group.spec.definition,
        "fingerprint": group.fingerprint,
        "marks": in_order(group.marks),
        "score": group.score.mean,
        "score_std": group.score.deviation,
        "n": len(group.scored),
        "figures": [
            {
                "split": split,
                "metric": metric,
                "is_headline": (split, metric) in headline(group.task),
                "mean": group.over_seeds(split, metric).mean,
                "std": group.over_seeds(split, metric).deviation,
                "baseline": group.baseline(split, metric),
            }
            for split, metric in group.places
        ],
        "runs": [
            {
                "run_id": run.run_id,
                "seed": run.spec.seed,
                "status": run.status,
                "record": record_path(Path(), run.spec.task, run.run_id).as_posix(),
            }
            for run in group.runs
        ],
    }


def _identity(row: Row) -> dict[str, str]:
    return {"model": row.model, "revision": row.revision, "variant": row.variant}


def render_json(board: Leaderboard) -> str:
    """leaderboard.json: by row and task, unrounded; std is the sample standard deviation over seeds."""

    def averages(row: Row) -> dict[str, float | None]:
        return {name: board.averages[row, name].score for name in AVERAGES} if board.averages else {}

    def tasks(row: Row) -> dict[str, Any]:
        return {name: _entry(board.groups[row, name]) for name in board.tasks if (row, name) in board.groups}

    content = {
        "schema_version": SCHEMA_VERSION,
        "is_test_mode": board.is_test_mode,
        "rows": [{**_identity(row), "averages": averages(row), "tasks": tasks(row)} for row in board.rows],
        "best_constant_answer": {
            "averages": averages(CONSTANT),
            "tasks": {name: board.cells[CONSTANT, name].score for name in board.tasks},
        },
        "apart": [{**_identity(group.row), "reason": reason, **_entry(group)} for group, reason in board.apart],
        "marks": MARKS,
        "notes": board.notes,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def render_csv(board: Leaderboard) -> str:
    """leaderboard.csv: a line per row, task, split and metric; `apart` says why one is not in the table."""
    import pandas  # takes most of a second, which `harness --help` need not wait for

    places = [(row, name) for row in board.rows for name in board.tasks if (row, name) in board.groups]
    csv_lines: list[dict[str, Any]] = []
    for group, reason in [*((board.groups[place], "") for place in places), *board.apart]:
        entry = _entry(group) | _identity(group.row)
        entry |= {"seeds": " ".join(str(run.spec.seed) for run in group.scored), "apart": reason}
        entry |= {"marks": ",".join(entry["marks"])}
        csv_lines += [entry | figure for figure in entry["figures"] or [{}]]
    return pandas.DataFrame(csv_lines, columns=_CSV_COLUMNS).to_csv(index=False, lineterminator="\n")


class Written(NamedTuple):
    """What a results folder came to."""

    board: Leaderboard
    problems: list[str]
    """One sentence for each file that is no record and was left out."""


def write_leaderboard(results: Path) -> Written:
    """Writes leaderboard.md, .csv and .json of the records under `results/runs`, those that change.

    Raises:
        UserError: there is no record.
    """
    records, problems = read_records(results)
    if not records:
        what_to_do = "Name another folder, or make a record: accelerate launch harness/run.py --task sst2"
        where = f"--results {results}: there is no record under {results / 'runs'}."
        raise UserError("\n".join([f"{where} {what_to_do} --results {results}", *problems]))
    board = build(records, unreadable=len(problems))
    for ending, render in (("md", render_markdown), ("csv", render_csv), ("json", render_json)):
        path, text = results / f"leaderboard.{ending}", render(board)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_atomically(path, text)
    return Written(board, problems)


def print_leaderboard(board: Leaderboard, console: Console) -> None:
    """The table and its legend. A console too narrow for it gets a line per model and task instead."""
    head = [Text(title) for title in titles(board)]
    wide, narrow = (
        Table(title=page_title(board)),
        Table("Model", "Recipe", "Task", "Score", title=page_title(board)),
    )
    for title in head:
        wide.add_column(title)
    for row, cells in lines(board):
        texts = [Text.assemble((cell.shown, "bold" if cell.is_best else ""), cell.after) for cell in cells]
        wide.add_row(Text(row.label), Text(row.variant), *texts)
        for title, text in zip(head[2:], texts, strict=True):
            if text.plain not in ("", NO_SCORE):
                narrow.add_row(Text(row.label), Text(row.variant), title, text)
    unlimited = console.options.update(max_width=100_000)
    fits = console.measure(wide, options=unlimited).maximum <= console.width
    console.print(wide if fits else narrow)
    for line in (*legend(board), *board.notes):
        console.print(Text(line))


@dataclass(frozen=True)
class LeaderboardOptions:
    """Write leaderboard.md, .csv and .json from the records of a results folder, and print the table."""

    results: Path = Path("results")
    """The folder that holds runs/."""
    strict: bool = False
    """Exit with code 1 when a file under runs/ is not a readable record."""


def main(arguments: Sequence[str]) -> None:
    """Writes and prints; files that are no records are named on stderr.

    Raises:
        UserError: there is no record.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    options = tyro.cli(LeaderboardOptions, args=list(arguments), prog="harness leaderboard", config=config)
    board, problems = write_leaderboard(options.results)
    print_leaderboard(board, Console(highlight=False))
    print(f"{options.results / 'leaderboard'}.md, .csv and .json are up to date.")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} file(s) left out: not readable as records.", file=sys.stderr)
        if options.strict:
            sys.exit(1)
