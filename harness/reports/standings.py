"""The content of the leaderboard: cells by entry and task, averages, the best of each column, the order of entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from harness.facts.choices import GridSearch
from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord
from harness.metrics.registry import direction_of, is_fraction
from harness.stats.calibration import GroupCalibration, RunCalibration, group_calibration
from harness.stats.entries import Entry
from harness.stats.groups import (
    NOT_COMPARED,
    Group,
    Pool,
    explain_difference,
    group_notes,
    group_runs,
    mean_or_none,
    precedence,
    reported_metrics,
    sort_marks,
)
from harness.stats.significance import Comparison, Evidence, Rank, TaskEvidence, assess, rank_entries
from harness.stats.tuning import TuningBudget, tuning_budget
from harness.stats.uncertainty import Aggregate, Interval, mean_interval
from harness.stats.verification import LEVELS, Level, Rerun, independent_reruns, level_of

GLUE = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP"}
GLUE |= {"mnli": "MNLI", "qnli": "QNLI", "rte": "RTE", "wnli": "WNLI"}
"""The nine tasks in the order and spelling of the benchmark's paper (Wang et al. 2019, table 1)."""

AVERAGES = {"GLUE": tuple(GLUE), "GLUE-8": tuple(name for name in GLUE if name != "wnli")}

NO_SCORE = "–"

TIED = "≈"

_UNMARKED: Pool = (frozenset(), None)
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
    pool: Pool = _UNMARKED
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


@dataclass(frozen=True)
class Leaderboard:
    """All content of the tables, in their order."""

    tasks: dict[str, TaskFacts]
    entries: tuple[Entry, ...]
    baseline: Entry
    """The line of constant predictions."""
    groups: dict[Pair, Group]
    """The groups in the table by entry and task."""
    not_ranked: tuple[tuple[Group, str], ...]
    """Groups whose cell shows another group, with their differences from it."""
    cells: dict[Pair, Cell]
    """Cells by entry, `baseline` included, and task."""
    averages: dict[Pair, Cell]
    """Cells by entry and name of the average; empty without any task of the suite."""
    notes: tuple[str, ...]
    is_test_mode: bool
    aggregate: Aggregate
    evidence: dict[Group, Evidence]
    """Intervals and tests of every group, also those not ranked."""
    comparisons: dict[str, list[Comparison]]
    """All groups of each task with predictions in their records, by the rows that they predicted."""
    compared: dict[str, Comparison]
    """The groups of each task that were compared with the best of them."""
    ranks: dict[Entry, Rank]
    """Average ranks of the entries that are compared in all of `ranked_tasks`."""
    ranked_tasks: tuple[str, ...]
    tuning: dict[Entry, TuningBudget]
    """The budgets of the entries whose hyperparameters a grid chose."""
    searches: tuple[GridSearch, ...]
    """The grids that chose the hyperparameters of an entry."""
    calibrations: dict[Pair, GroupCalibration]
    """Calibrations of the groups in the table whose scores are stored."""
    levels: dict[Group, Level]
    """The verification of every group, also those not ranked."""
    reruns: dict[str, list[Rerun]]
    """Independent re-runs by run_id."""

    def level(self, entry: Entry) -> Level | None:
        """The weakest level of an entry's scores; None without a score."""
        groups = [group for (owner, _), group in self.groups.items() if owner == entry and group.scored]
        return min((self.levels[group] for group in groups), key=list(LEVELS).index, default=None)


Candidates = dict[str, dict[Entry, list[Group]]]
"""Groups by task and entry; the first of each list is shown in the table."""


