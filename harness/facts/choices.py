"""The choice of a grid's point as a file: every point that was tried, with its runs and scores, and the chosen one."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from harness.errors import UserError, boundary
from harness.facts.record_parts import Count, Facts, Names, Value
from harness.facts.records import RunId, RunRecord, first_fault, read_json, read_record, record_path, short_name
from harness.system.atomic import write_atomically

Per = Literal["task", "model"]
Hyperparameters = dict[str, Any]


class TriedPoint(Facts):
    """One point of a grid with its runs and scores."""

    values: Hyperparameters
    """The value of each hyperparameter of the grid."""
    runs: dict[str, RunId]
    """The run_id per task."""
    scores: dict[str, Value | None]
    """The selection score per task."""
    score: Value | None
    """The mean over the tasks; None if a task has no score."""
    rung: Annotated[int, Field(ge=1)] = 1
    """The rung of a successive halving in which these runs are, from 1; a point may be in several."""


class GridChoice(Facts):
    """The choice of a grid for one model, for one task or for several together."""

    model: str
    tasks: Names
    per: Per = "task"
    """task: the choice is for its tasks alone; model: it is for any task of the model."""
    seed: Count
    rule: str
    selected_on: str
    points: list[TriedPoint]
    """Empty where a run is missing; then nothing is chosen, and no file is written."""
    chosen: Hyperparameters | None

    @field_validator("chosen")
    @classmethod
    def _is_a_point(cls, chosen: Hyperparameters | None, info: ValidationInfo) -> Hyperparameters | None:
        if chosen is not None and all(point.values != chosen for point in info.data.get("points", ())):
            raise ValueError("expected the values of one of the points")
        return chosen

    @property
    def number_of_points(self) -> int:
        """The different points that were tried."""
        return len({json.dumps(point.values, sort_keys=True) for point in self.points})

    @property
    def rejected_runs(self) -> set[str]:
        """The run_ids of the points that were not chosen, and of the rungs before the last."""
        last = max((point.rung for point in self.points), default=1)
        rejected = [point for point in self.points if point.values != self.chosen or point.rung < last]
        return {run_id for point in rejected for run_id in point.runs.values()}


class GridSearch(NamedTuple):
    """A grid of a results folder: its choice, and the records of its runs that were found."""

    path: str
    """The file of the choice, relative to the results folder."""
    choice: GridChoice
    records: tuple[RunRecord, ...]
    missing: int
    """Runs without a readable record."""


def write_choice(choice: GridChoice, results: Path) -> Path:
    """Writes the choice to `results/grids`; the same runs give the same bytes."""
    runs = sorted(run_id for point in choice.points for run_id in point.runs.values())
    digest = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:10]
    tasks = choice.tasks[0] if len(choice.tasks) == 1 else f"{len(choice.tasks)}-tasks"
    path = results / "grids" / f"{short_name(choice.model)}-{tasks}-{digest}.json"
    text = json.dumps(choice.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


def read_choice(path: Path) -> GridChoice:
    """Reads the file of a choice.

    Raises:
        UserError: the file cannot be read, or is not a choice.
    """
    values = read_json(path, "grid")
    try:
        return GridChoice.model_validate(values)
    except ValidationError as error:
        advice = "The command of the grid writes it again."
        raise UserError(f"{path}: invalid grid: {first_fault(error)}. {advice}") from None


def read_searches(results: Path) -> tuple[list[GridSearch], list[str]]:
    """The grids of the results folder and of the folders in it, and a message for each file that is not a choice.

    Of the copies of a grid, it is the one with the most records.

    Raises:
        UserError: the folder cannot be read.
    """
    searches: dict[str, GridSearch] = {}
    messages = []
    with boundary(f"{results}: cannot be read"):
        paths = sorted([*results.glob("grids/*.json"), *results.glob("*/grids/*.json")])
    for path in paths:
        try:
            choice = read_choice(path)
        except UserError as error:
            messages.append(str(error))
            continue
        runs = sorted({(task, run_id) for point in choice.points for task, run_id in point.runs.items()})
        records = []
        for run in runs:
            with suppress(UserError):
                records.append(read_record(record_path(path.parents[1], *run)))
        name, missing = path.relative_to(results).as_posix(), len(runs) - len(records)
        search, key = GridSearch(name, choice, tuple(records), missing), choice.model_dump_json()
        searches[key] = min(searches.get(key, search), search, key=lambda one: one.missing)
    return list(searches.values()), messages
