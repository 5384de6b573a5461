"""What a run's scores and times amount to: the fields of its record, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.facts.metrics import METRICS, THRESHOLD, baseline, chosen_threshold, mean_loss, predictions_of, score
from harness.facts.packing import pack_array
from harness.facts.recipes import Recipe
from harness.facts.records import Status, TaskFacts, Values
from harness.facts.tasks import TaskSpec

SAME_VALUE = 1e-6
"""Predicted values of a regression that differ by less are the same answer."""


class SplitOutcome(NamedTuple):
    """What the record keeps of one scored split."""

    loss: float
    main_score: float
    """Mean of the main metrics, those where less is better negated; -inf where one is undefined."""
    values: Values
    """The loss and every metric of the task."""
    baseline: Values
    """The best constant answer's."""
    notes: list[str]
    is_collapsed: bool
    predictions: str
    """Packed predictions: a class, a value or a label set per row."""
    gold: str
    """Packed labels."""

    @property
    def defined(self) -> dict[str, float]:
        """The values that are numbers."""
        return {name: value for name, value in self.values.items() if value is not None}


def threshold_of(
    task: TaskSpec, recipe: Recipe, scores: NDArray[np.float32], gold: NDArray[Any] | None
) -> float | None:
    """The threshold that goes with these scores of `select_on`; None where the task has no sets of labels."""
    if not task.is_multi_label:
        return None
    if recipe.threshold is None:
        return THRESHOLD
    assert gold is not None, f"split {task.select_on} has hidden labels"
    return chosen_threshold(task.main_metrics, scores, gold)


def score_split(
    task: TaskSpec,
    name: str,
    scores: NDArray[np.float32],
    gold: NDArray[Any] | None,
    threshold: float | None = None,
) -> SplitOutcome:
    """scores: float32[N, C] in row order against gold [N], or sets of labels [N, C] under a threshold."""
    assert gold is not None, f"split {name} has hidden labels"
    loss = mean_loss(scores, gold)
    scored = score(task.metrics, scores, gold, threshold)
    predicted = predictions_of(scores, threshold)
    return SplitOutcome(
        loss=loss,
        main_score=_main_score(task, scored.values),
        values={"loss": loss, **scored.values},
        baseline=baseline(task.metrics, gold, task.classes),
        notes=[f"{name}: {metric} is {note}" for metric, note in scored.notes.items()],
        is_collapsed=bool(_spread(gold) > 0 and _spread(predicted) < (SAME_VALUE if task.is_regression else 1)),
        predictions=pack_array(predicted),
        gold=pack_array(np.asarray(gold)),
    )


def _spread(answers: NDArray[Any]) -> float:
    """Between the highest and the lowest answer; of sets, in any label."""
    return float(np.ptp(answers, axis=0).max())


def _main_score(task: TaskSpec, values: Values) -> float:
    found = [values.get(name) for name in task.main_metrics]
    signs = [METRICS[name].sign if name in METRICS else 1 for name in task.main_metrics]
    if any(value is None for value in found):
        return -math.inf
    return sum(sign * value for sign, value in zip(signs, found, strict=True) if value is not None) / len(found)


def split_fields(task: TaskSpec, outcomes: Mapping[str, SplitOutcome]) -> dict[str, Any]:
    """The fields of a record that its scored splits fill."""
    reported = [outcomes[name] for name in task.report]
    return dict(
        status=status_of(reported),
        metrics={name: outcome.values for name, outcome in outcomes.items()},
        baseline={name: outcome.baseline for name, outcome in outcomes.items()},
        predictions={name: outcomes[name].predictions for name in task.report},
        gold={name: outcomes[name].gold for name in task.report},
    )


def status_of(reported: Sequence[SplitOutcome]) -> Status:
    """collapsed when every reported split was answered with one class or value throughout."""
    return "collapsed" if reported and all(outcome.is_collapsed for outcome in reported) else "ok"


def task_facts(task: TaskSpec) -> TaskFacts:
    """What the record says of the task."""
    return TaskFacts(
        title=task.title,
        suite=task.suite,
        labels=None if task.labels is None else list(task.labels),
        problem_type=task.problem_type,
        metrics=list(task.metrics),
        main_metrics=list(task.main_metrics),
        report=list(task.report),
        select_on=task.select_on,
    )
