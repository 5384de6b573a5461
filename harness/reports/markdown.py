"""leaderboard.md: the leaderboard as one Markdown page, with every metric and the links to the records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.facts.choices import GridSearch
from harness.facts.evaluation_steps import epoch_text
from harness.facts.published import UNSTATED, is_percentage
from harness.facts.record_parts import TaskFacts
from harness.facts.records import RunRecord, record_path
from harness.metrics.registry import baseline_name, direction_of, title_of
from harness.reports.cells import (
    NO_SCORE,
    TIED,
    Cell,
    format_figure,
    format_metric,
    group_cell,
    interval_text,
    is_shown_as_percent,
)
from harness.reports.costs import GroupCost, cost_of, energy_text, group_cost, parameters_text, tuning_text
from harness.reports.formulas import CALIBRATION, COSTS, NOT_RANKED, PUBLISHED, TUNING, score_formulas, task_formulas
from harness.reports.markdown_text import escape_markdown, markdown_table
from harness.reports.standings import Leaderboard
from harness.stats.entries import Entry, assignments
from harness.stats.groups import MARKS, Group, partial_splits, sort_marks, split_order
from harness.stats.power import MORE_SEEDS, SmallestDifferences
from harness.stats.significance import FEW_ROWS, Evidence, Rank
from harness.stats.tuning import TuningBudget, budget_of
from harness.stats.uncertainty import Interval, PairwiseTest

SHORT_SPLITS = {"validation_matched": "m", "validation_mismatched": "mm", "validation_holdout": "holdout"}


NO_DIRECTION = "unknown whether a higher score is better"
"""The reason for no comparison where metrics are of both kinds, or one is not the harness's own."""


def column_title(heading: str, task: TaskFacts) -> str:
    """The task and the numbers of its cells: `MRPC F1/accuracy`, `MNLI accuracy m/mm`, `imdb accuracy test`."""
    metrics = "/".join(map(title_of, task.main_metrics)) if task.report else ""
    is_plain = task.report == ["validation"]
    splits = "" if is_plain else "/".join(SHORT_SPLITS.get(split, split) for split in task.report)
    return " ".join(part for part in (heading, metrics, splits) if part)


def table_head(board: Leaderboard) -> list[str]:
    """The titles of the table's columns."""
    rank = ["mean rank"] if board.ranks else []
    columns = [column_title(board.headings[name], task) for name, task in board.tasks.items()]
    facts = {"tuning": bool(board.tuning), "verification": board.has_levels}
    present = [title for title, is_present in facts.items() if is_present]
    return ["Model", "Recipe", *board.average_names, *rank, *columns, *present]


def table_lines(board: Leaderboard) -> Iterator[tuple[Entry, list[Cell]]]:
    """The table's lines, the baseline last, with the cells after the recipe."""
    for entry in (*board.entries, board.baseline):
        averages = [board.averages[entry, name] for name in board.average_names]
        rank = [_rank_cell(board.ranks.get(entry))] if board.ranks else []
        scores = [board.cells.get((entry, name), Cell()) for name in board.tasks]
        tuning = [_tuning_cell(board.tuning.get(entry))] if board.tuning else []
        level = [Cell(board.level(entry) or "")] if board.has_levels else []
        yield entry, [*averages, *rank, *scores, *tuning, *level]


def legend(board: Leaderboard) -> list[str]:
    """The meaning of each mark in the tables."""
    others = [group_cell(group, board.evidence[group]) for group, _ in board.not_ranked]
    marks = [cell.marks for cell in (*board.cells.values(), *others)]
    return [f"[{mark}] {MARKS[mark]}" for mark in sort_marks(frozenset[str]().union(*marks))]


def _rank_cell(rank: Rank | None) -> Cell:
    return Cell() if rank is None else Cell(f"{rank.mean:.1f}", f"[{rank.low:.1f}, {rank.high:.1f}]", rank.mean)


def _tuning_cell(budget: TuningBudget | None) -> Cell:
    return Cell() if budget is None else Cell(tuning_text(**budget._asdict()), score=budget.device_seconds)


