"""`harness verify`: checks every record of a results folder, and runs some again from their records alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from harness.errors import UserError
from harness.facts.records import read_records
from harness.inspection.record_checks import removed_files
from harness.inspection.terminal_table import wide_console
from harness.inspection.verification_report import print_verification, verification_content, verify
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
    """Check a pull request against this results folder, such as that of the main branch: records that both have are
    left out unless they have a mismatch, and files that only the other has are reported as removed."""
    data: Path | None = None
    """The folder or file with the rows of runs that had --data."""
    trust_remote_code: bool = False
    """Allow re-runs with code that comes with the model or a metric: read it first."""
    json: bool = False
    """Print one JSON object instead of a table."""


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
        print(json.dumps(verification_content(verified, messages, removals), indent=1, ensure_ascii=False))
    else:
        print_verification(verified, messages, removals)
    is_outside = any(outcome.agreement == "outside" for one in verified for outcome in one.reruns)
    if code or messages or removals or is_outside or any(one.findings for one in verified):
        sys.exit(1)


def _run_again(options: VerifyOptions, command: Command) -> int:
    """Does the runs again that --rerun names, and returns the exit code.

    Raises:
        UserError: a run is not found, or cannot be done again here; then none is done.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", options.name):
        raise UserError(f"--name {options.name}: expected letters, digits, '-', '_' and '.' only, at most 100.")
    stream = {"file": sys.stderr} if options.json else {}
    console = wide_console(**stream)
    # those on GPUs first: the threads of a run on a CPU must not limit them
    ordered = sorted(_plan_reruns(options, console), key=lambda rerun: (rerun.topology.gpus == 0, rerun.topology))
    code = 0
    for topology, reruns in groupby(ordered, key=lambda rerun: rerun.topology):
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
