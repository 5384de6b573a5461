"""The expected duration of a run, from the records of similar runs; unknown if there are none."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from harness.engine import test_mode
from harness.facts.evaluation_steps import EvaluationSteps
from harness.facts.recipes import plan_steps
from harness.facts.records import RunRecord, RunSpec
from harness.facts.tasks import TaskSpec
from harness.sweeps.plan import PlannedRun

LAUNCH_SECONDS = 10.0
"""Seconds until the launcher and the run have loaded torch, which records do not count."""


class Estimate(NamedTuple):
    """The expected duration of a run."""

    seconds: float | None
    """None if there is no record of the model."""
    basis: str
    rows: int
    """Training rows, counted once per epoch; they compare runs whose seconds are unknown."""


def comparable(records: Sequence[RunRecord], device: str, is_test_mode: bool) -> list[RunRecord]:
    """The records that tell a speed; only those of this `device` if there are any."""
    scored = [run for run in records if run.cost and run.rows_per_second and run.trained_by is None]
    scored = [run for run in scored if run.spec.test_mode == is_test_mode]
    here = [run for run in scored if run.environment and device in run.environment.devices]
    return here or scored


def estimate_all(runs: Sequence[PlannedRun], records: Sequence[RunRecord]) -> dict[str, Estimate]:
    """The estimate for each run, by run_id; runs that differ only in their seed have the same."""
    by_key = {(run.spec.task, run.spec.model, run.spec.recipe): run for run in runs}
    estimates = {key: estimate(run.task, run.spec, records) for key, run in by_key.items()}
    return {run.run_id: estimates[run.spec.task, run.spec.model, run.spec.recipe] for run in runs}


def estimate(task: TaskSpec, spec: RunSpec, records: Sequence[RunRecord]) -> Estimate:
    """The estimate for a run of `spec` from `comparable` records."""
    if task.predicted_by is not None:
        return Estimate(LAUNCH_SECONDS, f"predicted by {task.predicted_by}", 0)
    of_task = [run for run in records if run.spec.task == spec.task]
    of_model = [run for run in records if run.spec.model == spec.model]
    rows_per_epoch, recipe = _rows_per_epoch(task, spec, of_task), spec.recipe
    rows = recipe.max_steps * recipe.global_batch_size if recipe.max_steps else recipe.epochs * rows_per_epoch
    evaluations = plan_steps(max(1, rows_per_epoch), recipe, 1).evaluations
    if same := [run for run in of_model if run.spec.task == spec.task]:
        seconds = median(_scaled(run, rows, evaluations.until(evaluations.total_steps)) for run in same)
        return Estimate(LAUNCH_SECONDS + seconds, f"{len(same)} of this task and model", rows)
    if not of_model:
        return Estimate(None, "no record of this model", rows)
    lengths = [run.cost.tokens / run.cost.rows for run in of_task if run.cost and run.cost.rows]
    speeds = [run.tokens_per_second for run in of_model if run.tokens_per_second]
    overhead = median(_overhead(run, evaluations) for run in of_model)
    if lengths and speeds:
        seconds = rows * median(lengths) / median(speeds)
        return Estimate(LAUNCH_SECONDS + seconds * overhead, f"{len(of_model)} of this model, by tokens", rows)
    seconds = rows / median(run.rows_per_second for run in of_model if run.rows_per_second)
    return Estimate(LAUNCH_SECONDS + seconds * overhead, f"{len(of_model)} of this model, by rows", rows)


def _rows_per_epoch(task: TaskSpec, spec: RunSpec, of_task: Sequence[RunRecord]) -> int:
    with_all_rows = [run.data.rows for run in of_task if run.data and not run.spec.recipe.train_rows]
    recorded = [rows["train"] for rows in with_all_rows if "train" in rows]
    all_rows = test_mode.ROWS["train"] if spec.test_mode else task.rows.get("train", 0)
    rows = spec.recipe.train_rows or (recorded[-1] if recorded and not spec.test_mode else all_rows)
    return 2 * rows if spec.recipe.pair_order == "both" else rows


def _scaled(run: RunRecord, rows: int, evaluations: int) -> float:
    """The seconds of a run of the same task and model on that many rows, with that many evaluations."""
    assert run.cost is not None
    scored = run.data.rows if run.data else {}
    once = sum(scored.get(split, 0) for split in run.prediction_files if split != run.task.select_on)
    selection = max(1, scored.get(run.task.select_on, 0))
    growth = (once + evaluations * selection) / (once + max(1, len(run.history)) * selection)
    trained = run.cost.train_seconds * rows / max(1, run.cost.rows)
    return run.cost.setup_seconds + trained + growth * run.cost.evaluate_seconds


def _overhead(run: RunRecord, evaluations: EvaluationSteps) -> float:
    """All of a run's seconds divided by those of its steps, if it were evaluated as often per epoch as planned."""
    assert run.cost is not None
    planned = evaluations.until(evaluations.total_steps) / evaluations.epoch_after(evaluations.total_steps)
    recorded = len(run.history) / (run.history[-1].epoch or 1) if run.history else 1.0
    seconds = run.cost.seconds + (planned / recorded - 1) * run.cost.evaluate_seconds
    return seconds / max(run.cost.train_seconds, 1e-9)