def render_markdown(board: Leaderboard, links: Mapping[str, str] | None = None) -> str:
    """The whole page: the table, costs, groups not ranked, published results, and each task's scores and runs.

    `links` are the names of all pages' files, without their endings, by their titles.
    """
    pages = [f"[{escape_markdown(title)}]({quote(name)}.md)" for title, name in (links or {}).items()]
    parts = [
        f"# {escape_markdown(board.title)}",
        *([f"Pages: {', '.join(pages)}"] if pages else []),
        "Written by `harness leaderboard` from the records under [runs](runs); edits are overwritten.",
        markdown_table(
            [escape_markdown(title) for title in table_head(board)],
            [[*_entry_names(entry), *map(_in_markdown, cells)] for entry, cells in table_lines(board)],
            left=2,
        ),
    ]
    if notes := [*legend(board), *board.notes]:
        parts += ["\n".join(f"- {escape_markdown(note)}" for note in notes)]
    parts += [score_formulas(board, escape_markdown)]
    parts += ["## Cost", _cost_table(board), COSTS]
    if board.searches:
        parts += ["## Tuning", _tuning_table(board.searches), TUNING]
    if board.calibrations:
        parts += ["## Calibration", _calibration_table(board), CALIBRATION]
    if board.not_ranked:
        parts += ["## Not ranked", NOT_RANKED, _not_ranked_table(board)]
    if board.published:
        parts += ["## Published results", _reference_table(board), PUBLISHED]
    columns = "\n".join(f"- {column.title}: {column.note}" for column in RUN_COLUMNS)
    parts += ["## Tasks", task_formulas(board), "About the runs:", columns]
    for name, task in board.tasks.items():
        groups = [board.groups[entry, name] for entry in board.entries if (entry, name) in board.groups]
        parts += [f"### {escape_markdown(board.headings[name])}: {escape_markdown(task.title)}"]
        parts += [_task_table(board, groups), _task_notes(board, name, groups), _runs_table(groups)]
    return "\n\n".join(parts) + "\n"


def _entry_names(entry: Entry) -> tuple[str, str]:
    return escape_markdown(entry.label), escape_markdown(entry.variant)


def _group_names(group: Group) -> tuple[str, str]:
    return escape_markdown(group.entry.label), escape_markdown(group.recipe)


def _in_markdown(cell: Cell) -> str:
    return (f"**{cell.text}**" if cell.is_best else cell.text) + cell.suffix


def _not_ranked_table(board: Leaderboard) -> str:
    body = []
    for group, difference in board.not_ranked:
        task = escape_markdown(board.headings[group.spec.task])
        score = _in_markdown(group_cell(group, board.evidence[group]))
        body.append([task, *_group_names(group), escape_markdown(difference), _links(group), score])
    return markdown_table(["Task", "Model", "Recipe", "Difference", "Seeds", "Score"], body, left=5)


def _cost_table(board: Leaderboard) -> str:
    body = []
    costs = {entry: cost_of(board.groups_of(entry)) for entry in board.entries}
    has_energy = any(any(cost.measured.values()) for cost in costs.values())
    for entry, cost in costs.items():
        runs = str(cost.runs) + (f" ({cost.uncounted} unknown)" if cost.uncounted else "")
        total = f"{cost.seconds:,.0f}", f"{cost.device_seconds / 3600:,.2f}"
        once = f"{cost.once_seconds:,.0f}", f"{cost.once_device_seconds / 3600:,.2f}"
        joules = {"gpu_joules": cost.gpu_joules, "processor_joules": cost.processor_joules} if has_energy else {}
        energy = [energy_text(one, cost.measured[name], cost.runs) for name, one in joules.items()]
        body.append([*_entry_names(entry), str(cost.tasks), runs, *total, *once, *energy])
    head = ["Model", "Recipe", "tasks", "runs", "seconds", "device-hours", "seconds once", "device-hours once"]
    head += ["kJ of GPUs", "kJ of processors"] if has_energy else []
    return markdown_table(head, body, left=2)


def _tuning_table(searches: Sequence[GridSearch]) -> str:
    body = []
    for search in searches:
        choice, budget = search.choice, budget_of([search])
        cost = tuning_text(**budget._asdict())
        file = f"[{escape_markdown(Path(search.path).name)}]({quote(search.path)})"
        names = map(escape_markdown, (choice.model, ", ".join(choice.tasks), assignments(choice.chosen or {})))
        body.append([*names, f"{budget.runs:,}", cost, choice.selected_on, file])
    head = ["Model", "Tasks", "chosen", "runs", "budget", "selected on", "grid"]
    return markdown_table(head, body, left=3)


def _calibration_table(board: Leaderboard) -> str:
    body = []
    for name in board.tasks:
        for entry in board.entries:
            if one := board.calibrations.get((entry, name)):
                plain, scaled = (calibration_cells(each and each._asdict()) for each in (one.plain, one.scaled))
                names = [escape_markdown(board.headings[name]), *_group_names(board.groups[entry, name])]
                body.append([*names, str(one.runs), *plain[1:], *scaled])
    metrics = ["ECE", "Brier", "log loss"]
    head = ["Task", "Model", "Recipe", "n", *metrics, "temperature", *(f"{name} at it" for name in metrics)]
    return markdown_table(head, body, left=3)


