"""The content of the leaderboard: cells by entry and task, averages, the best of each column, the order of entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord
from harness.facts.suites import FIRST_SUITE, Suite, registered_suites
from harness.metrics.registry import direction_of, is_fraction
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
from harness.stats.uncertainty import Aggregate, Interval, mean_interval

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

    suite: Suite | None
    """The suite of the averages; None where no task is of a suite with an average."""
    tasks: dict[str, TaskFacts]
    headings: dict[str, str]
    """The benchmark's spelling of each task; tasks of no suite keep their name."""
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
    """Cells by entry and name of the average; empty without a suite."""
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

    @property
    def title(self) -> str:
        """The heading of its page."""
        if self.is_test_mode:
            return "Test mode: a check of the pipeline, these are no benchmark results"
        if self.suite is None or self.suite.name == FIRST_SUITE:
            return "Leaderboard"
        return f"Leaderboard: {self.suite.title}"

    @property
    def average_names(self) -> tuple[str, ...]:
        """The headings of the averages, in their order."""
        return tuple(self.suite.averages) if self.suite else ()


Candidates = dict[str, dict[Entry, list[Group]]]
"""Groups by task and entry; the first of each list is shown in the table."""


def build_leaderboard(
    records: Iterable[RunRecord],
    unreadable: int = 0,
    resamples: int | None = None,
    aggregate: Aggregate = "mean",
    suites: Mapping[str, Suite] | None = None,
    elsewhere: Sequence[RunRecord] = (),
) -> Leaderboard:
    """The leaderboard of these records, in any order.

    Records of test mode are ignored if there are others; `unreadable` files are mentioned. Rows are resampled as often
    as `resample_number` says, or `resamples` times. A score is the `aggregate` over a model's runs. The averages are
    those of the first of `suites` that has tasks here, by default of the registered ones. Runs may have started from
    those of records `elsewhere`.
    """
    suites = registered_suites() if suites is None else suites
    ordered = sorted(records, key=lambda run: (run.spec.task, run.spec.seed, run.run_id))
    used = used_records(ordered)
    suite = first_suite(used, suites)
    tasks = _sorted_tasks(used, suite)
    headings = {name: heading for one in suites.values() for name, heading in one.tasks.items() if name in tasks}
    headings = {name: headings.get(name, name) for name in tasks}
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
    members = {name for name in tasks if suite is not None and tasks[name].suite == suite.name}
    averages = _averages(cells, (*entries, baseline), baseline, suite.members if suite else {}, members)
    first_average = next(iter(suite.averages)) if suite else ""
    best_first = sorted(entries, key=lambda entry: _entry_order(entry, tasks, cells, averages, first_average))
    pairs = [(entry, name) for name in tasks for entry in best_first if entry in candidates[name]]
    groups = {(entry, name): candidates[name][entry][0] for entry, name in pairs}
    not_ranked = [
        (other, explain_difference(other, groups[entry, name]))
        for entry, name in pairs
        for other in candidates[name][entry][1:]
    ]
    ranks, ranked_tasks = rank_entries(_ranked_comparisons(compared, members))
    notes = [
        *_notes_on_runs([*groups.values(), *(group for group, _ in not_ranked)], [*used, *elsewhere], headings),
        *_notes_on_omissions(sum(len(group.runs) for group, _ in not_ranked), len(ordered) - len(used), unreadable),
    ]
    return Leaderboard(
        suite=suite,
        tasks=tasks,
        headings=headings,
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
    )


def used_records(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """The records without those of test mode, or these if there are no others."""
    return [run for run in records if not run.spec.test_mode] or records


def first_suite(records: Iterable[RunRecord], suites: Mapping[str, Suite]) -> Suite | None:
    """The first of the suites that has an average and a task among these records."""
    names = {run.task.suite for run in records}
    return next((suite for name, suite in suites.items() if name in names and suite.averages), None)


def _sorted_tasks(records: Iterable[RunRecord], suite: Suite | None) -> dict[str, TaskFacts]:
    """Tasks as their defining record has them: those of the suite in its order, then others by name."""
    tasks = {run.spec.task: run.task for run in sorted(records, key=precedence)}
    first = [name for name in suite.tasks if name in tasks] if suite else []
    return {name: tasks[name] for name in [*first, *sorted(tasks.keys() - set(first))]}


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


def _ranked_comparisons(compared: Mapping[str, Comparison], members: set[str]) -> dict[str, Comparison]:
    """Comparisons of the suite's tasks, or of all, without those of less than half as many models as the largest."""
    candidates = {task: one for task, one in compared.items() if task in members} or dict(compared)
    most = max((len(one.groups) for one in candidates.values()), default=0)
    return {task: one for task, one in candidates.items() if 2 * len(one.groups) >= most}


def _entry_order(
    entry: Entry, tasks: Iterable[str], cells: Mapping[Pair, Cell], averages: Mapping[Pair, Cell], first_average: str
) -> tuple[Any, ...]:
    """Sort key: the best average first, then most scores."""
    average = averages.get((entry, first_average), Cell()).score
    scores = sum(cells.get((entry, name), Cell()).score is not None for name in tasks)
    return (average is None, -(average or 0.0), -scores, entry.label, entry.variant, entry)


# -- notes -----------------------------------------------------------------------------------------------------


def _notes_on_runs(groups: Sequence[Group], records: Iterable[RunRecord], headings: Mapping[str, str]) -> Iterator[str]:
    names = {group: f"{headings[group.spec.task]}, {group.entry.label} ({group.entry.variant})" for group in groups}
    for group in groups:
        for note in group_notes(group):
            yield f"{names[group]}: {note}."
    known = {run.run_id: run for run in records}
    for group in groups:
        parents = [known[run.spec.parent] for run in group.runs if run.spec.parent in known]
        is_partial = any(run.data is not None and run.data.is_partial for run in parents)
        if is_partial or any(run.spec.recipe.train_rows is not None for run in parents):
            rows = "partial data" if is_partial else "a reduced number of rows"
            parent = parents[0].spec.task
            yield f"{names[group]}: started from {headings.get(parent, parent)} runs that were trained on {rows}."


def _notes_on_omissions(not_ranked: int, test_mode: int, unreadable: int) -> Iterator[str]:
    if not_ranked:
        yield f"Not ranked: {not_ranked} run(s) of another task version, data or recipe than those in the table."
    if test_mode:
        yield f"Ignored: {test_mode} record(s) of test mode, which are no benchmark results."
    if unreadable:
        yield f"Ignored: {unreadable} file(s) under runs/ that are not readable as records."


# -- cells -----------------------------------------------------------------------------------------------------


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
    cells: Mapping[Pair, Cell],
    entries: Iterable[Entry],
    baseline: Entry,
    tasks: Mapping[str, tuple[str, ...]],
    members: set[str],
) -> dict[Pair, Cell]:
    """Unweighted means over the scores of each average's tasks, where all have one, with the marks of their cells.

    `members` are the tasks whose records are of the suite; a task of the same name without one is another task.
    """
    averages = {}
    for entry in entries:
        for name, parts_of in tasks.items():
            parts = [cells.get((entry, task), Cell()) if task in members else Cell() for task in parts_of]
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
