"""Trajectories of checkpoints: tests between neighbours, the best, and since when there is no gain."""

from __future__ import annotations

import io

import pytest
from support.boards import record, record_with_predictions

from harness.facts.records import RunRecord
from harness.inspection.terminal_table import DataConsole
from harness.reports.trajectory import WatchedRun, trajectory_table, verdict_lines
from harness.stats.trajectories import Trajectory, trajectories

GAINING = (0.5, 0.7, 0.9, 0.9, 0.89)


def runs(qualities: tuple[float, ...], seeds: tuple[int, ...] = (1, 2, 3), task: str = "cola") -> list[list[RunRecord]]:
    """The records of checkpoints of these qualities, one list per checkpoint."""
    return [
        [
            record_with_predictions(task, quality, seed=seed, rows=600, model=f"run/step{number}", commit=None)
            for seed in seeds
        ]
        for number, quality in enumerate(qualities)
    ]


def trajectory(checkpoints: list[list[RunRecord]], task: str = "cola") -> Trajectory:
    numbers = {run.run_id: number for number, several in enumerate(checkpoints) for run in several}
    records = [run for several in reversed(checkpoints) for run in several]
    return trajectories(records, numbers, resamples=200)[task]


def test_gains_end_at_the_first_checkpoint_that_is_not_surpassed() -> None:
    one = trajectory(runs(GAINING))
    assert [point.checkpoint for point in one.points] == [0, 1, 2, 3, 4]
    assert one.no_gain_since == 2
    assert one.best in (2, 3)
    first, *others = (point.to_previous for point in one.points)
    assert first is None
    gains = [test is not None and test.is_significant and test.difference > 0 for test in others]
    assert gains == [True, True, False, False]


def test_less_is_better_for_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint with the larger error is surpassed by the later one."""
    facts = {"metrics": ["rmse"], "main_metrics": ["rmse"], "problem_type": "regression", "labels": None}
    checkpoints = runs((0.3, 0.9), task="stsb")
    own = [[run.model_copy(update={"task": run.task.model_copy(update=facts)}) for run in one] for one in checkpoints]
    one = trajectory(own, "stsb")
    assert (one.best, one.no_gain_since) == (1, 1)
    assert one.points[1].to_previous is not None
    assert one.points[1].to_previous.difference < 0


def test_one_seed_says_nothing_about_gains() -> None:
    one = trajectory(runs(GAINING, seeds=(1,)))
    assert one.no_gain_since is None
    assert one.points[1].to_previous is not None
    assert one.points[1].to_previous.is_over_rows_only


def test_checkpoints_without_predictions_have_scores_alone() -> None:
    checkpoints = [[record("cola", score, model=f"run/step{score}", commit=None)] for score in (0.5, 0.6)]
    one = trajectory(checkpoints)
    assert (one.best, one.no_gain_since) == (None, None)
    assert [point.group.score.center for point in one.points] == [0.5, 0.6]


def test_each_task_has_its_own_trajectory() -> None:
    cola, rte = runs((0.5, 0.9)), runs((0.9, 0.9), task="rte")
    numbers = {run.run_id: number for task in (cola, rte) for number, several in enumerate(task) for run in several}
    records = [run for task in (cola, rte) for several in task for run in several]
    by_task = trajectories(records, numbers, resamples=200)
    assert {task: one.no_gain_since for task, one in by_task.items()} == {"cola": 1, "rte": 0}


def test_tasks_that_two_suites_spell_the_same_keep_their_names() -> None:
    records = [record(task, 0.5, model="run/step0", commit=None) for task in ("rte", "superglue_rte", "cola")]
    by_task = trajectories(records, {run.run_id: 0 for run in records}, resamples=200)
    lines = verdict_lines(WatchedRun("run", ["step0"], [0.0], by_task))
    assert {line.partition(":")[0] for line in lines} == {"rte", "superglue_rte", "CoLA"}


def test_brackets_of_a_task_are_shown_as_they_are() -> None:
    console = DataConsole(file=io.StringIO(), width=80)
    task = "own [bold]"
    checkpoints = [record(task, 0.5, model="run/step0", commit=None)]
    one = trajectories(checkpoints, {checkpoints[0].run_id: 0}, resamples=200)
    console.print(trajectory_table(WatchedRun("run", ["step0"], [0.0], one)))
    assert "own [bold], accuracy" in console.file.getvalue()  # type: ignore[attr-defined]
