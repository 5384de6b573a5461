"""Parts of the plots: their colours, the layout of panels, names, a key, and the SVG of a figure.

Text stays text, so that any script shows in the reader's own fonts. Colours are middle tones that differ for readers
with any colour vision, on light and dark backgrounds. The same figure gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE = "#757575", "#9e9e9e", "#2a7fb8", "#d1690e"
"""Colours of text, of rules, of own runs, of published scores and baselines; a page may replace them."""

CHARACTER = 0.068
"""Average width in inches of a character of 8 points: figures are laid out without measuring text."""
_TITLE_POINTS = 8.5
"""The size of a panel's title."""
_KEY_LINE = 0.17
"""Inches from a line of the key to the next."""
PANELS_PER_LINE = 3
"""Panels in a line of a plot."""
PLAIN: dict[str, Any] = {"parse_math": False}
"""Text arguments that show a dollar as a dollar."""


def _draw_key(figure: Figure, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Draws the meaning of the symbols along the upper edge."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        x, y = 0.15, 1 - (0.15 + _KEY_LINE * number) / height
        for text, color in line:
            figure.text(x / width, y, text[0], color=color, fontsize=8, va="center", **PLAIN)
            figure.text((x + 0.13) / width, y, text[2:], color=INK, fontsize=7.5, va="center", **PLAIN)
            x += _key_width(text)


def _key_width(text: str) -> float:
    return 0.25 + 0.85 * CHARACTER * len(text)


def _in_lines(entries: Iterable[tuple[str, str]], width: float) -> list[list[tuple[str, str]]]:
    """The entries of a key in lines of at most this width."""
    lines: list[list[tuple[str, str]]] = [[]]
    for entry in entries:
        if lines[-1] and sum(_key_width(text) for text, _ in (*lines[-1], entry)) > width:
            lines.append([])
        lines[-1].append(entry)
    return lines


def name_lines(axes: Axes, names: Sequence[str], heights: Iterable[float]) -> None:
    """Draws names left of the axes."""
    figure, transform = axes.get_figure(root=True), axes.get_yaxis_transform()
    assert figure is not None
    x = -0.08 / float(axes.get_position().width * figure.get_size_inches()[0])
    for name, y in zip(names, heights, strict=True):
        axes.text(x, y, name, transform=transform, color=INK, fontsize=8, ha="right", va="center", **PLAIN)


class Sizes(NamedTuple):
    """The layout of a figure of equal panels, in inches."""

    left: float
    top: float
    gap_down: float
    cell: tuple[float, float]
    gap_across: float = 0.25
    right: float = 0.15
    bottom: float = 0.35

    def width(self, across: int) -> float:
        """The width of a figure with that many panels in a line."""
        return self.left + across * self.cell[0] + (across - 1) * self.gap_across + self.right

    def figure(self, across: int, down: int) -> tuple[Figure, Callable[[int, int], Axes]]:
        """An empty figure, and a function that adds axes at (column, line)."""
        from matplotlib.figure import Figure

        wide, high = self.cell
        width = self.width(across)
        height = self.top + down * high + (down - 1) * self.gap_down + self.bottom
        figure = Figure(figsize=(width, height))
        figure.patch.set_visible(False)

        def add_axes(column: int, line: int) -> Axes:
            x = self.left + column * (wide + self.gap_across)
            y = height - self.top - high - line * (high + self.gap_down)
            return figure.add_axes((x / width, y / height, wide / width, high / height))

        return figure, add_axes


def panel_figure(titles: Sequence[str], sizes: Sizes, key: Mapping[str, tuple[str, bool]]) -> tuple[Figure, list[Axes]]:
    """A figure of a panel for each title, `PANELS_PER_LINE` in a line at most, below its key.

    `key` has the texts that explain symbols, each with its colour and whether the symbol occurs.
    """
    across = min(PANELS_PER_LINE, len(titles))
    entries = [(text, color) for text, (color, occurs) in key.items() if occurs]
    lines = _in_lines(entries, sizes.width(across) - 0.3)
    sizes = sizes._replace(top=sizes.top + _KEY_LINE * len(lines))
    figure, add_axes = sizes.figure(across, math.ceil(len(titles) / across))
    panels = [add_axes(number % across, number // across) for number in range(len(titles))]
    most = int((sizes.cell[0] + sizes.gap_across) / (_TITLE_POINTS / 8 * CHARACTER))
    for axes, title in zip(panels, titles, strict=True):
        style(axes, shortened(title, most))
    _draw_key(figure, lines)
    return figure, panels


def shortened(text: str, most: int) -> str:
    """The text, without its middle where it has more than `most` characters."""
    start = most // 2
    return text if len(text) <= most else f"{text[:start]}…{text[start + 1 - most :]}"


def label_width(names: Sequence[str]) -> float:
    """The width in inches of a column of names."""
    return 0.2 + CHARACTER * max(map(len, names))


def style(axes: Axes, title: str) -> None:
    """Draws the title, and nothing of the frame but its lower side."""
    axes.set_title(title, color=INK, fontsize=_TITLE_POINTS, loc="left", **PLAIN)
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set_fontsize(8)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)


def draw_legend(axes: Axes, *entries: Any, **settings: Any) -> None:
    """Draws the legend that matplotlib makes of these arguments, in whose texts a dollar is a dollar."""
    for text in axes.legend(*entries, **settings).get_texts():
        text.set_parse_math(False)


@contextmanager
def plain_style() -> Iterator[None]:
    """Figures that are drawn within it do not depend on the reader's own settings of matplotlib; text stays text."""
    import matplotlib  # most of a second

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.fonttype"] = "none"
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's font may have it
        yield


def figure_as_svg(figure: Figure, name: str) -> str:
    """The SVG of a figure; equal figures of the same name have equal bytes."""
    import matplotlib

    buffer = io.StringIO()
    matplotlib.rcParams["svg.hashsalt"] = name
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata)
    return _compact(buffer.getvalue())


def _compact(svg: str) -> str:
    """A shorter SVG whose CSS rules do not apply to the page around it."""
    svg = re.sub(r"(font-family: [^;\"]*; ?)|( transform=\"rotate\(-?0 [^\"]*\")|( *<!--.*?-->\n)", "", svg)
    rules = ".plot *{stroke-linejoin: round; stroke-linecap: butt} .plot text{font-family: system-ui, sans-serif}"
    svg = re.sub(r"\*\{stroke-linejoin[^}]*\}", rules, svg, count=1)
    return svg.replace("<svg ", '<svg class="plot" role="img" ', 1)
