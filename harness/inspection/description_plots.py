"""A task's rows as pictures: how many have each label, what the values are, and how long the rows are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.inspection.pictures import LETTER, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SLICES = 10
"""Of a pie; more labels are one slice, the others."""

_BARS = 40
"""Labels that have bars, the most frequent ones."""

_ABOVE: dict[str, Any] = {"frameon": False, "loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}
"""Where a legend is, one split a line: beside each other they would be wider than the picture."""

_BINS = 30

_LINE = 0.2
"""Inches of a line of a legend."""

_COLORS = ("#2a7fb8", "#d1690e", "#3f9b57", "#8a6fb5", "#b84a62", "#7d7d7d")


def label_pie(counts: Mapping[str, int], title: str) -> dict[str, bytes]:
    """By format: the share of the rows that has each label, the most frequent first."""
    found = sorted(((name, count) for name, count in counts.items() if count), key=lambda item: -item[1])
    if len(found) > _SLICES:
        rest = found[_SLICES - 1 :]
        found = [*found[: _SLICES - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    total = sum(count for _, count in found)
    names = [f"{name}: {count:,} ({count / total:.1%})" for name, count in found]

    def draw(axes: Axes) -> None:
        from matplotlib import colormaps

        colors = [colormaps["tab10"](number) for number in range(len(found))]
        look = {"edgecolor": "white", "linewidth": 1}
        wedges = axes.pie([c for _, c in found], colors=colors, startangle=90, counterclock=False, wedgeprops=look)[0]
        legend = axes.legend(wedges, names, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for text in legend.get_texts():
            text.set_parse_math(False)

    return drawn(draw, title, 3.2 + max(map(len, names)) * LETTER + 0.6, 3.2)


def label_bars(counts: Mapping[str, Mapping[str, int]], rows: Mapping[str, int], title: str) -> dict[str, bytes]:
    """By format: for each label a bar by split, the share of the split's rows that has it.

    counts: by split, rows by label; rows: by split.
    """
    first, *_ = counts.values()
    frequent = sorted(first, key=lambda label: -sum(by_label[label] for by_label in counts.values()))[:_BARS]
    labels = [label for label in first if label in set(frequent)]
    thick = 0.8 / len(counts)
    left_out = f"{title}: the {len(labels)} most frequent of {len(first)} labels" if len(first) > _BARS else title

    def draw(axes: Axes) -> None:
        for number, ((split, by_label), color) in enumerate(zip(counts.items(), _colors(len(counts)), strict=True)):
            places = np.arange(len(labels)) + (number - (len(counts) - 1) / 2) * thick
            shares = [100 * by_label[label] / rows[split] for label in labels]
            bars = axes.barh(places, shares, height=thick, color=color, label=f"{split} ({rows[split]:,} rows)")
            axes.bar_label(bars, [f"{by_label[label]:,}" for label in labels], padding=2, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.set_xlabel("percent of the split's rows")
        axes.legend(**_ABOVE)

    height = 0.8 + _LINE * len(counts) + len(labels) * max(0.25, 0.17 * len(counts))
    return drawn(draw, left_out, 4.2 + max(map(len, labels)) * LETTER, height)


def histograms(values: Mapping[str, NDArray[np.float64]], what: str, title: str) -> dict[str, bytes]:
    """By format: the values by split, in percent of its rows, as outlines over the same bins."""

    def draw(axes: Axes) -> None:
        _outlines(axes, values)
        axes.set_xlabel(what)
        axes.legend(**_ABOVE)

    return drawn(draw, title, 5.0, 3.4 + _LINE * len(values))


def length_histograms(tokens: Mapping[str, NDArray[np.int64]], max_length: int, title: str) -> dict[str, bytes]:
    """By format: the rows' tokens by split up to the longest percent, with the length from which on rows are cut."""
    everything = np.concatenate(list(tokens.values()))
    end = max(float(np.percentile(everything, 99)), min(max_length, float(everything.max()))) * 1.05
    shown = {split: np.minimum(found, math.ceil(end)).astype(np.float64) for split, found in tokens.items()}
    beyond = float(everything.max()) > end

    def draw(axes: Axes) -> None:
        _outlines(axes, shown)
        if max_length <= end:
            axes.axvline(max_length, color="#757575", linewidth=1, linestyle="--", label=f"max_length {max_length}")
        axes.set_xlabel("tokens of a row" + (", the longest at the end" if beyond else ""))
        axes.legend(**_ABOVE)

    return drawn(draw, title, 5.0, 3.4 + _LINE * (len(tokens) + 1))


def _outlines(axes: Axes, values: Mapping[str, NDArray[np.float64]]) -> None:
    everything = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(everything, bins=_BINS)
    if np.equal(everything, np.round(everything)).all():  # each bin has as many whole numbers as any other
        width = max(1, math.ceil((everything.max() - everything.min() + 1) / _BINS))
        edges = np.arange(everything.min() - 0.5, everything.max() + width, width)
    for (split, found), color in zip(values.items(), _colors(len(values)), strict=True):
        weights = np.full(len(found), 100 / len(found))
        axes.hist(
            found, edges.tolist(), weights=weights, histtype="step", color=color, label=f"{split} ({len(found):,} rows)"
        )
    axes.set_ylabel("percent of the split's rows")


def _colors(number: int) -> list[str]:
    return [_COLORS[place % len(_COLORS)] for place in range(number)]
