"""`harness sweep`: tasks x models x seeds in one command; finished runs are skipped, interrupted ones resume."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from harness.errors import UserError, did_you_mean
from harness.facts.choices import Per
from harness.facts.recipes import Recipe
from harness.facts.tasks import load_task
from harness.inspection.terminal_table import wide_console
from harness.reports.panels import FEWEST_SIZES
from harness.requests.options import RunOptions
from harness.rows.own_data import OWN_DATA_FLAGS
from harness.sweeps.display import print_plan
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import DETACHABLE, make_executor
from harness.sweeps.file import Sweep, grid_values, make_sweep, read_sweep, replace_values, typed
from harness.sweeps.jobs import plan_jobs
from harness.sweeps.launch import launch_command
from harness.sweeps.plan import PlannedRun, SweepRequest, expand, points_of, tasks_of
from harness.sweeps.scheduler import Command
from harness.sweeps.search import Finish, SearchSettings, search_grid
from harness.sweeps.session import run_jobs
from harness.system.command_line import flag_name, parse_flags, refuse_repeated


@dataclass(frozen=True)
class SweepOptions:
    """Run tasks x models x seeds: the runs without a finished record, longest first, each in a process of its own.

    Every other flag of `harness run` goes to each run: --learning-rate, --precision, --data and so on. The same command
    resumes an interrupted sweep; several sweeps on one results folder share the work.
    """

    file: tyro.conf.Positional[Path | None] = None
    """A sweep file; the flags below replace its values."""
    tasks: tuple[str, ...] = ()
    """Tasks, suites such as glue, or paths of task files."""
    models: tuple[str, ...] = ()
    """Names on the Hub, or folders; by default each task's own model."""
    seeds: tuple[int, ...] = ()
    """One run per seed; 42 by default."""
    train_rows: tuple[str, ...] = ()
    """Train on that many rows, as in 100 300 1000 None: a run for each, for a learning curve. Smaller numbers are parts
    of larger ones, the same for every seed; None is all rows."""
    results: Path = Path("results")
    """Folder of the records: DIR/runs/<task>/<run_id>.json."""
    test_mode: bool = False
    """One CPU, no network, a tiny BERT and generated rows; records go to DIR/test-mode."""
    grid: tuple[str, ...] = ()
    """Hyperparameters and values to try, as in learning_rate=1e-5,3e-5 global_batch_size=16,32. The combination with
    the best score of the first seed, on rows that are not reported, then runs with every seed."""
    grid_per: Per = "task"
    """Choose once per task and model, or once per model by the mean over its tasks."""
    grid_halving: bool = False
    """Train all points for few epochs, the better half for twice as many, and so on to all epochs; each is a run of its
    own."""
    select_on_reported: bool = False
    """Choose by the reported score itself, without the holdout protocol; the leaderboard marks such runs."""
    dry_run: bool = False
    """Show the plan with its estimated duration, and run nothing."""
    retry_failed: bool = False
    """Run again what has a failed record."""
    detach: bool = False
    """Start what can start now, and end: the jobs of a Slurm cluster continue without the sweep."""
    executor: str | None = None
    """The way to start runs: local, on this machine, by default; slurm, each as a job of the cluster; or ray, each as a
    task of Ray."""
    max_jobs: int | None = None
    """Runs at the same time: by default one per GPU, or one on the CPU; several on the CPU share its cores. On a Slurm
    cluster, jobs in the queue at the same time: 100 by default; on Ray, as many runs as its nodes can take."""
    gpus_per_run: float | None = None
    """GPUs per run: 1 by default, on a Slurm cluster none. With 0.25, four runs share one."""
    nodes_per_run: int | None = None
    """Nodes of a cluster that do a run together, each with --gpus-per-run GPUs."""
    workers: int | None = None
    """Slurm jobs that each do many runs, for clusters that count jobs: by default each run is a job."""
    runs_per_device: int | None = None
    """Runs that share each GPU at the same time: 1 by default. Each may use its part of the memory."""
    partition: str | None = None
    """The partition of Slurm jobs."""
    time: str | None = None
    """The time limit of a Slurm job, as in 4:00:00; a longer run resumes in the same job, requeued."""
    slurm: tuple[str, ...] = ()
    """Further options of sbatch, as in account=nlp mem=16G cpus-per-task=4."""
    ray_address: str | None = None
    """HOST:PORT of a Ray cluster that this machine is a node of; auto: the one that runs here; local: a Ray that is
    started here and ends with the sweep. By default auto if there is one, else local."""


