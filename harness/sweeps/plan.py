"""The runs that a sweep comes to: each with its identity, and after the run that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import changed_from
from harness.facts.records import RunRecord, RunSpec, read_record, record_path
from harness.facts.tasks import TaskSpec, all_tasks, load_task, task_names, under_protocol
from harness.requests.identity import identify
from harness.requests.options import RunOptions, default_recipe, parse
from harness.rows.files import find_files
from harness.sweeps.file import ModelSettings, Sweep, TaskSettings

Point = Mapping[str, Any]
"""Values of some hyperparameters."""


class Request(NamedTuple):
    """What is asked of a sweep as a whole."""

    sweep: Sweep
    recipe: Point
    """Hyperparameters of the command line: they win over the sweep's."""
    words: tuple[str, ...]
    """Other flags for every `harness run`, --results and --test-mode among them."""
    is_test_mode: bool


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    task: TaskSpec
    """As the run's protocol sees it."""
    options: RunOptions
    words: tuple[str, ...]
    """For `harness run`, which makes the same options of them."""
    spec: RunSpec
    changes: dict[str, Any]
    """How its recipe differs from the default."""
    after: str | None = None
    """run_id of the run that must be finished before."""
    parent_group_key: str | None = None
    """As its record has it."""
    is_requested: bool = True
    """Not only there because another starts from it."""

    @property
    def run_id(self) -> str:
        return self.spec.run_id

    @property
    def path(self) -> Path:
        """Of its record."""
        return record_path(self.options.folder, self.task.name, self.run_id)

    def record(self) -> RunRecord | None:
        """What is there of it, failed or finished.

        Raises:
            UserError: the file is no record.
        """
        return read_record(self.path) if self.path.exists() else None

    def __str__(self) -> str:
        return f"{self.task.name} {self.spec.model} seed {self.spec.seed}"


def tasks_of(sweep: Sweep) -> dict[str, TaskSettings]:
    """Every task with its settings, suites as their members; what is said of a task wins over what is of its suite.

    Raises:
        UserError: there is no such task or suite, or its file is wrong.
    """
    suites: dict[str, list[str]] = {}
    for task in all_tasks():
        if task.suite:
            suites.setdefault(task.suite, []).append(task.name)
    found: dict[str, TaskSettings] = {}
    for name, settings in sweep.tasks.items():
        if not _is_path(name) and name not in suites and name not in task_names():
            known = [*suites, *task_names()]
            raise UserError(
                f"tasks: there is no task or suite {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}; or "
                "give the path of a task's YAML file."
            )
        for member in suites.get(name, [name]):
            if member not in sweep.tasks or member == name:
                found[member] = settings
    return found


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the grid's values, the last name's changing fastest; one empty point for an empty grid."""
    points: list[dict[str, Any]] = [{}]
    for name, values in grid.items():
        points = [{**point, name: value} for point in points for value in values]
    return points


def expand(
    request: Request, points: Callable[[str, str], Sequence[Point]], first_seed_only: bool = False
) -> list[PlannedRun]:
    """Every run once, each after the run that it needs, which is added where nobody asked for it.

    `points(task, model)` are the combinations to run there, `model` as the sweep has it or empty for the task's own.

    Raises:
        UserError: no such task, suite or model folder, a value out of range, or data that are missing.
    """
    sweep = request.sweep
    if request.is_test_mode and sweep.models:
        raise UserError("--test-mode: test mode brings its own model; leave out the models or --test-mode.")
    tasks = tasks_of(sweep)
    for name, own in sweep.models.items():
        known = sorted({*tasks, *task_names()})
        if odd := next((task for task in own.recipe_by_task if task not in known and not _is_path(task)), None):
            raise UserError(f"models.{name}.recipe_by_task: there is no task {odd!r}.{did_you_mean(odd, known)}")
    runs: dict[str, PlannedRun] = {}
    for task, settings in tasks.items():
        for model in sweep.models or ("",):
            seeds = settings.seeds or sweep.seeds
            for point in points(task, model):
                for run in _of_seeds(request, task, model, point, seeds[:1] if first_seed_only else seeds):
                    if run.is_requested or run.run_id not in runs:
                        runs[run.run_id] = run
    return list(runs.values())


def _of_seeds(request: Request, task: str, model: str, point: Point, seeds: Iterable[int]) -> list[PlannedRun]:
    first, *others = seeds
    *before, run = _plan(request, task, model, point, first)
    if run.after is not None:  # what it waits for has the seed in its name too
        return [*before, run, *(each for seed in others for each in _plan(request, task, model, point, seed))]
    return [
        run,
        *(
            replace(
                run,
                options=replace(run.options, seed=seed),
                words=_with_seed(run.words, seed),
                spec=run.spec.model_copy(update={"seed": seed}),
            )
            for seed in others
        ),
    ]


def _plan(
    request: Request, name: str, model: str, point: Point, seed: int, children: tuple[str, ...] = ()
) -> list[PlannedRun]:
    """A run after those that it starts from; `children` are the tasks that start from it."""
    own = request.sweep.models.get(model, ModelSettings())
    words = ["--task", name, *(["--model", model] if model else [])]
    words += ["--revision", own.revision] if own.revision else []
    for key, value in {**_overrides(request, name, own), **point}.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--seed", str(seed), *request.words]
    options = parse(words)
    before: list[PlannedRun] = []
    if options.recipe.init_from is not None:
        if options.recipe.init_from in (name, *children):
            chain = " from ".join([*children, name, options.recipe.init_from])
            raise UserError(f"init_from: {chain}: tasks cannot start from each other.")
        before = _plan(request, options.recipe.init_from, model, {}, seed, (*children, name))
        before = [replace(run, is_requested=False) for run in before]
        words += ["--parent", before[-1].run_id]
        options = replace(options, parent=before[-1].run_id)
    loaded = load_task(options.task)
    trained = under_protocol(load_task(loaded.predicted_by or options.task), options.recipe.protocol)
    files = None if options.test_mode else find_files(trained, options.data)
    spec = identify(trained, files, options)
    after = before[-1].run_id if before else None
    like = before[-1].spec.group_key(before[-1].parent_group_key) if before else None
    if loaded.predicted_by:
        after = spec.run_id
        identity = {"task": loaded.name, "task_version": loaded.version, "task_fingerprint": loaded.fingerprint}
        spec = spec.model_copy(update=identity)
    default = default_recipe(loaded, options.model, options.test_mode)
    changes = changed_from(options.recipe, default)
    task = loaded if loaded.predicted_by else trained
    return [*before, PlannedRun(task, options, tuple(words), spec, changes, after, like)]


def _overrides(request: Request, name: str, own: ModelSettings) -> dict[str, Any]:
    """What the sweep and the command line say of the recipe for one task and model; the later wins."""
    settings = tasks_of(request.sweep).get(name, TaskSettings())
    for_this = own.recipe_by_task.get(name, {})
    for_all = [dict(recipe) for recipe in (request.sweep.recipe, request.recipe)]
    task = load_task(name)
    for recipe in for_all:
        if recipe.get("init_from") in {task.name, task.predicted_by} - {None}:  # it is what the others start from
            del recipe["init_from"]
    return {**for_all[0], **settings.recipe, **own.recipe, **for_this, **for_all[1]}


def _is_path(task: str) -> bool:
    return task.endswith((".yaml", ".yml")) or "/" in task


def _with_seed(words: Sequence[str], seed: int) -> tuple[str, ...]:
    place = words.index("--seed") + 1
    return (*words[:place], str(seed), *words[place + 1 :])
