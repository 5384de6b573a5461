"""A task's rows as pictures: label frequencies, values, and lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.inspection.pictures import BLUE, CHARACTER, GREEN, INK, ORANGE, draw_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_SLICES = 10
"""Slices of a pie; with more labels, the last slice is all others."""

_MAX_BARS = 40
"""Labels that have bars, the most frequent ones."""

_BINS = 30

_LEGEND: dict[str, Any] = {"frameon": False, "loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}
"""A legend above the axes, one split per line: next to each other they would be wider than the picture."""

_LEGEND_LINE = 0.2
"""Height in inches of a line of a legend."""

_COLORS = (BLUE, ORANGE, GREEN, "#8a6fb5", "#b84a62", "#7d7d7d")


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
        legend = axes.legend(wedges, names, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for text in legend.get_texts():
            text.set_parse_math(False)

    return draw_picture(draw, title, 3.2 + max(map(len, names)) * CHARACTER + 0.6, 3.2)


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
        axes.legend(**_LEGEND)

    height = 0.8 + _LEGEND_LINE * len(counts) + len(labels) * max(0.25, 0.17 * len(counts))
    return draw_picture(draw, title, 4.2 + max(map(len, labels)) * CHARACTER, height)


def value_histograms(values: Mapping[str, NDArray[np.float64]], title: str) -> dict[str, bytes]:
    """The values of each split, in percent of its rows, as outlines over the same bins."""
    return _histograms(values, "value", title)


def length_histograms(tokens: Mapping[str, NDArray[np.int64]], max_length: int, title: str) -> dict[str, bytes]:
    """The tokens per row of each split, and max_length; the longest percent of the rows is drawn at the end."""
    pooled = np.concatenate(list(tokens.values()))
    longest = float(pooled.max())
    end = max(float(np.percentile(pooled, 99)), min(max_length, longest)) * 1.05
    drawn = {split: np.minimum(lengths, math.ceil(end)).astype(np.float64) for split, lengths in tokens.items()}
    label = "tokens per row" + (", the longest at the end" if longest > end else "")
    return _histograms(drawn, label, title, max_length if max_length <= end else None)


def _histograms(
    values_by_split: Mapping[str, NDArray[np.float64]], label: str, title: str, max_length: int | None = None
) -> dict[str, bytes]:
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
        axes.legend(**_LEGEND)

    lines = len(values_by_split) + (max_length is not None)
    return draw_picture(draw, title, 5.0, 3.4 + _LEGEND_LINE * lines)
