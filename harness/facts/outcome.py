"""The outcome of a run as fields of its record: pure functions of scores and gold labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.facts.packing import pack_array
from harness.facts.recipes import Recipe
from harness.facts.record_parts import TaskFacts, Values
from harness.facts.tasks import TaskSpec
from harness.metrics.answers import positions_in_groups
from harness.metrics.metric import ProblemType
from harness.metrics.scoring import (
    THRESHOLD,
    baseline,
    best_threshold,
    main_score,
    mean_loss,
    predictions_from_scores,
    score,
)

COLLAPSED_RANGE = 1e-3
"""Predicted values of a regression count as one value when their range is less than this share of the gold values'."""


class SplitOutcome(NamedTuple):
    """The part of the record about one scored split."""

    loss: float
    main_score: float
    """Mean of the main metrics, those where lower is better negated; -inf where one is undefined."""
    values: Values
    """The loss and every metric of the task."""
    baseline: Values
    """The metrics of the constant baseline."""
    notes: list[str]
    is_collapsed: bool
    predictions: str
    """Packed predictions: a class, a value or a label set per row."""
    gold: str
    """Packed gold labels."""
    row_groups: str | None = None
    """Packed number of each row's group, in a task of groups."""

    def minimised(self, select: str) -> float:
        """The value that is lowest for the best weights: the loss, or a score, negated where more is better.

        `select` is that of the recipe; inf where its metric is undefined.
        """
        if select in ("last", "best"):
            return self.loss
        best = self.main_score if select == "best_main_score" else main_score([select], self.values)
        return math.inf if best is None else -best

    @property
    def defined(self) -> dict[str, float]:
        """The values that are numbers."""
        return {name: value for name, value in self.values.items() if value is not None}


def prediction_threshold(
    task: TaskSpec, recipe: Recipe, scores: NDArray[np.float32], gold: NDArray[Any] | None
) -> float | None:
    """The threshold of a multi-label task, from the scores of `select_on` where the recipe says so; otherwise None."""
    if not task.is_multi_label:
        return None
    if recipe.threshold is None:
        return THRESHOLD
    assert gold is not None, f"split {task.select_on} has hidden labels"
    return best_threshold(task.main_metrics, scores, gold)


def score_split(
    task: TaskSpec,
    name: str,
    scores: NDArray[np.float32],
    gold: NDArray[Any] | None,
    threshold: float | None = None,
    row_groups: NDArray[np.int64] | None = None,
) -> SplitOutcome:
    """The outcome of scores: float32[N, C] in row order, against gold [N], or label sets [N, C] with a threshold.

    gold: `Split.gold`.
    row_groups: the number of each row's group, [N], in a task of groups.
    """
    assert gold is not None, f"split {name} has hidden labels"
    loss = mean_loss(scores, (gold == 1).astype(np.int64) if task.selects_answers else gold)
    scored = score(task.metrics, scores, gold, threshold, row_groups, task.selects_answers)
    predictions = predictions_from_scores(scores, threshold, row_groups if task.selects_answers else None)
    return SplitOutcome(
        loss=loss,
        main_score=_main_score(task, scored.values),
        values={"loss": loss, **scored.values},
        baseline=baseline(task.metrics, gold, task.classes, task.main_metrics, row_groups),
        notes=[f"{name}: {metric} is {note}" for metric, note in scored.notes.items()],
        is_collapsed=is_collapsed(predictions, gold, task.problem_type, row_groups),
        predictions=pack_array(predictions),
        gold=pack_array(np.asarray(gold)),
        row_groups=None if row_groups is None else pack_array(row_groups),
    )


def _main_score(task: TaskSpec, values: Values) -> float:
    """The mean of the main metrics, -inf where one is undefined.

    Raises:
        UserError: a main metric is a program that returned numbers of other names.
    """
    if missing := next((name for name in task.main_metrics if name not in values), None):
        names = ", ".join(name for name in values if name not in task.metrics)
        raise UserError(
            f"main_metrics: {missing!r} returned no number of this name, but {names}: let it return {missing!r}."
        )
    mean = main_score(task.main_metrics, values)
    return -math.inf if mean is None else mean


def is_collapsed(
    predictions: NDArray[Any],
    gold: NDArray[Any],
    problem_type: ProblemType,
    row_groups: NDArray[np.int64] | None = None,
) -> bool:
    """True where all rows have the same prediction, of values nearly, although their gold labels differ.

    Where answers are selected: the candidate at the same position of each question.
    """
    if problem_type == "answer_selection":
        assert row_groups is not None
        predictions = positions_in_groups(row_groups)[predictions > 0]
    least_range = COLLAPSED_RANGE * _range(gold) if problem_type == "regression" else 1
    return bool(_range(gold) > 0 and _range(predictions) < least_range)


def _range(labels: NDArray[Any]) -> float:
    """The highest minus the lowest of labels [N]; for label sets [N, C], the largest range of any label."""
    return float(np.ptp(labels, axis=0).max())


def split_fields(task: TaskSpec, outcomes: Mapping[str, SplitOutcome]) -> dict[str, Any]:
    """The fields of a record that come from its scored splits.

    A run has collapsed when the model predicts one class or value throughout on every reported split.
    """
    reported = [outcomes[name] for name in task.report]
    return dict(
        status="collapsed" if reported and all(outcome.is_collapsed for outcome in reported) else "ok",
        metrics={name: outcome.values for name, outcome in outcomes.items()},
        baseline={name: outcome.baseline for name, outcome in outcomes.items()},
        predictions={name: outcomes[name].predictions for name in task.report},
        gold={name: outcomes[name].gold for name in task.report},
        row_groups={name: packed for name in task.report if (packed := outcomes[name].row_groups) is not None},
    )


def task_facts(task: TaskSpec) -> TaskFacts:
    """The fields of a record about the task."""
    labels = None if task.labels is None else list(task.labels)
    return TaskFacts(**task.model_dump(include=TaskFacts.model_fields.keys() - {"labels"}), labels=labels)


def describe_changes(recorded: TaskFacts, task: TaskSpec) -> str:
    """`; the task file now has other metrics`: changed keys that rename no run, or nothing."""
    now = task_facts(task)
    keys = [key for key in ("metrics", "main_metrics", "report") if getattr(recorded, key) != getattr(now, key)]
    return f"; the task file now has other {', '.join(keys)}" if keys else ""
