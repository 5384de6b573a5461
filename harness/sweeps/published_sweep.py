"""The sweep of a published row, and the reasons why a score cannot be compared with runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from harness.engine import test_mode
from harness.errors import UserError, did_you_mean
from harness.facts.published import UNSTATED, PublishedRow, Score, common_hyperparameters
from harness.facts.recipes import Recipe
from harness.facts.tasks import load_task, trained_task
from harness.facts.yaml_file import yaml_text
from harness.requests.options import default_recipe
from harness.sweeps.file import Sweep, make_sweep

DEFAULT_SEEDS = 5
"""Runs of each task for a row that states fewer than two, or no number."""

_NOT_IN_TEST_MODE = ("max_steps", "adapter_targets", "weight_decay_on")
"""Hyperparameters that test mode drops from a row: `max_steps` would take hours, the tiny model has other layers than
`adapter_targets` names, and `weight_decay_on` needs a weight decay, which test mode does not have."""


def obstacles(row: PublishedRow, task: str) -> dict[Score, str]:
    """The scores of a task that no run can be compared with, each with the reason; known before anything is run."""
    try:
        spec = load_task(task)
    except UserError as error:
        return dict.fromkeys(row.tasks[task].scores, str(error).removeprefix("--task ").rstrip("."))
    reasons = {}
    for score in row.tasks[task].scores:
        if score.split in spec.predict:
            reasons[score] = f"the labels of {score.split} are hidden; only the test server has them (harness submit)"
        elif score.split not in spec.evaluate:
            reasons[score] = f"another split: {score.split}; here {', '.join(spec.evaluate)} are scored"
        elif score.metric != UNSTATED and score.metric not in spec.metrics:
            reasons[score] = f"another metric: {score.metric}; here {', '.join(spec.metrics)} are computed"
        elif row.recipe_of(task) is None:
            reasons[score] = "the source states no recipe"
    return reasons


def comparable_scores(row: PublishedRow, tasks: Iterable[str] = ()) -> dict[str, list[Score]]:
    """The scores of these tasks, by default of all, that runs can be compared with; tasks without one are left out."""
    scores = {}
    for task in tasks or row.tasks:
        excluded = obstacles(row, task)
        scores[task] = [score for score in row.tasks[task].scores if score not in excluded]
    return {task: several for task, several in scores.items() if several}


def seeds_of(row: PublishedRow, task: str, number: int | None = None) -> tuple[int, ...]:
    """The seeds to run: those of the row, or 0, 1, ...; `number` of them, by default as many as the row has."""
    own, stated = row.seeds_of(task), row.number_of_runs(task) or 0
    number = number or (stated if stated >= 2 else DEFAULT_SEEDS)
    others = (seed for seed in count() if seed not in own)
    return (*own, *(next(others) for _ in range(number - len(own))))[:number]


def sweep_of(
    row: PublishedRow,
    tasks: Iterable[str],
    *,
    variant: str | None = None,
    seeds: int | None = None,
    model: str | None = None,
    is_test_mode: bool = False,
) -> Sweep:
    """The sweep of a row; it states every hyperparameter that the row states or that would be another by default.

    Args:
        tasks: tasks with a recipe; a task that they start from is run with the row's recipe, too.
        seeds: the number of seeds.
        model: a folder or repository with a copy of the row's model.

    Raises:
        UserError: the row does not have this variant.
    """
    if variant is not None and variant not in row.conflicts:
        known = f"{did_you_mean(variant, row.conflicts)} Variants: {', '.join(row.conflicts)}."
        raise UserError(
            f"--variant {variant}: {row.name} has no such variant.{known if row.conflicts else ' It has no variants.'}"
        )
    name = model or row.model
    recipes = {
        task: _overrides(task, stated, name, is_test_mode)
        for task in row.tasks
        if (stated := row.recipe_of(task, variant)) is not None
    }
    by_task = {task: {"seeds": seeds_of(row, task, seeds)} for task in tasks}
    flags: dict[str, Any] = {"tasks": by_task}
    if len({settings["seeds"] for settings in by_task.values()}) == 1:
        flags = {"tasks": {task: {} for task in by_task}, "seeds": next(iter(by_task.values()))["seeds"]}
    if is_test_mode:  # it has a model of its own, which no sweep names
        for task, settings in flags["tasks"].items():
            settings["recipe"] = recipes[task]
        return make_sweep(flags)
    common = common_hyperparameters(recipes.values())
    common.pop("init_from", None)  # that task is in the sweep, too
    rest = {
        task: {key: value for key, value in recipe.items() if key not in common} for task, recipe in recipes.items()
    }
    settings = {
        "revision": None if model else row.revision,
        "recipe": common,
        "recipe_by_task": {task: recipe for task, recipe in rest.items() if recipe},
    }
    return make_sweep({**flags, "models": {name: settings}})


def _overrides(task: str, stated: Mapping[str, Any], model: str, is_test_mode: bool) -> dict[str, Any]:
    """The stated hyperparameters, and the harness's defaults where the model's or the task's recipe has others.

    Test mode keeps its own, except for a row that was made from its runs.
    """
    if is_test_mode:
        own = () if model == test_mode.MODEL else (*test_mode.RECIPE, *_NOT_IN_TEST_MODE)
        return {name: value for name, value in stated.items() if name not in own}
    try:
        default = default_recipe(load_task(trained_task(task)), model, False)
    except UserError:  # such a task is shown, not run
        return dict(stated)
    recipe = Recipe(**stated)
    changed = [name for name in Recipe.model_fields if getattr(recipe, name) != getattr(default, name)]
    return {name: getattr(recipe, name) for name in Recipe.model_fields if name in stated or name in changed}


def sweep_text(sweep: Sweep) -> str:
    """The sweep as the text of a sweep file, for `read_sweep`."""
    values = sweep.model_dump(mode="json", exclude_defaults=True)
    if not any(values["tasks"].values()):
        values["tasks"] = list(values["tasks"])
    return yaml_text(values)
