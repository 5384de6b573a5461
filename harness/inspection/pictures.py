"""Pictures of a task's rows and of a model's errors: one set of axes under a title each, as SVG and PNG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.reports.drawing import BLUE, FAINT, INK, ORANGE, draw_legend, plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")

_COLORS = (BLUE, ORANGE, "#3f9b57", "#8a6fb5", "#b84a62", "#7d7d7d")
"""Colours of splits."""

_CHARACTER = 0.075
"""Average width in inches of a character of 9 points."""

_TITLE_WIDTH = 50
"""Characters of a title per line."""

_LEGEND: dict[str, Any] = {"frameon": False, "loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}
"""A legend above the axes, one split per line: next to each other they would be wider than the picture."""

_LEGEND_LINE = 0.2
"""Height in inches of a line of a legend."""

_MAX_SLICES = 10
"""Slices of a pie; with more labels, the last slice is all others."""

_MAX_BARS = 40
"""Labels that have bars, the most frequent ones."""

_BINS = 30

_MAX_NUMBERED = 15
"""Classes of the largest confusion matrix that has a number in each cell."""


def _draw_picture(draw: Callable[[Axes], None], title: str, width: float, height: float) -> dict[str, bytes]:
    """Returns the picture that `draw` makes on the axes, by format; width and height in inches, wider for a long title.

    Equal pictures have equal bytes, whatever the reader's own settings of matplotlib are.
    """
    import matplotlib
    from matplotlib.figure import Figure  # pyplot would open windows and keep global state

    with plain_style():
        matplotlib.rcParams |= {"font.size": 9, "svg.hashsalt": "harness"}
        lines = textwrap.wrap(title, _TITLE_WIDTH)
        width = max(width, max(map(len, lines)) * _CHARACTER * 1.25)
        figure = Figure(figsize=(width, height + 0.2 * (len(lines) - 1)), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.suptitle("\n".join(lines), parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        picture = {}
        for form in FORMATS:
            buffer = io.BytesIO()
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
            picture[form] = buffer.getvalue()
        return picture


# -- rows --------------------------------------------------------------------------------------------------------------


def label_pie(counts: Mapping[str, int], title: str) -> dict[str, bytes]:
    """The share of the rows that has each label, the most frequent first."""
    slices = sorted(((name, count) for name, count in counts.items() if count), key=lambda item: -item[1])
    if len(slices) > _MAX_SLICES:
        rest = slices[_MAX_SLICES - 1 :]
        slices = [*slices[: _MAX_SLICES - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    sizes = [count for _, count in slices]
    names = [f"{name}: {count:,} ({count / sum(sizes):.1%})" for name, count in slices]

    def draw(axes: Axes) -> None:
        from matplotlib import colormaps

        colors = [colormaps["tab10"](number) for number in range(len(slices))]
        edges = {"edgecolor": "white", "linewidth": 1}
        wedges = axes.pie(sizes, colors=colors, startangle=90, counterclock=False, wedgeprops=edges)[0]
        draw_legend(axes, wedges, names, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return _draw_picture(draw, title, 3.2 + max(map(len, names)) * _CHARACTER + 0.6, 3.2)


def label_bars(counts: Mapping[str, Mapping[str, int]], rows: Mapping[str, int], title: str) -> dict[str, bytes]:
    """A bar for each label and split, the share of the split's rows that has the label.

    Args:
        counts: rows by label, by split.
        rows: all rows, by split.
    """
    first, *_ = counts.values()
    frequent = sorted(first, key=lambda label: -sum(by_label[label] for by_label in counts.values()))[:_MAX_BARS]
    labels = [label for label in first if label in set(frequent)]
    thickness = 0.8 / len(counts)
    if len(first) > _MAX_BARS:
        title = f"{title}: the {len(labels)} most frequent of {len(first)} labels"

    def draw(axes: Axes) -> None:
        for number, ((split, by_label), color) in enumerate(zip(counts.items(), cycle(_COLORS), strict=False)):
            heights = np.arange(len(labels)) + (number - (len(counts) - 1) / 2) * thickness
            shares = [100 * by_label[label] / rows[split] for label in labels]
            bars = axes.barh(heights, shares, height=thickness, color=color, label=f"{split} ({rows[split]:,} rows)")
            axes.bar_label(bars, [f"{by_label[label]:,}" for label in labels], padding=2, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.set_xlabel("percent of the split's rows")
        draw_legend(axes, **_LEGEND)

    height = 0.8 + _LEGEND_LINE * len(counts) + len(labels) * max(0.25, 0.17 * len(counts))
    return _draw_picture(draw, title, 4.2 + max(map(len, labels)) * _CHARACTER, height)


def length_histograms(tokens: Mapping[str, NDArray[np.int64]], max_length: int, title: str) -> dict[str, bytes]:
    """The tokens per row of each split, and max_length; the longest percent of the rows is drawn at the end."""
    pooled = np.concatenate(list(tokens.values()))
    longest = float(pooled.max())
    end = max(float(np.percentile(pooled, 99)), min(max_length, longest)) * 1.05
    drawn = {split: np.minimum(lengths, math.ceil(end)).astype(np.float64) for split, lengths in tokens.items()}
    label = "tokens per row" + (", the longest at the end" if longest > end else "")
    return value_histograms(drawn, title, label, max_length if max_length <= end else None)


def value_histograms(
    values_by_split: Mapping[str, NDArray[np.float64]], title: str, label: str = "value", max_length: int | None = None
) -> dict[str, bytes]:
    """The values of each split, in percent of its rows, as outlines over the same bins, and max_length."""
    pooled = np.concatenate(list(values_by_split.values()))
    edges = np.histogram_bin_edges(pooled, bins=_BINS)
    if np.equal(pooled, np.round(pooled)).all():  # every bin has the same number of whole numbers
        width = max(1, math.ceil((pooled.max() - pooled.min() + 1) / _BINS))
        edges = np.arange(pooled.min() - 0.5, pooled.max() + width, width)

    def draw(axes: Axes) -> None:
        for (split, values), color in zip(values_by_split.items(), cycle(_COLORS), strict=False):
            weights, name = np.full(len(values), 100 / len(values)), f"{split} ({len(values):,} rows)"
            axes.hist(values, edges.tolist(), weights=weights, histtype="step", color=color, label=name)
        if max_length is not None:
            axes.axvline(max_length, color=INK, linewidth=1, linestyle="--", label=f"max_length {max_length}")
        axes.set(xlabel=label, ylabel="percent of the split's rows")
        draw_legend(axes, **_LEGEND)

    lines = len(values_by_split) + (max_length is not None)
    return _draw_picture(draw, title, 5.0, 3.4 + _LEGEND_LINE * lines)


# -- errors ------------------------------------------------------------------------------------------------------------


def confusion_matrix(labels: Sequence[str], counts: NDArray[np.int64], title: str) -> dict[str, bytes]:
    """The share of each gold class's rows (down) that have each predicted class (across), with counts int64[C, C]."""
    longest, is_numbered = max(map(len, labels)), len(labels) <= _MAX_NUMBERED
    side = (0.62 if is_numbered else 0.25) * len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=90 if longest > 6 else 0, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.set(xlabel="predicted", ylabel="gold")
        for row, column in np.ndindex(counts.shape if is_numbered else (0, 0)):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)

    return _draw_picture(draw, title, side + longest * _CHARACTER + 0.9, side + longest * _CHARACTER + 1.0)


