"""Published scores of other models with their sources, for orientation next to the scores of runs."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.errors import boundary

REFERENCE_SCORES = Path(__file__).with_name("reference_scores.csv")
"""The file of published scores, as percentages."""

UNSTATED = "unstated"
"""The metric of a score whose source does not name it."""


class Reference(NamedTuple):
    """One published number."""

    model: str
    parameters_millions: int | None
    task: str
    metric: str
    split: str
    score: float
    """A fraction, as in the records of runs."""
    setting: str
    source: str
    """The title of the document."""


def references(tasks: Collection[str], path: Path = REFERENCE_SCORES) -> list[Reference]:
    """The published scores of these tasks, in the order of the file.

    Raises:
        UserError: the file cannot be read, or a line of it is invalid.
    """
    with (
        boundary(f"{path}: invalid reference scores", csv.Error, ValueError, TypeError, KeyError),
        path.open(encoding="utf-8", newline="") as file,
    ):
        return [_reference(line) for line in csv.DictReader(file) if line["task"] in tasks]


def _reference(line: Mapping[str, str]) -> Reference:
    score = float(line["score"]) / 100
    if not -1 <= score <= 1:
        raise ValueError(f"score {line['score']!r}: expected -100 to 100")
    return Reference(
        **{name: line[name] for name in ("model", "task", "metric", "split", "setting", "source")},
        parameters_millions=int(line["parameters_millions"]) if line["parameters_millions"] else None,
        score=round(score, 6),
    )
