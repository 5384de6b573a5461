"""Entries of the leaderboard: a model with one recipe for each task."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.facts.recipes import Recipe
from harness.facts.records import RunRecord

Changes = Mapping[str, Any]
"""The hyperparameters in which a recipe differs from the default for its model and task."""

_DEFAULT = "default"

_ORDER = {name: number for number, name in enumerate(Recipe.model_fields)}

_NEVER_MIXED = ("init_from", "protocol", "train_rows", "select", "threshold")
"""Hyperparameters that change what a score means: no entry has runs that differ in one of them."""


class Entry(NamedTuple):
    """A line of the leaderboard."""

    label: str
    """The model's name, with the start of its commit where the leaderboard has several commits of it."""
    model: str
    revision: str
    """The resolved commit, or `sha256:...` of a folder."""
    variant: str
    """The recipe's differences from the default: see `variant_of`."""


def entries_of(records: Sequence[RunRecord]) -> list[Entry]:
    """The entry of each record. A run that failed before its model was resolved joins the model's only commit."""
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
    runs_by_model: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for model, run in zip(models, records, strict=True):
        revisions[model[0]].add(model[1])
        runs_by_model[model].append(run)
    variants = {model: _variants(runs) for model, runs in runs_by_model.items()}

    def label(name: str, revision: str) -> str:
        return f"{name}@{revision.removeprefix('sha256:')[:8]}" if len(revisions[name]) > 1 else name

    return [
        Entry(label(*model), *model, variants[model][assignments(run.recipe_changes)])
        for model, run in zip(models, records, strict=True)
    ]


def _variants(runs: Sequence[RunRecord]) -> dict[str, str]:
    """The variant that each recipe of a model belongs to, by the recipe's `assignments`.

    A recipe joins the first variant that has no recipe yet for any of its tasks; recipes of most tasks come first. So
    recipes that differ from task to task make one variant, and tasks that were run with several make as many.
    """
    tasks: dict[str, dict[str, Changes]] = defaultdict(dict)
    for run in runs:
        tasks[assignments(run.recipe_changes)][run.spec.task] = run.recipe_changes
    variants: dict[str, list[dict[str, Changes]]] = defaultdict(list)
    variant_of_recipe = {}
    for recipe in sorted(tasks, key=lambda recipe: (-len(tasks[recipe]), recipe)):
        changes = next(iter(tasks[recipe].values()))
        candidates = variants[assignments({name: changes[name] for name in _NEVER_MIXED if name in changes})]
        variant = next((one for one in candidates if one.keys().isdisjoint(tasks[recipe])), None)
        if variant is None:
            candidates.append(variant := {})
        variant |= tasks[recipe]
        variant_of_recipe[recipe] = variant
    return {recipe: variant_of(variant) for recipe, variant in variant_of_recipe.items()}


def variant_of(changes_by_task: Mapping[str, Changes]) -> str:
    """`learning_rate=5e-05, epochs=2 (1: mnli, sst2)`: the usual value, then the exceptions; or `default`."""
    parts = []
    for name in _in_recipe_order({name for changes in changes_by_task.values() for name in changes}):
        values = {task: str(changes_by_task[task].get(name, _DEFAULT)) for task in sorted(changes_by_task)}
        usual, *others = (value for value, _ in Counter(values.values()).most_common())
        exceptions = [f"{other}: {', '.join(task for task in values if values[task] == other)}" for other in others]
        parts.append(f"{name}={usual}" + (f" ({'; '.join(exceptions)})" if others else ""))
    return ", ".join(parts) or _DEFAULT


def assignments(changes: Changes) -> str:
    """`learning_rate=5e-05, epochs=2`, in the order of `Recipe`'s fields; empty for the default."""
    return ", ".join(f"{name}={changes[name]}" for name in _in_recipe_order(changes))


def _in_recipe_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
