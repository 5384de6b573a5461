"""leaderboard.md: the standings as one Markdown page, with every metric and the links to the records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple
from urllib.parse import quote

from harness.groups import MARKS, Group, Row, in_order, split_order
from harness.metrics import title_of
from harness.records import RunRecord, TaskFacts, record_path
from harness.standings import AVERAGES, CONSTANT, Cell, Leaderboard, cell_of, is_fraction, shown, task_title

_SHORT_SPLITS = {"validation_matched": "m", "validation_mismatched": "mm"}

_FORMULAS = """\
- A number is the mean over the runs of all seeds. Metrics that range to 1 are shown times 100, others as is.
- A run's score is the mean of its numbers in the column: F1 and accuracy, Pearson and Spearman, matched (m)
  and mismatched (mm).
- ± is half the width of the score's 95 % interval over seeds and rows, t √(v_rows + s²/n), with one run over rows
  alone; (n) is the number of runs. ≈ is not to be told from the best of its column.
- GLUE is the unweighted mean of the nine tasks' scores, GLUE-8 that without WNLI; each needs all its tasks.
- – stands for no score: no run came to an end, or the metric is undefined in one. An empty cell was not run.
- The best constant answer is one label, or value, for every row: for each metric the one that scores best.
- Bold is the best score of a column, as precisely as shown, among the cells without [c], [p], [r], [h] and
  [v]. Where there is none, it is the best among those that have the same of these marks."""


def page_title(board: Leaderboard) -> str:
    """What the whole board is."""
    test_mode = "Test mode: a check of the pipeline, these are no benchmark results"
    return test_mode if board.is_test_mode else "Leaderboard"


def column_title(name: str, task: TaskFacts) -> str:
    """The numbers of a cell, in order: `MRPC F1/accuracy`, `MNLI accuracy m/mm`, `imdb accuracy test`."""
    metrics = "/".join(map(title_of, task.headline)) if task.report else ""
    is_plain = task.report == ["validation"]
    splits = "" if is_plain else "/".join(_SHORT_SPLITS.get(split, split) for split in task.report)
    return " ".join(part for part in (task_title(name), metrics, splits) if part)


def titles(board: Leaderboard) -> list[str]:
    """Of the table's columns."""
    averages = AVERAGES if board.averages else ()
    return ["Model", "Recipe", *averages, *(column_title(name, task) for name, task in board.tasks.items())]


def lines(board: Leaderboard) -> Iterator[tuple[Row, list[Cell]]]:
    """The table's rows, the best constant answer last, with the cells that follow `Recipe`."""
    for row in (*board.rows, CONSTANT):
        averages = [board.averages[row, name] for name in AVERAGES] if board.averages else []
        yield row, [*averages, *(board.cells.get((row, name), Cell()) for name in board.tasks)]


def legend(board: Leaderboard) -> list[str]:
    """What the marks mean that occur."""
    marks = [cell.marks for cell in board.cells.values()] + [group.marks for group, _ in board.apart]
    return [f"[{mark}] {MARKS[mark]}" for mark in in_order(frozenset[str]().union(*marks))]


def render_markdown(board: Leaderboard) -> str:
    """The table, what is shown apart, how figures are computed, and for each task a table of every metric."""
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
    if board.apart:
        no_mixing = "These runs differ from those in the table in more than the seed, and no figure mixes them."
        parts += ["## Shown apart", no_mixing, _apart_table(board)]
    parts += ["## How the figures are computed", _FORMULAS, "## Tasks"]
    parts += ["\n".join(f"- {column.title}: {column.note}" for column in COLUMNS)]
    for name, task in board.tasks.items():
        groups = [board.groups[row, name] for row in board.rows if (row, name) in board.groups]
        parts += [f"### {_escaped(task_title(name))}: {_escaped(task.title)}", _task_table(groups)]
    return "\n\n".join(parts) + "\n"


def _of_row(row: Row) -> tuple[str, str]:
    return _escaped(row.label), _escaped(row.variant)


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
        body.append([task, *_of_row(group.row), _escaped(reason), _links(group), score])
    return _table(["Task", "Model", "Recipe", "Why", "Seeds", "Score"], body, left=5)


def _task_table(groups: Sequence[Group]) -> str:
    """Every metric of every split that was scored, and the columns of `COLUMNS`."""
    splits = sorted({split for group in groups for split, _ in group.places}, key=split_order)
    metrics = list(dict.fromkeys(metric for group in groups for _, metric in group.places))
    head = [f"{_escaped(title_of(metric))} {_escaped(' / '.join(splits))}" for metric in metrics]
    body = [
        [
            *_of_row(group.row),
            *(" / ".join(_figure(group, split, metric) for split in splits) for metric in metrics),
            *(column.value(group) for column in COLUMNS),
        ]
        for group in groups
    ]
    return _table(["Model", "Recipe", *head, *(column.title for column in COLUMNS)], body, left=2)


def _figure(group: Group, split: str, metric: str) -> str:
    mean, deviation = group.over_seeds(split, metric)
    plus_minus = "" if deviation is None else f" ±{shown(deviation, is_fraction(metric))}"
    return shown(mean, is_fraction(metric)) + plus_minus


class Column(NamedTuple):
    """A column of a task's own table, after those of its metrics."""

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
    Column("batch", lambda group: str(group.spec.recipe.global_batch), "rows per update, over all processes"),
    Column("rows/s", _speed, "rows trained on per second of updates, mean over the runs"),
    Column("peak MiB", _memory, "memory of the process that used most, in the run that used most"),
    Column("seconds", _seconds, "wall clock from start to record, mean over the runs"),
    Column("precision", _precision, "as used; several where the runs differ"),
    Column("devices", _devices, "as used; several where the runs differ"),
)


def formulas() -> list[str]:
    """How the figures are computed, a sentence or two each, without markup."""
    return [" ".join(line.split()) for line in _FORMULAS.removeprefix("- ").split("\n- ")]
