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
        return [_reference(line) for line in csv.DictReader(file) if line["task"] in tasks]


def _reference(line: dict[str, str]) -> Reference:
    millions = line["parameters_millions"]
    return Reference(
        model=line["model"],
        parameters_millions=int(millions) if millions else None,
        task=line["task"],
        metric=line["metric"],
        split=line["split"],
        score=round(float(line["score"]) / 100, 6),
        setting=line["setting"],
        source=line["source"],
    )