def calibration_cells(values: Mapping[str, float] | None) -> list[str]:
    """The temperature, the expected calibration error times 100, Brier score and log loss; empty for None."""
    if values is None:
        return [""] * 4
    error = format_metric(values["expected_calibration_error"], as_percent=True)
    numbers = (values[name] for name in ("temperature", "brier_score", "log_loss"))
    temperature, *scores = (format_metric(number, as_percent=False) for number in numbers)
    return [temperature, error, *scores]


def _reference_table(board: Leaderboard) -> str:
    """A line per model, setting and source; a score of another metric than the column's first has its name."""
    published = board.published
    names = [name for name in board.tasks if any(one.task == name for one in published)]
    lines: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for one in published:
        by_task = lines.setdefault((one.model, one.setting, one.source), {})
        first = board.tasks[one.task].main_metrics[0]
        metric = "" if one.metric == first else " ?" if one.metric == UNSTATED else f" {title_of(one.metric)}"
        split = {"validation": "", "test": " test"}.get(one.split, f" {SHORT_SPLITS.get(one.split, one.split)}")
        by_task.setdefault(one.task, []).append(f"{format_metric(one.score, is_percentage(one.metric))}{metric}{split}")
    body = [
        [*map(escape_markdown, line), *(", ".join(by_task.get(name, [])) for name in names)]
        for line, by_task in lines.items()
    ]
    heads = [f"{board.headings[name]} {title_of(board.tasks[name].main_metrics[0])}" for name in names]
    return markdown_table(["Model", "Setting", "Source", *map(escape_markdown, heads)], body, left=3)


def _task_table(board: Leaderboard, groups: Sequence[Group]) -> str:
    """Scores with their intervals and tests, and every metric of every scored split."""
    splits = sorted({split for group in groups for split, _ in group.metrics}, key=split_order)
    metrics = list(dict.fromkeys(metric for group in groups for _, metric in group.metrics))
    head = [f"{escape_markdown(title_of(metric))} {escape_markdown(' / '.join(splits))}" for metric in metrics]
    is_compared = any(board.evidence[group].to_best for group in groups)
    has_seeds = any(board.evidence[group].seed_disagreement is not None for group in groups)
    body = []
    for group in groups:
        evidence, as_percent = board.evidence[group], is_shown_as_percent(group.task)
        total = _interval(evidence.total, as_percent)
        score = " ".join(filter(None, [format_metric(group.score.center, as_percent), total]))
        parts = [_interval(one, as_percent) or NO_SCORE for one in (evidence.seeds, evidence.split)]
        if has_seeds:
            parts.append(format_disagreement(evidence.seed_disagreement, group.task.problem_type))
        test = _to_best(evidence, as_percent) if is_compared else []
        figures = [[format_figure(*group.over_seeds(split, name), name) for split in splits] for name in metrics]
        body.append([*_group_names(group), score, *parts, *test, *map(" / ".join, figures)])
    seeds, tests = ["seed disagreement"] if has_seeds else [], ["to best", "p"] if is_compared else []
    evidence_head = ["score", "over seeds", "over rows", *seeds, *tests]
    if metrics:
        baselines = {pair: (group.baseline(*pair) for group in groups) for pair in product(splits, metrics)}
        known = {pair: next((one for one in values if one is not None), None) for pair, values in baselines.items()}
        figures = [[format_figure(known[split, name], None, name) for split in splits] for name in metrics]
        label = baseline_name(groups[0].task.problem_type)
        body.append([label, *[""] * (1 + len(evidence_head)), *map(" / ".join, figures)])
    return markdown_table(["Model", "Recipe", *evidence_head, *head], body, left=2)


def format_disagreement(value: float | None, problem_type: str) -> str:
    """The share of rows times 100, or a standard deviation of values; empty for a single run."""
    return "" if value is None else format_metric(value, as_percent=problem_type != "regression")


def _interval(interval: Interval | None, as_percent: bool) -> str:
    return f"[{interval_text(interval, as_percent, ', ')}]" if interval else ""


def _to_best(evidence: Evidence, as_percent: bool) -> list[str]:
    test = evidence.to_best
    if test is None:
        return ["", ""]
    tied = f" {TIED}" if evidence.is_tied else ""
    return [f"{difference_text(test, as_percent)}{tied}", f"{format_p(test.p_holm)} ({format_p(test.p)})"]


def difference_text(test: PairwiseTest, as_percent: bool) -> str:
    """`1.2 [0.3, 2.1]`: the difference with its interval."""
    return f"{format_metric(test.difference, as_percent)} {_interval(Interval(test.low, test.high), as_percent)}"


