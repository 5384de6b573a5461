"""`harness reproduce`: runs what a published row states, and says whether its scores can be had again."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from harness.commands.sweep import read_options, run_sweep
from harness.engine import test_mode
from harness.errors import UserError, boundary, did_you_mean
from harness.facts.published import MAX_SEEDS, PublishedRow, Score, is_percentage, load_row, read_row, row_text
from harness.facts.recipes import Recipe
from harness.facts.records import RunRecord, read_records
from harness.facts.suites import expand_suites
from harness.facts.tasks import load_task
from harness.inspection.terminal_table import wide_console
from harness.reports.own_row import own_row
from harness.reports.reproduction import (
    Reproduction,
    assumptions,
    reading_table,
    readme_line,
    reproduction_name,
    verdict_table,
    write_reproduction,
)
from harness.stats.equivalence import expected_margin
from harness.stats.reproductions import MARGIN, target_of, verdicts_of
from harness.sweeps.launch import launch_command
from harness.sweeps.plan import PlannedRun, expand
from harness.sweeps.published_sweep import comparable_scores, obstacles, seeds_of, sweep_of, sweep_text
from harness.sweeps.scheduler import Command
from harness.system.atomic import check_writable, write_atomically
from harness.system.command_line import flag_name, parse_flags, split_flags


@dataclass(frozen=True)
class ReproduceOptions:
    """Run a published row's recipe with several seeds, and compare the scores with the published ones.

    Each score agrees, differs by an amount with its interval, or the runs cannot tell; then the output says how many
    seeds could. ROW comes first. Flags of `harness sweep` that decide where runs are done, and those flags of `harness
    run` that change no recipe, go to the sweep: --executor, --max-jobs, --precision, --data and so on. The same command
    resumes, and finished runs in the results folder are used. Exit code 1: a run has no score, or a task differs.
    """

    row: tyro.conf.Positional[str | None] = None
    """A row of `harness published`, or the path of your own."""
    tasks: tuple[str, ...] = ()
    """Tasks of the row, or suites; all tasks that runs can be compared with by default."""
    seeds: int | None = None
    """The number of runs of each task, 2 or more: by default as many as the row has, or 5 where it has one or
    does not say."""
    variant: str | None = None
    """Another recipe for the same scores, where sources contradict each other."""
    model: str | None = None
    """A folder or repository with a copy of the row's model."""
    margin: float | None = None
    """Points within which scores count as equal: 1 by default."""
    results: Path = Path("results")
    """Folder of the records."""
    output: Path | None = None
    """Folder of sweep.yaml, reproduction.md and reproduction.json: RESULTS/reproductions/ROW by default."""
    test_mode: bool = False
    """One CPU, no network, a tiny BERT and generated rows; records go to DIR/test-mode."""
    dry_run: bool = False
    """Show what can be compared and what would be run, and run nothing."""
    write: Path | None = None
    """Run nothing, and write a row file from the records of one model's runs; --model and --tasks choose among them."""


def main(arguments: Sequence[str], command: Command = launch_command) -> None:
    """Exits with 0 if every score has a verdict or too few seeds for one, with 1 if a task differs or a run is missing.

    With --detach there is no verdict before all runs are done.

    Raises:
        UserError: the row, a task, a variant or a flag is invalid, or nothing can be compared.
    """
    options, passed = split_arguments(arguments)
    if options.write is not None:
        _write_row(options, passed)
        return
    if options.row is None:
        raise UserError("missing row: name one of `harness published`, or the path of your own.")
    row = load_row(options.row)
    scores, excluded = _choose_scores(row, expand_suites(options.tasks, row.tasks))
    _check_flags(row, scores, options)
    margin = MARGIN if options.margin is None else options.margin
    sweep = sweep_of(
        row, scores, variant=options.variant, seeds=options.seeds, model=options.model, is_test_mode=options.test_mode
    )
    flags = ["--results", str(options.results), *["--test-mode"] * options.test_mode, *["--dry-run"] * options.dry_run]
    sweep_options, request = read_options([*passed, *flags], sweep)
    runs = [run for run in expand(request) if run.is_requested]
    console = wide_console()
    for line in (*_forecast(row, scores, excluded, options, margin), *_other_recipes(runs)):
        console.print(line, soft_wrap=True)
    folder = options.output or runs[0].options.folder / "reproductions" / reproduction_name(row, options.variant)
    if not options.dry_run:
        with boundary(f"--output {folder}: cannot be written", advice="Name another folder."):
            check_writable(folder)
            write_atomically(folder / "sweep.yaml", sweep_text(sweep))
    if all(_record(run) is not None for run in runs):
        console.print("All runs are finished already; another folder (--results) runs them again.")
    code = run_sweep(sweep_options, request, command)
    if options.dry_run or (sweep_options.detach and any(_record(run) is None for run in runs)):
        return
    if code > 1:
        sys.exit(code)
    by_task: dict[str, list[RunRecord | None]] = {task: [] for task in scores}
    for run in runs:
        by_task[run.options.task].append(_record(run))
    verdicts = verdicts_of(row, scores, by_task, margin)
    model = options.model or row.model
    outcome = Reproduction(row, options.variant, model, margin, options.test_mode, verdicts, excluded)
    _report(outcome, folder, console)
    sys.exit(1 if code or outcome.counts["differs"] else 0)


