"""The content of the leaderboard: cells by entry and task, averages, the best of each column, the order of entries."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from harness.facts.choices import GridSearch
from harness.facts.published import Reference, references
from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord
from harness.facts.suites import FIRST_SUITE, Suite, registered_suites, task_headings
from harness.metrics.registry import baseline_name
from harness.reports.cells import (
    UNMARKED,
    Cell,
    Pair,
    averages_of,
    baseline_cell,
    can_be_averaged,
    group_cell,
    with_best,
)
from harness.stats.calibration import GroupCalibration, RunCalibration, group_calibration
from harness.stats.entries import Entry
from harness.stats.groups import (
    Group,
    Pool,
    explain_difference,
    group_notes,
    group_runs,
    precedence,
    rejected_groups,
    sort_marks,
)
from harness.stats.power import Column, column_of
from harness.stats.significance import Comparison, Evidence, Rank, TaskEvidence, assess, rank_entries
from harness.stats.tuning import TuningBudget, tuning_budget
from harness.stats.uncertainty import Aggregate
from harness.stats.verification import LEVELS, Level, Rerun, independent_reruns, level_of


class FolderFacts(NamedTuple):
    """Facts of a results folder besides its records."""

    searches: Sequence[GridSearch] = ()
    """The grids that may have chosen the hyperparameters of entries."""
    calibrations: Mapping[str, RunCalibration] = {}
    """The calibration of the runs with stored scores, by run_id."""
    reruns: Mapping[str, Sequence[Rerun]] = {}
    """Re-runs by run_id."""


@dataclass(frozen=True)
class Leaderboard:
    """All content of the tables, in their order."""

    suite: Suite | None
    """The suite of the averages; None where no task is of a suite with an average."""
    tasks: dict[str, TaskFacts]
    headings: dict[str, str]
    """The benchmark's spelling of each task; tasks of no suite, and those of the same spelling, keep their name."""
    entries: tuple[Entry, ...]
    baseline: Entry
    """The line of constant predictions."""
    groups: dict[Pair, Group]
    """The groups in the table by entry and task."""
    not_ranked: tuple[tuple[Group, str], ...]
    """Groups whose cell shows another group, with their differences from it, and those that a grid rejected."""
    cells: dict[Pair, Cell]
    """Cells by entry, `baseline` included, and task."""
    averages: dict[Pair, Cell]
    """Cells by entry and name of the average; empty without a suite."""
    notes: tuple[str, ...]
    is_test_mode: bool
    aggregate: Aggregate
    assessments: dict[str, TaskEvidence]
    """Intervals and tests of the groups of each task, also of those not ranked."""
    folder: FolderFacts

    @cached_property
    def evidence(self) -> dict[Group, Evidence]:
        """Intervals and tests of every group, also those not ranked."""
        return {group: one for task in self.assessments.values() for group, one in task.by_group.items()}

    @cached_property
    def compared(self) -> dict[str, Comparison]:
        """The groups of each task that were compared with the best of them."""
        return {name: task.compared for name, task in self.assessments.items() if task.compared}

    @cached_property
    def ranks(self) -> dict[Entry, Rank]:
        """Average ranks of the entries that are compared in all of `ranked_tasks`."""
        return rank_entries({name: self.compared[name] for name in self.ranked_tasks})

    @cached_property
    def ranked_tasks(self) -> list[str]:
        """The suite's tasks, or all, without those that compare less than half as many models as the largest."""
        members = [name for name in self.compared if name in suite_members(self.tasks, self.suite)]
        counts = {name: len(self.compared[name].groups) for name in members or self.compared}
        return [name for name, count in counts.items() if 2 * count >= max(counts.values())]

    @cached_property
    def tuning(self) -> dict[Entry, TuningBudget]:
        """The budgets of the entries whose hyperparameters a grid chose."""
        budgets = {entry: tuning_budget(self.groups_of(entry), self.folder.searches) for entry in self.entries}
        return {entry: budget for entry, budget in budgets.items() if budget}

    @cached_property
    def searches(self) -> list[GridSearch]:
        """The grids that chose the hyperparameters of an entry."""
        used = {path for budget in self.tuning.values() for path in budget.grids}
        return [search for search in self.folder.searches if search.path in used]

    @cached_property
    def calibrations(self) -> dict[Pair, GroupCalibration]:
        """Calibrations of the groups in the table whose scores are stored."""
        every = {pair: group_calibration(group, self.folder.calibrations) for pair, group in self.groups.items()}
        return {pair: calibration for pair, calibration in every.items() if calibration}

    @cached_property
    def levels(self) -> dict[Group, Level]:
        """The verification of every group, also those not ranked."""
        return {group: level_of(group, one.total, self.folder.reruns) for group, one in self.evidence.items()}

    @property
    def has_levels(self) -> bool:
        """True if the level of a score is above `reported`."""
        return any(level != "reported" for level in self.levels.values())

    @cached_property
    def reruns(self) -> dict[str, list[Rerun]]:
        """Independent re-runs by run_id."""
        runs = [run for group in self.evidence for run in group.runs]
        every = {run.run_id: independent_reruns(run, self.folder.reruns.get(run.run_id, ())) for run in runs}
        return {run_id: reruns for run_id, reruns in every.items() if reruns}

    def level(self, entry: Entry) -> Level | None:
        """The weakest level of an entry's scores; None without a score."""
        levels = [self.levels[group] for group in self.groups_of(entry) if group.scored]
        return min(levels, key=list(LEVELS).index, default=None)

    def groups_of(self, entry: Entry) -> list[Group]:
        """The groups of an entry in the table, in the order of the tasks."""
        return [self.groups[entry, task] for task in self.tasks if (entry, task) in self.groups]

    def column(self, task: str) -> Column | None:
        """The variances of a task's scores; None where no two models that differ are compared."""
        compared = self.compared.get(task)
        return column_of(compared) if compared else None

    @property
    def title(self) -> str:
        """The heading of its page."""
        if self.is_test_mode:
            return "Test mode: a check of the pipeline, these are no benchmark results"
        if self.suite is None or self.suite.name == FIRST_SUITE:
            return "Leaderboard"
        return f"Leaderboard: {self.suite.title}"

    @cached_property
    def published(self) -> list[Reference]:
        """Published scores of its tasks; none next to scores of test mode."""
        return [] if self.is_test_mode else references(self.tasks)

    @property
    def average_names(self) -> tuple[str, ...]:
        """The headings of the averages, in their order."""
        return tuple(self.suite.averages) if self.suite else ()


