"""`harness sweep`: many runs as one command: expanded, planned, worked off side by side, taken up where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich.console import Console

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import Recipe
from harness.facts.records import prepare_folder, read_records
from harness.facts.tasks import load_task
from harness.requests.options import RunOptions
from harness.rows.own_data import FLAGS as OWN_FLAGS
from harness.sweeps.display import SweepDisplay, duration, plan_table
from harness.sweeps.estimates import Estimate, comparable, estimate
from harness.sweeps.fetch import fetch
from harness.sweeps.file import Sweep, grid_values, make_sweep, read_sweep, typed
from harness.sweeps.grid import Per, as_overrides, choose, protocol_of, write_choice
from harness.sweeps.launch import launch_words
from harness.sweeps.ordering import seconds_left
from harness.sweeps.plan import PlannedRun, Point, Request, expand, points_of, tasks_of
from harness.sweeps.scheduler import Command, Todo, Worker, checked, is_complete, job_of, log_of, tidy
from harness.system.devices import Slot, find_devices, slots
from harness.system.signals import catch_stop_signals

WIDTH = 160
"""Of tables that go into a file or a pipe, which has none of its own."""


@dataclass(frozen=True)
class SweepOptions:
    """Run tasks x models x seeds: those without a finished record, longest first, each in a process of its own.

    Every other flag of `harness run` goes to each run: --learning-rate, --precision, --data and so on. The same command
    goes on where it was stopped; several on one results folder share the work.
    """

    file: tyro.conf.Positional[Path | None] = None
    """A sweep file; the flags below replace its values."""
    tasks: tuple[str, ...] = ()
    """Tasks, suites such as glue, or paths of task files."""
    models: tuple[str, ...] = ()
    """Names on the Hub, or folders; without them each task's own model."""
    seeds: tuple[int, ...] = ()
    """One run for each; 42 where none is given."""
    results: Path = Path("results")
    """Where records are written: DIR/runs/<task>/<run_id>.json."""
    test_mode: bool = False
    """One CPU, no network, a tiny BERT and generated rows; records go to DIR/test-mode."""
    grid: tuple[str, ...] = ()
    """Hyperparameters and the values to try, as in learning_rate=1e-5,3e-5 global_batch_size=16,32: the best combination by
    the first seed, on rows that are not reported, then runs with every seed."""
    grid_per: Per = "task"
    """Choose for each task and model, or once per model by the mean over its tasks."""
    select_on_reported: bool = False
    """Choose by the reported score itself, without the holdout protocol; every such run is marked."""
    dry_run: bool = False
    """Show the plan, with the time that earlier records let expect, and run nothing."""
    retry_failed: bool = False
    """Also run what has a failed record."""
    jobs: int | None = None
    """Runs at the same time: on GPUs one each, on the CPU one; on the CPU more share its cores."""
    devices_per_run: int | None = None
    """GPUs of each run, one by default."""


class Plan(NamedTuple):
    """What a sweep comes to."""

    todos: list[Todo]
    estimates: dict[str, Estimate]
    finished: list[PlannedRun]
    failed: list[PlannedRun]
    """They have a failed record and stay so."""
    notes: list[str]


def main(arguments: Sequence[str], command: Command = launch_words) -> None:
    """Exit code 0: every run is finished; 1: some failed; 130 or 143: stopped by a signal. `command` starts a run.

    Raises:
        UserError: something that was asked for cannot be done.
    """
    options, request = read_options(arguments)
    devices = find_devices(options.test_mode)
    places = slots(devices, options.jobs, options.devices_per_run)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)

    def done(runs: Sequence[PlannedRun]) -> int:
        plan = plan_for(runs, devices.name, options.retry_failed)
        show(plan, places, console)
        return 0 if options.dry_run else work(plan, places, console, command)

    if not request.sweep.grid:
        code = done(expand(request, lambda task, model: [{}]))
    else:
        code = _search(options, request, done, console)
    if not options.dry_run:
        sys.exit(code)


def _search(
    options: SweepOptions, request: Request, done: Callable[[Sequence[PlannedRun]], int], console: Console
) -> int:
    """The grid with the first seed, the choice, and what was chosen with every seed."""
    points = points_of(request.sweep.grid)

    def at(task: str, point: Point) -> Point:
        return {**point, **protocol_of(load_task(task), options.select_on_reported)}

    trials = expand(request, lambda task, model: [at(task, point) for point in points], first_seed_only=True)
    trials_asked = [run for run in trials if run.is_requested]
    console.print(f"Grid of {len(points)} points, seed {trials_asked[0].spec.seed}:")
    code = done(trials)
    if options.dry_run:
        rest = len([run for run in expand(request, lambda task, model: [at(task, points[0])]) if run.is_requested])
        console.print(f"Then the chosen points with all seeds, {rest} runs with those of the grid among them.")
    if options.dry_run or code > 1:
        return code
    records = {run.run_id: record for run in trials_asked if (record := checked(run)) is not None}
    choices = choose(trials_asked, points, records, options.grid_per)
    chosen: dict[tuple[str, str], Point] = {}
    for choice in choices:
        console.print(str(choice), soft_wrap=True)
        if choice.chosen is not None:
            folder, seed = trials_asked[0].options.folder, trials_asked[0].spec.seed
            console.print(f"stated in {write_choice(choice, folder, seed, options.select_on_reported)}", soft_wrap=True)
            chosen |= {(task, choice.model): choice.chosen.values for task in choice.tasks}
    console.print("What was chosen, for a sweep file:\n" + as_overrides(choices, options.grid_per), soft_wrap=True)

    def of_choice(task: str, model: str) -> list[Point]:
        trained = next(run.spec.model for run in trials_asked if run.task.name == load_task(task).name)
        point = chosen.get((load_task(task).name, model or trained))
        return [] if point is None else [at(task, point)]

    runs = expand(request, of_choice)
    return max(code, done(runs)) if runs else 1