def _write_row(options: ReproduceOptions, passed: Sequence[str]) -> None:
    """Writes the row of the records.

    Raises:
        UserError: the file exists or has another extension, or the records make no row.
    """
    path, results = options.write, options.results
    assert path is not None
    used = ReproduceOptions(
        tasks=options.tasks,
        model=options.model,
        results=options.results,
        test_mode=options.test_mode,
        write=path,
    )
    if passed or options != used:
        raise UserError("--write: takes --results, --model, --tasks and --test-mode alone; drop the rest.")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--write {path}: unsupported extension: expected .yaml.")
    if path.exists():
        raise UserError(f"--write {path}: the file exists. Remove it, or name another.")
    records, messages = read_records(results / "test-mode" if options.test_mode else results)
    for message in messages:
        print(message, file=sys.stderr)
    names = {load_task(task, "--tasks").name: task for task in options.tasks} if options.tasks else None
    row = own_row(records, path.stem, options.model, names)
    with boundary(f"--write {path}: cannot be written"):
        write_atomically(path, row_text(row))
    read_row(path)
    flag = " --test-mode" if options.test_mode else ""
    print(f"Wrote {path}. To repeat it: harness reproduce {shlex.quote(str(path))} --results NEW{flag}")


def _report(outcome: Reproduction, folder: Path, console: Console) -> None:
    console.print(verdict_table(outcome))
    if (readings := reading_table(outcome)) is not None:
        console.print(readings)
    for line in assumptions(outcome):
        console.print(Text(line), soft_wrap=True)
    with boundary(f"--output {folder}: cannot be written", advice="Name another folder."):
        paths = write_reproduction(outcome, folder)
    console.print(f"Wrote {' and '.join(map(str, paths))}. For a README:", soft_wrap=True)
    console.print(Text(readme_line(outcome)), soft_wrap=True)


def _choose_scores(
    row: PublishedRow, tasks: Sequence[str]
) -> tuple[dict[str, list[Score]], list[tuple[str, Score, str]]]:
    """The scores of each task to compare, and those that cannot be compared with their reasons.

    Raises:
        UserError: a task is not in the row or cannot be compared, or none can.
    """
    if unknown := next((task for task in tasks if task not in row.tasks), None):
        near = did_you_mean(unknown, row.tasks)
        raise UserError(f"--tasks {unknown}: {row.name} has no such task.{near} Its tasks: {', '.join(row.tasks)}.")
    reasons = {task: obstacles(row, task) for task in tasks or row.tasks}
    scores = comparable_scores(row, tasks)
    required = list(tasks) if scores else list(reasons)
    if missing := [task for task in required if task not in scores]:
        lines = {f"{task}: {reason}" for task in missing for reason in reasons[task].values() or ["no scores"]}
        raise UserError("\n".join([f"{row.name}: no run can be compared with these scores.", *sorted(lines)]))
    return scores, [(task, score, reason) for task in reasons for score, reason in reasons[task].items()]