def build_leaderboard(
    records: Iterable[RunRecord],
    unreadable: int = 0,
    resamples: int | None = None,
    aggregate: Aggregate = "mean",
    searches: Sequence[GridSearch] = (),
    calibrations: Mapping[str, RunCalibration] | None = None,
    reruns: Mapping[str, Sequence[Rerun]] | None = None,
) -> Leaderboard:
    """The leaderboard of these records, in any order.

    Records of test mode are ignored if there are others; `unreadable` files are mentioned. Rows are resampled as often
    as `resample_number` says, or `resamples` times. A score is the `aggregate` over a model's runs. `searches` are the
    grids that may have chosen the hyperparameters of entries; `calibrations` and `reruns` are by run_id.
    """
    ordered = sorted(records, key=lambda run: (run.spec.task, run.spec.seed, run.run_id))
    used = [run for run in ordered if not run.spec.test_mode] or ordered
    tasks = _sorted_tasks(used)
    candidates = _candidates(used, tasks, aggregate)
    assessed = {name: _assess(by_entry, resamples) for name, by_entry in candidates.items()}
    evidence = {group: one for task in assessed.values() for group, one in task.by_group.items()}
    compared = {name: task.compared for name, task in assessed.items() if task.compared}

    baseline = Entry(_baseline_label(tasks.values()), "", "", "")
    cells: dict[Pair, Cell] = {}
    for name, by_entry in candidates.items():
        cells |= {(entry, name): group_cell(groups[0], evidence[groups[0]]) for entry, groups in by_entry.items()}
        cells[baseline, name] = _baseline_cell([groups[0] for groups in by_entry.values()])
    entries = {entry for by_entry in candidates.values() for entry in by_entry}
    averages = _averages(cells, entries, baseline, {name for name in tasks if tasks[name].suite == "glue"})
    best_first = sorted(entries, key=lambda entry: _entry_order(entry, tasks, cells, averages))
    pairs = [(entry, name) for name in tasks for entry in best_first if entry in candidates[name]]
    groups = {(entry, name): candidates[name][entry][0] for entry, name in pairs}
    not_ranked = [
        (other, explain_difference(other, groups[entry, name]))
        for entry, name in pairs
        for other in candidates[name][entry][1:]
    ]
    budgets = {entry: tuning_budget(_of_entry(groups, entry), searches) for entry in best_first}
    tuning = {entry: budget for entry, budget in budgets.items() if budget}
    used_grids = {path for budget in tuning.values() for path in budget.grids}
    ranks, ranked_tasks = rank_entries(_ranked_comparisons(compared, tasks))
    notes = [
        *_notes_on_runs([*groups.values(), *(group for group, _ in not_ranked)], used),
        *_notes_on_omissions(sum(len(group.runs) for group, _ in not_ranked), len(ordered) - len(used), unreadable),
    ]
    return Leaderboard(
        tasks=tasks,
        entries=tuple(best_first),
        baseline=baseline,
        groups=groups,
        not_ranked=tuple(not_ranked),
        cells=_with_best(cells),
        averages=_with_best(averages),
        notes=tuple(notes),
        is_test_mode=any(run.spec.test_mode for run in used),
        aggregate=aggregate,
        evidence=evidence,
        comparisons={name: task.comparisons for name, task in assessed.items()},
        compared=compared,
        ranks=ranks,
        ranked_tasks=tuple(ranked_tasks),
        tuning=tuning,
        levels={group: level_of(group, one.total, reruns or {}) for group, one in evidence.items()},
        reruns={
            run.run_id: independent
            for group in evidence
            for run in group.runs
            if (independent := independent_reruns(run, (reruns or {}).get(run.run_id, ())))
        },
        calibrations=_calibrations(groups, calibrations or {}),
        searches=tuple(search for search in searches if search.path in used_grids),
    )


def _calibrations(groups: Mapping[Pair, Group], by_run: Mapping[str, RunCalibration]) -> dict[Pair, GroupCalibration]:
    by_pair = {pair: group_calibration(group, by_run) for pair, group in groups.items()}
    return {pair: one for pair, one in by_pair.items() if one}


def _of_entry(groups: Mapping[Pair, Group], entry: Entry) -> list[Group]:
    return [group for (owner, _), group in groups.items() if owner == entry]


