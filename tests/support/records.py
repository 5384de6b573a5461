"""Factories of records: `minimal_record` fills required fields alone, `finished_record` all that a scored run has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.facts.recipes import Recipe, recipe_difference
from harness.facts.record_parts import Cost, DataFacts, Environment, ModelFacts, TaskFacts
from harness.facts.records import RunRecord, RunSpec
from harness.metrics.registry import METRICS

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run_spec(task: str = "rte", **fields: Any) -> RunSpec:
    """A run of `task` with BERT, seed 1 and the default recipe; `fields` replace these."""
    identity = dict(task_version=1, task_fingerprint="d1", data=None, model="example/bert", revision="main", seed=1)
    return RunSpec(**{"task": task, "recipe": Recipe(), **identity, **fields})


def task_facts(task: str = "rte", **fields: Any) -> TaskFacts:
    """A task that reports the first metric of its problem type on validation; `fields` replace these.

    It has two labels, unless it is a regression.
    """
    problem_type = fields.get("problem_type", "single_label_classification")
    first = next(name for name, metric in METRICS.items() if problem_type in metric.problem_types)
    labels = None if problem_type == "regression" else ["no", "yes"]
    metrics = fields.get("metrics") or fields.get("main_metrics") or [first]
    shape = dict(labels=labels, problem_type=problem_type, metrics=metrics)
    reported = dict(main_metrics=metrics[:1], report=["validation"], select_on="validation")
    return TaskFacts(**{"title": f"The {task} task", "suite": "glue", **shape, **reported, **fields})


def minimal_record(**fields: Any) -> RunRecord:
    """A record with its required fields only, and `fields`; its task is that of `spec`."""
    spec = fields.get("spec") or run_spec()
    required = dict(run_id=spec.run_id, status="ok", spec=spec, recipe_changes={}, task=task_facts(spec.task))
    about = dict(command="harness run", started=START, finished=START + timedelta(minutes=spec.seed))
    return RunRecord(**{**required, **about, **fields})


def finished_record(
    task: str = "rte",
    scores: Mapping[str, float | None] | None = None,
    *,
    model: str = "example/bert",
    commit: str | None = "c0ffee",
    seed: int = 1,
    recipe: Mapping[str, Any] | None = None,
    default: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    """The record of a run that has these scores on each reported split of 200 rows.

    `spec`, `facts` and `data` replace fields of those parts, `recipe` and `default` hyperparameters of the run's and of
    the default recipe, and any other name a field of the record itself.
    """
    scores = {"accuracy": 0.7} if scores is None else scores
    names = [name for name in scores if name != "loss"]
    default_recipe = Recipe(**(default or {}))
    own_recipe = Recipe(**{**(default or {}), **(recipe or {})})
    problem_types = [METRICS[name].problem_types[0] for name in names if name in METRICS]
    problem_type = problem_types[0] if problem_types else "single_label_classification"
    labels = None if problem_type == "regression" else ["no", "yes"]
    described = dict(labels=labels, problem_type=problem_type, metrics=names, main_metrics=names[:1])
    about = task_facts(task, **{**described, **(facts or {})})
    rows = {"train": 1000, **dict.fromkeys(about.report or ["validation"], 200)}
    source = dict(source=f"example/glue/{task}", revision="r1", fingerprint=f"rows of {task}")
    complete = dict(rows=rows, full_rows=rows, is_partial=False, missing_splits=[], shared_texts={})
    cost = dict(seconds=60 + seed, setup_seconds=2, train_seconds=50, evaluate_seconds=8, device_seconds=60 + seed)
    ran = dict(processes=1, devices=["NVIDIA H100"], precision="bf16", device_batch_size=32, accumulation=1, threads=1)
    where = dict(eval_batch_size=64, distributed="NO", system="Linux", python="3.11.9", versions={"harness": "0.1.0"})
    outcome: dict[str, Any] = dict(
        spec=run_spec(task, **{**dict(model=model, seed=seed, recipe=own_recipe), **(spec or {})}),
        recipe_changes=recipe_difference(own_recipe, default_recipe),
        task=about,
        data=DataFacts(**{**source, **complete, **(data or {})}),
        model=ModelFacts(commit=commit, architecture="Bert", parameters=1000, attention="sdpa", head="new"),
        metrics={split: dict(scores) for split in about.report},
        baseline={split: dict.fromkeys(names, 0.5) for split in about.report},
        selected_epoch=3,
        rows_per_second=220.0,
        peak_bytes=2**30,
        cost=Cost(**cost, steps=345, rows=11004, tokens=500_000, peak_bytes_per_process=[2**30]),
        environment=Environment(**ran, **where, git_commit=None, git_dirty=None),
    )
    return minimal_record(**{**outcome, **fields})
