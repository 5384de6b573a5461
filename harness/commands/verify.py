"""`harness verify`: checks every record of a results folder, and runs some again from their records alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.console import Console

from harness.commands.leaderboard import read_leaderboard
from harness.errors import UserError
from harness.facts.records import RunRecord, read_records, record_path
from harness.inspection.record_checks import removed_files
from harness.inspection.terminal_table import print_table, wide_console
from harness.metrics.registry import is_fraction
from harness.reports.cells import format_metric
from harness.stats.verification import (
    LEVELS,
    Finding,
    Level,
    RerunOutcome,
    compare_reruns,
    contradictions,
    read_reruns,
)
from harness.sweeps.display import duration, print_plan
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import make_executor
from harness.sweeps.jobs import plan_jobs
from harness.sweeps.launch import launch_command
from harness.sweeps.reruns import SMALLEST, RerunPlan, RerunSettings, find_record, rerun_of, smallest_rerun
from harness.sweeps.scheduler import Command
from harness.sweeps.session import run_jobs
from harness.system.command_line import parse_flags
from harness.system.devices import find_devices
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


_MAX_REASONS = 5
"""Reasons that are printed where no run can be done again."""


@dataclass(frozen=True)
class VerifyOptions:
    """Check every record of a results folder: schema, run_id, scores, rows, gold labels, predictions, data and weights.

    Exit code 1 if there is a mismatch, or a re-run whose score is outside the interval. Data come from the local cache
    only, weights from DIR/models; re-runs are the results folders in DIR/reruns. --rerun makes one.
    """

    results: Annotated[Path, tyro.conf.Positional] = Path("results")
    """The folder with runs/."""
    rerun: tuple[str, ...] = ()
    """Run these again, each from its record alone, on a CPU or GPUs as before: run_ids, or smallest for the run that
    took the fewest seconds. The new records are in DIR/reruns; the same command resumes."""
    name: str = "local"
    """The person or lab that runs again: the folder in DIR/reruns."""
    base: Path | None = None
    """Show what a pull request changes: leave out records without a mismatch that this results folder has too, such as
    that of the main branch, and name the files of it that were removed; they are a mismatch."""
    data: Path | None = None
    """The folder or file with the rows of runs that had --data."""
    trust_remote_code: bool = False
    """Allow re-runs with code that comes with the model or a metric: read it first."""
    json: bool = False
    """Print one JSON object instead of a table."""


class Verified(NamedTuple):
    """A record with its mismatches and everything that could not be checked."""

    record: RunRecord
    level: Level
    findings: list[Finding]
    unchecked: list[str]
    reruns: list[RerunOutcome]
    """The outcomes of its independent re-runs."""


def main(arguments: Sequence[str], command: Command = launch_command) -> None:
    """Prints the checks, and exits with 1 if there is a mismatch; `command` builds the command that starts a run.

    Raises:
        UserError: there is no record and no file that could be one, or a run cannot be done again.
    """
    options = parse_flags(VerifyOptions, arguments, "verify")
    if options.base is not None:
        for name, folder in (("--base ", options.base), ("", options.results)):
            if not folder.is_dir():
                raise UserError(f"{name}{folder}: folder not found.")
    if not options.rerun and options != VerifyOptions(options.results, base=options.base, json=options.json):
        raise UserError("--name, --data, --trust-remote-code: --rerun is missing; name a run_id.")
    code = _run_again(options, command) if options.rerun else 0
    verified, messages = verify(options.results, options.base)
    removals = [] if options.base is None else removed_files(options.results, options.base)
    if options.json:
        print(json.dumps(_content(verified, messages, removals), indent=1, ensure_ascii=False))
    else:
        _print(verified, messages, removals)
    is_outside = any(outcome.agreement == "outside" for one in verified for outcome in one.reruns)
    if code or messages or removals or is_outside or any(one.findings for one in verified):
        sys.exit(1)


# -- runs again --------------------------------------------------------------------------------------------------------


def _run_again(options: VerifyOptions, command: Command) -> int:
    """Does the runs again that --rerun names, and returns the exit code.

    Raises:
        UserError: a run is not found, or cannot be done again here; then none is done.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", options.name):
        raise UserError(f"--name {options.name}: expected letters, digits, '-', '_' and '.' only, at most 100.")
    stream = {"file": sys.stderr} if options.json else {}
    console = wide_console(**stream)
    by_topology = sorted(_plan_reruns(options, console), key=lambda rerun: rerun.topology)
    code = 0
    for topology, reruns in groupby(by_topology, key=lambda rerun: rerun.topology):
        if topology.gpus == 0:
            os.environ["OMP_NUM_THREADS"] = str(topology.threads)  # the executor takes at most as many
        gpus = topology.gpus or None
        executor = make_executor(ExecutorSettings(gpus_per_run=gpus), test_mode=topology.gpus == 0)
        runs = list({run.run_id: run for rerun in reruns for run in rerun.runs}.values())
        plan = plan_jobs(runs, executor.device, retry_failed=True)
        print_plan(plan, executor.slots, console)
        if plan.finished:
            console.print(f"Finished re-runs in reruns/{options.name} are kept; another --name runs them again.")
        code = max(code, run_jobs(plan, executor, console, command, may_diverge=False))
        if code > 1:
            sys.exit(code)
    return code


