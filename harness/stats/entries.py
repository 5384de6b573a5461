"""The line of the table that a run stands in: its model, with one recipe for each task."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.facts.recipes import Recipe
from harness.facts.records import RunRecord

Changes = Mapping[str, Any]
"""How a recipe differs from the default for its model and task."""

_DEFAULT = "default"

_ORDER = {name: number for number, name in enumerate(Recipe.model_fields)}
"""Of hyperparameters, as `Recipe` has them."""

_KINDS = ("init_from", "protocol", "train_rows", "select", "threshold")
"""Hyperparameters that say what a score is about: rows never mix runs that differ in one of them."""


class Row(NamedTuple):
    """What one line of the table is about."""

    label: str
    """The model's name, with the start of its commit where the table has several commits of it."""
    model: str
    revision: str
    """The resolved commit, or `sha256:...` of a folder."""
    variant: str
    """How the recipe differs from the default: see `variant_of`."""


def rows_of(records: Sequence[RunRecord]) -> list[Row]:
    """The row of each record. A run that broke off before its model was resolved goes where its like went."""
    commits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in records:
        if run.model and run.model.commit:
            commits[run.spec.model, run.spec.revision].add(run.model.commit)
    models = []
    for run in records:
        known = commits[run.spec.model, run.spec.revision]
        commit = run.model.commit if run.model else next(iter(known)) if len(known) == 1 else None
        is_folder = run.spec.revision.startswith("sha256:")
        name = run.spec.model.rstrip("/").rsplit("/", 1)[-1] if is_folder else run.spec.model
        models.append((name, commit or run.spec.revision))
    revisions: dict[str, set[str]] = defaultdict(set)
    of_model: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for model, run in zip(models, records, strict=True):
        revisions[model[0]].add(model[1])
        of_model[model].append(run)
    variants = {model: _variants(runs) for model, runs in of_model.items()}

    def label(name: str, revision: str) -> str:
        return f"{name}@{revision.removeprefix('sha256:')[:8]}" if len(revisions[name]) > 1 else name

    return [
        Row(label(*model), *model, variants[model][assignments(run.recipe_changes)])
        for model, run in zip(models, records, strict=True)
    ]


def _variants(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Of a model's recipes, by their `assignments`: the variant of the row that has their runs.

    A recipe joins the first row in which none of its tasks stands yet, those of most tasks first. So recipes that
    differ from task to task make one row, and tasks that were run with several make as many.
    """
    tasks: dict[str, dict[str, Changes]] = defaultdict(dict)
    for run in runs:
        tasks[assignments(run.recipe_changes)][run.spec.task] = run.recipe_changes
    rows: dict[str, list[dict[str, Changes]]] = defaultdict(list)
    row_of = {}
    for recipe in sorted(tasks, key=lambda recipe: (-len(tasks[recipe]), recipe)):
        changes = next(iter(tasks[recipe].values()))
        alike = rows[assignments({name: changes[name] for name in _KINDS if name in changes})]
        row = next((row for row in alike if row.keys().isdisjoint(tasks[recipe])), None)
        if row is None:
            alike.append(row := {})
        row |= tasks[recipe]
        row_of[recipe] = row
    return {recipe: variant_of(row) for recipe, row in row_of.items()}


def variant_of(row: Mapping[str, Changes]) -> str:
    """`learning_rate=5e-05, epochs=2 (1: mnli, sst2)`: what most tasks have, and those that differ; or `default`."""
    told = []
    for name in _in_order({name for changes in row.values() for name in changes}):
        values = {task: str(row[task].get(name, _DEFAULT)) for task in sorted(row)}
        usual, *others = (value for value, _ in Counter(values.values()).most_common())
        exceptions = [f"{other}: {', '.join(task for task in values if values[task] == other)}" for other in others]
        told.append(f"{name}={usual}" + (f" ({'; '.join(exceptions)})" if others else ""))
    return ", ".join(told) or _DEFAULT


def assignments(changes: Changes) -> str:
    """`learning_rate=5e-05, epochs=2`, in the recipe's own order; empty for the default."""
    return ", ".join(f"{name}={changes[name]}" for name in _in_order(changes.keys()))


def _in_order(names: Any) -> list[str]:
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
