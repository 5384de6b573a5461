"""Published rows: the scores of a model on several tasks as a source states them, with the recipe behind them.

Their numbers are also references: for orientation next to the scores of runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, ValidationError

from harness.errors import UserError, did_you_mean
from harness.facts.recipes import Recipe
from harness.facts.tasks import is_path
from harness.facts.yaml_file import (
    KeysOfFile,
    Location,
    describe_faults,
    line_number,
    read_yaml,
    refuse_keys,
    yaml_text,
)
from harness.metrics.registry import METRICS, is_fraction
from harness.system.paths import user_path

PUBLISHED_FOLDER = Path(__file__).resolve().parents[1] / "published"
"""The folder of the rows that come with the harness: one YAML file a row, named like the row."""

UNSTATED = "unstated"
"""The metric of a score whose source does not name it."""

MAX_SEEDS = 1000
"""Seeds of a row."""

RowAggregate = Literal["mean", "median", "best"]
"""The statistic of the runs that is published; best: the highest of them."""

PlusMinus = Literal["standard_deviation", "standard_error", "confidence_interval", "unstated"]
"""Meaning of the numbers after ±: over seeds; confidence_interval: half of one of 95 %."""


Text = Annotated[str, Field(min_length=1, max_length=2000)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One text or a list of texts."""


