"""leaderboard/<task>.html: a task's scores in full, confused labels, and the rows on which models disagree most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.metrics.registry import METRICS, baseline_name, title_of
from harness.reports.cells import format_figure, format_metric, interval_text
from harness.reports.costs import parameters_text
from harness.reports.formulas import formulas
from harness.reports.html_parts import entry_identity, record_links, render_template
from harness.reports.markdown import SHORT_SPLITS, calibration_cells, format_disagreement, format_p, resolution_note
from harness.reports.panels import Content
from harness.reports.standings import Leaderboard
from harness.stats.groups import Group
from harness.stats.power import SmallestDifferences
from harness.stats.predictions import Predictions, SplitPredictions
from harness.stats.row_errors import (
    MAX_LABELS,
    Disagreement,
    label_counts,
    mean_confusion,
    most_confused,
    most_disagreed_rows,
    predictions_of_groups,
)
from harness.stats.uncertainty import Floats

Texts = Mapping[str, Sequence[tuple[str, str | None]]]
"""The text, and second text, of every row of each split."""

MAX_ENTRIES = 12
"""Entries whose predictions for the rows of most disagreement are shown; the disagreement itself is that of all."""

MAX_ROWS = 50
"""Rows of most disagreement on a page, for each split."""

_MAX_CLASSES = 12
"""Classes of the largest confusion matrix on a page; with more, it lists the most frequent confusions."""

_MAX_CONFUSIONS = 10

_MAX_POINTS = 500
"""Rows of a regression that are drawn for each entry, at equal steps through the split."""

_MAX_LABEL = 40
"""Characters of a label that are shown."""

_MAX_TEXT = 2_000
"""Characters of a text that are shown."""

_SIZE = 200
"""Width and height of the drawing of a regression."""

Dicts = list[dict[str, Any]]


def render_task_page(
    board: Leaderboard,
    content: Content,
    task: str,
    page: str,
    texts: Texts | None = None,
) -> str:
    """The page of a task of `board`, whose leaderboard.json is `content`; `page` is the name of the board's files.

    It has no text of any row but `texts`, for the rows on which models disagree.
    """
    column = next(one for one in content["columns"] if one["task"] == task)
    groups = {
        board.groups[entry, task]: entry_identity(one, one["tasks"][task]["recipe"])
        for entry, one in zip(board.entries, content["entries"], strict=True)
        if (entry, task) in board.groups
    }
    predictions = predictions_of_groups(list(groups))
    splits = list(next(iter(predictions.values())).splits) if predictions else []
    values = _task_table(column, content["entries"]) | dict(
        title=f"{column['heading']}: {column['title']}",
        root="../",
        back=dict(href=f"../{quote(page)}.html", title=board.title),
        tasks=[
            dict(heading=one["heading"], href=f"{quote(one['task'])}.html", is_own=one is column)
            for one in content["columns"]
        ],
        marks=content["marks"],
        formulas=formulas(board),
        calibrations=_calibrations(column, content["entries"]),
        errors=[_errors(predictions, split, groups) for split in splits],
        without_predictions=len(groups) - len(predictions),
        disagreements=[
            _disagreement(one, split, groups, (texts or {}).get(split, ()))
            for split in splits
            if (one := most_disagreed_rows(predictions, split, MAX_ROWS))
        ],
    )
    return render_template(
        "task.html.jinja",
        values,
        metric=format_metric,
        interval=interval_text,
        disagreement=format_disagreement,
        p=format_p,
        parameters=parameters_text,
    )


# -- scores ------------------------------------------------------------------------------------------------------------


def _task_table(column: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The task's entries with every metric of every split."""
    results = [(entry, entry["tasks"][column["task"]]) for entry in entries if column["task"] in entry["tasks"]]
    pairs = list(dict.fromkeys((one["metric"], one["split"]) for _, result in results for one in result["figures"]))
    heads = []
    for metric, split in pairs:
        is_lower = metric == "loss" or (metric in METRICS and METRICS[metric].lower_is_better)
        heads.append((title_of(metric), SHORT_SPLITS.get(split, split), "ascending" if is_lower else "descending"))
    rows = []
    for entry, result in results:
        figures = {
            (one["metric"], one["split"]): (format_figure(one["value"], one["std"], one["metric"]), one["value"])
            for one in result["figures"]
        }
        cells = [figures.get(pair, ("", None)) for pair in pairs]  # the text and the sort key of each metric
        identity = entry_identity(entry, result["recipe"])
        rows.append(identity | dict(cells=cells, result=result, runs=record_links(result, column["as_percent"])))
    baselines: dict[tuple[str, str], float | None] = {}
    for figure in (figure for _, result in results for figure in result["figures"]):
        if baselines.get(pair := (figure["metric"], figure["split"])) is None:
            baselines[pair] = figure["baseline"]
    baseline = [(format_figure(baselines[pair], None, pair[0]), baselines[pair]) for pair in pairs]
    differences = column["smallest_differences"]
    resolution = resolution_note(SmallestDifferences(**differences), column["as_percent"]) if differences else ""
    line = dict(label=baseline_name(column["problem_type"]), cells=baseline)
    return dict(column=column, heads=heads, rows=rows, baseline=line, resolution=resolution)