Candidates = dict[str, dict[Entry, list[Group]]]
"""Groups by task and entry; the first of each list is shown in the table."""

REJECTED = "a point that a grid tried and did not choose"
"""The reason not to rank a recipe that nobody ran outside the grid."""


def build_leaderboard(
    records: Iterable[RunRecord],
    unreadable: int = 0,
    resamples: int | None = None,
    aggregate: Aggregate = "mean",
    suites: Mapping[str, Suite] | None = None,
    elsewhere: Sequence[RunRecord] = (),
    folder: FolderFacts | None = None,
) -> Leaderboard:
    """The leaderboard of these records, in any order.

    Records of test mode are ignored if there are others; `unreadable` files are mentioned. Rows are resampled as often
    as `resample_number` says, or `resamples` times. A score is the `aggregate` over a model's runs. The averages are
    those of the first of `suites` that has tasks here, by default of the registered ones. Runs may have started from
    those of records `elsewhere`. `folder` has the facts of the results folder besides the records.
    """
    suites, folder = registered_suites() if suites is None else suites, folder or FolderFacts()
    ordered = sorted(records, key=lambda run: (run.spec.task, run.spec.seed, run.run_id))
    used = used_records(ordered)
    suite = first_suite(used, suites)
    tasks = _sorted_tasks(used, suite)
    headings = task_headings(tasks, suites.values())
    candidates, rejected = _candidates(used, tasks, aggregate, folder.searches)
    assessments = {name: _assess(by_entry, rejected[name], resamples) for name, by_entry in candidates.items()}

    problem_types = {task.problem_type for task in tasks.values()}
    baseline = Entry(baseline_name("regression" if problem_types == {"regression"} else ""), "", "", "")
    cells = _cells(candidates, assessments, baseline)
    averaged = {name for name in suite_members(tasks, suite) if can_be_averaged(tasks[name])}
    averages = averages_of(cells, baseline, suite.members if suite else {}, averaged)
    entries = _best_first(cells, averages, baseline, suite)
    groups = {
        (entry, name): candidates[name][entry][0] for name in tasks for entry in entries if (entry, name) in cells
    }
    others = [
        (other, explain_difference(other, group))
        for (entry, name), group in groups.items()
        for other in candidates[name][entry][1:]
    ]
    not_ranked = [*others, *((group, REJECTED) for groups in rejected.values() for group in groups)]
    notes = [
        *_notes_on_averages(tasks, suite),
        *_notes_on_runs([*groups.values(), *(group for group, _ in others)], [*used, *elsewhere], headings),
        *_notes_on_omissions(sum(len(group.runs) for group, _ in not_ranked), len(ordered) - len(used), unreadable),
    ]
    return Leaderboard(
        suite=suite,
        tasks=tasks,
        headings=headings,
        entries=tuple(entries),
        baseline=baseline,
        groups=groups,
        not_ranked=tuple(not_ranked),
        cells=with_best(cells),
        averages=with_best(averages),
        notes=tuple(notes),
        is_test_mode=any(run.spec.test_mode for run in used),
        aggregate=aggregate,
        assessments=assessments,
        folder=folder,
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


def _candidates(
    records: Sequence[RunRecord], tasks: Iterable[str], aggregate: Aggregate, searches: Iterable[GridSearch]
) -> tuple[Candidates, dict[str, list[Group]]]:
    """The groups by task and entry, and those that a grid rejected by task.

    A group with a run outside the grid is not rejected, and a task with rejected groups alone keeps them as entries.
    """
    groups = sorted(group_runs(records, aggregate), key=Group.preference, reverse=True)
    out = set(rejected_groups(groups, searches))
    candidates: Candidates = {name: defaultdict(list) for name in tasks}
    rejected: dict[str, list[Group]] = {name: [] for name in tasks}
    for group in groups:
        if group in out:
            rejected[group.spec.task].append(group)
        else:
            candidates[group.spec.task][group.entry].append(group)
    return candidates, rejected


def _assess(
    by_entry: Mapping[Entry, Sequence[Group]], rejected: Sequence[Group], resamples: int | None
) -> TaskEvidence:
    rivals = _rivals([groups[0] for groups in by_entry.values()])
    return assess([*(group for groups in by_entry.values() for group in groups), *rejected], rivals, resamples)


def _rivals(groups: Sequence[Group]) -> list[Group]:
    """The groups without a mark that forbids comparisons; if all have one, the largest pool."""
    by_pool: dict[Pool, list[Group]] = defaultdict(list)
    for group in groups:
        if group.score.center is not None:
            by_pool[group.pool].append(group)
    most = max(by_pool, key=lambda pool: (len(by_pool[pool]), sort_marks(pool[0]), pool[1] or 0), default=UNMARKED)
    return by_pool[UNMARKED] or by_pool[most]


def suite_members(tasks: Mapping[str, TaskFacts], suite: Suite | None) -> set[str]:
    """The tasks whose records are of the suite; one of the same name without a suite is another task."""
    return {name for name, task in tasks.items() if suite is not None and task.suite == suite.name}


def _cells(candidates: Candidates, assessments: Mapping[str, TaskEvidence], baseline: Entry) -> dict[Pair, Cell]:
    cells: dict[Pair, Cell] = {}
    for name, by_entry in candidates.items():
        evidence = assessments[name].by_group
        cells |= {(entry, name): group_cell(groups[0], evidence[groups[0]]) for entry, groups in by_entry.items()}
        cells[baseline, name] = baseline_cell([groups[0] for groups in by_entry.values()])
    return cells


def _best_first(
    cells: Mapping[Pair, Cell], averages: Mapping[Pair, Cell], baseline: Entry, suite: Suite | None
) -> list[Entry]:
    """The entries without the baseline: the best average first, then most scores, then most surpassed scores."""
    first_average = next(iter(suite.averages)) if suite else ""
    counts = Counter(entry for (entry, _), cell in cells.items() if cell.score is not None)
    surpassed = _surpassed_scores(cells)

    def order(entry: Entry) -> tuple[Any, ...]:
        average = averages.get((entry, first_average), Cell()).score
        scores = (-counts[entry], -surpassed[entry])
        return (average is None, -(average or 0.0), *scores, entry.label, entry.variant, entry)

    return sorted({entry for entry, _ in cells} - {baseline}, key=order)


def _surpassed_scores(cells: Mapping[Pair, Cell]) -> Counter[Entry]:
    """The number of other entries' scores that each entry surpasses, over all tasks."""
    columns: dict[str, list[float]] = defaultdict(list)
    for (_, name), cell in cells.items():
        if cell.comparable is not None:
            columns[name].append(cell.comparable)
    ordered = {name: sorted(column) for name, column in columns.items()}
    surpassed: Counter[Entry] = Counter()
    for (entry, name), cell in cells.items():
        if cell.comparable is not None:
            surpassed[entry] += bisect_left(ordered[name], cell.comparable)
    return surpassed


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


def _notes_on_averages(tasks: Mapping[str, TaskFacts], suite: Suite | None) -> Iterator[str]:
    """Names the tasks that leave an average without a value."""
    if suite is None:
        return
    without = {name for name in suite_members(tasks, suite) if not can_be_averaged(tasks[name])}
    for name, members in suite.members.items():
        if others := [suite.tasks[task] for task in members if task in without]:
            yield f"{name} is not computed: scores of {', '.join(others)} are not fractions of which more is better."


def _notes_on_omissions(not_ranked: int, test_mode: int, unreadable: int) -> Iterator[str]:
    if not_ranked:
        yield (
            f"Not ranked: {not_ranked} run(s) of another task version, data or recipe than those in the table, or of a "
            "point that a grid did not choose."
        )
    if test_mode:
        yield f"Ignored: {test_mode} record(s) of test mode, which are no benchmark results."
    if unreadable:
        yield f"Ignored: {unreadable} file(s) under runs/ that are not readable as records."
