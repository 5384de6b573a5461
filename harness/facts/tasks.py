"""A task: one YAML file in the folder of its suite, named like the task, read into a `TaskSpec`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UserError, did_you_mean
from harness.facts.label_values import number_labels
from harness.facts.recipes import Recipe
from harness.facts.sources import Source
from harness.facts.task_files import SUITE_FILE, registered_files, task_files
from harness.facts.texts import ChoiceSource, Span, TextSource, template_columns
from harness.facts.yaml_file import line_number, read_yaml, yaml_text
from harness.metrics.metric import ProblemType
from harness.metrics.registry import METRICS
from harness.system.paths import user_path

MAX_NAME_BYTES = 100
"""Length of a task's or split's name, so that the names of a run's files stay below the 255 bytes of file systems."""


def _check_file_name(name: str) -> str:
    is_safe = name.isprintable() and re.fullmatch(r"[^./\\&\s]([^/\\&]*\S)?", name)
    if not is_safe or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"files are named after it: expected at most {MAX_NAME_BYTES} bytes, no dot or space in front, and no "
            "slash, backslash, ampersand or control character"
        )
    return name


FileName = Annotated[str, AfterValidator(_check_file_name)]
"""A name that files and folders may have on every system; it leads into no other folder."""

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One name or a list of names."""


class TaskSpec(BaseModel):
    """One task. Field names are the keys of its YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: FileName
    title: str
    """Name in tables."""
    version: Annotated[int, Field(ge=1, lt=2**63)] = 1
    """Increased when the same model would score differently; the leaderboard never mixes versions."""
    source: Source
    predicted_by: str | None = None
    """The task whose models predict this one, which has no training rows of its own."""
    text: Annotated[Names, Field(min_length=1, max_length=2)]
    """The source's text column, or both columns of a pair."""
    join: dict[str, Annotated[Names, Field(min_length=1)]] = {}
    """Texts joined from several columns, one per line: `article: [title, body]`. Empty columns are skipped."""
    templates: dict[str, str] = {}
    """Texts written from columns: `claim: "{speaker} says: {statement}"`; `{{` is a brace."""
    marks: dict[str, dict[Annotated[str, Field(min_length=1)], Span]] = {}
    """Spans to mark in a column, by the mark: `sentence: {"*": {start: first, end: last}}`; see `facts/texts.py`."""
    choices: Names = ()
    """The columns of a row's candidates, one of which is right, or a column of lists; `labels` name their positions."""
    group: Names = ()
    """Columns whose values name the group of a row, such as the question that it answers; see `row_groups.py`."""
    id: Names = ()
    """Columns that identify a row; they are copied into the files of predictions. `idx.answer` is a part of `idx`."""
    problem_type: ProblemType
    """One label per row (the default), a value (the default without labels), or any number of labels."""
    label: str | tuple[str, ...] = "label"
    """The source's label column; in a multi-label task also one column of 0 and 1 per label."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Separator of a multi-label row's labels in a text column; absent for lists."""
    labels: Annotated[dict[str, str | int], BeforeValidator(number_labels)] | None = None
    """Names in the order of the classes, or name: value in the source; absent for a regression."""
    splits: dict[FileName, str]
    """Name: rows of the source, in the split syntax of `datasets`."""
    rows: dict[str, Annotated[int, Field(ge=1, lt=2**63)]] = {}
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
    def is_regression(self) -> bool:
        return self.labels is None

    @property
    def is_multi_label(self) -> bool:
        return self.problem_type == "multi_label_classification"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The source's label column, or all of them when each label has its own."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def classes(self) -> int:
        """Columns of a model's scores: the number of labels, or 1 for a regression."""
        return 1 if self.labels is None else len(self.labels)

    def text_source(self, name: str) -> TextSource:
        """The columns of the text with this name, and how it is made from them."""
        template = self.templates.get(name)
        parts = self.join.get(name, (name,)) if template is None else template_columns(template)
        return TextSource(name, parts, template, {part: self.marks[part] for part in parts if part in self.marks})

    @property
    def choice_source(self) -> ChoiceSource | None:
        """The candidates of a row, in a task of multiple choice."""
        return ChoiceSource(tuple(map(self.text_source, self.choices)), self.classes) if self.choices else None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The source's columns that make up the texts."""
        return tuple(column for name in (*self.text, *self.choices) for column in self.text_source(name).columns)

    @property
    def columns(self) -> set[str]:
        """All columns of the source that the task uses; of an object, its column."""
        columns = {*self.text_columns, *self.label_columns, *self.group, *self.id}
        return columns | {column.split(".")[0] for column in columns}

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides rows, labels and scores; the path of the rows is not part of it."""
        facts = self.model_dump(include={"text", "label", "splits", "select_on", "evaluate", "predicted_by"})
        facts["labels"] = list((self.labels or {}).items())  # in order, which numbers the classes
        if self.is_multi_label:
            facts["multi_label_classification"] = {"separator": self.separator}
        facts["source"] = self.source.model_dump(exclude={"file", "files"}, exclude_none=True)
        if self.join:
            facts["join"] = self.join
        facts |= {key: value for key, value in self._shape.items() if value}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def _shape(self) -> dict[str, Any]:
        """The keys of a task's shape that most tasks do not have; absent from the fingerprint of those."""
        return self.model_dump(include={"templates", "marks", "choices", "group"}, exclude_none=True)

    @model_validator(mode="before")
    @classmethod
    def _infer_defaults(cls, values: Any) -> Any:
        """Fills in labels from label columns, and the problem type from labels."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("label"), (list, tuple)) and values.get("labels") is None:
            values = {**values, "labels": list(values["label"])}
        choices = values.get("choices")
        if choices and isinstance(choices, (list, tuple)) and values.get("labels") is None:
            values = {**values, "labels": list(choices)}
        default = "regression" if values.get("labels") is None else "single_label_classification"
        default = "multiple_choice" if choices else default
        return {**values, "problem_type": values.get("problem_type") or default}

    @model_validator(mode="after")
    def _check(self) -> TaskSpec:
        roles = {"evaluate": self.evaluate, "report": self.report, "predict": self.predict}
        if self.predicted_by is None:
            roles |= {"select_on": (self.select_on,)}
            if "train" not in self.splits:
                raise ValueError("splits: missing 'train'")
        for role, names in roles.items():
            _check_subset(role, names, "splits", self.splits)
        labelled = (*self.evaluate, *(("train", self.select_on) if self.predicted_by is None else ()))
        if hidden := next((name for name in self.predict if name in labelled), None):
            raise ValueError(f"predict: {hidden!r} needs labels, because it is trained on, selected on or evaluated")
        _check_subset("report", self.report, "evaluate", self.evaluate)
        self._check_texts()
        _check_subset("rows", self.rows, "splits", self.splits)
        _check_subset("main_metrics", self.main_metrics, "metrics", self.metrics)
        self._check_labels()
        self._check_choices()
        supported = [name for name, metric in METRICS.items() if self.problem_type in metric.problem_types]
        for name in self.metrics:
            if name not in supported and (name in METRICS or self.is_multi_label):
                raise ValueError(
                    f"metrics: {name!r} does not support {self.problem_type}; supported: {', '.join(supported)}"
                )
        over_groups = [name for name in self.metrics if name in METRICS and METRICS[name].is_over_groups]
        if over_groups and not self.group:
            raise ValueError(f"metrics: {over_groups[0]!r} needs 'group', the column that names the group of a row")
        if "f1" in self.metrics and self.classes != 2:
            raise ValueError("metrics: 'f1' is the F1 of the second of two labels; for more labels use f1_macro")
        try:
            check_recipe(self, Recipe(**self.recipe))
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_texts(self) -> None:
        names = (*self.text, *self.choices)
        _check_subset("join", self.join, "text", names)
        _check_subset("templates", self.templates, "text", names)
        if both := self.join.keys() & self.templates:
            raise ValueError(f"templates: {min(both)!r} is also in 'join': drop one")
        for name, template in self.templates.items():
            try:
                template_columns(template)
            except ValueError as error:
                raise ValueError(f"templates: {name}: {error}") from None
        parts = [part for name in names for part in self.text_source(name).parts]
        _check_subset("marks", self.marks, "the columns of the texts", parts)

    def _check_choices(self) -> None:
        if bool(self.choices) != (self.problem_type == "multiple_choice"):
            raise ValueError(
                f"choices: needs 'problem_type: multiple_choice', and the other way round; got {self.problem_type}"
            )
        if self.choices and (len(self.text) > 1 or self.group):
            raise ValueError("choices: the candidates are second texts and a group: expected one text and no 'group'")
        if len(self.choices) > 1 and len(self.choices) != self.classes:
            raise ValueError(
                f"choices: expected a label for each of {len(self.choices)} candidates, got {self.classes}"
            )

    def _check_labels(self) -> None:
        if self.problem_type == "regression" and self.labels is not None:
            raise ValueError("problem_type: a regression has no labels: remove 'labels', or change the problem type")
        if self.problem_type != "regression" and self.labels is None:
            raise ValueError(f"problem_type: {self.problem_type} needs labels, such as 'labels: [first, second]'")
        if not self.is_multi_label:
            if not isinstance(self.label, str):
                raise ValueError("label: several label columns need 'problem_type: multi_label_classification'")
            if self.separator is not None:
                raise ValueError("separator: needs 'problem_type: multi_label_classification'")
        elif not isinstance(self.label, str):
            if self.separator is not None:
                raise ValueError("separator: not used with one column per label: remove it")
            if len(self.label) != self.classes or len(set(self.label)) != self.classes:
                raise ValueError(f"label: expected {self.classes} different columns, one per label")


def _check_subset(key: str, names: Iterable[str], known_key: str, known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not in {known_key} ({', '.join(known)})")


def check_recipe(task: TaskSpec, recipe: Recipe) -> None:
    """Raises UserError when the recipe has an option that tasks of this problem type do not support."""
    if recipe.class_weights is not None and (task.is_regression or task.choices):
        raise UserError(
            f"recipe: class_weights (--class-weights) is {recipe.class_weights!r}, but {task.name} is a "
            f"{task.problem_type} task and has no classes"
        )
    if recipe.label_smoothing is not None and task.problem_type != "single_label_classification":
        raise UserError(
            f"recipe: label_smoothing (--label-smoothing) is {recipe.label_smoothing}, but {task.name} is a "
            f"{task.problem_type} task: expected single_label_classification"
        )
    if recipe.threshold is not None and not task.is_multi_label:
        raise UserError(
            f"recipe: threshold (--threshold) is {recipe.threshold!r}, but {task.name} is not a multi-label task"
        )


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
    return read_task(files[name_or_path])


def is_path(name_or_path: str) -> bool:
    """True for the path of a task file or of a suite's folder, false for a name."""
    return name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path