def _check_seeds(seeds: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
    if isinstance(seeds, tuple):
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
            raise ValueError(f"expected different seeds from 0 to {2**32 - 1}")
    elif seeds is not None and not 1 <= seeds <= MAX_SEEDS:
        raise ValueError(f"expected the number of seeds, 1 to {MAX_SEEDS}, or a list of seeds")
    return seeds


Seeds = Annotated[int | tuple[StrictInt, ...] | None, AfterValidator(_check_seeds)]
"""The number of runs, or their seeds."""


class Score(KeysOfFile):
    """One published number."""

    metric: Text
    """A metric by its name here, or `unstated`."""
    split: Text
    value: Annotated[float, Field(ge=-1e9, le=1e9)]
    """The number as it is published: a percentage where the metric is a fraction."""
    plus_minus: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """The number after ±, in the same unit."""
    by_seed: tuple[float, ...] | None = None
    """The score of each seed, in their order, where the seeds are listed."""


class PublishedTask(KeysOfFile):
    """The scores on one task, and its part of the recipe."""

    scores: tuple[Score, ...] = ()
    """Empty for a task without a published score that others start from."""
    recipe: dict[str, Any] | None = None
    """Hyperparameters of this task; they replace those of the row."""
    seeds: Seeds = None
    """The runs behind these scores, where they differ from the row's."""
    aggregate: RowAggregate | None = None
    """The statistic of these runs, where it differs from the row's."""
    setting: Text | None = None
    """The setting in tables, where it differs from the row's."""
    notes: Texts = ()


class Variant(KeysOfFile):
    """Another recipe for the same scores, where sources contradict each other."""

    source: Text
    note: Text
    """The contradiction."""
    recipe: dict[str, Any] = {}
    """Hyperparameters for every task; they replace those of the row, but not those of `tasks`."""
    tasks: dict[str, dict[str, Any]] = {}
    """Hyperparameters by task; they replace all others."""


class PublishedRow(KeysOfFile):
    """A row of a published table. Field names are the keys of its YAML file."""

    name: Annotated[str, Field(pattern=r"^[^./\\][^/\\]{0,99}$")]
    model: Text
    """Name on the Hub, or a folder."""
    revision: Text | None = None
    """Branch, tag or commit; None where the source does not state it."""
    parameters_millions: Annotated[int, Field(ge=1, le=10**7)] | None = None
    source: Text
    """The title of the document, with its table and commit."""
    setting: Text
    """The setting in tables, in a few words."""
    seeds: Seeds = None
    """The number of runs behind each score, or their seeds; None where the source does not state it."""
    aggregate: RowAggregate | None = None
    """None where the source does not state it."""
    plus_minus_is: PlusMinus | None = None
    """Required where a score has `plus_minus`."""
    recipe: dict[str, Any] | None = None
    """Hyperparameters of every task; None where the source does not state them."""
    tasks: Annotated[dict[str, PublishedTask], Field(min_length=1)]
    conflicts: dict[str, Variant] = {}
    """Variants of the recipe by name."""
    notes: Texts = ()
    """Facts that the harness cannot express, such as hyperparameters that it does not have."""

    def seeds_of(self, task: str) -> tuple[int, ...]:
        """The stated seeds of a task; empty where only their number is stated, or not even that."""
        seeds = self._seeds(task)
        return seeds if isinstance(seeds, tuple) else ()

    def number_of_runs(self, task: str) -> int | None:
        """The runs behind the scores of a task; None where the source does not state it."""
        seeds = self._seeds(task)
        return len(seeds) if isinstance(seeds, tuple) else seeds

    def _seeds(self, task: str) -> int | tuple[int, ...] | None:
        own = self.tasks[task].seeds
        return self.seeds if own is None else own

    def aggregate_of(self, task: str) -> RowAggregate:
        """The published statistic of the runs; the mean where the source does not state it."""
        return self.tasks[task].aggregate or self.aggregate or "mean"

    def recipe_of(self, task: str, variant: str | None = None) -> dict[str, Any] | None:
        """The stated hyperparameters of a task; None where the source does not state them."""
        own = self.tasks[task].recipe
        if self.recipe is None and own is None:
            return None
        changed = self.conflicts[variant] if variant else None
        layers = [self.recipe, own, changed and changed.recipe, changed and changed.tasks.get(task)]
        return {name: value for layer in layers for name, value in (layer or {}).items()}


class Reference(NamedTuple):
    """One published number."""

    model: str
    parameters_millions: int | None
    task: str
    metric: str
    split: str
    score: float
    """The score in the unit of the records of runs: a fraction where a percentage is published."""
    setting: str
    source: str
    """The title of the document."""


def is_percentage(metric: str) -> bool:
    """True for metrics whose published scores are percentages, as are those of a metric that the source omits."""
    return metric == UNSTATED or is_fraction(metric)


def references(tasks: Collection[str]) -> list[Reference]:
    """The published scores of these tasks, by row.

    Raises:
        UserError: the file of a row is invalid.
    """
    return [
        Reference(
            model=row.model,
            parameters_millions=row.parameters_millions,
            task=task,
            metric=score.metric,
            split=score.split,
            score=round(score.value / 100, 6) if is_percentage(score.metric) else score.value,
            setting=published.setting or row.setting,
            source=row.source,
        )
        for row in published_rows().values()
        for task, published in row.tasks.items()
        if task in tasks
        for score in published.scores
    ]


def common_hyperparameters(recipes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The hyperparameters that have the same value in all of these recipes."""
    first, *others = recipes
    return {name: value for name, value in first.items() if all(one.get(name, ...) == value for one in others)}


def row_names() -> list[str]:
    """The names of the rows that come with the harness, sorted."""
    return sorted(path.stem for path in PUBLISHED_FOLDER.glob("*.yaml"))


@functools.cache
def published_rows() -> Mapping[str, PublishedRow]:
    """The rows that come with the harness, by name."""
    return {name: read_row(PUBLISHED_FOLDER / f"{name}.yaml") for name in row_names()}


def load_row(name_or_path: str) -> PublishedRow:
    """A row that comes with the harness, by name, or one of your own by the path of its file.

    Raises:
        UserError: the row is not found, or its file is invalid (with file and line).
    """
    if is_path(name_or_path):
        path = user_path("", name_or_path)
        if not path.is_file():
            raise UserError(f"{name_or_path}: file not found.")
        return read_row(path)
    if name_or_path not in row_names():
        raise UserError(
            f"{name_or_path}: row not found.{did_you_mean(name_or_path, row_names())} `harness published` lists the "
            "rows; or give the path of a row's YAML file."
        )
    return read_row(PUBLISHED_FOLDER / f"{name_or_path}.yaml")


def read_row(path: Path) -> PublishedRow:
    """Reads and checks the file of a row.

    Raises:
        UserError: `file:line: message`, one line per error.
    """
    values, node = read_yaml(path, "model: FacebookAI/roberta-base")
    refuse_keys(path, node, values, ("name",), "a row is named like its file")
    try:
        row = PublishedRow(**{**values, "name": path.stem})
    except ValidationError as error:
        faults = [{**fault, "loc": _until_seeds(fault["loc"])} for fault in error.errors()]
        raise UserError(describe_faults(path, node, faults, PublishedRow, ("name",))) from None
    if messages := [f"{path}:{line_number(node, location)}: {message}" for location, message in _faults(row)]:
        raise UserError("\n".join(dict.fromkeys(messages)))
    return row


def _until_seeds(location: Location) -> Location:
    """The location without the member of the union that pydantic adds to seeds."""
    return location[: location.index("seeds") + 1] if "seeds" in location else location


def row_text(row: PublishedRow) -> str:
    """The row as YAML, for `read_row`."""
    return yaml_text(row.model_dump(mode="json", exclude={"name"}, exclude_defaults=True))


def _faults(row: PublishedRow) -> Iterator[tuple[Location, str]]:
    """The location and the message of each fault that concerns several keys."""
    for task, published in row.tasks.items():
        if row.aggregate_of(task) == "best" and row.number_of_runs(task) is None:
            location = ("tasks", task, "aggregate") if published.aggregate else ("aggregate",)
            yield location, "aggregate: best needs the number of runs: add 'seeds: 5'."
        keys = [(score.split, score.metric) for score in published.scores]
        for number, score in enumerate(published.scores):
            where: Location = ("tasks", task, "scores", number)
            if keys[number] in keys[:number]:
                yield where, f"duplicate score: {score.metric} on {score.split}."
            if (
                score.metric != UNSTATED
                and score.metric not in METRICS
                and (near := did_you_mean(score.metric, METRICS))
            ):
                yield (*where, "metric"), f"unknown metric {score.metric!r}.{near}"
            if is_percentage(score.metric) and not -100 <= score.value <= 100:
                yield (*where, "value"), f"value: {score.value:g}: expected -100 to 100."
            if score.by_seed is not None and len(score.by_seed) != len(row.seeds_of(task)):
                yield (
                    (*where, "by_seed"),
                    f"by_seed: expected a number for each of {len(row.seeds_of(task))} listed seeds.",
                )
            if score.plus_minus is not None and row.plus_minus_is is None:
                yield (*where, "plus_minus"), "plus_minus: missing key 'plus_minus_is', which says what it is."
        for variant in (None, *row.conflicts):
            yield from _recipe_faults(row, task, variant)
    for name, variant_ in row.conflicts.items():
        for task in sorted(variant_.tasks.keys() - row.tasks.keys()):
            yield ("conflicts", name, "tasks", task), f"unknown task {task!r}.{did_you_mean(task, row.tasks)}"


def _recipe_faults(row: PublishedRow, task: str, variant: str | None) -> Iterator[tuple[Location, str]]:
    recipe = row.recipe_of(task, variant)
    if recipe is None:
        if variant is not None:
            yield ("conflicts", variant), f"{task} has no recipe that a variant could change: add 'recipe: {{}}'."
        return
    try:
        Recipe(**recipe)
    except UserError as error:
        changed: Location = ("conflicts", variant) if variant else ()
        key = re.search(r"recipe: (?:unknown key ')?(\w+)", str(error))
        name = key[1] if key else ""
        parts = [(*changed, "tasks", task), (*changed, "recipe")] if variant else []
        parts += [("tasks", task, "recipe"), ("recipe",)]
        yield next((((*part, name)) for part in parts if name in _at(row, part)), ("tasks", task)), str(error)
        return
    parent = recipe.get("init_from")
    if parent is not None and (parent not in row.tasks or row.recipe_of(parent) is None):
        location: Location = ("tasks", task, "recipe", "init_from")
        yield location, f"init_from: {parent!r} is no task of the row with a recipe: add it."


def _at(row: PublishedRow, location: Location) -> Mapping[Any, Any]:
    """The mapping at a location of the row; empty where there is none."""
    value: Any = row.model_dump()
    for part in location:
        value = (value or {}).get(part)
    return value or {}
