"""Published scores of other models with their sources, for orientation next to the scores of runs."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_FILE = Path(__file__).with_name("reference_scores.csv")

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


def references(tasks: Collection[str]) -> list[Reference]:
    """The published scores of these tasks, in the order of the file."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["task"] in tasks]
    return [
        Reference(
            **{name: line[name] for name in ("model", "task", "metric", "split", "setting", "source")},
            parameters_millions=int(line["parameters_millions"]) if line["parameters_millions"] else None,
            score=round(float(line["score"]) / 100, 6),
        )
        for line in lines
    ]
