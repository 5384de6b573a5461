"""What a sweep is: tasks, models, seeds, recipe overrides and a grid, from a YAML file, from flags, or from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import DEFAULT_SEED, Recipe
from harness.facts.yaml_file import line_of, read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _named(value: Any) -> Any:
    """A list of names, or names with their settings, as the latter."""
    if isinstance(value, list):
        if odd := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{odd[0]!r} is not a name; settings stand as 'name: {{recipe: {{...}}}}', without dashes")
        if twice := _twice(value):
            raise ValueError(f"{twice!r} stands twice")
        value = dict.fromkeys(value)
    if not value:
        raise ValueError("is empty: name one or more, or leave the key out")
    return {str(name): settings or {} for name, settings in value.items()} if isinstance(value, dict) else value


def _twice(values: Sequence[Any]) -> Any:
    return next((value for number, value in enumerate(values) if value in values[:number]), None)


def _seeds(value: Any) -> Any:
    value = [value] if isinstance(value, int) else value
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError("is empty: give at least one seed")
        if (twice := _twice(value)) is not None:
            raise ValueError(f"the seed {twice} stands twice")
        if odd := [seed for seed in value if isinstance(seed, int) and not 0 <= seed < 2**32]:
            raise ValueError(f"{odd[0]}: seeds go from 0 to {2**32 - 1}")
    return value


def _overrides(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): typed(str(name), each) for name, each in value.items()}
    return value


def _grid(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = {}
    for name, values in value.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name}: give the values to try, as in '{name}: [1, 2]'")
        found[str(name)] = [typed(str(name), each) for each in values]
        if (twice := _twice(found[str(name)])) is not None:
            raise ValueError(f"{name}: {twice} stands twice")
    return found


Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]
Overrides = Annotated[dict[str, Any], BeforeValidator(_overrides)]


class TaskSettings(_Strict):
    """What holds for one task, or for every task of a suite."""

    seeds: Seeds | None = None
    """Instead of the sweep's."""
    recipe: Overrides = {}
    """Hyperparameters for this task, whatever the model."""


class ModelSettings(_Strict):
    """What holds for one model."""

    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    recipe: Overrides = {}
    """Hyperparameters for this model, whatever the task; they win over the task's."""
    recipe_by_task: dict[str, Overrides] = {}
    """Hyperparameters for this model on one task; they win over both."""


class Sweep(_Strict):
    """What to run. Field names are the keys of a sweep file."""

    tasks: Annotated[dict[str, TaskSettings], BeforeValidator(_named)]
    """Tasks, suites such as glue, or paths of task files."""
    models: Annotated[dict[str, ModelSettings], BeforeValidator(_named)] = Field(default={}, validate_default=False)
    """Names on the Hub, or folders; each task's own where none is named."""
    seeds: Seeds = (DEFAULT_SEED,)
    recipe: Overrides = {}
    """Hyperparameters for every run."""
    grid: Annotated[dict[str, list[Any]], BeforeValidator(_grid)] = {}
    """The values to try of some hyperparameters: every combination is a point."""


def typed(name: str, value: Any) -> Any:
    """The value of a hyperparameter as `Recipe` has it; texts such as `1e-5` and `None` are read.

    Raises:
        ValueError: there is no such hyperparameter, or it takes no such value.
    """
    field = Recipe.model_fields.get(name)
    if field is None:
        raise ValueError(f"there is no hyperparameter {name!r}.{did_you_mean(name, Recipe.model_fields)}")
    if value == "None":
        value = None
    try:
        kind: Any = Annotated[field.annotation, field]
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name} is {value!r}: {error.errors()[0]['msg']}") from None


def read_sweep(path: Path, given: Mapping[str, Any]) -> Sweep:
    """The sweep of a file; what is `given` on the command line takes the place of the file's values.

    Tasks and models given keep the settings that the file has for them.

    Raises:
        UserError: `file:line: what is wrong`, one line per fault.
    """
    values, node = read_yaml(path, "a sweep file holds keys and values, such as 'tasks: [glue]'")
    try:
        sweep = Sweep(**values)
    except ValidationError as error:
        faults = [_sentence(path, node, fault) for fault in error.errors()]
        raise UserError("\n".join(dict.fromkeys(faults))) from None
    asked = make_sweep({"tasks": list(sweep.tasks), **given})
    changes: dict[str, Any] = {name: getattr(asked, name) for name in given}
    if "tasks" in given:
        changes["tasks"] = {name: sweep.tasks.get(name, settings) for name, settings in asked.tasks.items()}
    if "models" in given:
        changes["models"] = {name: sweep.models.get(name, settings) for name, settings in asked.models.items()}
    if "seeds" in given:
        tasks = changes.get("tasks", sweep.tasks)
        changes["tasks"] = {name: settings.model_copy(update={"seeds": None}) for name, settings in tasks.items()}
    return sweep.model_copy(update=changes)


def make_sweep(given: Mapping[str, Any]) -> Sweep:
    """The sweep that the command line alone describes.

    Raises:
        UserError: a value is of no use, with its flag.
    """
    try:
        return Sweep(**given)
    except ValidationError as error:
        faults = [(fault["loc"][0], str(fault["msg"]).removeprefix("Value error, ")) for fault in error.errors()]
        raise UserError("\n".join(dict.fromkeys(f"--{flag}: {message}." for flag, message in faults))) from None


def grid_values(words: Sequence[str]) -> dict[str, list[str]]:
    """`learning_rate=1e-5,3e-5` and so on, as names with their values.

    Raises:
        UserError: a word is not of this form, or a name stands twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name or not all(values.split(",")):
            raise UserError(f"--grid {word}: give a hyperparameter and its values, as in learning_rate=1e-5,3e-5.")
        if name in found:
            raise UserError(f"--grid {word}: {name} stands twice; give all of its values in one word.")
        found[name] = values.split(",")
    return found


def _sentence(path: Path, root: yaml.Node | None, fault: Any) -> str:
    location = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "tuple[", "dict[")))
    where = f"{path}:{line_of(root, location)}"
    key = ".".join(map(str, location))
    if fault["type"] == "extra_forbidden":
        known = {1: Sweep, 3: TaskSettings if location[0] == "tasks" else ModelSettings}[len(location)]
        return f"{where}: unknown key {location[-1]!r}.{did_you_mean(str(location[-1]), known.model_fields)}"
    if fault["type"] == "missing":
        return f"{where}: the key {key!r} is missing."
    message = str(fault["msg"]).removeprefix("Value error, ")
    shown = f" (it is {fault['input']!r})" if isinstance(fault["input"], (str, int, float)) else ""
    return f"{where}: {key}: {message}{shown}"
