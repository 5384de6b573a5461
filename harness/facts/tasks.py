"""What a task is: one YAML file, whose name is the task's name, read into a `TaskSpec`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UserError, did_you_mean
from harness.facts.metrics import METRICS, ProblemType
from harness.facts.recipes import Recipe
from harness.facts.sources import Source
from harness.facts.yaml_file import line_of, read_yaml, yaml_text

_HERE = Path(__file__).resolve().parents[1]
TASKS_FOLDER = next((folder for folder in (_HERE / "registry", _HERE.parent / "tasks") if folder.is_dir()), _HERE)
"""The registry: inside an installed wheel, or beside the package in a checkout."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TaskSpec(_Strict):
    """One task. Field names are the keys of its YAML file."""

    name: str
    title: str
    """How people call it."""
    version: Annotated[int, Field(ge=1)] = 1
    """Raised when the same model would score differently; records of older versions are kept apart."""
    source: Source
    predicted_by: str | None = None
    """The task whose models predict this one, which has no training rows of its own."""
    text: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1, max_length=2)]
    """The source's text column, or both of a pair."""
    join: dict[str, Annotated[Names, Field(min_length=1)]] = {}
    """Texts of `text` that are several columns, one below the other: `article: [title, body]`. Empty ones drop out."""
    problem_type: ProblemType
    """One label per row, a real value, or any number of labels. By default one label, or a value if there are no labels."""
    label: str | tuple[str, ...] = "label"
    """The source's label column; in a multi-label task perhaps one column a label, with 0 and 1."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between the labels of a multi-label row where the column is a text; absent for lists."""
    labels: Annotated[dict[str, str | int], BeforeValidator(lambda v: _numbered(v))] | None = None
    """Names in the order of the classes, or name: value in the source; absent for a regression."""
    splits: dict[str, str]
    """Name: rows of the source, in the split syntax of `datasets`."""
    rows: dict[str, Annotated[int, Field(ge=1)]]
    """How many rows each split of the full data has; other counts are marked as partial data."""
    select_on: str = "validation"
    """The split looked at after each epoch, whose loss `select: best` minimises."""
    evaluate: Names = ("validation",)
    """Labelled splits scored at the end of a run."""
    report: Names = ("validation",)
    """Splits whose main metrics stand in the leaderboard."""
    predict: Names = ()
    """Splits with hidden labels: predicted, never scored."""
    metrics: Annotated[Names, Field(min_length=1)]
    main_metrics: Annotated[Names, Field(min_length=1)]
    """The metrics that stand in the leaderboard; their mean is the task's score."""
    model: str | None = None
    """The model trained when none is named."""
    recipe: dict[str, Any] = {}
    """Hyperparameters that differ from the defaults."""
    suite: str | None = None
    """The benchmark whose average it enters."""

    @property
    def is_regression(self) -> bool:
        return self.labels is None

    @property
    def is_multi_label(self) -> bool:
        return self.problem_type == "multi_label_classification"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The source's label column, or all where each label has its own."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def classes(self) -> int:
        """Columns of a model's scores: the number of labels, or 1 for a regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The source's columns that make the texts."""
        return tuple(column for name in self.text for column in self.join.get(name, (name,)))

    @property
    def columns(self) -> set[str]:
        """All of the source's columns that matter."""
        return {*self.text_columns, *self.label_columns}

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides which rows, labels and numbers come out; where the rows lie does not count."""
        facts = self.model_dump(include={"text", "label", "splits", "select_on", "evaluate", "predicted_by"})
        facts["labels"] = list((self.labels or {}).items())  # in order, which numbers the classes
        if self.is_multi_label:
            facts["multi_label_classification"] = {"separator": self.separator}
        facts["source"] = self.source.model_dump(exclude={"file", "files"}, exclude_none=True)
        if self.join:
            facts["join"] = self.join
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Label columns name the labels, and labels imply the problem type."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("label"), (list, tuple)) and values.get("labels") is None:
            values = {**values, "labels": list(values["label"])}
        default = "regression" if values.get("labels") is None else "single_label_classification"
        return {**values, "problem_type": values.get("problem_type") or default}

    @model_validator(mode="after")
    def _agree(self) -> TaskSpec:
        known = set(self.splits)
        roles = {"evaluate": self.evaluate, "report": self.report, "predict": self.predict}
        if self.predicted_by is None:
            roles |= {"select_on": (self.select_on,)}
            if "train" not in known:
                raise ValueError("splits: there is no 'train'")
        for role, named in roles.items():
            if unknown := [split for split in named if split not in known]:
                raise ValueError(f"{role}: {unknown[0]!r} is not in splits ({', '.join(self.splits)})")
        if set(self.report) - set(self.evaluate):
            raise ValueError("report: every reported split must be in evaluate")
        if extra := set(self.join) - set(self.text):
            raise ValueError(f"join: {sorted(extra)[0]!r} is not in text ({', '.join(self.text)})")
        if extra := set(self.rows) - known:
            raise ValueError(f"rows: {sorted(extra)[0]!r} is not in splits")
        if extra := set(self.main_metrics) - set(self.metrics):
            raise ValueError(f"main_metrics: {sorted(extra)[0]!r} is not in metrics ({', '.join(self.metrics)})")
        self._check_problem_type()
        fitting = [name for name, metric in METRICS.items() if metric.accepts(self.problem_type)]
        for name in self.metrics:
            if name not in fitting and (name in METRICS or self.is_multi_label):
                what = {
                    "regression": "has no labels: it is a regression",
                    "single_label_classification": "has labels: it is a classification",
                }
                hint = what.get(self.problem_type, f"has any number of labels a row: it takes {', '.join(fitting)}")
                raise ValueError(f"metrics: {name!r} does not fit, the task {hint}")
        if "f1" in self.metrics and self.classes != 2:
            raise ValueError("metrics: 'f1' is the F1 of label 1 of two; with more labels use f1_macro")
        try:
            check_recipe(self, Recipe(**self.recipe))
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_problem_type(self) -> None:
        if self.problem_type == "regression" and self.labels is not None:
            raise ValueError("problem_type: a regression has no labels: remove 'labels', or change the problem type")
        if self.problem_type != "regression" and self.labels is None:
            raise ValueError(f"problem_type: {self.problem_type} needs labels, as in 'labels: [first, second]'")
        if not self.is_multi_label:
            if not isinstance(self.label, str):
                raise ValueError(
                    "label: only a task of 'problem_type: multi_label_classification' has several label columns"
                )
            if self.separator is not None:
                raise ValueError(
                    "separator: only a task of 'problem_type: multi_label_classification' has several labels in a column"
                )
        elif not isinstance(self.label, str):
            if self.separator is not None:
                raise ValueError("separator: a column for each label needs none")
            if len(self.label) != self.classes or len(set(self.label)) != self.classes:
                raise ValueError(f"label: {self.classes} labels in a column each need {self.classes} different columns")


def _numbered(labels: Any) -> Any:
    """A list of names becomes name: its position, which is how the Hub numbers them; a number stands for itself."""
    if isinstance(labels, list):
        if odd := [name for name in labels if type(name) not in (str, int)]:
            raise ValueError(f"{odd[0]!r} is not a text; put quotes around a label such as 'true' or '1.5'")
        if len(set(map(str, labels))) != len(labels):
            raise ValueError("a label stands twice")
        labels = {str(name): name if isinstance(name, int) else number for number, name in enumerate(labels)}
    if not isinstance(labels, dict):
        return labels
    if len(labels) < 2:
        raise ValueError("a classification needs two labels or more; leave 'labels' out for a regression")
    if odd := [name for name in labels if not isinstance(name, str)]:
        raise ValueError(f"{odd[0]!r} is not a text; first the name, then its value, as in 'negative: 0'")
    if odd := [name for name, value in labels.items() if not isinstance(value, (str, int))]:
        raise ValueError(f"the value of {odd[0]!r} is {labels[odd[0]]!r}, neither a text nor a whole number")
    values = [str(value) for value in labels.values()]
    if len(set(values)) != len(values):
        raise ValueError("two labels have the same value")
    if odd := [name for name, value in zip(labels, values, strict=True) if value in labels and value != name]:
        raise ValueError(f"{labels[odd[0]]!r} is the value of {odd[0]!r} and the name of another label")
    return labels


def check_recipe(task: TaskSpec, recipe: Recipe) -> None:
    """Raises UserError when the recipe asks for something that a task of this kind does not have."""
    if recipe.class_weights is not None and task.is_regression:
        raise UserError(
            f"recipe: class_weights (--class-weights) is {recipe.class_weights!r}, but {task.name} is a regression: "
            "it has no classes to weigh"
        )
    if recipe.threshold is not None and not task.is_multi_label:
        raise UserError(
            f"recipe: threshold (--threshold) is {recipe.threshold!r}, but {task.name} is no multi-label task: "
            "there is nothing to choose"
        )


def held_out(split: str) -> str:
    """The name of the half of a split that the holdout protocol reports; the other half keeps the split's own."""
    return f"{split}_holdout"