def read_options(arguments: Sequence[str]) -> tuple[SweepOptions, Request]:
    """The sweep's own options, and what they ask for.

    Raises:
        UserError: nothing is asked for, there is no such flag, a value is of no use, or a sweep file is wrong.
    """
    options, recipe, words = _divided(arguments)
    given: dict[str, Any] = {
        name: value for name in ("tasks", "models", "seeds") if (value := list(getattr(options, name)))
    }
    if options.grid:
        given["grid"] = grid_values(options.grid)
    if options.file is None and "tasks" not in given:
        raise UserError("Name the tasks (--tasks glue), or a sweep file.")
    sweep = make_sweep(given) if options.file is None else read_sweep(options.file, given)
    _check_grid(options, sweep, recipe)
    words += ["--results", str(options.results), *(["--test-mode"] if options.test_mode else [])]
    return options, Request(sweep, recipe, tuple(words), options.test_mode)


def _check_grid(options: SweepOptions, sweep: Sweep, recipe: Mapping[str, Any]) -> None:
    if not sweep.grid:
        if options.grid_per != "task" or options.select_on_reported:
            raise UserError(
                "--grid-per and --select-on-reported: there is no grid; give the values to try with --grid."
            )
        return
    given = [recipe, sweep.recipe, *(settings.recipe for settings in sweep.tasks.values())]
    given += [recipe for own in sweep.models.values() for recipe in (own.recipe, *own.recipe_by_task.values())]
    if "protocol" in sweep.grid or any("protocol" in overrides for overrides in given):
        raise UserError("protocol: a grid sets it by itself: holdout, or what --select-on-reported says.")
    if twice := set(sweep.grid) & set(recipe):
        raise UserError(f"--{min(twice).replace('_', '-')}: the grid tries its values already.")
    if companion := next((name for name in tasks_of(sweep) if load_task(name).predicted_by), None):
        raise UserError(f"--grid: {companion} is not trained itself, so there is nothing to choose; leave it out.")


def _divided(arguments: Sequence[str]) -> tuple[SweepOptions, dict[str, Any], list[str]]:
    """The sweep's own options, hyperparameters for all runs, and the words of other flags for `harness run`."""
    own: list[str] = []
    recipe: dict[str, Any] = {}
    passed: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name in _OWN or name == "help":
            own.append(word)
            continue
        if name in _NOT_PASSED:
            raise UserError(f"{flag}: a sweep sets it for each run by itself; {_NOT_PASSED[name]}.")
        if flag.replace("_", "-") in OWN_FLAGS:
            raise UserError(f"{flag}: a sweep takes tasks: write one with `harness tasks --new`, and name its file.")
        if name not in _PASSED and name not in Recipe.model_fields:
            known = [f"--{known.replace('_', '-')}" for known in [*_OWN, *Recipe.model_fields, *_PASSED]]
            raise UserError(f"{flag}: neither sweep nor run has such a flag.{did_you_mean(flag, known)}")
        values = [value] if equals else []
        many = "tuple" in _PASSED.get(name, "")
        takes_values = not equals and _PASSED.get(name) != "bool"
        while takes_values and words and not words[0].startswith("--") and (many or not values):
            values.append(words.pop(0))
        if name in Recipe.model_fields:
            if not values:
                raise UserError(f"{flag}: a value is missing.")
            try:
                recipe[name] = typed(name, values[0])
            except ValueError as error:
                raise UserError(f"{flag}: {error}") from None
        else:
            passed += [flag, *values]
    config = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(SweepOptions, args=own, prog="harness sweep", config=config), recipe, passed


_OWN = {field.name for field in fields(SweepOptions)} - {"file"}
_NOT_PASSED = {
    "task": "name the tasks with --tasks",
    "model": "name the models with --models",
    "seed": "name the seeds with --seeds",
    "revision": "give it in a sweep file, below its model",
    "save_model": "it keeps the models from which other runs start",
    "push_to_hub": "run the one to be published by itself",
    "overwrite": "remove the records that are to be made again",
}
_PASSED = {
    field.name: str(field.type) for field in fields(RunOptions) if field.name not in {*_OWN, *_NOT_PASSED, "recipe"}
}
"""Flags of `harness run` for every run, with their types."""


