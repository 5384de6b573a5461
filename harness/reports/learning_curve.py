"""The learning curve of a run, from the history in its record: a table in Markdown and a plot in SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.facts.evaluation_steps import epoch_text
from harness.facts.record_parts import HistoryEntry
from harness.facts.records import RunRecord
from harness.metrics.registry import format_score, title_of
from harness.reports.drawing import BLUE, FAINT, INK, ORANGE, draw_legend, figure_as_svg, plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT = "learning-curve.svg"
"""The file name of the plot."""

_MAX_LINES = 20
"""The number of evaluations in the table."""
_MAX_MARKERS = 40
"""The number of evaluations up to which each has a dot in the plot."""
_SHAPES = ("-", "--", ":", "-.")
"""Line styles that tell several main metrics from each other."""


def curve_table(record: RunRecord) -> str:
    """The evaluations as a table, the selected one in bold; of a long history some at even distances."""
    names = ["loss", *(name for name in record.task.main_metrics if name != "loss")]
    head = ["epoch", "step", "training loss", *(title_of(name).replace("|", r"\|") for name in names)]
    lines = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for entry in _sample(record):
        values = [entry.train_loss, *(entry.metrics.get(name) for name in names)]
        cells = [epoch_text(entry.epoch), f"{entry.step:,}", *map(format_score, values)]
        if entry.epoch == record.selected_epoch:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sample(record: RunRecord) -> list[HistoryEntry]:
    """The whole history, or `_MAX_LINES` entries of it with the last one, and the selected one."""
    history, count = record.history, len(record.history)
    if count <= _MAX_LINES:
        return history
    numbers = {round(number * count / _MAX_LINES) - 1 for number in range(1, _MAX_LINES + 1)}
    return [entry for i, entry in enumerate(history) if i in numbers or entry.epoch == record.selected_epoch]


def curve_plot(record: RunRecord) -> str | None:
    """The SVG of losses and main metrics over epochs; None for a history of fewer than two evaluations."""
    if len(record.history) < 2:
        return None
    from matplotlib.figure import Figure

    with plain_style():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        training: list[float | None] = [entry.train_loss for entry in record.history]
        selection = (_values(record, "loss"), BLUE, "-")
        _draw(upper, record, {"training loss": (training, FAINT, "-"), f"{record.task.select_on} loss": selection})
        metrics = [name for name in record.task.main_metrics if name != "loss"]
        shapes = [_SHAPES[number % len(_SHAPES)] for number in range(len(metrics))]
        _draw(lower, record, {title_of(n): (_values(record, n), BLUE, s) for n, s in zip(metrics, shapes, strict=True)})
        lower.set_xlabel("epochs", color=INK, fontsize=8)
        return figure_as_svg(figure, PLOT)


def _values(record: RunRecord, metric: str) -> list[float | None]:
    return [entry.metrics.get(metric) for entry in record.history]


def _draw(axes: Axes, record: RunRecord, curves: dict[str, tuple[list[float | None], str, str]]) -> None:
    """Draws curves with their names, gaps where a metric is undefined, and a rule at the selected evaluation."""
    epochs = [entry.epoch for entry in record.history]
    for name, (values, color, shape) in curves.items():
        heights = [math.nan if value is None else value for value in values]
        marker = "o" if len(epochs) <= _MAX_MARKERS else ""
        axes.plot(epochs, heights, shape, color=color, linewidth=1.4, marker=marker, markersize=3, label=name)
    if record.selected_epoch is not None:
        axes.axvline(record.selected_epoch, color=ORANGE, linewidth=1, linestyle=(0, (3, 2)), label="these weights")
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.5)
    draw_legend(axes, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, labelcolor=INK, frameon=False)