def under_protocol(task: TaskSpec, protocol: str) -> TaskSpec:
    """The task as the protocol sees it: `holdout` selects on one half of each reported split and reports the other.

    Raises:
        UserError: the task reports a split of its own that selection never sees, so there is nothing to hold out.
    """
    if protocol != "holdout":
        return task
    if task.select_on not in task.report:
        raise UserError(
            f"--protocol holdout: {task.name} selects on {task.select_on!r} and reports "
            f"{', '.join(map(repr, task.report))} already; leave the protocol at standard."
        )
    halves = tuple(held_out(split) for split in task.report)
    return task.model_copy(update={"evaluate": (*task.evaluate, *halves), "report": halves})


def task_names() -> list[str]:
    """The names of the registry, sorted."""
    return sorted(path.stem for path in TASKS_FOLDER.glob("*.yaml"))


def load_task(name_or_path: str) -> TaskSpec:
    """A registered task by name, or one of your own by the path of its YAML file.

    Raises:
        UserError: there is no such task, or its file is wrong, with file and line.
    """
    is_path = name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path
    path = Path(name_or_path) if is_path else TASKS_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        if is_path:
            raise UserError(f"--task {name_or_path}: there is no such file.")
        known = task_names()
        raise UserError(
            f"--task {name_or_path}: there is no task of that name.{did_you_mean(name_or_path, known)} "
            f"Known: {', '.join(known)}; or give the path of a task's YAML file."
        )
    return read_task(path)


