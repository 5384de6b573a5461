"""The runs of a sweep: each with its identity, and after the run that it starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import recipe_difference
from harness.facts.records import RunRecord, RunSpec, read_record, record_path
from harness.facts.run_files import log_path
from harness.facts.suites import load_suite, registered_suites
from harness.facts.tasks import TaskSpec, apply_protocol, is_path, load_task, task_names, trained_task
from harness.requests.identity import companion_spec, identify, resolve_task
from harness.requests.options import RunOptions, default_recipe, parse_options
from harness.rows.files import check_positions, find_files
from harness.sweeps.file import ModelSettings, Sweep, TaskSettings
from harness.system.paths import user_path

Point = Mapping[str, Any]
"""Values of some hyperparameters."""

MAX_RUNS = 10_000
"""Runs of one sweep."""

MAX_POINTS = 1_000
"""Points of one grid."""


class SweepRequest(NamedTuple):
    """A sweep and the flags of its command line."""

    sweep: Sweep
    """The sweep with the tasks of `tasks_of`."""
    recipe: Point
    """Hyperparameters of the command line; they override the sweep's."""
    args: tuple[str, ...]
    """Other flags for every `harness run`, including --results and --test-mode."""
    is_test_mode: bool


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    task: TaskSpec
    """The task under the run's protocol."""
    options: RunOptions
    args: tuple[str, ...]
    """Arguments of `harness run` that give these options."""
    spec: RunSpec
    changes: dict[str, Any]
    """Hyperparameters that differ from the default recipe."""
    after: str | None = None
    """run_id of the run that must be finished before."""
    parent_group_key: str | None = None
    """The group key of the runs that it starts from, for its record."""
    is_requested: bool = True
    """False for a run that is planned only because another starts from it."""

    @cached_property
    def run_id(self) -> str:
        return self.spec.run_id

    @property
    def path(self) -> Path:
        """The file of its record."""
        return record_path(self.options.folder, self.task.name, self.run_id)

    @property
    def log_path(self) -> Path:
        """The file of its output."""
        return log_path(self.options.folder, self.task.name, self.run_id)

    def record(self) -> RunRecord | None:
        """Its record, failed or finished; None if there is none.

        Raises:
            UserError: the file is not a valid record.
        """
        if not self.path.exists():
            return None
        try:
            return read_record(self.path)
        except UserError as error:
            raise UserError(f"{error}\nRemove the file, and the sweep runs it again.") from None

    def __str__(self) -> str:
        return f"{self.task.name} {self.spec.model} seed {self.spec.seed}"


def tasks_of(sweep: Sweep) -> dict[str, TaskSettings]:
    """Every task with its settings; a suite is replaced by its tasks, and a task's settings override its suite's.

    A suite's tasks that are not trained are left out if they are predicted only, and all of them in a grid.

    Raises:
        UserError: a task or suite is unknown, a task file or suite is invalid, or nothing is left.
    """
    tasks: dict[str, TaskSettings] = {}
    for name, settings in sweep.tasks.items():
        for member in _members(name, is_grid=bool(sweep.grid)):
            if member not in sweep.tasks or member == name:
                tasks[member] = settings
    if not tasks:
        raise UserError(f"tasks: no task of {', '.join(sweep.tasks)} is trained; name the task that predicts its rows.")
    return tasks