def main(arguments: Sequence[str], command: Command = launch_command) -> None:
    """Exits with 0 if every run has a score, 1 if some run has none, 130 or 143 if a signal stopped the sweep.

    `command` builds the command that starts a run.

    Raises:
        UserError: the sweep cannot be done as requested, or a run has found a mistake.
    """
    options, request = read_options(arguments)
    code = run_sweep(options, request, command)
    if not options.dry_run:
        sys.exit(code)


def run_sweep(options: SweepOptions, request: SweepRequest, command: Command = launch_command) -> int:
    """Runs the sweep, or shows it in a dry run, and returns the exit code.

    Raises:
        UserError: the sweep cannot be done as requested, or a run has found a mistake.
    """
    sweep = request.sweep
    if options.detach and sweep.executor.name not in DETACHABLE:
        raise UserError(f"--detach: the runs of the executor {sweep.executor.name} end with the sweep; drop it.")
    if options.detach and sweep.grid:
        raise UserError("--detach: unsupported with a grid, whose choice needs the scores of its points; drop it.")
    console = wide_console()
    finish = run_planned(options, request, command, console)
    if not sweep.grid:
        sizes = points_of({"train_rows": sweep.train_rows} if sweep.train_rows else {})
        if 1 < len(sizes) < FEWEST_SIZES:
            needed = f"a learning curve needs {FEWEST_SIZES} sizes, got {len(sizes)}"
            console.print(f"--train-rows: {needed}. Add one, such as None for all rows.")
        return finish(expand(request, lambda task, model: sizes), False)
    settings = SearchSettings(options.grid_per, options.select_on_reported, options.grid_halving, options.dry_run)
    return search_grid(request, settings, finish, console)


def run_planned(options: SweepOptions, request: SweepRequest, command: Command, console: Console) -> Finish:
    """A function that does planned runs of the sweep, or shows them in a dry run, and returns the exit code.

    Raises:
        UserError: the executor cannot be used.
    """
    executor = make_executor(request.sweep.executor, options.test_mode)

    def finish(runs: Sequence[PlannedRun], may_diverge: bool) -> int:
        plan = plan_jobs(runs, executor.device, options.retry_failed)
        print_plan(plan, executor.slots[: request.sweep.executor.workers], console)
        if options.dry_run:
            return 0
        return run_jobs(plan, executor, console, command, may_diverge, options.detach)

    return finish


def read_options(arguments: Sequence[str], default: Sweep | None = None) -> tuple[SweepOptions, SweepRequest]:
    """The sweep's own options, and the sweep that they request.

    `default`: the sweep to run where the arguments name no file and no tasks.

    Raises:
        UserError: there are no tasks, a flag is unknown, a value is invalid, or a sweep file is wrong.
    """
    options, recipe, args = _split_arguments(arguments)
    flags: dict[str, Any] = {
        name: value for name in ("tasks", "models", "seeds", "train_rows") if (value := list(getattr(options, name)))
    }
    if options.grid:
        flags["grid"] = grid_values(options.grid)
    if executor := _executor_flags(options):
        flags["executor"] = executor
    sweep = default if options.file is None else read_sweep(options.file)
    if sweep is not None:
        sweep = replace_values(sweep, flags)
    elif "tasks" in flags:
        sweep = make_sweep(flags)
    else:
        raise UserError("missing tasks: name them with --tasks glue, or give a sweep file.")
    if len(sweep.train_rows) == 1:  # a hyperparameter like any other, also of the runs that others start from
        recipe["train_rows"] = sweep.train_rows[0]
        sweep = sweep.model_copy(update={"train_rows": ()})
    sweep = sweep.model_copy(update={"tasks": tasks_of(sweep)})
    _check_grid(options, sweep, recipe)
    args += ["--results", str(options.results), *(["--test-mode"] if options.test_mode else [])]
    return options, SweepRequest(sweep, recipe, tuple(args), options.test_mode)


def _executor_flags(options: SweepOptions) -> dict[str, Any]:
    """The settings of the executor that the flags give."""
    names = ExecutorSettings.model_fields.keys() & {field.name for field in fields(options)} - {"slurm"}
    settings = {"name": options.executor, **{name: getattr(options, name) for name in sorted(names)}}
    if options.slurm:
        settings["slurm"] = sbatch_options(options.slurm)
    return {name: value for name, value in settings.items() if value is not None}


def sbatch_options(args: Sequence[str]) -> dict[str, str]:
    """Options of sbatch by their long names, from arguments such as `account=nlp`.

    Raises:
        UserError: an argument has another form, or an option is duplicate.
    """
    options: dict[str, str] = {}
    for arg in args:
        name, equals, value = arg.partition("=")
        if not name or not equals:
            raise UserError(f"--slurm {arg}: expected an option of sbatch and its value, as in account=nlp.")
        if name in options:
            raise UserError(f"--slurm {arg}: duplicate {name}; give it once.")
        options[name] = value
    return options


