"""A model's answers as pictures: which classes it mixes up, and how far its values lie from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.inspection.pictures import LETTER, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 15
"""Classes up to which each cell of a confusion matrix has its number."""


def confusion_matrix(labels: Sequence[str], counts: NDArray[np.int64], title: str) -> dict[str, bytes]:
    """By format: the share of each class's rows (down) that was given each class (across), with the counts."""
    longest = max(map(len, labels))
    cell = 0.62 if len(labels) <= _NUMBERED else 0.25
    side = cell * len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=90 if longest > 6 else 0, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("gold")
        for row, column in np.ndindex(counts.shape if len(labels) <= _NUMBERED else (0, 0)):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=ink)

    return drawn(draw, title, side + longest * LETTER + 0.9, side + longest * LETTER + 1.0)


def label_bars(labels: Sequence[str], rows: Mapping[str, NDArray[np.int64]], title: str) -> dict[str, bytes]:
    """By format: for each label of a multi-label task a bar of the rows where it was found, missed or added."""
    longest = max(map(len, labels))

    def draw(axes: Axes) -> None:
        start = np.zeros(len(labels))
        for (name, counts), color in zip(rows.items(), ("#2a7fb8", "#d1690e", "#9e9e9e"), strict=True):
            axes.barh(range(len(labels)), counts, left=start, color=color, label=name)
            start = start + counts
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel("rows")
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return drawn(draw, title, 4.0 + longest * LETTER, 1.2 + 0.25 * len(labels))


def scatter(gold: NDArray[np.float64], predicted: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """By format: each row's predicted value above its gold value, with the line on which both agree."""

    def draw(axes: Axes) -> None:
        both = np.concatenate([gold, predicted])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, color="#9e9e9e", linewidth=1, zorder=1)
        axes.scatter(gold, predicted, s=8, alpha=0.4, color="#2a7fb8", linewidths=0, zorder=2)
        axes.set_xlabel("gold")
        axes.set_ylabel("predicted")

    return drawn(draw, title, 5.0, 4.6)


def histogram(errors: NDArray[np.float64], title: str) -> dict[str, bytes]:
    """By format: how many rows are off by how much, predicted minus gold."""

    def draw(axes: Axes) -> None:
        axes.hist(errors, bins=40, color="#2a7fb8")
        axes.axvline(0.0, color="#757575", linewidth=1)
        axes.axvline(float(errors.mean()), color="#d1690e", linewidth=1, linestyle="--", label="mean")
        axes.legend(frameon=False)
        axes.set_xlabel("predicted minus gold")
        axes.set_ylabel("rows")

    return drawn(draw, title, 5.0, 3.6)