def all_tasks() -> list[TaskSpec]:
    """All registered tasks, sorted by name."""
    return [read_task(path) for path in registered_files().values()]


def companion_tasks(task: str) -> list[TaskSpec]:
    """The tasks of a registered task's suite that are predicted by models trained on it."""
    path = registered_files().get(task)
    files = task_files(path.parent) if path else {}
    return [spec for spec in map(read_task, files.values()) if spec.predicted_by == task]


def read_task(path: Path) -> TaskSpec:
    """Reads and checks a task file. Relative paths of its source start at the file's folder.

    Raises:
        UserError: `file:line: message`, one line per error.
    """
    values, node = read_yaml(path, "title: My task")
    if "name" in values:
        line = line_number(node, ("name",))
        raise UserError(f"{path}:{line}: unknown key 'name': a task is named like its file. Remove the key.")
    if (path.parent / SUITE_FILE).is_file():
        if "suite" in values:
            line = line_number(node, ("suite",))
            raise UserError(f"{path}:{line}: unknown key 'suite': a task's suite is its folder. Remove the key.")
        values["suite"] = path.parent.resolve().name
    try:
        spec = TaskSpec(**{**values, "name": path.stem})
    except ValidationError as error:
        faults = [_message(path, node, fault) for fault in error.errors()]
        raise UserError("\n".join(dict.fromkeys(faults))) from None
    return spec.model_copy(update={"source": spec.source.resolve_in(path.parent)})


