"""A row in the form of the published ones, made from the records of one's own runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.errors import UserError, did_you_mean
from harness.facts.published import PublishedRow, PublishedTask, Score, common_hyperparameters
from harness.facts.recipes import Recipe, recipe_difference
from harness.facts.records import RunRecord
from harness.metrics.registry import is_fraction
from harness.reports.cells import decimals_of
from harness.stats.groups import Group, group_runs, reported_metrics

DIGITS = 2
"""Digits of a percentage after the point, as published tables have at most."""


def own_row(
    records: Sequence[RunRecord], name: str, model: str | None = None, tasks: Mapping[str, str] | None = None
) -> PublishedRow:
    """The row of one model: the mean over seeds of each task's main metrics, with the standard deviation after ±.

    Args:
        tasks: the tasks to write, with the name or path that the row gives each; all that were trained by default.

    Raises:
        UserError: the records have several models and none is named, several recipes for a task, a run without a
            score, or no run of a task; or the runs that a task starts from have no record.
    """
    groups = _groups_of_model(records, model)
    known = list(dict.fromkeys(group.spec.task for group in groups))
    names = {task: task for task in known} if tasks is None else dict(tasks)
    if missing := next((task for task in names if task not in known), None):
        raise UserError(
            f"--tasks {missing}: no records found.{did_you_mean(missing, known)} Tasks: {', '.join(known)}."
        )
    chosen: dict[str, Group] = {}
    for task in sorted(names, key=lambda task: not any(_parent_key(one) for one in groups if one.spec.task == task)):
        _add(task, chosen, groups)
    for task in names:
        if lost := len(chosen[task].runs) - len(chosen[task].scored):
            raise UserError(
                f"--write: {lost} of {len(chosen[task].runs)} runs of {task} have no score; run them again first."
            )
    recipes = {task: recipe_difference(chosen[task].spec.recipe, Recipe()) for task in known if task in chosen}
    common = common_hyperparameters(recipes.values())
    common.pop("init_from", None)
    seeds = {task: tuple(run.spec.seed for run in chosen[task].runs) for task in names}
    first = next(iter(seeds.values()))
    is_same = len(set(seeds.values())) == 1
    by_task = {
        names.get(task, task): PublishedTask(
            scores=_scores(chosen[task]) if task in names else (),
            recipe={key: value for key, value in recipe.items() if key not in common} or None,
            seeds=None if is_same else seeds.get(task),
        )
        for task, recipe in recipes.items()
    }
    spec = next(iter(chosen.values())).spec
    versions = {
        run.environment.versions.get("harness") for group in chosen.values() for run in group.runs if run.environment
    }
    return PublishedRow(
        name=name,
        model=spec.model,
        revision=None
        if spec.revision in ("main", "test-mode") or spec.revision.startswith("sha256:")
        else spec.revision,
        source=f"own runs with glue-harness {', '.join(sorted(filter(None, versions)))}".rstrip(),
        setting=f"mean of {len(first)} seeds" if is_same else "mean over seeds",
        seeds=first if is_same else None,
        aggregate="mean",
        plus_minus_is="standard_deviation",
        recipe=common,
        tasks=by_task,
        notes=tuple(_notes(chosen.values())),
    )


def _groups_of_model(records: Sequence[RunRecord], model: str | None) -> list[Group]:
    """The groups of the model's runs, without predictions for tasks that are not trained."""
    trained = [run for run in records if run.trained_by is None]
    models = sorted({run.spec.model for run in trained})
    if not models:
        raise UserError("--results: no records of trained models found.")
    if model is None and len(models) > 1:
        raise UserError(f"--model: missing; the records are of several models: {', '.join(models)}.")
    model = model or models[0]
    if model not in models:
        raise UserError(f"--model {model}: no records found.{did_you_mean(model, models)} Models: {', '.join(models)}.")
    chosen = [run for run in trained if run.spec.model == model]
    if len(revisions := sorted({run.spec.revision for run in chosen})) > 1:
        raise UserError(
            f"--model {model}: the records are of several revisions: {', '.join(revisions)}; separate them."
        )
    return list(group_runs(chosen))


def _add(task: str, chosen: dict[str, Group], groups: Sequence[Group]) -> None:
    """Adds the group of a task to `chosen`, and that of the runs that it starts from."""
    if task in chosen:
        return
    candidates = [group for group in groups if group.spec.task == task]
    if len(candidates) > 1:
        recipes = "; ".join(sorted(f"{one.recipe} ({len(one.runs)} runs)" for one in candidates))
        raise UserError(
            f"--write: {task} has runs with several recipes or data: {recipes}. Move the records of all but one to "
            "another folder, or name the other tasks with --tasks."
        )
    (group,) = candidates
    if (key := _parent_key(group)) is not None:
        init_from = group.spec.recipe.init_from
        parents = [one for one in groups if one.spec.group_key(_parent_key(one)) == key]
        if not parents:
            raise UserError(f"--write: no records found of the {init_from} runs that {task} starts from.")
        if chosen.setdefault(parents[0].spec.task, parents[0]) is not parents[0]:
            raise UserError(f"--write: {task} starts from {init_from} runs with another recipe than those of the row.")
    chosen[task] = group


def _parent_key(group: Group) -> str | None:
    """The group key of the runs that these start from."""
    return group.runs[0].parent_group_key


def _scores(group: Group) -> tuple[Score, ...]:
    return tuple(_score(group, split, metric) for split, metric in reported_metrics(group.task))


def _score(group: Group, split: str, metric: str) -> Score:
    spread, is_percent = group.over_seeds(split, metric), is_fraction(metric)

    def shown(value: float) -> float:
        return round(100 * value, DIGITS) if is_percent else round(value, decimals_of(value, 2 + DIGITS))

    if spread.center is None:
        raise UserError(f"--write: {metric} of {group.spec.task} on {split} is undefined in a run; there is no mean.")
    deviation = None if spread.deviation is None else shown(spread.deviation)
    by_seed = tuple(shown(run.metrics[split][metric] or 0.0) for run in group.runs)
    return Score(metric=metric, split=split, value=shown(spread.center), plus_minus=deviation, by_seed=by_seed)


def _notes(groups: Iterable[Group]) -> list[str]:
    """Facts about the runs that a row has no key for."""
    runs = [run for group in groups for run in group.runs]
    notes = []
    if precisions := sorted({run.environment.precision for run in runs if run.environment}):
        notes.append(f"Precision: {', '.join(precisions)}.")
    if commits := sorted({run.model.commit for run in runs if run.model and run.model.commit}):
        notes.append(f"Commit of the model: {', '.join(commits)}.")
    for task in sorted({run.spec.task for run in runs if run.data and run.data.is_partial}):
        notes.append(f"{task}: partial data.")
    for task in sorted({run.spec.task for run in runs if run.spec.data is not None}):
        notes.append(f"{task}: the data are files of one's own; the same files must be there to repeat it.")
    if any(run.spec.test_mode for run in runs):
        notes.append("Test mode: a tiny model on generated rows.")
    return notes
