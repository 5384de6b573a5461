"""The verification of a results folder: level, mismatches and re-runs of every record, as a table and as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.facts.records import RunRecord, missing_records, read_records, record_path
from harness.inspection.record_checks import check_files, gold_conflicts, replaced_predictions
from harness.inspection.terminal_table import print_table
from harness.reports.cells import format_metric, interval_text, is_shown_as_percent
from harness.reports.folder import board_of, read_folder
from harness.stats.verification import (
    LEVELS,
    Finding,
    Level,
    RerunOutcome,
    compare_reruns,
    contradictions,
    read_reruns,
)
from harness.system.output import LINE_CONTROLS, escape_controls

SCHEMA_VERSION = 1
"""The version of the output of --json."""

_AGREEMENTS = {
    "equal": "bit-for-bit equal",
    "within": "within the interval",
    "outside": "OUTSIDE the interval",
    "unknown": "not equal, and the score has no interval",
}
"""The words for each agreement of a re-run."""


class Verified(NamedTuple):
    """A record with its mismatches and everything that could not be checked."""

    record: RunRecord
    level: Level
    findings: list[Finding]
    unchecked: list[str]
    reruns: list[RerunOutcome]
    """The outcomes of its independent re-runs."""


def verify(results: Path, base: Path | None = None) -> tuple[list[Verified], list[str]]:
    """The checks of every record, and a message for each unreadable record or grid.

    Records without a mismatch that `base` has too, with the same re-runs, are left out.

    Raises:
        UserError: neither the folder nor `base` has a record, and no file could be one.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # the clients read it when they are imported
    folder = read_folder(results)
    known = {record.run_id: record for record in read_records(base).records} if base else {}
    if not folder.records:
        if folder.record_messages or known:
            return [], folder.record_messages
        raise UserError(missing_records(results))
    board, reruns = board_of(folder), folder.facts.reruns
    groups = {run.run_id: group for group in board.levels for run in group.runs}
    conflicts = gold_conflicts(folder.records)
    known_reruns = read_reruns(base).by_run if base else {}
    verified = []
    for record in folder.records:
        findings, unchecked = check_files(record, results)
        own = contradictions(record)
        conflict = [conflicts[record.run_id]] if record.run_id in conflicts else []
        is_kept = known.get(record.run_id) == record
        replacements = replaced_predictions(record, results, base) if base and is_kept else []
        every = list({finding.field: finding for finding in (*conflict, *replacements, *findings, *own)}.values())
        is_known = is_kept and known_reruns.get(record.run_id) == reruns.get(record.run_id)
        if is_known and not every:
            continue
        group = groups.get(record.run_id)
        level: Level = "reported" if every or group is None else board.levels[group]
        interval = board.evidence[group].total if group else None
        outcomes = compare_reruns(record, reruns.get(record.run_id, []), group, interval)
        verified.append(Verified(record, level, every, unchecked, outcomes))
    return verified, [*folder.record_messages, *folder.grid_messages, *folder.rerun_messages]


def print_verification(verified: Sequence[Verified], messages: Sequence[str], removals: Sequence[str]) -> None:
    """Prints the table of the records, then a line for each mismatch, file and level."""
    counts = Counter(one.level for one in verified)
    lines = [
        [one.record.spec.task, one.record.run_id, one.level, ", ".join(each.field for each in one.findings) or "–"]
        for one in verified
    ]
    print_table("", ["task", "run", "level", "mismatches"], lines)
    missing = [f"{path}: removed: the base has this file" for path in removals]
    for line in (*(line for one in verified for line in _lines(one)), *messages, *missing):
        print(escape_controls(line, LINE_CONTROLS))
    for reason, number in Counter(reason for one in verified for reason in one.unchecked).items():
        print(escape_controls(f"not checked in {number} record(s): {reason}", LINE_CONTROLS))
    for level, meaning in LEVELS.items():
        print(f"{counts[level]} {level}: {meaning}")
    broken = sum(bool(one.findings) for one in verified)
    counted = f"{len(verified) - broken} consistent, {broken} with mismatches; {len(messages)} unreadable"
    print(f"{len(verified)} records: {counted}{f'; {len(removals)} files removed' if removals else ''}.")


def _lines(one: Verified) -> Iterator[str]:
    """A line for each mismatch of a record, and the agreement of each of its re-runs, with everything that differs."""
    for finding in one.findings:
        yield f"{one.record.spec.task}/{one.record.run_id}: {finding.field}: {finding.message}"
    for outcome in one.reruns:
        parts = [_AGREEMENTS[outcome.agreement]]
        if outcome.agreement != "equal":
            as_percent = is_shown_as_percent(one.record.task)
            score, rerun_score = (format_metric(value, as_percent) for value in (outcome.score, outcome.rerun_score))
            ends = interval_text(outcome.interval, as_percent)
            parts += [f"score {score}, again {rerun_score}" + (f", interval {ends}" if ends else "")]
            parts += [f"another prediction in {rows:,} row(s) of {name}" for name, rows in outcome.changed_rows.items()]
        yield f"{one.record.spec.task}/{one.record.run_id}: {outcome.path}: {'; '.join(parts)}"
        if outcome.differences:
            yield f"  differs in {'; '.join(outcome.differences)}"


def verification_content(
    verified: Sequence[Verified], messages: Sequence[str], removals: Sequence[str]
) -> dict[str, Any]:
    """The verification as the JSON object of `harness verify --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "is_consistent": not messages and not removals and not any(one.findings for one in verified),
        "levels": LEVELS,
        "records": [
            {
                "task": one.record.spec.task,
                "run_id": one.record.run_id,
                "record": record_path(Path(), one.record.spec.task, one.record.run_id).as_posix(),
                "level": one.level,
                "findings": [finding._asdict() for finding in one.findings],
                "unchecked": one.unchecked,
                "reruns": [
                    {**outcome._asdict(), "interval": outcome.interval and list(outcome.interval)}
                    for outcome in one.reruns
                ],
            }
            for one in verified
        ],
        "unreadable": list(messages),
        "removed": list(removals),
    }
