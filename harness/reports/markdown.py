"""leaderboard.md: the standings as one Markdown page, with every metric and the links to the records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple
from urllib.parse import quote

from harness.facts.metrics import title_of
from harness.facts.records import DataFacts, RunRecord, TaskFacts, record_path
from harness.reports.costs import cost_of
from harness.reports.references import UNSTATED, Reference, references
from harness.reports.standings import (
    AVERAGES,
    CONSTANT,
    NO_SCORE,
    TIED,
    Cell,
    Leaderboard,
    cell_of,
    is_fraction,
    shown,
    task_title,
)
from harness.stats.entries import Row
from harness.stats.groups import MARKS, Group, in_order, split_order
from harness.stats.resampling import SEED
from harness.stats.significance import Evidence, Rank
from harness.stats.uncertainty import Interval

SHORT_SPLITS = {"validation_matched": "m", "validation_mismatched": "mm"}

_SCORES = """\
- Recipe is what differs from the default for model and task; epochs=2 (1: sst2) is 2, but 1 on sst2. A task that was
  run with several recipes has a row for each.
- A number is the mean over the runs of all seeds; (n) is their count. Metrics that range to 1 are shown times 100,
  others as is. A run's score is the mean of its numbers in the column: F1 and accuracy, Pearson and Spearman, matched
  (m) and mismatched (mm).
- ± is half the width of the score's 95 % interval over seeds and rows, t(0.975, ν) √(v + s²/n): v is the variance over
  samples of the split's rows, s the standard deviation of the runs' scores. Of a single run it is over rows alone:
  what another seed would do is not in it. Where there is no ±, the records do not keep the answers to each row.
- Bold is the best score of a column, as precisely as shown, among the cells without [c], [p], [r], [h] and
  [v]. Where there is none, it is the best among those that have the same of these marks.
- ≈ is a tie: the best score of a column, and those not significantly worse by the paired test under the task's table,
  Holm-corrected for all pairs of the column. There is none where nothing is compared, or all others are worse.
- GLUE is the unweighted mean of the nine tasks' scores, GLUE-8 that without WNLI; each needs all its tasks.
- – stands for no score: no run came to an end, or the metric is undefined in one. An empty cell was not run.
- The best constant answer is one label, or value, for every row: for each metric the one that scores best."""

_COSTS = """\
Sums over all runs of the row, those without a score included: wall clock from start to record, and device-hours,
Σ seconds × processes / 3,600. Once is a single seed: Σ over tasks of the mean over the task's runs. Rows compare only
where their tasks, devices and rows do."""

_TASKS = """\
For n runs with scores of mean x̄ and standard deviation s, on N rows, all intervals of 95 %:

- score: x̄ and its interval over seeds and rows, x̄ ± t(0.975, ν) √(v + s²/n), ν by Satterthwaite, v the variance of x̄
  over resamples of the rows, or of Wilson's interval; for a single run the same as over rows
- over seeds: Student's x̄ ± t(0.975, n − 1) s/√n; – for a single run
- over rows, with the runs as they are: of one split's accuracy p Wilson's (p + z²/2N ± z √(p (1 − p)/N + z²/4N²)) /
  (1 + z²/N), z = 1.96; of all else the middle 95 % of x̄ over resamples
- to best: the difference d to the best score on the same rows, and its interval d ± t(0.975, ν) √(v + s²/n + s'²/n'),
  v the variance of d over resamples of the rows, the same for both
- p: that there is no difference, by t = d / √(v + s²/n + s'²/n'); of two single runs' accuracy by McNemar's exact test
  2 P(B ≤ min(b, c)), B binomial(b + c, ½), b and c the rows that one alone has right. First Holm's, corrected for all
  pairs in the table, max over smaller p of (m − rank + 1) p; in brackets the test's own. Two single runs are compared
  on rows alone; beside several, a single run is taken to spread over seeds as they do.
- metrics: the mean over the runs, ± their sample standard deviation √(Σ (x − x̄)² / (n − 1))"""


def page_title(board: Leaderboard) -> str:
    """What the whole board is."""
    test_mode = "Test mode: a check of the pipeline, these are no benchmark results"
    return test_mode if board.is_test_mode else "Leaderboard"


def column_title(name: str, task: TaskFacts) -> str:
    """The numbers of a cell, in order: `MRPC F1/accuracy`, `MNLI accuracy m/mm`, `imdb accuracy test`."""
    metrics = "/".join(map(title_of, task.main_metrics)) if task.report else ""
    is_plain = task.report == ["validation"]
    splits = "" if is_plain else "/".join(SHORT_SPLITS.get(split, split) for split in task.report)
    return " ".join(part for part in (task_title(name), metrics, splits) if part)


def titles(board: Leaderboard) -> list[str]:
    """Of the table's columns."""
    averages = AVERAGES if board.averages else ()
    rank = ["mean rank"] if board.ranks else []
    return ["Model", "Recipe", *averages, *rank, *(column_title(name, task) for name, task in board.tasks.items())]


