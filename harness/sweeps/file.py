"""A sweep: tasks, models, seeds, recipe overrides and a grid, from a YAML file, from flags, or from both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, TypeAdapter, ValidationError

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import DEFAULT_SEED, Recipe
from harness.facts.yaml_file import KeysOfFile, describe_faults, read_yaml, validate_number
from harness.sweeps.executor import ExecutorSettings


def _named(value: Any) -> Any:
    """Names with their settings, from a list of names or from names with settings."""
    if isinstance(value, list):
        if odd := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{odd[0]!r} is not a name; write settings as 'name: {{recipe: {{...}}}}', without dashes")
        _check_duplicates(value, "duplicate")
        value = dict.fromkeys(value)
    if not value:
        raise ValueError("empty: name one or more, or omit the key")
    if not isinstance(value, dict):
        raise ValueError("expected a list of names, or names with settings")
    if "" in value:
        raise ValueError("empty name: expected the name of a task or model")
    return {str(name): settings or {} for name, settings in value.items()}


def _check_duplicates(values: Sequence[Any], fault: str) -> None:
    counts = Counter(map(repr, values))  # a value of a file may be a list, which has no hash
    if duplicate := next((text for text, count in counts.items() if count > 1), None):
        raise ValueError(f"{fault} {duplicate}")


def _seeds(value: Any) -> Any:
    value = [value] if isinstance(value, int) else value
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError("empty: give at least one seed")
        _check_duplicates(value, "duplicate seed")
        if odd := [seed for seed in value if isinstance(seed, int) and not 0 <= seed < 2**32]:
            raise ValueError(f"invalid seed {odd[0]}: expected 0 to {2**32 - 1}")
    return value


def _overrides(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): typed(str(name), each) for name, each in value.items()}
    return value


def _grid(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    grid: dict[str, list[Any]] = {}
    for name, values in value.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name}: give the values to try, as in '{name}: [1, 2]'")
        grid[str(name)] = [typed(str(name), each) for each in values]
        _check_duplicates(grid[str(name)], f"{name}: duplicate value")
    return grid


def _train_rows(value: Any) -> Any:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ValueError("empty: give the sizes, as in [100, 300, 1000, null], or omit the key")
    sizes = [typed("train_rows", each) for each in values]
    _check_duplicates(sizes, "duplicate size")
    return sizes


def _executor(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Seeds = Annotated[tuple[StrictInt, ...], BeforeValidator(_seeds)]
Overrides = Annotated[dict[str, Any], BeforeValidator(_overrides)]


class TaskSettings(KeysOfFile):
    """Settings of one task, or of every task of a suite."""

    seeds: Seeds | None = None
    """Seeds that replace the sweep's."""
    recipe: Overrides = {}
    """Hyperparameters for this task and every model."""


class ModelSettings(KeysOfFile):
    """Settings of one model."""

    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch, tag or commit on the Hub."""
    trust_remote_code: bool = False
    """Run the code that comes with the model; `revision` must be a commit."""
    recipe: Overrides = {}
    """Hyperparameters for this model and every task; they override the task's."""
    recipe_by_task: dict[str, Overrides] = {}
    """Hyperparameters for this model on one task; they override both."""


class Sweep(KeysOfFile):
    """A sweep. Field names are the keys of a sweep file."""

    tasks: Annotated[dict[str, TaskSettings], BeforeValidator(_named)]
    """Tasks, suites such as glue, or paths of task files."""
    models: Annotated[dict[str, ModelSettings], BeforeValidator(_named)] = Field(default={}, validate_default=False)
    """Names on the Hub, or folders; by default each task's own model."""
    seeds: Seeds = (DEFAULT_SEED,)
    recipe: Overrides = {}
    """Hyperparameters for every run."""
    train_rows: Annotated[tuple[int | None, ...], BeforeValidator(_train_rows)] = ()
    """Sizes of the training data, a run for each: nested random parts, the same for every seed; null is all rows."""
    grid: Annotated[dict[str, list[Any]], BeforeValidator(_grid)] = {}
    """Values to try of some hyperparameters: every combination is a point."""
    executor: Annotated[ExecutorSettings, BeforeValidator(_executor)] = ExecutorSettings()
    """The way to start runs: its name, or its name and its settings."""


def typed(name: str, value: Any) -> Any:
    """The value of a hyperparameter in the type of its `Recipe` field, also from texts such as `1e-5` and `None`.

    Raises:
        ValueError: the hyperparameter is unknown or the value invalid.
    """
    field = Recipe.model_fields.get(name)
    if field is None:
        raise ValueError(f"unknown hyperparameter {name!r}.{did_you_mean(name, Recipe.model_fields)}")
    if value == "None":
        value = None
    try:
        annotation: Any = Annotated[field.annotation, field]
        return validate_number(value, TypeAdapter(annotation).validate_python)
    except ValueError as error:
        message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        message = message.removeprefix("Value error, ")
        raise ValueError(f"{name} is {value!r}: {message}") from None


def read_sweep(path: Path) -> Sweep:
    """The sweep of a file.

    Raises:
        UserError: `file:line: fault`, one line per fault.
    """
    values, node = read_yaml(path, "tasks: [glue]")
    try:
        return Sweep(**values)
    except ValidationError as error:
        raise UserError(describe_faults(path, node, error.errors(), Sweep)) from None


def replace_values(sweep: Sweep, flags: Mapping[str, Any]) -> Sweep:
    """The sweep with the values of `flags` instead of its own; tasks and models that these name keep their settings.

    Raises:
        UserError: a value is invalid, with its flag.
    """
    named = make_sweep({"tasks": list(sweep.tasks), **flags})
    changes: dict[str, Any] = {name: getattr(named, name) for name in flags}
    if "tasks" in flags:
        changes["tasks"] = {name: sweep.tasks.get(name, settings) for name, settings in named.tasks.items()}
    if "models" in flags:
        changes["models"] = {name: sweep.models.get(name, settings) for name, settings in named.models.items()}
    if "executor" in flags:
        changes["executor"] = sweep.executor.replaced_by(named.executor)
    if "seeds" in flags:
        tasks = changes.get("tasks", sweep.tasks)
        changes["tasks"] = {name: settings.model_copy(update={"seeds": None}) for name, settings in tasks.items()}
    return sweep.model_copy(update=changes)


def make_sweep(flags: Mapping[str, Any]) -> Sweep:
    """The sweep that the flags alone describe.

    Raises:
        UserError: a value is invalid, with its flag.
    """
    try:
        return Sweep(**flags)
    except ValidationError as error:
        faults = [
            (fault["loc"][1 if fault["loc"][0] == "executor" else 0], str(fault["msg"]).removeprefix("Value error, "))
            for fault in error.errors()
        ]
        messages = [
            f"--{str(name).replace('_', '-')}: {message}{'.' * (message[-1:] != '?')}" for name, message in faults
        ]
        raise UserError("\n".join(dict.fromkeys(messages))) from None


def grid_values(args: Sequence[str]) -> dict[str, list[str]]:
    """Names with their values, from arguments such as `learning_rate=1e-5,3e-5`.

    Raises:
        UserError: an argument has another form, or a name is duplicate.
    """
    grid: dict[str, list[str]] = {}
    for arg in args:
        name, equals, values = arg.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name or not all(values.split(",")):
            raise UserError(f"--grid {arg}: expected a hyperparameter and its values, as in learning_rate=1e-5,3e-5.")
        if name in grid:
            raise UserError(f"--grid {arg}: duplicate {name}; give all of its values in one argument.")
        grid[name] = values.split(",")
    return grid