def _members(name: str, is_grid: bool) -> list[str]:
    """The tasks of a suite, by name or by path as the suite is given; for a task itself alone."""
    suites, known = registered_suites(), task_names()
    is_folder = is_path(name) and user_path("--tasks", name).is_dir()
    if name in suites or is_folder:
        suite = load_suite(name, "--tasks")
        tasks = suite.read_tasks()
        members = [task.name for task in tasks if task.predicted_by is None or (task.report and not is_grid)]
        return [str(suite.path_of(task)) for task in members] if is_folder else members
    if not is_path(name) and name not in known:
        raise UserError(
            f"tasks: unknown task or suite {name!r}.{did_you_mean(name, [*suites, *known])} Known: suites "
            f"{', '.join(suites)}; tasks {', '.join(known)}. Or give the path of a task's file or a suite's folder."
        )
    return [name]


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the grid's values, the last name varying fastest; one empty point for an empty grid.

    Raises:
        UserError: there are more than MAX_POINTS.
    """
    number = math.prod(map(len, grid.values()))
    if number > MAX_POINTS:
        raise UserError(f"--grid: {number:,} points: expected at most {MAX_POINTS:,}. Try fewer values at once.")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def expand(
    request: SweepRequest,
    points: Callable[[str, str], Sequence[Point]] = lambda task, model: [{}],
    first_seed_only: bool = False,
) -> list[PlannedRun]:
    """Every run once, each after the run that it starts from, which is added if it was not requested.

    `points(task, model)` returns the combinations to run, by default one without changes of the recipe; `model` is
    empty for the task's own model.

    Raises:
        UserError: an unknown task, suite or model folder, an invalid value, missing data, or more than MAX_RUNS.
    """
    sweep = request.sweep
    if request.is_test_mode and sweep.models:
        raise UserError("--models: test mode has its own model; drop the models or --test-mode.")
    tasks = sweep.tasks
    for name, own in sweep.models.items():
        known = sorted({*tasks, *task_names()})
        if unknown := next((task for task in own.recipe_by_task if task not in known and not is_path(task)), None):
            raise UserError(f"models.{name}.recipe_by_task: unknown task {unknown!r}.{did_you_mean(unknown, known)}")
    groups = [
        (task, model, points(task, model), (settings.seeds or sweep.seeds)[: 1 if first_seed_only else None])
        for task, settings in tasks.items()
        for model in sweep.models or ("",)
    ]
    number = sum(len(here) * len(seeds) for *_, here, seeds in groups)
    if number > MAX_RUNS:
        raise UserError(
            f"{number:,} runs: expected at most {MAX_RUNS:,} in one sweep. Name fewer tasks, models or seeds."
        )
    runs: dict[str, PlannedRun] = {}
    chains = (_plan_seeds(request, task, model, point, seeds) for task, model, here, seeds in groups for point in here)
    for run in chain.from_iterable(chains):
        if run.is_requested or run.run_id not in runs:
            runs[run.run_id] = run
    return list(runs.values())


def _plan_seeds(request: SweepRequest, task: str, model: str, point: Point, seeds: Iterable[int]) -> list[PlannedRun]:
    first, *others = seeds
    *before, run = _plan(request, task, model, point, first)
    if run.after is not None:  # the run that it waits for has the seed in its name too
        return [*before, run, *(each for seed in others for each in _plan(request, task, model, point, seed))]
    return [run, *(_with_seed(run, seed) for seed in others)]


def _with_seed(run: PlannedRun, seed: int) -> PlannedRun:
    """The same run with another seed, without its planning."""
    position = run.args.index("--seed") + 1
    args = (*run.args[:position], str(seed), *run.args[position + 1 :])
    spec = run.spec.model_copy(update={"seed": seed})
    return replace(run, options=replace(run.options, seed=seed), args=args, spec=spec)


def _plan(request: SweepRequest, name: str, model: str, point: Point, seed: int) -> list[PlannedRun]:
    """A run, after those that it starts from."""
    ancestry: dict[str, tuple[list[str], RunOptions]] = {}
    start: str | None = name
    while start is not None:
        if start in ancestry:
            raise UserError(f"init_from: {' from '.join([*ancestry, start])}: tasks cannot start from each other.")
        args = _run_args(request, start, model, {} if ancestry else point, seed)
        ancestry[start] = args, parse_options(args)
        start = ancestry[start][1].recipe.init_from
    runs: list[PlannedRun] = []
    for args, options in reversed(ancestry.values()):
        if runs:
            args, options = [*args, "--parent", runs[-1].run_id], replace(options, parent=runs[-1].run_id)
        runs.append(plan_run(args, options, runs[-1] if runs else None))
    return mark_requested(runs)


def _run_args(request: SweepRequest, task: str, model: str, point: Point, seed: int) -> list[str]:
    """The arguments of `harness run` for a run of the sweep, without the run that it starts from."""
    own = request.sweep.models.get(model, ModelSettings())
    args = ["--task", task, *(["--model", model] if model else [])]
    args += ["--revision", own.revision] if own.revision else []
    args += ["--trust-remote-code"] if own.trust_remote_code else []
    overrides = {**_overrides(request, task, own), **point}
    if switches := {key for key, value in overrides.items() if isinstance(value, bool)}:
        default = parse_options([*args, *request.args]).recipe  # a switch has a flag only for its other position
        unchanged = {key for key in switches if overrides[key] is getattr(default, key)}
        overrides = {key: value for key, value in overrides.items() if key not in unchanged}
    return [*args, *recipe_args(overrides), "--seed", str(seed), *request.args]


def mark_requested(chain: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Marks the last run of a chain as requested; the earlier ones are planned only because it starts from them."""
    return [*(replace(run, is_requested=False) for run in chain[:-1]), chain[-1]]


def plan_run(args: Sequence[str], options: RunOptions, parent: PlannedRun | None) -> PlannedRun:
    """The run of these arguments of `harness run`, and of the options that they give; it starts from `parent`.

    Raises:
        UserError: the task, its rows or the model cannot be used.
    """
    loaded, _ = resolve_task(options)
    trained = load_task(trained_task(options.task)) if loaded.predicted_by else loaded
    trained = apply_protocol(trained, options.recipe.protocol)
    files = None if options.test_mode else find_files(trained, options.data)
    spec = identify(trained, files, options)
    if not options.test_mode:
        check_positions(options.model, options.recipe.max_length)
    after = parent.run_id if parent else None
    parent_group_key = parent.spec.group_key(parent.parent_group_key) if parent else None
    if loaded.predicted_by:
        companion_files = None
        with suppress(UserError):  # the run itself reports it
            companion_files = None if options.test_mode else find_files(loaded, options.data)
        after, spec = spec.run_id, companion_spec(loaded, spec, companion_files)
    default = default_recipe(trained, options.model, options.test_mode)
    changes = recipe_difference(options.recipe, default)
    task = loaded if loaded.predicted_by else trained
    return PlannedRun(task, options, tuple(args), spec, changes, after, parent_group_key)


def recipe_args(values: Point) -> list[str]:
    """The flags of `harness run` that set hyperparameters; a switch has one for the other position than its default."""
    args: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        args += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return args


def _overrides(request: SweepRequest, name: str, own: ModelSettings) -> dict[str, Any]:
    """The recipe overrides of the sweep and the command line for one task and model; later ones win."""
    settings = request.sweep.tasks.get(name, TaskSettings())
    by_task = own.recipe_by_task.get(name, {})
    for_all = [dict(recipe) for recipe in (request.sweep.recipe, request.recipe)]
    task = load_task(name)
    of_task = {name, task.name, trained_task(name), task.predicted_by} - {None}  # its names and paths
    for recipe in for_all:
        if recipe.get("init_from") in of_task:  # the others start from it
            del recipe["init_from"]
    return {**for_all[0], **settings.recipe, **own.recipe, **by_task, **for_all[1]}