def all_tasks() -> list[TaskSpec]:
    """The whole registry, sorted by name."""
    return [load_task(name) for name in task_names()]


def companions(task: str) -> list[TaskSpec]:
    """The registered tasks that are predicted by models trained on this one."""
    return [spec for spec in all_tasks() if spec.predicted_by == task]


def read_task(path: Path) -> TaskSpec:
    """One task file, checked. Paths of its source files are taken from the folder it lies in.

    Raises:
        UserError: `file:line: what is wrong`, one line per fault.
    """
    values, node = read_yaml(path, "a task file holds keys and values, such as 'title: My task'")
    if "name" in values:
        line = line_of(node, ("name",))
        raise UserError(f"{path}:{line}: remove the key 'name': a task is called as its file is.")
    try:
        spec = TaskSpec(**{**values, "name": path.stem})
    except ValidationError as error:
        faults = [_sentence(path, node, fault) for fault in error.errors()]
        raise UserError("\n".join(dict.fromkeys(faults))) from None
    return spec.model_copy(update={"source": spec.source.beside(path.parent)})


def task_text(task: TaskSpec, folder: Path | None = None) -> str:
    """The task as YAML that `read_task` reads from `folder`; by default its files are named without the folder."""
    facts = task.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    facts["source"] = task.source.seen_from(folder).model_dump(mode="json", exclude_defaults=True)
    return yaml_text(facts)


def _sentence(path: Path, root: yaml.Node | None, fault: Any) -> str:
    """One fault that pydantic found, with the line it stands on and the nearest known key."""
    location: tuple[Hashable, ...] = fault["loc"]
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error" and not location and (key := message.split(":")[0]) in TaskSpec.model_fields:
        location = (key,)
    where = f"{path}:{line_of(root, location)}"
    key = ".".join(str(part) for part in location if not str(part).startswith(("function-", "tuple[", "dict[")))
    if fault["type"] == "extra_forbidden":
        fields: Any = (Source if location[0] == "source" and len(location) > 1 else TaskSpec).model_fields
        return f"{where}: unknown key {location[-1]!r}.{did_you_mean(str(location[-1]), set(fields) - {'name'})}"
    if fault["type"] == "missing":
        return f"{where}: the key {key!r} is missing."
    shown = f" (it is {fault['input']!r})" if isinstance(fault["input"], (str, int, float)) else ""
    prefix = "" if message.startswith(f"{key}:") else f"{key}: "
    return f"{where}: {prefix}{message}{shown}"