def task_text(task: TaskSpec, folder: Path | None = None) -> str:
    """The task as YAML, with paths relative to `folder`; without a folder, as file names only.

    URLs have no credentials, since the text may be published.
    """
    facts = task.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    source = task.source.relative_to(folder).without_credentials()
    facts["source"] = source.model_dump(mode="json", exclude_defaults=True)
    return yaml_text(facts)


def _message(path: Path, root: yaml.Node | None, fault: Any) -> str:
    """An error of pydantic with its line and the nearest known key."""
    location: tuple[Hashable, ...] = fault["loc"]
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error" and not location and (key := message.split(":")[0]) in TaskSpec.model_fields:
        location = (key,)
    where = f"{path}:{line_number(root, location)}"
    key = ".".join(
        str(part) for part in location if not str(part).startswith(("function-", "tuple[", "dict[", "[key]"))
    )
    if fault["type"] == "extra_forbidden":
        fields: Any = (Source if location[0] == "source" and len(location) > 1 else TaskSpec).model_fields
        return f"{where}: unknown key {location[-1]!r}.{did_you_mean(str(location[-1]), set(fields) - {'name'})}"
    if fault["type"] == "missing":
        return f"{where}: missing key {key!r}."
    value = f" (got {fault['input']!r})" if isinstance(fault["input"], (str, int, float)) else ""
    prefix = "" if message.startswith(f"{key}:") else f"{key}: "
    return f"{where}: {prefix}{message}{value}"