def _sorted_tasks(records: Iterable[RunRecord]) -> dict[str, TaskFacts]:
    """Tasks as their defining record has them: GLUE in the order of its paper, then others by name."""
    tasks = {run.spec.task: run.task for run in sorted(records, key=precedence)}
    names = [*(name for name in GLUE if name in tasks), *sorted(tasks.keys() - GLUE)]
    return {name: tasks[name] for name in names}


def _candidates(records: Sequence[RunRecord], tasks: Iterable[str], aggregate: Aggregate) -> Candidates:
    candidates: Candidates = {name: defaultdict(list) for name in tasks}
    for group in sorted(group_runs(records, aggregate), key=Group.preference, reverse=True):
        candidates[group.spec.task][group.entry].append(group)
    return candidates


def _assess(by_entry: Mapping[Entry, Sequence[Group]], resamples: int | None) -> TaskEvidence:
    rivals = _rivals([groups[0] for groups in by_entry.values()])
    return assess([group for groups in by_entry.values() for group in groups], rivals, resamples)


def _rivals(groups: Sequence[Group]) -> list[Group]:
    """The groups without a mark that forbids comparisons; if all have one, the largest pool."""
    by_pool: dict[Pool, list[Group]] = defaultdict(list)
    for group in groups:
        if group.score.center is not None:
            by_pool[group.pool].append(group)
    most = max(by_pool, key=lambda pool: (len(by_pool[pool]), sort_marks(pool[0]), pool[1] or 0), default=_UNMARKED)
    return by_pool[_UNMARKED] or by_pool[most]


def _ranked_comparisons(compared: Mapping[str, Comparison], tasks: Mapping[str, TaskFacts]) -> dict[str, Comparison]:
    """Comparisons of the suite's tasks, or of all, without those of less than half as many models as the largest."""
    candidates = {task: one for task, one in compared.items() if tasks[task].suite == "glue"} or dict(compared)
    most = max((len(one.groups) for one in candidates.values()), default=0)
    return {task: one for task, one in candidates.items() if 2 * len(one.groups) >= most}


def _entry_order(
    entry: Entry, tasks: Iterable[str], cells: Mapping[Pair, Cell], averages: Mapping[Pair, Cell]
) -> tuple[Any, ...]:
    """Sort key: the best average first, then most scores."""
    average = averages.get((entry, "GLUE"), Cell()).score
    scores = sum(cells.get((entry, name), Cell()).score is not None for name in tasks)
    return (average is None, -(average or 0.0), -scores, entry.label, entry.variant, entry)


# -- notes -----------------------------------------------------------------------------------------------------


def _notes_on_runs(groups: Sequence[Group], records: Iterable[RunRecord]) -> Iterator[str]:
    for group in groups:
        for note in group_notes(group):
            yield f"{_name(group)}: {note}."
    known = {run.run_id: run for run in records}
    for group in groups:
        parents = [known[run.spec.parent] for run in group.runs if run.spec.parent in known]
        is_partial = any(run.data is not None and run.data.is_partial for run in parents)
        if is_partial or any(run.spec.recipe.train_rows is not None for run in parents):
            rows = "partial data" if is_partial else "a reduced number of rows"
            yield f"{_name(group)}: started from {task_title(parents[0].spec.task)} runs that were trained on {rows}."


def _name(group: Group) -> str:
    return f"{task_title(group.spec.task)}, {group.entry.label} ({group.entry.variant})"


def _notes_on_omissions(not_ranked: int, test_mode: int, unreadable: int) -> Iterator[str]:
    if not_ranked:
        yield f"Not ranked: {not_ranked} run(s) of another task version, data or recipe than those in the table."
    if test_mode:
        yield f"Ignored: {test_mode} record(s) of test mode, which are no benchmark results."
    if unreadable:
        yield f"Ignored: {unreadable} file(s) under runs/ that are not readable as records."


