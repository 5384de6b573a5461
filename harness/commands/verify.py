"""`harness verify`: checks every record of a results folder against itself and against the files around it."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from harness.commands.leaderboard import read_leaderboard
from harness.errors import UserError
from harness.facts.records import RunRecord, read_records, record_path
from harness.inspection.terminal_table import print_table
from harness.stats.verification import LEVELS, Finding, Level, contradictions, independent_reruns, read_reruns
from harness.system.command_line import parse_flags

SCHEMA_VERSION = 1
"""The version of the output of --json."""


@dataclass(frozen=True)
class VerifyOptions:
    """Check every record of a results folder: schema, run_id, scores, rows, gold labels, predictions, data and weights.

    Exit code 1 if there is a mismatch. Data come from the local cache only, weights from DIR/models; re-runs by
    others are the results folders in DIR/reruns.
    """

    results: Annotated[Path, tyro.conf.Positional] = Path("results")
    """The folder with runs/."""
    json: bool = False
    """Print one JSON object instead of a table."""


class Verified(NamedTuple):
    """A record with its mismatches and everything that could not be checked."""

    record: RunRecord
    level: Level
    findings: list[Finding]
    unchecked: list[str]
    reruns: list[str]
    """Files of independent re-runs, relative to the results folder."""


def main(arguments: Sequence[str]) -> None:
    """Prints the checks, and exits with 1 if there is a mismatch.

    Raises:
        UserError: there is no record and no file that could be one.
    """
    options = parse_flags(VerifyOptions, arguments, "verify")
    verified, messages = verify(options.results)
    if options.json:
        print(json.dumps(_content(verified, messages), indent=1, ensure_ascii=False))
    else:
        _print(verified, messages)
    if messages or any(one.findings for one in verified):
        sys.exit(1)


def verify(results: Path) -> tuple[list[Verified], list[str]]:
    """The checks of every record, and a message for each file that is not a readable record.

    Raises:
        UserError: there is no record and no file that could be one.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # the clients read it when they are imported
    from harness.inspection.record_checks import check_files, gold_conflicts

    records, messages = read_records(results)
    if not records:
        if messages:
            return [], messages
        raise UserError(f"{results}: no records found under {results / 'runs'}. Name a results folder.")
    reruns, unreadable = read_reruns(results)
    levels = _levels(results)
    conflicts = gold_conflicts(records)
    verified = []
    for record in records:
        findings, unchecked = check_files(record, results)
        own = contradictions(record)
        conflict = [conflicts[record.run_id]] if record.run_id in conflicts else []
        every = list({finding.field: finding for finding in (*conflict, *findings, *own)}.values())
        level: Level = "reported" if every else levels.get(record.run_id, "reported")
        paths = [rerun.path for rerun in independent_reruns(record, reruns.get(record.run_id, []))]
        verified.append(Verified(record, level, every, unchecked, paths))
    return verified, [*messages, *unreadable]


def _levels(results: Path) -> dict[str, Level]:
    """The level of each run's group in the leaderboard."""
    board = read_leaderboard(results).board
    return {run.run_id: level for group, level in board.levels.items() for run in group.runs}


def _print(verified: Sequence[Verified], messages: Sequence[str]) -> None:
    counts = Counter(one.level for one in verified)
    lines = [[one.record.spec.task, one.record.run_id, one.level, _fields(one)] for one in verified]
    print_table("", ["task", "run", "level", "mismatches"], lines)
    for one in verified:
        for finding in one.findings:
            print(f"{one.record.spec.task}/{one.record.run_id}: {finding.field}: {finding.message}")
    for message in messages:
        print(message)
    for reason, number in Counter(reason for one in verified for reason in one.unchecked).items():
        print(f"not checked in {number} record(s): {reason}")
    for level, meaning in LEVELS.items():
        print(f"{counts[level]} {level}: {meaning}")
    broken = sum(bool(one.findings) for one in verified)
    counted = f"{len(verified) - broken} consistent, {broken} with mismatches; {len(messages)} unreadable"
    print(f"{len(verified)} records: {counted}.")


def _fields(one: Verified) -> str:
    return ", ".join(finding.field for finding in one.findings) or "–"


def _content(verified: Sequence[Verified], messages: Sequence[str]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "is_consistent": not messages and not any(one.findings for one in verified),
        "levels": LEVELS,
        "records": [
            {
                "task": one.record.spec.task,
                "run_id": one.record.run_id,
                "record": record_path(Path(), one.record.spec.task, one.record.run_id).as_posix(),
                "level": one.level,
                "findings": [finding._asdict() for finding in one.findings],
                "unchecked": one.unchecked,
                "reruns": one.reruns,
            }
            for one in verified
        ],
        "unreadable": list(messages),
    }