def _check_flags(row: PublishedRow, scores: dict[str, list[Score]], options: ReproduceOptions) -> None:
    """Raises UserError for flags with which no verdict is possible."""
    if row.model == test_mode.MODEL and not options.test_mode:
        raise UserError(f"--test-mode: missing; {row.name} was made from runs in test mode.")
    if options.test_mode and options.model is not None:
        raise UserError(f"--model {options.model}: test mode has its own model; drop it or --test-mode.")
    if options.seeds is not None and not 2 <= options.seeds <= MAX_SEEDS:
        raise UserError(f"--seeds {options.seeds}: expected 2 to {MAX_SEEDS} runs; one run has no spread over seeds.")
    for task in scores:
        number = row.number_of_runs(task) or 0
        if options.seeds is not None and row.aggregate_of(task) == "best" and options.seeds < number:
            raise UserError(f"--seeds {options.seeds}: {task} is the best of {number} runs; expected {number} or more.")
    if options.margin is not None and not (math.isfinite(options.margin) and options.margin > 0):
        raise UserError(f"--margin {options.margin}: expected a number of points above 0.")
    unscaled = {score.metric for several in scores.values() for score in several if not is_percentage(score.metric)}
    if unscaled and options.margin is None:
        raise UserError(
            f"--margin: missing; {min(unscaled)} is no percentage, so the default of 1 point has no meaning."
        )


def _forecast(
    row: PublishedRow,
    scores: dict[str, list[Score]],
    excluded: Iterable[tuple[str, Score, str]],
    options: ReproduceOptions,
    margin: float,
) -> Iterable[str]:
    """The notes of the row, and lines about scores that cannot be compared, or hardly within the margin."""
    for note in (*row.notes, *(note for task in scores for note in row.tasks[task].notes)):
        yield f"note: {note}"
    for task, score, reason in excluded:
        yield f"not compared: {task} {score.metric} {score.split} {score.value:g}: {reason}"
    for task, several in scores.items():
        number = len(seeds_of(row, task, options.seeds))
        for score in several:
            target = target_of(row, task, score)
            if target.error is not None and (least := expected_margin(number, target)) > margin:
                yield (
                    f"{task} {score.metric}: ±{score.plus_minus:g} is published; if the runs here spread alike, "
                    f"{number} seeds show agreement within {least:.1f} points at best, not within {margin:g}."
                )


def _record(run: PlannedRun) -> RunRecord | None:
    """The record of a run.

    Raises:
        UserError: the file is no valid record, or one of another recipe under this run's name.
    """
    record = run.record()
    if record is not None and record.spec.run_id != run.run_id:
        raise UserError(
            f"{run.path}: the record is of another recipe, task or model than its name says. Remove the file."
        )
    return record


def _other_recipes(runs: Sequence[PlannedRun]) -> Iterable[str]:
    """A line about records of the same models and tasks that are of another recipe and therefore not used."""
    first = runs[0]
    own = {(run.task.name, run.spec.model): run.spec for run in runs}
    others = {
        (record.spec.task, record.spec.model)
        for record in read_records(first.options.folder).records
        if (spec := own.get((record.spec.task, record.spec.model))) and record.spec.recipe != spec.recipe
    }
    if others:
        tasks = ", ".join(sorted({task for task, _ in others}))
        yield f"not used: records of the same model with another recipe ({tasks}) in {first.options.folder}"


def split_arguments(arguments: Sequence[str]) -> tuple[ReproduceOptions, list[str]]:
    """The command's own options, and the arguments that go to the sweep.

    Raises:
        UserError: a flag would change the row's recipe, models or seeds.
    """
    own, passed = split_flags(arguments, _OWN)
    flags = [arg.partition("=")[0] for arg in passed if arg.startswith("--")]
    if refused := next((flag for flag in flags if flag_name(flag).removeprefix("no_") in _REFUSED), None):
        raise UserError(
            f"{refused}: a row has its own recipe and model; give a changed copy of its file, or use "
            "`harness sweep` (`harness published ROW` shows the sweep)."
        )
    return parse_flags(ReproduceOptions, own, "reproduce"), passed


_OWN = {field.name.strip("_") for field in fields(ReproduceOptions)} - {"row"} | {"help"}
_REFUSED = {*Recipe.model_fields, "models", "revision", "seed", "parent"}
_REFUSED |= {"grid", "grid_per", "grid_halving", "select_on_reported"}
