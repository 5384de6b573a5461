"""A task: one YAML file in the folder of its suite, named like the task, read into a `TaskSpec`."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt, ValidationError, model_validator

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import SELECTIONS, Recipe
from harness.facts.task_files import SUITE_FILE, registered_files, task_files
from harness.facts.task_rows import FileName, Names, TaskRows, check_subset
from harness.facts.yaml_file import describe_faults, read_yaml, refuse_keys, yaml_text
from harness.metrics.registry import METRICS, check_support
from harness.system.paths import user_path

_SPLIT = re.compile(r"[\w.-]+(\[(stratified )?(-?[\d_]+%?)?:(-?[\d_]+%?)?\])?(\([^)]*\))?")
"""A split of the source or a part of it; parts are added by `+`."""


class TaskSpec(TaskRows):
    """One task. Field names are the keys of its YAML file."""

    splits: dict[FileName, str]
    """Name: rows of the source, in the split syntax of `datasets`."""
    rows: dict[str, Annotated[StrictInt, Field(ge=1, lt=2**63)]] = {}
    """Number of rows of splits of the full data, where known; with other numbers a run is marked as on partial data."""
    select_on: str = "validation"
    """The split that is evaluated during training, whose loss `select: best` minimises."""
    evaluate: Names = ("validation",)
    """Labelled splits scored at the end of a run."""
    report: Names = ("validation",)
    """Splits whose main metrics are in the leaderboard."""
    predict: Names = ()
    """Splits with hidden labels: predicted, never scored."""
    metrics: Annotated[Names, Field(min_length=1)]
    main_metrics: Annotated[Names, Field(min_length=1)]
    """The metrics in the leaderboard; their mean is the task's main score."""
    model: str | None = None
    """The default model."""
    recipe: dict[str, Any] = {}
    """Hyperparameters that differ from the defaults."""
    suite: str | None = None
    """The name of its suite's folder. A file has the key only outside of such a folder: that of a saved model."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides rows, labels and scores; the path of the rows is not part of it."""
        facts = self.model_dump(include={"text", "label", "splits", "select_on", "evaluate", "predicted_by"})
        facts["labels"] = list((self.labels or {}).items())  # in order, which numbers the classes
        if self.is_multi_label:
            facts["multi_label_classification"] = {"separator": self.separator}
        facts["source"] = self.source.model_dump(exclude={"file", "files"}, exclude_none=True)
        rare_keys = {"join", "templates", "marks", "choices", "candidates", "fill", "group", "group_rows"}
        rare_facts = self.model_dump(include=rare_keys, exclude_none=True)
        facts |= {key: value for key, value in rare_facts.items() if value}  # most tasks have none of them
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _check(self) -> TaskSpec:
        roles = {"evaluate": self.evaluate, "report": self.report, "predict": self.predict}
        if self.predicted_by is None:
            roles |= {"select_on": (self.select_on,)}
            if "train" not in self.splits:
                raise ValueError("splits: missing 'train'")
        for name, expression in self.splits.items():
            if not all(_SPLIT.fullmatch(part.strip()) for part in expression.split("+")):
                raise ValueError(
                    f"splits: {name!r} is {expression!r}: expected a split of the source or a part of one, as in "
                    "train, train[:100], train[90%:] or train[stratified :90%]"
                )
        for role, names in roles.items():
            check_subset(role, names, "splits", self.splits)
        labelled = (*self.evaluate, *(("train", self.select_on) if self.predicted_by is None else ()))
        if hidden := next((name for name in self.predict if name in labelled), None):
            raise ValueError(f"predict: {hidden!r} needs labels, because it is trained on, selected on or evaluated")
        check_subset("report", self.report, "evaluate", self.evaluate)
        check_subset("rows", self.rows, "splits", self.splits)
        check_subset("main_metrics", self.main_metrics, "metrics", self.metrics)
        self._check_duplicates()
        self._check_metrics()
        try:
            check_recipe(self, Recipe(**self.recipe))
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_duplicates(self) -> None:
        """Raises ValueError for a name that would count twice in a mean."""
        for key in ("evaluate", "report", "predict", "metrics", "main_metrics"):
            names = getattr(self, key)
            if duplicate := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{key}: {duplicate!r} is a duplicate: remove it")

    def _check_metrics(self) -> None:
        check_support(self.metrics, self.problem_type, self.classes)
        over_groups = [name for name in self.metrics if name in METRICS and METRICS[name].is_over_groups]
        if over_groups and not (self.group or self.group_rows or self.candidates):
            raise ValueError(f"metrics: {over_groups[0]!r} needs 'group', the column that names the group of a row")