# -- cells -----------------------------------------------------------------------------------------------------


def task_title(name: str) -> str:
    """The benchmark's spelling of a GLUE task; other tasks keep their name."""
    return GLUE.get(name, name)


def format_metric(value: float | None, as_percent: bool) -> str:
    """One decimal for a value that is shown times 100, else three."""
    if value is None:
        return NO_SCORE
    # `+ 0.0` turns -0.0 into 0.0
    return f"{round(100 * value, 1) + 0.0:.1f}" if as_percent else f"{round(value, 3) + 0.0:.3f}"


def group_cell(group: Group, evidence: Evidence) -> Cell:
    """The group's main metrics with the interval of its score."""
    names = group.task.main_metrics
    if not group.scored:
        ended = [run for run in group.runs if run.status in ("ok", "collapsed")]
        predicted = sum(run.trained_by is not None for run in ended)
        text, count = ("predicted", f"({predicted})") if predicted else (NO_SCORE, "")
        return Cell(text, count, marks=group.marks)
    values = [(name, group.over_seeds(split, name).center) for split, name in reported_metrics(group.task)]
    numbers = "/".join(format_metric(value, is_fraction(name)) for name, value in values)
    score, as_percent = group.score.center, all(map(is_fraction, names))
    plus_minus = format_spread(score, evidence.total, evidence.is_over_rows_only, as_percent)
    statistic = "median of " if group.aggregate == "median" else ""
    spread = " ".join(filter(None, [plus_minus, f"({statistic}{len(group.scored)})"]))
    direction = direction_of(names)
    comparable = None
    if score is not None and direction is not None:
        comparable = float(format_metric(score, as_percent)) * direction
    is_tied = evidence.is_tied
    marks = group.marks if evidence.is_above_baseline else group.marks | {"b"}
    return Cell(numbers or NO_SCORE, spread, score, comparable, marks, group.pool, evidence, is_tied=is_tied)


def format_spread(score: float | None, interval: Interval | None, is_over_rows_only: bool, as_percent: bool) -> str:
    """`±0.5`, or `±0.5 rows only`: the distance from the score to the farther end; empty without an interval."""
    if score is None or interval is None:
        return ""
    farthest = max(score - interval.low, interval.high - score)
    return f"±{format_metric(farthest, as_percent)}" + (" rows only" if is_over_rows_only else "")


def _baseline_label(tasks: Iterable[TaskFacts]) -> str:
    is_regression = {task.problem_type == "regression" for task in tasks}
    return "constant baseline" if is_regression == {True} else "majority-class baseline"


def _baseline_cell(groups: Sequence[Group]) -> Cell:
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


def _averages(
    cells: Mapping[Pair, Cell], entries: Iterable[Entry], baseline: Entry, suite: set[str]
) -> dict[Pair, Cell]:
    """Unweighted means over the tasks' scores, where every task has one, with the marks of their cells."""
    averages = {}
    for entry in (*entries, baseline) if suite else ():
        for name, members in AVERAGES.items():
            parts = [cells.get((entry, task), Cell()) if task in suite else Cell() for task in members]
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


def _with_best(cells: Mapping[Pair, Cell]) -> dict[Pair, Cell]:
    """The cells with the best of each column: among its unmarked cells, or without any, in each pool."""
    best: dict[tuple[str, Pool], float] = {}
    for (_, column), cell in cells.items():
        if cell.comparable is not None:
            key = column, cell.pool
            best[key] = max(cell.comparable, best.get(key, cell.comparable))

    def is_best(column: str, cell: Cell) -> bool:
        has_unmarked_rivals = cell.pool != _UNMARKED and (column, _UNMARKED) in best
        return cell.comparable is not None and cell.comparable == best[column, cell.pool] and not has_unmarked_rivals

    return {(entry, column): cell._replace(is_best=is_best(column, cell)) for (entry, column), cell in cells.items()}
