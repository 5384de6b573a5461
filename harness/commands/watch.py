"""`harness watch`: fine-tunes each checkpoint of a pretraining run as it appears, and shows the scores over steps."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path

import tyro
from rich.console import Console

from harness.commands.sweep import SweepOptions, read_options, run_planned
from harness.errors import UserError, boundary
from harness.inspection.terminal_table import wide_console
from harness.reports.trajectory import WatchedRun, trajectory_table, verdict_lines, write_trajectories
from harness.stats.trajectories import trajectories
from harness.sweeps.executor import SubmissionRefused
from harness.sweeps.file import ModelSettings
from harness.sweeps.launch import launch_command
from harness.sweeps.plan import PlannedRun, SweepRequest, expand
from harness.sweeps.pretraining import Checkpoints, PretrainedCheckpoint, find_checkpoints
from harness.sweeps.scheduler import Command
from harness.system.atomic import check_writable
from harness.system.command_line import flag_name, parse_flags, split_flags
from harness.system.signals import catch_stop_signals

SEEDS = ("0", "1", "2")
"""The default seeds: with one per checkpoint nothing is known about gains."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class WatchOptions:
    """Fine-tune every checkpoint of a pretraining run on some tasks, as it appears, and show the scores over its steps.

    SOURCE comes first: a folder whose subfolders are the checkpoints, or a repository on the Hub whose branches and
    tags are. Each name has its number of steps, tokens or words, as in step1000 or chck_100M. Flags of `harness sweep`
    follow: --tasks, --seeds (0 1 2 by default), --executor, hyperparameters and so on. A checkpoint that is still
    being written waits. A signal ends the watch, and the same command resumes it; finished runs are kept.
    """

    source: tyro.conf.Positional[str]
    """A folder of checkpoints, or a repository on the Hub."""
    revisions: tuple[str, ...] = ()
    """Only these branches or tags; checks once and exits."""
    every: str = "10m"
    """Time between two checks: 30s, 10m or 2h."""
    once: bool = False
    """Check once, fine-tune the checkpoints found, and exit."""
    output: Path | None = None
    """Folder of trajectory.md, .json and .svg: RESULTS/watched/SOURCE by default."""


def main(arguments: Sequence[str], command: Command = launch_command) -> None:
    """Exits with 0 if every run of the last look has a score, 1 if some has none, 130 or 143 after a signal.

    Raises:
        UserError: the source has no checkpoints, a flag is invalid, or a run ended with a user error.
    """
    options, passed = split_watch_arguments(arguments)
    pause = _seconds(options.every)
    sweep_options, request = read_options(passed)
    if len(request.sweep.train_rows) > 1:
        raise UserError("--train-rows: expected one size: watch compares checkpoints, not sizes.")
    watch = _Watch(options, sweep_options, request, command)
    if sweep_options.dry_run:
        watch.look()
        return
    while True:
        code = watch.look()
        if watch.looks_once or code > 2:
            sys.exit(code)
        if signal := _wait(pause):
            watch.console.print("stopped; the same command resumes.")
            sys.exit(128 + signal)


def split_watch_arguments(arguments: Sequence[str]) -> tuple[WatchOptions, list[str]]:
    """The command's own options, and the arguments that go to the sweep.

    Raises:
        UserError: a flag of the sweep has no meaning here.
    """
    own, passed = split_flags(arguments, _OWN)
    names = {flag_name(arg): arg.partition("=")[0] for arg in passed if arg.startswith("--")}
    if refused := next((name for name in names if name in _REFUSED), None):
        raise UserError(f"{names[refused]}: unsupported by watch: {_REFUSED[refused]}.")
    if "seeds" not in names:
        passed += ["--seeds", *SEEDS]
    return parse_flags(WatchOptions, own, "watch"), passed


