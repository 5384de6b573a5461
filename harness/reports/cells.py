"""The cells of the leaderboard: scores as text with intervals and marks, averages, and the best of each column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from harness.facts.record_parts import TaskFacts
from harness.metrics.registry import direction_of, is_fraction
from harness.stats.entries import Entry
from harness.stats.groups import NOT_COMPARED, Group, Pool, mean_or_none, reported_metrics, sort_marks
from harness.stats.significance import Evidence
from harness.stats.uncertainty import Interval, mean_interval

NO_SCORE = "–"

TIED = "≈"

_PLAIN_SIZES = 1e-4, 1e6
"""Numbers below the first, and from the second on, are shown with an exponent."""

UNMARKED: Pool = (frozenset(), None)
_MARKS_OF_AVERAGES = NOT_COMPARED | {"t"}

Pair = tuple[Entry, str]
"""An entry with the name of a task or an average."""


class Cell(NamedTuple):
    """A cell of the table."""

    text: str = ""
    spread: str = ""
    """`±0.5 (3)`: the distance to the farther end of the interval over seeds and rows, and the number of runs."""
    score: float | None = None
    comparable: float | None = None
    """The score, rounded as it is shown, higher is better; None where it is not compared."""
    marks: frozenset[str] = frozenset()
    pool: Pool = UNMARKED
    """Equal for cells of a column that compete with each other."""
    evidence: Evidence = Evidence()
    is_best: bool = False
    is_tied: bool = False
    """The cell is in the set of the best of its column."""

    @property
    def suffix(self) -> str:
        """All that follows the numbers."""
        marks = f"[{','.join(sort_marks(self.marks))}]" if self.marks else ""
        return "".join(f" {part}" for part in (self.spread, TIED if self.is_tied else "", marks) if part)


def format_metric(value: float | None, as_percent: bool, size: float | None = None) -> str:
    """One decimal for a value that is shown times 100, else three, or three significant digits of one that is below 0.1
    or very large.

    size: the largest number among those that have the same number of decimals, by default this one.
    """
    if value is None:
        return NO_SCORE
    size = abs(value) if size is None else size
    smallest, largest = _PLAIN_SIZES
    if not as_percent and size and not smallest <= size < largest:
        return f"{value:.2e}"
    scaled, decimals = (100 * value, 1) if as_percent else (value, decimals_of(size, 3))
    # `+ 0.0` turns -0.0 into 0.0
    return f"{round(scaled, decimals) + 0.0:.{decimals}f}"


def is_shown_as_percent(task: TaskFacts) -> bool:
    """True where the task's score is shown times 100."""
    return all(map(is_fraction, task.main_metrics))


def decimals_of(size: float, least: int) -> int:
    """The number of decimals, `least` or more, that show three significant digits of a number."""
    return max(least, 2 - math.floor(math.log10(abs(size)))) if size else least


def format_figure(value: float | None, deviation: float | None, metric: str) -> str:
    """`80.1 ±0.4`: a metric over seeds with its standard deviation, if there is one."""
    as_percent, size = is_fraction(metric), _largest(value, deviation)
    plus_minus = "" if deviation is None else f" ±{format_metric(deviation, as_percent, size)}"
    return format_metric(value, as_percent, size) + plus_minus


def interval_text(ends: Sequence[float] | None, as_percent: bool, separator: str = " to ") -> str:
    """`41.2 to 43.0`, or nothing."""
    return separator.join(format_metric(end, as_percent, _largest(*ends)) for end in ends) if ends else ""


def _largest(*values: float | None) -> float:
    return max(abs(value or 0.0) for value in values)


def group_cell(group: Group, evidence: Evidence) -> Cell:
    """The group's main metrics with the interval of its score."""
    if not group.scored:
        ended = [run for run in group.runs if run.status in ("ok", "collapsed")]
        predicted = sum(run.trained_by is not None for run in ended)
        text, count = ("predicted", f"({predicted})") if predicted else (NO_SCORE, "")
        return Cell(text, count, marks=group.marks)
    values = [(name, group.over_seeds(split, name).center) for split, name in reported_metrics(group.task)]
    numbers = "/".join(format_metric(value, is_fraction(name)) for name, value in values)
    score, as_percent = group.score.center, is_shown_as_percent(group.task)
    plus_minus = format_spread(score, evidence.total, evidence.is_over_rows_only, as_percent)
    statistic = "median of " if group.aggregate == "median" else ""
    spread = " ".join(filter(None, [plus_minus, f"({statistic}{len(group.scored)})"]))
    direction = direction_of(group.task.main_metrics)
    comparable = None
    if score is not None and direction is not None:
        comparable = float(format_metric(score, as_percent)) * direction
    marks = group.marks if evidence.is_above_baseline else group.marks | {"b"}
    return Cell(numbers or NO_SCORE, spread, score, comparable, marks, group.pool, evidence, is_tied=evidence.is_tied)