def format_p(p: float) -> str:
    """Three decimals, and never a zero."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _task_notes(board: Leaderboard, name: str, groups: Sequence[Group]) -> str:
    """The rows of a task's scores, the family of its tests, its resolution, and its partial data."""
    task, compared = board.tasks[name], board.compared.get(name)
    if not task.report:
        return "Predicted, not scored: the labels are hidden."
    metrics = " and ".join(map(title_of, task.main_metrics))
    rows, unit = max(((board.evidence[group].rows or 0, group.unit) for group in groups), default=(0, ""))
    on_rows = f", {rows:,} {unit}" if rows else ""
    mean_of = "mean of " if len(task.main_metrics) > 1 else ""
    notes = [f"Score: {mean_of}{metrics} on {' and '.join(task.report)}{on_rows}."]
    if compared:
        pairs = math.comb(len(compared.groups), 2)
        notes.append("Tests: one pair." if pairs == 1 else f"Tests: corrected for {pairs} pairs.")
    elif len(groups) > 1 and direction_of(task.main_metrics) is None:
        notes.append(f"No tests: {NO_DIRECTION}.")
    elif len(groups) > 1:
        notes.append("No tests: no two models here have comparable predictions of the same rows.")
    if column := board.column(name):
        notes.append(resolution_note(column.smallest_differences(), is_shown_as_percent(task)))
    if any(comparison.has_rare_label for comparison in board.assessments[name].comparisons):
        notes.append(f"Intervals: too narrow, since a label has fewer than {FEW_ROWS} rows.")
    runs = [run for group in groups for run in group.runs]
    if partial := sorted({partial_splits(run.data) for run in runs if run.data and run.data.is_partial} - {""}):
        notes.append(f"Partial data: {'; '.join(partial)}.")
    return escape_markdown(" ".join(notes))


def resolution_note(resolution: SmallestDifferences, as_percent: bool) -> str:
    """The smallest differences that two models can show in words, in points for fractions."""
    parts = [
        (resolution.with_present_seeds, str(resolution.seeds)),
        (resolution.with_ten_seeds, str(MORE_SEEDS)),
        (resolution.with_any_number, "any number of"),
    ]
    unit = " points" if as_percent else ""
    shown = [f"{format_metric(value, as_percent)}{unit} with {seeds}" for value, seeds in parts if value is not None]
    is_unknown = resolution.with_ten_seeds is None
    rest = "; with fewer it is unknown, since no model has two" if is_unknown else ""
    return f"Resolution: the smallest difference that two models can show is {', '.join(shown)} seeds{rest}."


def _runs_table(groups: Sequence[Group]) -> str:
    costs = zip(groups, map(group_cost, groups), strict=True)
    body = [[*_group_names(group), *(one.value(group, cost) for one in RUN_COLUMNS)] for group, cost in costs]
    return markdown_table(["Model", "Recipe", *(column.title for column in RUN_COLUMNS)], body, left=2)


class RunColumn(NamedTuple):
    """A column of the table of a task's runs."""

    title: str
    value: Callable[[Group, GroupCost], str]
    """The Markdown of a cell."""
    note: str


def _links(group: Group) -> str:
    def link(run: RunRecord) -> str:
        path = record_path(Path(), run.spec.task, run.run_id).as_posix()
        return f"[{run.spec.seed}]({quote(path)})" + ("" if run.status == "ok" else f" {run.status}")

    return ", ".join(map(link, group.runs))


def _weights(group: Group) -> str:
    epochs = [epoch_text(run.selected_epoch) for run in group.scored if run.selected_epoch is not None]
    return f"{group.spec.recipe.select} ({', '.join(epochs)})" if epochs else group.spec.recipe.select


def _number(value: float | None, form: str, unit: float = 1) -> str:
    return "" if value is None else format(value / unit, form)


RUN_COLUMNS = (
    RunColumn("n", lambda group, _: str(len(group.scored)), "number of runs with a score"),
    RunColumn("seeds", lambda group, _: _links(group), "seeds of all runs, each a link to its record"),
    RunColumn("weights", lambda group, _: _weights(group), "last or best epoch, and the epoch of each run"),
    RunColumn("rows", lambda group, _: _number(group.training_rows, ",.0f"), "training rows"),
    RunColumn("batch", lambda group, _: str(group.spec.recipe.global_batch_size), "rows per step, over all processes"),
    RunColumn(
        "parameters",
        lambda _, cost: parameters_text(cost.parameters, cost.trainable_parameters),
        "trained parameters, of those of the model",
    ),
    RunColumn("rows/s", lambda _, cost: _number(cost.rows_per_second, ",.1f"), "speed of steps, mean over the runs"),
    RunColumn("peak MiB", lambda _, cost: _number(cost.peak_bytes, ",.0f", 2**20), "highest memory of any process"),
    RunColumn("seconds", lambda _, cost: _number(cost.seconds, ",.1f"), "from start to record, mean over the runs"),
    RunColumn("precision", lambda _, cost: cost.precision, "as used; several if the runs differ"),
    RunColumn("devices", lambda _, cost: escape_markdown(cost.devices), "as used; several if the runs differ"),
)