def _plan_reruns(options: VerifyOptions, console: Console) -> list[RerunPlan]:
    """The re-run for each name in --rerun, each after a line with its command and the time that it took before.

    Raises:
        UserError: a run is not found, or cannot be done again here.
    """
    records, messages = read_records(options.results)
    by_id = {record.run_id: record for record in records}
    settings = RerunSettings(options.results / "reruns" / options.name, options.data, options.trust_remote_code)
    gpus = len(find_devices(on_cpu=False).gpus)
    reruns: list[RerunPlan] = []
    for run_id in dict.fromkeys(options.rerun):
        if run_id == SMALLEST:
            known = {record.run_id: record for record in read_records(options.base).records} if options.base else {}
            rerun, reasons = smallest_rerun(by_id, known, settings, gpus)
        else:
            rerun, reasons = rerun_of(find_record(run_id, by_id, messages), by_id, settings, gpus), []
        if rerun is None:
            lines = ["--rerun smallest: no new record of a run that can be done again here.", *reasons[:_MAX_REASONS]]
        else:
            command = shlex.join(["harness", "run", *rerun.runs[-1].args])
            took = duration(rerun.seconds)
            lines = [f"{rerun.runs[-1].run_id}: took {took} when it was recorded: {command}"]
            reruns.append(rerun)
        for line in lines:
            console.print(escape_controls(line, LINE_CONTROLS), soft_wrap=True)
    return reruns


# -- checks ------------------------------------------------------------------------------------------------------------


def verify(results: Path, base: Path | None = None) -> tuple[list[Verified], list[str]]:
    """The checks of every record, and a message for each file that is not a readable record.

    Records without a mismatch that `base` has too, with the same re-runs, are left out.

    Raises:
        UserError: there is no record and no file that could be one, in the base neither.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # the clients read it when they are imported
    from harness.inspection.record_checks import check_files, gold_conflicts, replaced_predictions

    records, messages = read_records(results)
    known = {record.run_id: record for record in read_records(base).records} if base else {}
    if not records:
        if messages or known:
            return [], messages
        raise UserError(f"{results}: no records found under {results / 'runs'}. Name a results folder.")
    reruns, unreadable = read_reruns(results)
    board = read_leaderboard(results).board
    groups = {run.run_id: group for group in board.levels for run in group.runs}
    conflicts = gold_conflicts(records)
    known_reruns = read_reruns(base).by_run if base else {}
    verified = []
    for record in records:
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
    return verified, [*messages, *unreadable]


def _print(verified: Sequence[Verified], messages: Sequence[str], removals: Sequence[str]) -> None:
    counts = Counter(one.level for one in verified)
    lines = [[one.record.spec.task, one.record.run_id, one.level, _fields(one)] for one in verified]
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
    """A line for each mismatch of a record, and the outcomes of its re-runs."""
    for finding in one.findings:
        yield f"{one.record.spec.task}/{one.record.run_id}: {finding.field}: {finding.message}"
    for outcome in one.reruns:
        yield from _outcome_lines(one.record, outcome)


def _outcome_lines(record: RunRecord, outcome: RerunOutcome) -> Iterator[str]:
    """The agreement of a re-run, with scores and changed predictions where it is not equal, and what else differs."""
    parts = [_AGREEMENTS[outcome.agreement]]
    if outcome.agreement != "equal":
        as_percent = all(map(is_fraction, record.task.main_metrics))
        score, rerun_score = (format_metric(one, as_percent) for one in (outcome.score, outcome.rerun_score))
        ends = [format_metric(end, as_percent) for end in outcome.interval or ()]
        parts += [f"score {score}, again {rerun_score}" + (f", interval {' to '.join(ends)}" if ends else "")]
        parts += [f"another prediction in {rows:,} row(s) of {split}" for split, rows in outcome.changed_rows.items()]
    yield f"{record.spec.task}/{record.run_id}: {outcome.path}: {'; '.join(parts)}"
    if outcome.differences:
        yield f"  differs in {'; '.join(outcome.differences)}"


def _fields(one: Verified) -> str:
    return ", ".join(finding.field for finding in one.findings) or "–"


def _content(verified: Sequence[Verified], messages: Sequence[str], removals: Sequence[str]) -> dict[str, Any]:
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