def stacked_label_bars(labels: Sequence[str], rows: Mapping[str, NDArray[np.int64]], title: str) -> dict[str, bytes]:
    """A bar for each label of a multi-label task, of three parts: rows by outcome, int64[C] each."""

    def draw(axes: Axes) -> None:
        start = np.zeros(len(labels))
        for (outcome, counts), color in zip(rows.items(), (BLUE, ORANGE, FAINT), strict=True):
            axes.barh(range(len(labels)), counts, left=start, color=color, label=outcome)
            start = start + counts
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel("rows")
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _draw_picture(draw, title, 4.0 + max(map(len, labels)) * _CHARACTER, 1.2 + 0.25 * len(labels))


def scatter(gold: NDArray[np.float64], predicted: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """Each row's predicted value above its gold value, and the line on which both are equal."""

    def draw(axes: Axes) -> None:
        both = np.concatenate([gold, predicted])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, color=FAINT, linewidth=1, zorder=1)
        axes.scatter(gold, predicted, s=8, alpha=0.4, color=BLUE, linewidths=0, zorder=2)
        axes.set(xlabel="gold", ylabel="predicted")

    return _draw_picture(draw, title, 5.0, 4.6)


def error_histogram(errors: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """Rows by error, predicted minus gold, and the mean error."""

    def draw(axes: Axes) -> None:
        axes.hist(errors, bins=40, color=BLUE)
        axes.axvline(0.0, color=INK, linewidth=1)
        axes.axvline(float(errors.mean()), color=ORANGE, linewidth=1, linestyle="--", label="mean")
        axes.legend(frameon=False)
        axes.set(xlabel="predicted minus gold", ylabel="rows")

    return _draw_picture(draw, title, 5.0, 3.6)
