"""Who stands where: a cell per model and task, averages, the best of each column, the order of rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.facts.metrics import METRICS
from harness.facts.records import RunRecord, TaskFacts
from harness.stats.entries import Row
from harness.stats.groups import Group, difference, grouped, in_order, incidents, main_metrics, mean, precedence
from harness.stats.resampling import RESAMPLES
from harness.stats.significance import Evidence, Panel, Rank, Resampling, column_of, ranked

GLUE = dict(
    cola="CoLA",
    sst2="SST-2",
    mrpc="MRPC",
    stsb="STS-B",
    qqp="QQP",
    mnli="MNLI",
    qnli="QNLI",
    rte="RTE",
    wnli="WNLI",
)
"""The nine tasks in the order and spelling of the benchmark's paper (Wang et al. 2019, table 1)."""

AVERAGES = {"GLUE": tuple(GLUE), "GLUE-8": tuple(name for name in GLUE if name != "wnli")}

CONSTANT = Row("best constant answer", "", "", "")

NO_SCORE = "–"

TIED = "≈"

_MANY_RECORDS, _FEW_RESAMPLES = 2_500, 1_000

_NOT_COMPARED = frozenset("cprhgv")
_PASSED_TO_AVERAGE = frozenset("prhgvt")


class Cell(NamedTuple):
    """What stands in one place of the table."""

    shown: str = ""
    spread: str = ""
    """Such as `±0.5 (3)`: half the width of the interval over seeds and rows, and the number of runs."""
    score: float | None = None
    standing: float | None = None
    """The score, rounded as it is shown, higher is better; None where it is not compared."""
    marks: frozenset[str] = frozenset()
    is_best: bool = False
    is_tied: bool = False
    """Not to be told from the best that it was compared with."""

    @property
    def after(self) -> str:
        """All that follows the numbers."""
        marks = f"[{','.join(in_order(self.marks))}]" if self.marks else ""
        return "".join(f" {part}" for part in (self.spread, TIED if self.is_tied else "", marks) if part)


@dataclass(frozen=True)
class Leaderboard:
    """Everything that the tables show, in their order."""

    tasks: dict[str, TaskFacts]
    rows: tuple[Row, ...]
    groups: dict[tuple[Row, str], Group]
    """By row and task, those in the table."""
    apart: tuple[tuple[Group, str], ...]
    """Groups whose place in the table another one has, and how they differ from it."""
    cells: dict[tuple[Row, str], Cell]
    """By row, `CONSTANT` among them, and task."""
    averages: dict[tuple[Row, str], Cell]
    """By row and name of the average; empty when no task of the suite is there."""
    notes: tuple[str, ...]
    is_test_mode: bool
    evidence: dict[Group, Evidence]
    """Of every group, those apart included."""
    compared: dict[str, Panel]
    """By task, the groups that were compared with the best of them."""
    ranks: dict[Row, Rank]
    """Of the rows that all of `ranked_tasks` compare."""
    ranked_tasks: tuple[str, ...]
    resampling: Resampling


