"""Published scores of other models with their sources, for orientation next to the scores of runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from harness.facts.published import UNSTATED, published_rows, scores_of
from harness.metrics.registry import is_fraction


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
            setting=row.tasks[task].setting or row.setting,
            source=row.source,
        )
        for row, task, score in scores_of(published_rows())
        if task in tasks
    ]