def check_recipe(task: TaskSpec, recipe: Recipe) -> None:
    """Raises UserError when the recipe has an option that this task does not support."""
    if recipe.select not in SELECTIONS and recipe.select not in task.metrics:
        own = [name for name in task.metrics if name in METRICS]
        raise UserError(
            f"recipe: select (--select) is {recipe.select!r}, which is no metric of {task.name}: expected "
            f"{', '.join([*SELECTIONS, *own])}"
        )
    description, one_label = f"{task.name} is a {task.problem_type} task", "single_label_classification"
    for name, is_supported, fault in (
        ("pair_order", len(task.text) > 1, f"a row of {task.name} has no pair of texts"),
        ("class_weights", not (task.is_regression or task.choices), f"{description} and has no classes"),
        ("label_smoothing", task.problem_type == one_label, f"{description}: expected {one_label}"),
        ("label_scaling", task.is_regression, f"{task.name} is no regression"),
        ("threshold", task.is_multi_label, f"{task.name} is not a multi-label task"),
    ):
        if (value := getattr(recipe, name)) is not None and not is_supported:
            raise UserError(f"recipe: {name} (--{name.replace('_', '-')}) is {value!r}, but {fault}")


def holdout_split(split: str) -> str:
    """The name of the half of a split that the holdout protocol reports; the other half keeps the split's name."""
    return f"{split}_holdout"


def apply_protocol(task: TaskSpec, protocol: str) -> TaskSpec:
    """The task under a protocol: `holdout` selects on one half of each reported split and reports the other half.

    Raises:
        UserError: the task already reports a split that selection does not use.
    """
    if protocol != "holdout":
        return task
    if task.select_on not in task.report:
        raise UserError(
            f"--protocol holdout: {task.name} already selects on {task.select_on!r} and reports "
            f"{', '.join(map(repr, task.report))}. Use --protocol standard."
        )
    halves = tuple(holdout_split(split) for split in task.report)
    return task.model_copy(update={"evaluate": (*task.evaluate, *halves), "report": halves})


def task_names() -> list[str]:
    """The names of the registered tasks, sorted."""
    return list(registered_files())


def load_task(name_or_path: str, flag: str = "--task") -> TaskSpec:
    """A registered task by name, or one of your own by the path of its YAML file; `flag` is where the user named it.

    Raises:
        UserError: the task is not found, or its file is invalid (with file and line).
    """
    if is_path(name_or_path):
        path = user_path(flag, name_or_path)
        if not path.is_file():
            raise UserError(f"{flag} {name_or_path}: file not found.")
        return read_task(path)
    files = registered_files()
    if name_or_path not in files:
        raise UserError(
            f"{flag} {name_or_path}: task not found.{did_you_mean(name_or_path, files)} "
            f"Registered: {', '.join(files)}. Or give the path of a task's YAML file."
        )
    return _registered_task(files[name_or_path])


def is_path(name_or_path: str) -> bool:
    """True for the path of a YAML file or of a folder, False for a name."""
    return name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path


def all_tasks() -> list[TaskSpec]:
    """All registered tasks, sorted by name."""
    return [_registered_task(path) for path in registered_files().values()]


def neighbour(task: str, name: str) -> str:
    """The name or path of another task of the same suite; `task` is the one's name or path, as the user gave it."""
    path = Path(task).expanduser().with_name(f"{name}.yaml")
    return str(path) if is_path(task) and path.with_name(SUITE_FILE).is_file() and path.is_file() else name


def trained_task(task: str) -> str:
    """The name or path of the task whose models predict a task: that of another, or its own, by name or path.

    Raises:
        UserError: the task is not found, or its file is invalid.
    """
    predicted_by = load_task(task).predicted_by
    return neighbour(task, predicted_by) if predicted_by else task


def companion_tasks(task: str) -> list[TaskSpec]:
    """The tasks of a task's suite that are predicted by models trained on it; by name, or by the path of its file."""
    path = Path(task).expanduser() if is_path(task) else registered_files().get(task)
    if path is None or not path.with_name(SUITE_FILE).is_file():
        return []
    read = read_task if is_path(task) else _registered_task
    return [spec for spec in map(read, task_files(path.parent).values()) if spec.predicted_by == path.stem]


@functools.cache
def _registered_task(path: Path) -> TaskSpec:
    """A registered task; its file is read once, since a sweep needs the task for each of its runs."""
    return read_task(path)


def read_task(path: Path) -> TaskSpec:
    """Reads and checks a task file. Relative paths of its source start at the file's folder.

    Raises:
        UserError: `file:line: message`, one line per error.
    """
    values, node = read_yaml(path, "title: My task")
    refuse_keys(path, node, values, ("name",), "a task is named like its file")
    if (path.parent / SUITE_FILE).is_file():
        refuse_keys(path, node, values, ("suite",), "a task's suite is its folder")
        values["suite"] = path.parent.resolve().name
    try:
        spec = TaskSpec(**{**values, "name": path.stem})
    except ValidationError as error:
        raise UserError(describe_faults(path, node, error.errors(), TaskSpec, ("name",))) from None
    return spec.model_copy(update={"source": spec.source.resolve_in(path.parent)})


def task_text(task: TaskSpec, folder: Path | None = None) -> str:
    """The task as YAML, with paths relative to `folder`; without a folder, as file names only.

    URLs have no credentials, since the text may be published.
    """
    facts = task.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    source = task.source.relative_to(folder).without_credentials()
    facts["source"] = source.model_dump(mode="json", exclude_defaults=True)
    return yaml_text(facts)