def build(records: Iterable[RunRecord], unreadable: int = 0, resamples: int | None = None) -> Leaderboard:
    """The leaderboard of these records, the same in whatever order they come.

    Records of test mode stand in it only when there are no others; `unreadable` files are mentioned. Rows are resampled
    10,000 times unless said, on boards of more than 2,500 records 1,000 times and to first order.
    """
    ordered = sorted(records, key=lambda run: (run.spec.task, run.spec.seed, run.run_id))
    kept = [run for run in ordered if not run.spec.test_mode] or ordered
    tasks = {run.spec.task: run.task for run in sorted(kept, key=precedence)}
    names = [*(name for name in GLUE if name in tasks), *sorted(tasks.keys() - GLUE)]
    rivals: dict[str, dict[Row, list[Group]]] = {name: defaultdict(list) for name in names}
    for group in sorted(grouped(kept), key=Group.preference, reverse=True):
        rivals[group.spec.task][group.row].append(group)

    is_large = len(kept) > _MANY_RECORDS
    resampling = Resampling(resamples or (_FEW_RESAMPLES if is_large else RESAMPLES), is_to_first_order=is_large)
    evidence: dict[Group, Evidence] = {}
    compared: dict[str, Panel] = {}
    for name in names:
        everyone = [group for groups in rivals[name].values() for group in groups]
        column = column_of(everyone, _comparable([groups[0] for groups in rivals[name].values()]), resampling)
        evidence |= zip(everyone, column.evidence, strict=True)
        if column.compared:
            compared[name] = column.compared
    cells = {
        (row, name): cell_of(groups[0], evidence[groups[0]]) for name in names for row, groups in rivals[name].items()
    }
    for name in names:
        cells[CONSTANT, name] = _constant_cell([groups[0] for groups in rivals[name].values()])
    rows = {row for by_row in rivals.values() for row in by_row}
    averages = _averages(cells, rows | {CONSTANT}, {name for name in names if tasks[name].suite == "glue"})

    def rank(row: Row) -> tuple[Any, ...]:
        average = averages.get((row, "GLUE"), Cell()).score
        scores = sum(cells.get((row, name), Cell()).score is not None for name in names)
        return (average is None, -(average or 0.0), -scores, row.label, row.variant, row)

    best_first = sorted(rows, key=rank)
    places = [(row, name) for name in names for row in best_first if row in rivals[name]]
    groups = {(row, name): rivals[name][row][0] for row, name in places}
    apart = [(other, difference(other, groups[row, name])) for row, name in places for other in rivals[name][row][1:]]
    notes = [
        f"{task_title(group.spec.task)}, {group.row.label} ({group.row.variant}): {incident}."
        for group in [*groups.values(), *(other for other, _ in apart)]
        for incident in incidents(group)
    ]
    notes += _lesser_parents([*groups.values(), *(other for other, _ in apart)], kept)
    if apart:
        runs = sum(len(group.runs) for group, _ in apart)
        notes.append(f"Shown apart: {runs} run(s), of another task version, data or recipe than those in the table.")
    if len(kept) < len(ordered):
        notes.append(f"Left out: {len(ordered) - len(kept)} record(s) of test mode, no benchmark results.")
    if unreadable:
        notes.append(f"Left out: {unreadable} file(s) under runs/ that could not be read as records.")
    ranks, ranked_tasks = ranked(_to_rank(compared, tasks))
    return Leaderboard(
        tasks={name: tasks[name] for name in names},
        rows=tuple(best_first),
        groups=groups,
        apart=tuple(apart),
        cells=_with_best(cells),
        averages=_with_best(averages),
        notes=tuple(notes),
        is_test_mode=any(run.spec.test_mode for run in kept),
        evidence=evidence,
        compared=compared,
        ranks=ranks,
        ranked_tasks=tuple(ranked_tasks),
        resampling=resampling,
    )


def _lesser_parents(groups: Iterable[Group], records: Iterable[RunRecord]) -> Iterator[str]:
    """A sentence for each group that started from runs whose training saw less than the whole data."""
    known = {run.run_id: run for run in records}
    for group in groups:
        parents = [known[run.spec.parent] for run in group.runs if run.spec.parent in known]
        is_partial = any(run.data is not None and run.data.is_partial for run in parents)
        if is_partial or any(run.spec.recipe.train_rows is not None for run in parents):
            rows = "partial data" if is_partial else "a reduced number of rows"
            told = f"started from runs of {task_title(parents[0].spec.task)} that were trained on {rows}"
            yield f"{task_title(group.spec.task)}, {group.row.label} ({group.row.variant}): {told}."


def _comparable(groups: Sequence[Group]) -> list[Group]:
    """Those without a mark that forbids it; where there are none, the most that have the same of these marks."""
    by_marks: dict[frozenset[str], list[Group]] = defaultdict(list)
    for group in groups:
        if group.score.mean is not None:
            by_marks[group.marks & _NOT_COMPARED].append(group)
    most = max(by_marks, key=lambda marks: (len(by_marks[marks]), in_order(marks)), default=frozenset[str]())
    return by_marks[frozenset()] or by_marks[most]


def _to_rank(compared: Mapping[str, Panel], tasks: Mapping[str, TaskFacts]) -> dict[str, Panel]:
    """The suite's tasks, or else all, without those that fewer than half as many models share as another one."""
    panels = {task: panel for task, panel in compared.items() if tasks[task].suite == "glue"} or dict(compared)
    most = max((len(panel.groups) for panel in panels.values()), default=0)
    return {task: panel for task, panel in panels.items() if 2 * len(panel.groups) >= most}