def lines(board: Leaderboard) -> Iterator[tuple[Row, list[Cell]]]:
    """The table's rows, the best constant answer last, with the cells that follow `Recipe`."""
    for row in (*board.rows, CONSTANT):
        averages = [board.averages[row, name] for name in AVERAGES] if board.averages else []
        rank = [_rank_cell(board.ranks.get(row))] if board.ranks else []
        yield row, [*averages, *rank, *(board.cells.get((row, name), Cell()) for name in board.tasks)]


def legend(board: Leaderboard) -> list[str]:
    """What the marks mean that occur."""
    marks = [cell.marks for cell in board.cells.values()] + [group.marks for group, _ in board.apart]
    return [f"[{mark}] {MARKS[mark]}" for mark in in_order(frozenset[str]().union(*marks))]


def _rank_cell(rank: Rank | None) -> Cell:
    return Cell() if rank is None else Cell(f"{rank.mean:.1f}", f"[{rank.low:.1f}, {rank.high:.1f}]", rank.mean)


def render_markdown(board: Leaderboard) -> str:
    """The table, costs, what is shown apart, what others published, and for each task tables of scores and of runs."""
    parts = [
        f"# {page_title(board)}",
        "Made by `harness leaderboard` from the records under [runs](runs); edits are overwritten.",
        _table(
            [_escaped(title) for title in titles(board)],
            [[*_of_row(row), *map(_in_markdown, cells)] for row, cells in lines(board)],
            left=2,
        ),
    ]
    if remarks := [*legend(board), *board.notes]:
        parts += ["\n".join(f"- {_escaped(line)}" for line in remarks)]
    parts += [_formulas(board)]
    parts += ["## Cost", _cost_table(board), _COSTS]
    if board.apart:
        no_mixing = "These runs differ from those in the table in more than the seed, and no figure mixes them."
        parts += ["## Shown apart", no_mixing, _apart_table(board)]
    if not board.is_test_mode and (published := references(board.tasks.keys())):
        parts += ["## Published elsewhere, not run here", _reference_table(board, published), _PUBLISHED]
    parts += ["## Tasks", _TASKS, "Of the runs:", "\n".join(f"- {column.title}: {column.note}" for column in COLUMNS)]
    for name, task in board.tasks.items():
        groups = [board.groups[row, name] for row in board.rows if (row, name) in board.groups]
        parts += [f"### {_escaped(task_title(name))}: {_escaped(task.title)}"]
        parts += [_task_table(board, groups), _about_task(board, name), _runs_table(groups)]
    return "\n\n".join(parts) + "\n"


def formulas(board: Leaderboard) -> dict[str, list[str]]:
    """By section, how its figures are computed: a sentence or two each, without markup."""
    sections = {"scores": _formulas(board), "costs": _COSTS, "tasks": _TASKS, "published": _PUBLISHED}
    return {
        name: [" ".join(part.split()) for part in re.split(r"(?:^|\n+)- ", text) if part]
        for name, text in sections.items()
    }


def _formulas(board: Leaderboard) -> str:
    return "\n".join([_SCORES, *_about_resampling(board)])


def _about_resampling(board: Leaderboard) -> Iterator[str]:
    """Where and how rows are resampled, and ranks."""
    if board.ranks:
        tasks = ", ".join(task_title(name) for name in board.ranked_tasks)
        yield (
            "- The mean rank is that of the row among the rows that are compared in all of the tasks below; 1 is the"
            "\n  best, equal scores share theirs. In brackets the middle 95 % over resamples of the rows, the scores of"
            f"\n  n runs with errors t(n − 1) s/√n. Tasks: {tasks}."
        )
    if any(evidence.rows for evidence in board.evidence.values()):
        yield (
            f"- Resamples: {board.resampling.number:,} times N of a split's N rows with replacement, the same for all"
            f"\n  models; NumPy's default generator, seeded with {SEED} and the CRC-32 of task.split."
        )
    if board.resampling.is_to_first_order:
        yield (
            "- There are so many records that scores of resamples are computed to first order, from the influence of"
            "\n  each row (infinitesimal jackknife)."
        )


def _of_row(row: Row) -> tuple[str, str]:
    return _escaped(row.label), _escaped(row.variant)


def _of_group(group: Group) -> tuple[str, str]:
    return _escaped(group.row.label), _escaped(group.recipe)


def _in_markdown(cell: Cell) -> str:
    return (f"**{cell.shown}**" if cell.is_best else cell.shown) + cell.after