def _check_grid(options: SweepOptions, sweep: Sweep, recipe: Mapping[str, Any]) -> None:
    if not sweep.grid:
        if options.grid_per != "task" or options.select_on_reported or options.grid_halving:
            needing = "--grid-per, --grid-halving and --select-on-reported"
            raise UserError(f"{needing} need a grid: give the values to try with --grid.")
        return
    overrides = [recipe, sweep.recipe, *(settings.recipe for settings in sweep.tasks.values())]
    overrides += [each for own in sweep.models.values() for each in (own.recipe, *own.recipe_by_task.values())]
    if "protocol" in sweep.grid or any("protocol" in each for each in overrides):
        raise UserError("protocol: a grid sets it itself: holdout, or tuned_on_reported with --select-on-reported.")
    if sweep.train_rows:
        raise UserError("--train-rows: expected one size with a grid, which chooses among its points; choose first.")
    if duplicate := set(sweep.grid) & set(recipe):
        raise UserError(f"--{min(duplicate).replace('_', '-')}: duplicate, the grid has values for it; drop the flag.")
    if options.grid_halving and "epochs" in sweep.grid:
        raise UserError(
            "--grid-halving: epochs are what it halves; drop them from the grid, and give --epochs instead."
        )
    if companion := next((name for name in sweep.tasks if load_task(name).predicted_by), None):
        raise UserError(f"--grid: {companion} is not trained itself, so there is nothing to choose; drop it.")


def _split_arguments(arguments: Sequence[str]) -> tuple[SweepOptions, dict[str, Any], list[str]]:
    """The sweep's own options, hyperparameters for all runs, and the arguments that go to `harness run`."""
    refuse_repeated(arguments)
    own: list[str] = []
    recipe: dict[str, Any] = {}
    passed: list[str] = []
    args = list(arguments)
    while args:
        arg = args.pop(0)
        flag, equals, value = arg.partition("=")
        name = flag_name(arg)
        if not flag.startswith("--") or name in _OWN or name == "help":
            own.append(arg)
            continue
        switch = name.removeprefix("no_")
        if switch != name and switch in _SWITCHES and not equals:  # --no-predict, --no-length-grouping
            if switch in Recipe.model_fields:
                recipe[switch] = False
            else:
                passed.append(flag)
            continue
        _check_flag(flag, name)
        values = [value] if equals else []
        if not equals and _PASSED.get(name) != "bool" and args and not args[0].startswith("--"):
            values.append(args.pop(0))
        if name not in Recipe.model_fields:
            passed += [flag, *values]
            continue
        if not values:
            raise UserError(f"{flag}: missing value.")
        try:
            recipe[name] = typed(name, values[0])
        except ValueError as error:
            raise UserError(f"{flag}: {error}") from None
    return parse_flags(SweepOptions, own, "sweep"), recipe, passed


def _check_flag(flag: str, name: str) -> None:
    """Raises UserError for a flag that a sweep sets itself, and for one that neither sweep nor run has."""
    if name in _NOT_PASSED:
        raise UserError(f"{flag}: a sweep sets it for each run itself; {_NOT_PASSED[name]}.")
    if flag.replace("_", "-") in OWN_DATA_FLAGS:
        raise UserError(f"{flag}: unsupported in a sweep; write a task with `harness tasks --new` and name its file.")
    if name not in _PASSED and name not in Recipe.model_fields:
        known = [f"--{each.replace('_', '-')}" for each in [*_OWN, *Recipe.model_fields, *_PASSED]]
        raise UserError(f"{flag}: unknown flag of sweep and run.{did_you_mean(flag, known)}")


_OWN = {field.name for field in fields(SweepOptions)} - {"file"}
_NOT_PASSED = {
    "task": "name the tasks with --tasks",
    "model": "name the models with --models",
    "seed": "name the seeds with --seeds",
    "revision": "give it in a sweep file, below its model",
    "parent": "it plans the run that another starts from",
    "save_model": "it saves the models that other runs start from",
    "push_to_hub": "start the run to be published by itself",
    "overwrite": "remove the records of the runs to repeat",
}
_PASSED = {
    field.name: str(field.type)
    for field in fields(RunOptions)
    if field.name not in {*_OWN, *_NOT_PASSED, "recipe", "own_data"}
}
"""Flags of `harness run` that go to every run, with their types."""
_SWITCHES = {name for name, kind in _PASSED.items() if kind == "bool"}
_SWITCHES |= {name for name, hyperparameter in Recipe.model_fields.items() if hyperparameter.annotation is bool}
"""Flags without a value, which `--no-` switches off."""