def task_title(name: str) -> str:
    """As the benchmark spells it; a task of no benchmark has its own name."""
    return GLUE.get(name, name)


def is_fraction(metric: str) -> bool:
    """Shown times 100. A metric that is not ours may have any range, so it is shown as it is."""
    return metric in METRICS and math.isfinite(METRICS[metric].highest)


def shown(value: float | None, as_percent: bool) -> str:
    """One decimal for what is shown times 100, else three."""
    if value is None:
        return NO_SCORE
    # `+ 0.0` takes the sign off a zero
    return f"{round(100 * value, 1) + 0.0:.1f}" if as_percent else f"{round(value, 3) + 0.0:.3f}"


def cell_of(group: Group, evidence: Evidence) -> Cell:
    """The group's main_metrics numbers, and how sure its score is."""
    names = group.task.main_metrics
    if not group.scored:
        ended = [run for run in group.runs if run.status in ("ok", "collapsed")]
        predicted = sum(run.trained_by is not None for run in ended)
        text, count = ("predicted", f"({predicted})") if predicted else (NO_SCORE, "")
        return Cell(text, count, marks=group.marks)
    means = [(name, group.over_seeds(split, name).mean) for split, name in main_metrics(group.task)]
    numbers = "/".join(shown(value, is_fraction(name)) for name, value in means)
    score, as_percent = group.score.mean, all(map(is_fraction, names))
    total = evidence.total
    plus_minus = "" if total is None else f"±{shown((total.high - total.low) / 2, as_percent)} "
    # a metric that is not ours may be better low or high
    directions = {METRICS[name].lower_is_better if name in METRICS else None for name in names}
    standing = None
    if score is not None and directions in ({True}, {False}):
        standing = float(shown(score, as_percent)) * (-1 if True in directions else 1)
    spread = f"{plus_minus}({len(group.scored)})"
    return Cell(numbers or NO_SCORE, spread, score, standing, group.marks, is_tied=evidence.is_tied)


def _constant_cell(groups: Sequence[Group]) -> Cell:
    """From the group with the most of the task's rows: partial data has other constants."""
    having = [group for group in groups if any(run.baseline for run in group.runs)]
    if not having:
        return Cell(NO_SCORE)
    group = max(having, key=lambda group: (not group.marks & _PASSED_TO_AVERAGE, group.preference()))
    values = [(name, group.baseline(split, name)) for split, name in main_metrics(group.task)]
    numbers = "/".join(shown(value, is_fraction(name)) for name, value in values)
    return Cell(numbers, score=mean([value for _, value in values]), marks=group.marks & _PASSED_TO_AVERAGE)


def _averages(
    cells: Mapping[tuple[Row, str], Cell], rows: Iterable[Row], suite: set[str]
) -> dict[tuple[Row, str], Cell]:
    """Unweighted over the tasks' scores, where every task has one; it is marked as its cells are."""
    averages = {}
    for row in rows if suite else ():
        for name, members in AVERAGES.items():
            parts = [cells.get((row, task), Cell()) if task in suite else Cell() for task in members]
            score = mean([part.score for part in parts])
            if score is None:
                averages[row, name] = Cell(NO_SCORE)
                continue
            marks = frozenset[str]().union(*(part.marks for part in parts)) & _PASSED_TO_AVERAGE
            standing = None if row == CONSTANT else float(shown(score, as_percent=True))
            averages[row, name] = Cell(shown(score, as_percent=True), "", score, standing, marks)
    return averages


def _with_best(cells: Mapping[tuple[Row, str], Cell]) -> dict[tuple[Row, str], Cell]:
    """With the best of each column: among its unmarked cells, or where it has none, those of equal marks."""
    best: dict[tuple[str, frozenset[str]], float] = {}
    for (_, column), cell in cells.items():
        if cell.standing is not None:
            pool = column, cell.marks & _NOT_COMPARED
            best[pool] = max(cell.standing, best.get(pool, cell.standing))

    def is_best(column: str, cell: Cell) -> bool:
        marks = cell.marks & _NOT_COMPARED
        is_beside_unmarked = bool(marks) and (column, frozenset()) in best
        return cell.standing is not None and cell.standing == best[column, marks] and not is_beside_unmarked

    return {place: cell._replace(is_best=is_best(place[1], cell)) for place, cell in cells.items()}