def format_spread(score: float | None, interval: Interval | None, is_over_rows_only: bool, as_percent: bool) -> str:
    """`±0.5`, or `±0.5 rows only`: the distance from the score to the farther end; empty without an interval."""
    if score is None or interval is None:
        return ""
    farthest = max(score - interval.low, interval.high - score)
    plus_minus = f"±{format_metric(farthest, as_percent, _largest(score, farthest))}"
    return f"{plus_minus} rows only" if is_over_rows_only else plus_minus


def baseline_cell(groups: Sequence[Group]) -> Cell:
    """The baseline of the group with the most of the task's rows: partial data has another baseline."""
    candidates = [group for group in groups if any(run.baseline for run in group.runs)]
    if not candidates:
        return Cell(NO_SCORE)
    group = max(candidates, key=lambda group: (not group.marks & _MARKS_OF_AVERAGES, group.preference()))
    values = [(name, group.baseline(split, name)) for split, name in reported_metrics(group.task)]
    numbers = "/".join(format_metric(value, is_fraction(name)) for name, value in values)
    score = mean_or_none([value for _, value in values])
    if all(value is None for _, value in values):
        numbers = NO_SCORE
    return Cell(numbers, score=score, marks=group.marks & _MARKS_OF_AVERAGES)


def can_be_averaged(task: TaskFacts) -> bool:
    """True where the score is a fraction of which more is better: the mean with an error would be neither."""
    return is_shown_as_percent(task) and direction_of(task.main_metrics) == 1


def averages_of(
    cells: Mapping[Pair, Cell], baseline: Entry, tasks: Mapping[str, tuple[str, ...]], averaged: set[str]
) -> dict[Pair, Cell]:
    """Unweighted means over the scores of each average's `tasks`, where all have one, with the marks of their cells.

    Only cells of `averaged` tasks count.
    """
    averages = {}
    for entry in {entry for entry, _ in cells}:
        for name, members in tasks.items():
            parts = [cells.get((entry, task), Cell()) if task in averaged else Cell() for task in members]
            averages[entry, name] = _average(parts, is_compared=entry != baseline)
    return averages


def _average(parts: Sequence[Cell], is_compared: bool) -> Cell:
    """The mean of the parts' scores with the interval that follows from theirs: tasks share neither rows nor seeds."""
    scores = [part.score for part in parts]
    known = [score for score in scores if score is not None]
    if len(known) < len(parts):
        return Cell(NO_SCORE)
    score = fmean(known)
    marks = frozenset[str]().union(*(part.marks for part in parts)) & _MARKS_OF_AVERAGES
    training_rows = tuple(part.pool[1] for part in parts)
    pool = marks & NOT_COMPARED, training_rows if any(training_rows) else None
    variances = [part.evidence.variance for part in parts]
    interval = mean_interval(known, [one for one in variances if one]) if all(variances) else None
    is_over_rows_only = any(part.evidence.is_over_rows_only for part in parts)
    spread = format_spread(score, interval, is_over_rows_only, as_percent=True)
    text = format_metric(score, as_percent=True)
    evidence = Evidence(total=interval, is_over_rows_only=is_over_rows_only)
    return Cell(text, spread, score, float(text) if is_compared else None, marks, pool, evidence)


def with_best(cells: Mapping[Pair, Cell]) -> dict[Pair, Cell]:
    """The cells with the best of each column: among its unmarked cells, or without any, in each pool."""
    best: dict[tuple[str, Pool], float] = {}
    for (_, column), cell in cells.items():
        if cell.comparable is not None:
            key = column, cell.pool
            best[key] = max(cell.comparable, best.get(key, cell.comparable))

    def is_best(column: str, cell: Cell) -> bool:
        has_unmarked_rivals = cell.pool != UNMARKED and (column, UNMARKED) in best
        return cell.comparable is not None and cell.comparable == best[column, cell.pool] and not has_unmarked_rivals

    return {(entry, column): cell._replace(is_best=is_best(column, cell)) for (entry, column), cell in cells.items()}