def _escaped(text: str) -> str:
    """Markdown that shows exactly this text, on one line: no markup, no HTML and no end of a cell."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    line = re.sub(r"[\\`*_\[\]~$]", r"\\\g<0>", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")


def _table(head: Sequence[str], body: Iterable[Sequence[str]], left: int) -> str:
    """A table of Markdown cells, the first `left` columns aligned to the left, the others to the right."""
    rule = [":---" if number < left else "---:" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def _apart_table(board: Leaderboard) -> str:
    body = []
    for group, reason in board.apart:
        task, score = _escaped(task_title(group.spec.task)), _in_markdown(cell_of(group, board.evidence[group]))
        body.append([task, *_of_group(group), _escaped(reason), _links(group), score])
    return _table(["Task", "Model", "Recipe", "Why", "Seeds", "Score"], body, left=5)


def _cost_table(board: Leaderboard) -> str:
    body = []
    for row in board.rows:
        cost = cost_of(board.groups[row, name] for name in board.tasks if (row, name) in board.groups)
        runs = str(cost.runs) + (f" ({cost.uncounted} not known)" if cost.uncounted else "")
        numbers = (cost.seconds, cost.once_seconds)
        hours = (cost.device_seconds / 3600, cost.once_device_seconds / 3600)
        shown_costs = [f"{numbers[0]:,.0f}", f"{hours[0]:,.2f}", f"{numbers[1]:,.0f}", f"{hours[1]:,.2f}"]
        body.append([*_of_row(row), str(cost.tasks), runs, *shown_costs])
    head = ["Model", "Recipe", "tasks", "runs", "seconds", "device-hours", "seconds once", "device-hours once"]
    return _table(head, body, left=2)


_PUBLISHED = """\
Other settings, other code, and often the best of several runs: these numbers stand here for orientation, and nothing
above is compared with them. ? is a metric that the source does not name."""


def _reference_table(board: Leaderboard, published: Sequence[Reference]) -> str:
    """A line per model, setting and source; a score of another metric than the column's first has its name."""
    names = [name for name in board.tasks if any(one.task == name for one in published)]
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for one in published:
        places = found.setdefault((one.model, one.setting, one.source), {})
        first = board.tasks[one.task].main_metrics[0]
        metric = "" if one.metric == first else " ?" if one.metric == UNSTATED else f" {title_of(one.metric)}"
        split = {"validation": "", "test": " test"}.get(one.split, f" {SHORT_SPLITS.get(one.split, one.split)}")
        places.setdefault(one.task, []).append(f"{shown(one.score, True)}{metric}{split}")
    body = [
        [_escaped(model), _escaped(setting), _escaped(source), *(", ".join(places.get(name, [])) for name in names)]
        for (model, setting, source), places in found.items()
    ]
    heads = [f"{task_title(name)} {title_of(board.tasks[name].main_metrics[0])}" for name in names]
    return _table(["Model", "Setting", "Source", *map(_escaped, heads)], body, left=3)


def _task_table(board: Leaderboard, groups: Sequence[Group]) -> str:
    """The score with its intervals and its test, and every metric of every split that was scored."""
    splits = sorted({split for group in groups for split, _ in group.places}, key=split_order)
    metrics = list(dict.fromkeys(metric for group in groups for _, metric in group.places))
    head = [f"{_escaped(title_of(metric))} {_escaped(' / '.join(splits))}" for metric in metrics]
    is_compared = any(board.evidence[group].to_best for group in groups)
    body = []
    for group in groups:
        evidence, as_percent = board.evidence[group], all(map(is_fraction, group.task.main_metrics))
        score = " ".join(filter(None, [shown(group.score.mean, as_percent), _between(evidence.total, as_percent)]))
        parts = [_between(one, as_percent) or NO_SCORE for one in (evidence.seeds, evidence.split)]
        versus = _to_best(evidence, as_percent) if is_compared else []
        figures = (" / ".join(_figure(group, split, metric) for split in splits) for metric in metrics)
        body.append([*_of_group(group), score, *parts, *versus, *figures])
    tests = ["to best", "p"] if is_compared else []
    return _table(["Model", "Recipe", "score", "over seeds", "over rows", *tests, *head], body, left=2)


def _between(interval: Interval | None, as_percent: bool) -> str:
    return "" if interval is None else f"[{shown(interval.low, as_percent)}, {shown(interval.high, as_percent)}]"


def _to_best(evidence: Evidence, as_percent: bool) -> list[str]:
    versus = evidence.to_best
    if versus is None:
        return ["", ""]
    ends = _between(Interval(versus.low, versus.high), as_percent)
    tied = f" {TIED}" if evidence.is_tied else ""
    return [f"{shown(versus.difference, as_percent)} {ends}{tied}", f"{shown_p(versus.p_holm)} ({shown_p(versus.p)})"]