def plan_for(runs: Sequence[PlannedRun], device: str, retry_failed: bool) -> Plan:
    """What is left to do of the runs, and how long it will take.

    Raises:
        UserError: a file that should be a record is none.
    """
    folder = runs[0].options.folder
    known = comparable(read_records(folder).records, device, runs[0].spec.test_mode)
    estimates = {run.run_id: estimate(run.task, run.spec, known) for run in runs}
    rates = [each.seconds / each.rows for each in estimates.values() if each.seconds and each.rows]
    rate = sum(rates) / len(rates) if rates else 1.0
    todos: dict[str, Todo] = {}
    failed: dict[str, PlannedRun] = {}
    finished: list[PlannedRun] = []
    notes = []
    records = {run.run_id: checked(run) for run in runs}
    for run in reversed(runs):  # what others start from comes before them
        record, expected = records[run.run_id], estimates[run.run_id]
        weight = expected.rows * rate if expected.seconds is None else expected.seconds
        is_parent = any(todo.run.spec.parent == run.run_id for todo in todos.values())
        todo = Todo(run, expected.seconds, weight, keeps_model=is_parent, is_repeat=False)
        if record is not None and is_complete(todo, record):
            finished += [run] * run.is_requested
        elif record is not None and record.status == "failed" and not retry_failed:
            failed[run.run_id] = run
        elif run.is_requested or is_parent:
            is_repeat = record is not None and record.is_finished
            todos[run.run_id] = todo._replace(is_repeat=is_repeat)
            if is_repeat:
                notes.append(f"again: {run}: others start from it, and its weights were not kept")
    for todo in reversed(todos.values()):
        if todo.run.after in failed:
            failed[todo.run.run_id] = todo.run
            notes.append(f"not run: {todo.run}: the run that it starts from has failed before")
    left = [todo for run_id, todo in reversed(todos.items()) if run_id not in failed]
    return Plan(left, estimates, finished, list(failed.values()), notes)


def show(plan: Plan, places: Sequence[Slot], console: Console) -> None:
    """The plan: what is there, what is to do, and how long it takes."""
    todo = [each.run for each in plan.todos]
    total = len(todo) + len(plan.finished) + len(plan.failed)
    runs = "1 run" if total == 1 else f"{total} runs"
    console.print(f"{runs}: {len(plan.finished)} finished, {len(plan.failed)} failed, {len(todo)} to do.")
    for run in plan.failed:
        if run.path.exists():
            console.print(f"failed before: {run}, {log_of(run)} (--retry-failed runs it again)", soft_wrap=True)
    for note in plan.notes:
        console.print(note, soft_wrap=True)
    if not todo:
        return
    console.print(plan_table(todo, plan.estimates))
    known = [each for each in plan.todos if each.seconds is not None]
    unknown = len(plan.todos) - len(known)
    wall = seconds_left([job_of(each) for each in known], {}, len(places))
    each = max(1, len(places[0].gpus))
    cost = sum(todo.seconds or 0.0 for todo in known) * each
    where = f"{len(places)} at a time on {places[0] if len(places) == 1 else 'as many places'}"
    if known:
        at_least = "at least " if unknown else "about "
        console.print(f"{where}: {at_least}{duration(wall)}, {cost / 3600:.2f} device-hours.", soft_wrap=True)
    if unknown:
        console.print(f"Of {unknown} nothing is known: no record of their model gives a speed.", soft_wrap=True)


def work(plan: Plan, places: Sequence[Slot], console: Console, command: Command) -> int:
    """Does what is to be done and gives the exit code."""
    for run in plan.finished:
        tidy(run)
    if not plan.todos:
        return 1 if plan.failed else 0
    prepare_folder(plan.todos[0].run.options.folder)
    fetch(todo.run.options for todo in plan.todos)
    worker, display = Worker(plan.todos, places, command), SweepDisplay(console)
    with catch_stop_signals() as asked:
        was_asked = False
        with display.opened():
            for event in worker.events(asked):
                if event is not None:
                    display.tell(event, worker)
                if asked.signal and not was_asked:
                    was_asked = True
                    console.print(f"stopping: {len(worker.busy)} run(s) save a checkpoint; Ctrl-C again ends them now")
                display.refresh(worker)
        signal = asked.signal
    left = worker.of("waiting", "elsewhere")
    failed = worker.of("failed")
    for todo in failed:
        console.print(f"failed: {todo.run}: {log_of(todo.run)}", soft_wrap=True)
    done = len(worker.of("done"))
    console.print(f"{done} done, {len(failed)} failed, {len(left)} not run.")
    if signal:
        console.print("stopped; the same command goes on.")
        return 128 + signal
    for todo in left:
        console.print(f"not run: {todo.run}: the run that it starts from has failed", soft_wrap=True)
    return 1 if failed or plan.failed or left else 0