@dataclass
class _Watch:
    """The checkpoints and runs that are known so far."""

    options: WatchOptions
    sweep_options: SweepOptions
    request: SweepRequest
    command: Command
    runs: dict[PretrainedCheckpoint, list[PlannedRun]] = field(default_factory=dict)
    """The runs of each checkpoint that was complete at a look."""
    incomplete: dict[str, str] = field(default_factory=dict)
    """The checkpoints that were incomplete at the last look, and why."""
    messages: set[str] = field(default_factory=set)
    """Messages that were printed: each is printed once."""

    def __post_init__(self) -> None:
        self.console: Console = wide_console()
        self.looks_once = self.options.once or bool(self.options.revisions)
        self._finish = run_planned(self.sweep_options, self.request, self.command, self.console)

    def look(self) -> int:
        """Does the runs of the checkpoints that are new or have changed, writes the report, and returns the exit code.

        Raises:
            UserError: before the first run, the source cannot be read, a run cannot be planned or the report cannot be
                written; or, where the command looks only once, a run ended with a user error.
        """
        try:
            checkpoints = find_checkpoints(self.options.source, self.options.revisions)
            self._print_state(checkpoints)
            planned = {each: self._plan(each) for each in checkpoints.complete}
        except UserError as error:  # such as an outage of the Hub, or a checkpoint that was removed meanwhile
            if self.looks_once or not self.runs:
                raise
            return _continue_after(error)
        new = {each: runs for each, runs in planned.items() if _run_ids(runs) != _run_ids(self.runs.get(each, ()))}
        if not new:
            return 0
        if not self.runs and not self.sweep_options.dry_run:
            with self._output_boundary():
                check_writable(self.folder)
        self.runs |= new
        code = self._do(new)
        if not self.sweep_options.dry_run:
            self._report()
        return max(code, int(self.options.once and bool(checkpoints.incomplete)))

    def _plan(self, checkpoint: PretrainedCheckpoint) -> list[PlannedRun]:
        models = {checkpoint.model: ModelSettings(revision=checkpoint.revision)}
        sweep = self.request.sweep.model_copy(update={"models": models})
        return expand(self.request._replace(sweep=sweep))

    def _do(self, new: Mapping[PretrainedCheckpoint, Sequence[PlannedRun]]) -> int:
        try:
            return self._finish(list({run.run_id: run for runs in new.values() for run in runs}.values()), False)
        except UserError as error:
            if self.looks_once:
                self._report()
                raise
            if isinstance(error, SubmissionRefused):  # the next look tries again
                self.runs = {each: runs for each, runs in self.runs.items() if each not in new}
            return _continue_after(error)

    def _print_state(self, checkpoints: Checkpoints) -> None:
        """Prints what is left out, and what is incomplete at a second look.

        Raises:
            UserError: there is no checkpoint, and no second look.
        """
        for name in checkpoints.unnumbered:
            self._print_once(f"{name}: left out: no number of steps or tokens in its name")
        for name, reason in checkpoints.incomplete.items():
            if self.options.once or self.incomplete.get(name) == reason:
                self._print_once(f"{name}: incomplete: {reason}" + ("" if self.options.once else "; waiting for it"))
        self.incomplete = checkpoints.incomplete
        if checkpoints.complete or self.runs:
            return
        if self.options.once:
            raise UserError(
                f"{self.options.source}: no checkpoints found: expected subfolders with config.json and weights, or "
                "branches and tags, with a number in their name."
            )
        self._print_once(f"{self.options.source}: no checkpoint yet; looking every {self.options.every}")

    def _print_once(self, message: str) -> None:
        if message not in self.messages:
            self.messages.add(message)
            self.console.print(message, soft_wrap=True)

    def _report(self) -> None:
        """Writes the trajectories of all finished runs, and prints their scores."""
        checkpoints = sorted(self.runs)
        numbers, records = {}, []
        for number, checkpoint in enumerate(checkpoints):
            for run in self.runs[checkpoint]:
                if run.is_requested and (record := run.record()) is not None:
                    numbers[record.run_id] = number
                    records.append(record)
        if not records:
            return
        watched = WatchedRun(
            self.options.source,
            [checkpoint.name for checkpoint in checkpoints],
            [checkpoint.amount for checkpoint in checkpoints],
            trajectories(records, numbers),
        )
        with self._output_boundary():
            paths = write_trajectories(watched, self.folder)
        self.console.print(trajectory_table(watched))
        for line in (*verdict_lines(watched), f"Wrote {', '.join(map(str, paths))}"):
            self.console.print(line, soft_wrap=True)

    @property
    def folder(self) -> Path:
        """The folder of the report."""
        if self.options.output is not None:
            return self.options.output
        name = re.sub(r"[^\w.-]+", "-", self.options.source.rstrip("/")).strip("-.") or "checkpoints"
        return self.sweep_options.results / "watched" / name

    def _output_boundary(self) -> AbstractContextManager[None]:
        return boundary(f"--output {self.folder}: cannot be written", advice="Name another folder.")


def _run_ids(runs: Sequence[PlannedRun]) -> list[str]:
    return [run.run_id for run in runs]


def _continue_after(error: UserError) -> int:
    """Prints an error that does not end the watch, and returns its exit code."""
    print(f"error: {error}\nThe watch continues with the next checkpoints.", file=sys.stderr)
    return 2


def _wait(seconds: float) -> int:
    """Waits, and returns the signal that has ended the wait, or 0."""
    end = time.monotonic() + seconds
    with catch_stop_signals() as stop_request:
        while not stop_request.signal and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
    return stop_request.signal


def _seconds(every: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", every)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 1 <= seconds <= 7 * 86_400:
        raise UserError(f"--every {every}: expected a pause from 1s to 168h, as in 30s, 10m or 2h.")
    return seconds


_OWN = {field.name for field in fields(WatchOptions)} - {"source"} | {"help"}
_REFUSED = {
    "models": "the checkpoints are the models",
    "revision": "name several with --revisions",
    "test_mode": "it has its own model; try a small --train-rows instead",
    "grid": "choose the recipe first, with `harness sweep --grid`",
    "grid_halving": "choose the recipe first, with `harness sweep --grid`",
    "grid_per": "choose the recipe first, with `harness sweep --grid`",
    "select_on_reported": "choose the recipe first, with `harness sweep --grid`",
    "detach": "the watch itself must keep running",
}
"""Flags of the sweep that the watch does not pass on, with the reason."""