def shown_p(p: float) -> str:
    """Three decimals, and never a zero."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _about_task(board: Leaderboard, name: str) -> str:
    """What is computed of which rows, and what the tests are about."""
    task, panel = board.tasks[name], board.compared.get(name)
    if not task.report:
        return "Predicted, not scored: the labels are hidden."
    metrics = " and ".join(map(title_of, task.main_metrics))
    rows = max(
        (board.evidence[group].rows or 0 for row in board.rows if (group := board.groups.get((row, name)))), default=0
    )
    of_rows = f", {rows:,} rows" if rows else ""
    told = [
        f"Score: {'mean of ' if len(task.main_metrics) > 1 else ''}{metrics} on {' and '.join(task.report)}{of_rows}."
    ]
    if panel:
        number = len(panel.groups)
        pairs = number * (number - 1) // 2
        told.append("Tests: one pair." if pairs == 1 else f"Tests: corrected for {pairs} pairs.")
    elif len([row for row in board.rows if (row, name) in board.groups]) > 1:
        told.append("No tests: no two models here have records of the same rows that can be compared.")
    runs = (run for row in board.rows if (row, name) in board.groups for run in board.groups[row, name].runs)
    if partial := sorted({_partial(run.data) for run in runs if run.data and run.data.is_partial} - {""}):
        told.append(f"Partial data: {'; '.join(partial)}.")
    return _escaped(" ".join(told))


def _partial(data: DataFacts) -> str:
    """The splits that have other rows than the full data."""
    other = [
        f"{split} {rows:,} of {data.full_rows[split]:,} rows"
        for split, rows in data.rows.items()
        if split in data.full_rows and rows != data.full_rows[split]
    ]
    return ", ".join(other)


def _runs_table(groups: Sequence[Group]) -> str:
    body = [[*_of_group(group), *(column.value(group) for column in COLUMNS)] for group in groups]
    return _table(["Model", "Recipe", *(column.title for column in COLUMNS)], body, left=2)


def _figure(group: Group, split: str, metric: str) -> str:
    mean, deviation = group.over_seeds(split, metric)
    plus_minus = "" if deviation is None else f" ±{shown(deviation, is_fraction(metric))}"
    return shown(mean, is_fraction(metric)) + plus_minus


class Column(NamedTuple):
    """A column of the table of a task's runs."""

    title: str
    value: Callable[[Group], str]
    """Markdown."""
    note: str


def _links(group: Group) -> str:
    def link(run: RunRecord) -> str:
        path = record_path(Path(), run.spec.task, run.run_id).as_posix()
        return f"[{run.spec.seed}]({quote(path)})" + ("" if run.status == "ok" else f" {run.status}")

    return ", ".join(map(link, group.runs))


def _weights(group: Group) -> str:
    epochs = [str(run.selected_epoch) for run in group.scored if run.selected_epoch is not None]
    return f"{group.spec.recipe.select} ({', '.join(epochs)})" if epochs else group.spec.recipe.select


def _training_rows(group: Group) -> str:
    rows = next((run.data.rows.get("train") for run in group.runs if run.data), None)
    return "" if rows is None else f"{rows:,}"


def _speed(group: Group) -> str:
    speeds = [run.rows_per_second for run in group.scored if run.rows_per_second is not None]
    return f"{fmean(speeds):,.1f}" if speeds else ""


def _memory(group: Group) -> str:
    peaks = [run.peak_bytes for run in group.scored if run.peak_bytes is not None]
    return f"{max(peaks) / 2**20:,.0f}" if peaks else ""


def _seconds(group: Group) -> str:
    seconds = [run.cost.seconds for run in group.scored if run.cost]
    return f"{fmean(seconds):,.1f}" if seconds else ""


def _precision(group: Group) -> str:
    return ", ".join(sorted({run.environment.precision for run in group.scored if run.environment}))


def _devices(group: Group) -> str:
    counts = [Counter(run.environment.devices) for run in group.scored if run.environment]
    each = {" + ".join(f"{number} × {name}" for name, number in sorted(count.items())) for count in counts}
    return _escaped(", ".join(sorted(each)))


COLUMNS: tuple[Column, ...] = (
    Column("n", lambda group: str(len(group.scored)), "runs that have a score"),
    Column("seeds", _links, "of every run, each a link to its record"),
    Column("weights", _weights, "those of the last or the best epoch, and that epoch in each run"),
    Column("rows", _training_rows, "rows to train on"),
    Column("batch", lambda group: str(group.spec.recipe.global_batch_size), "rows per step, over all processes"),
    Column("rows/s", _speed, "rows trained on per second of steps, mean over the runs"),
    Column("peak MiB", _memory, "memory of the process that used most, in the run that used most"),
    Column("seconds", _seconds, "wall clock from start to record, mean over the runs"),
    Column("precision", _precision, "as used; several where the runs differ"),
    Column("devices", _devices, "as used; several where the runs differ"),
)