def _calibrations(column: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Dicts:
    """A line per entry whose scores are stored: the text and the sort key of each number."""
    lines = []
    for entry in entries:
        result = entry["tasks"].get(column["task"])
        if result and (calibration := result["calibration"]):
            plain, scaled = calibration["plain"], calibration["scaled"]
            texts = [*calibration_cells(plain)[1:], *calibration_cells(scaled)]
            keys = ("temperature", "expected_calibration_error", "brier_score", "log_loss")
            sorts = [*(plain[key] for key in keys[1:]), *(scaled and scaled[key] for key in keys)]
            cells = list(zip(texts, sorts, strict=True))
            lines.append(entry_identity(entry, result["recipe"]) | dict(runs=calibration["runs"], cells=cells))
    return lines


# -- errors ------------------------------------------------------------------------------------------------------------


def _errors(predictions: Mapping[Group, Predictions], split: str, groups: Mapping[Group, Any]) -> dict[str, Any]:
    """The errors of each entry on a split, in the form that fits the task."""
    task = next(iter(predictions)).task
    draw = _errors_on_labels
    if task.problem_type == "regression":
        draw = _errors_of_values
    elif task.problem_type == "multi_label_classification":
        draw = _errors_on_label_sets
    figures = [groups[group] | draw(group, one.splits[split]) for group, one in predictions.items()]
    return dict(split=split, rows=len(next(iter(predictions.values())).splits[split].gold), figures=figures)


def _errors_on_labels(group: Group, predictions: SplitPredictions) -> dict[str, Any]:
    """A confusion matrix, the most frequent confusions where it is too large, or nothing where that is too large."""
    labels = _label_names(group)
    if len(labels) > MAX_LABELS:
        return dict(kind="none")
    counts = mean_confusion(predictions, len(labels))
    if len(labels) > _MAX_CLASSES:
        confused = most_confused(labels, counts, _MAX_CONFUSIONS)
        return dict(kind="confusions", confused=[(gold, other, _rows_text(rows)) for gold, other, rows in confused])
    totals = counts.sum(axis=1)
    lines = [
        (label, [(_rows_text(rows), rows / total if total else 0.0) for rows in line])
        for label, line, total in zip(labels, counts.tolist(), totals.tolist(), strict=True)
    ]
    return dict(kind="matrix", labels=labels, lines=lines)


def _label_names(group: Group) -> list[str]:
    return [_shortened(label, _MAX_LABEL) for label in group.task.labels or ()]


def _errors_on_label_sets(group: Group, predictions: SplitPredictions) -> dict[str, Any]:
    counts = label_counts(predictions)[:MAX_LABELS].tolist()
    lines = [(name, list(map(_rows_text, line))) for name, line in zip(_label_names(group), counts, strict=False)]
    return dict(kind="labels", lines=lines)


def _errors_of_values(group: Group, predictions: SplitPredictions) -> dict[str, Any]:
    """Points of a drawing: gold values to the right, predictions upwards, the mean over runs; both on gold's range."""
    low, high = float(predictions.gold.min()), float(predictions.gold.max())
    step = -(-len(predictions.gold) // _MAX_POINTS)
    gold, predicted = predictions.gold[::step], predictions.runs.mean(axis=0)[::step]

    def scaled(values: Floats) -> Floats:
        share = (np.clip(values, low, high) - low) / (high - low) if high > low else np.full(len(values), 0.5)
        return np.rint(_SIZE * share)

    points = "".join(f"M{x:.0f} {_SIZE - y:.0f}h0" for x, y in zip(scaled(gold), scaled(predicted), strict=True))
    return dict(kind="values", low=f"{low:g}", high=f"{high:g}", points=points, drawn=len(gold), size=_SIZE)


def _rows_text(rows: float) -> str:
    return f"{rows:,.0f}" if rows == int(rows) else f"{rows:,.1f}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# -- disagreement ------------------------------------------------------------------------------------------------------


def _disagreement(
    disagreement: Disagreement, split: str, groups: Mapping[Group, Any], texts: Sequence[tuple[str, str | None]]
) -> dict[str, Any]:
    """The table of a split: a line per row, a column for each of the first entries."""
    shown = list(zip(disagreement.groups, disagreement.predictions, strict=True))[:MAX_ENTRIES]
    is_regression = disagreement.groups[0].task.problem_type == "regression"
    has_texts = len(texts) == disagreement.size  # else they are those of other rows
    largest = float(np.abs(disagreement.gold).max(initial=0))
    lines = []
    for at, row in enumerate(disagreement.rows.tolist()):
        lines.append(
            dict(
                row=row,
                gold=_predicted(disagreement.groups[0], disagreement.gold[at][None])[0],
                value=disagreement.values[at].item(),
                text=format_metric(disagreement.values[at].item(), as_percent=not is_regression),
                cells=[_prediction_cell(group, runs[:, at], disagreement.gold[at], largest) for group, runs in shown],
                texts=[_shortened(text, _MAX_TEXT) for text in texts[row] if text] if has_texts else [],
            )
        )
    entries = [groups[group] for group, _ in shown]
    numbers = dict(total=disagreement.total, models=len(disagreement.groups), is_regression=is_regression)
    return dict(split=split, entries=entries, lines=lines, has_texts=has_texts) | numbers


def _prediction_cell(group: Group, runs: NDArray[Any], gold: Any, size: float) -> dict[str, Any]:
    """The predictions of an entry's runs for a row: the mean value, or each label with the number of its runs.

    `size` is that of the largest gold value.
    """
    if group.task.problem_type == "regression":
        return dict(text=format_metric(float(runs.mean()), as_percent=False, size=size), is_right=False)
    counts = Counter(_predicted(group, runs)).most_common()
    text = counts[0][0] if len(counts) == 1 else ", ".join(f"{label} {number}" for label, number in counts)
    return dict(text=text, is_right=bool((runs == gold).all()))


def _predicted(group: Group, values: NDArray[Any]) -> list[str]:
    """The names of class numbers or of label sets, or values as text."""
    if group.task.problem_type == "regression":
        return [f"{value:g}" for value in values.tolist()]
    labels = _label_names(group)
    if values.ndim == 2:
        return [", ".join(labels[at] for at in np.flatnonzero(line)) or "none" for line in values]
    return [labels[number] for number in values.tolist()]
