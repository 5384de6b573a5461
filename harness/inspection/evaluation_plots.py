"""A model's errors as pictures: confused classes, missed and added labels, predicted against gold values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.inspection.pictures import BLUE, CHARACTER, GRAY, INK, ORANGE, draw_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NUMBERED = 15
"""Classes of the largest confusion matrix that has a number in each cell."""


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

    return draw_picture(draw, title, side + longest * CHARACTER + 0.9, side + longest * CHARACTER + 1.0)


def stacked_label_bars(labels: Sequence[str], rows: Mapping[str, NDArray[np.int64]], title: str) -> dict[str, bytes]:
    """A bar for each label of a multi-label task, of three parts: rows by outcome, int64[C] each."""

    def draw(axes: Axes) -> None:
        start = np.zeros(len(labels))
        for (outcome, counts), color in zip(rows.items(), (BLUE, ORANGE, GRAY), strict=True):
            axes.barh(range(len(labels)), counts, left=start, color=color, label=outcome)
            start = start + counts
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel("rows")
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw_picture(draw, title, 4.0 + max(map(len, labels)) * CHARACTER, 1.2 + 0.25 * len(labels))


def scatter(gold: NDArray[np.float64], predicted: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """Each row's predicted value above its gold value, and the line on which both are equal."""

    def draw(axes: Axes) -> None:
        both = np.concatenate([gold, predicted])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, color=GRAY, linewidth=1, zorder=1)
        axes.scatter(gold, predicted, s=8, alpha=0.4, color=BLUE, linewidths=0, zorder=2)
        axes.set(xlabel="gold", ylabel="predicted")

    return draw_picture(draw, title, 5.0, 4.6)


def error_histogram(errors: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """Rows by error, predicted minus gold, and the mean error."""

    def draw(axes: Axes) -> None:
        axes.hist(errors, bins=40, color=BLUE)
        axes.axvline(0.0, color=INK, linewidth=1)
        axes.axvline(float(errors.mean()), color=ORANGE, linewidth=1, linestyle="--", label="mean")
        axes.legend(frameon=False)
        axes.set(xlabel="predicted minus gold", ylabel="rows")

    return draw_picture(draw, title, 5.0, 3.6)
