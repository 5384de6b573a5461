"""The leaderboard as plots in SVG: scores per task, a heat map over tasks, score against cost.

Text stays text, so that any script shows in the reader's own fonts. Colours are middle tones that differ for readers
with any colour vision, on light and dark backgrounds. The same content gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.reports.panels import Content, CostPoint, Panel, Panels, Point, cost_points, normalized_score, panels_of
from harness.reports.standings import format_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE = "#757575", "#9e9e9e", "#2a7fb8", "#d1690e"
"""Colours of text, of rules, of own runs, of published scores and baselines; a page may replace them."""

_SHADES = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
"""Shades from 0 to 1: `cividis` of Nuñez et al. 2018, made for readers with any colour vision."""

_CHARACTER = 0.068
"""Average width in inches of a character of 8 points: figures are laid out without measuring text."""
_KEY_LINE = 0.17
"""Inches from a line of the key to the next."""
_MAX_ENTRIES = 40
"""The number of entries that are drawn."""
_PANELS = 3
"""The number of panels in a line."""
_PLAIN: dict[str, Any] = {"parse_math": False}
"""Text arguments that show a dollar as a dollar."""

PLOTS = ("scores.svg", "heatmap.svg", "cost.svg")
"""Names of all files that `render_plots` can return."""


def render_plots(content: Content) -> dict[str, str]:
    """The SVG of each plot that has something to show, by file name."""
    entries = len(content["entries"])
    content = {**content, "entries": content["entries"][:_MAX_ENTRIES]}
    panels = panels_of(content)
    if not panels.panels:
        return {}
    omission = f"the first {_MAX_ENTRIES} of {entries} entries" if entries > _MAX_ENTRIES else ""
    with plain_style():
        figures = _scores(panels, omission), _heat_map(panels, omission), _cost(content, panels, omission)
        drawn = [(name, figure) for name, figure in zip(PLOTS, figures, strict=True) if figure is not None]
        return {name: figure_as_svg(figure, name) for name, figure in drawn}


# -- scores with intervals ---------------------------------------------------------------------------------------------


def _scores(panels: Panels, omission: str) -> Figure:
    """A panel per task, a line per model: its score, the interval, each seed; the last line has published scores."""
    number = len(panels.published)
    published = [] if number == 0 else [panels.published[0] if number == 1 else f"{number} published models"]
    names = [*panels.names, *published]
    across = min(_PANELS, len(panels.panels))
    down = math.ceil(len(panels.panels) / across)
    sizes = Sizes(left=_label_width(names), top=0.5, gap_down=0.72, cell=(2.2, max(0.5, 0.21 * len(names) + 0.1)))
    key = _in_lines(_key_entries(panels, omission), sizes.width(across) - 0.3)
    sizes = sizes._replace(top=sizes.top + _KEY_LINE * len(key))
    figure, add_axes = sizes.figure(across, down)
    for number, panel in enumerate(panels.panels):
        axes = add_axes(number % across, number // across)
        _style(axes, panel.title)
        _draw_scores(axes, panel)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks([])
        if number % across == 0:
            _name_lines(axes, names, range(len(names)))
        if panels.published:
            axes.axhline(len(panels.names) - 0.5, color=FAINT, linewidth=0.6)
        axes.margins(x=0.08)
        axes.grid(axis="x", color=FAINT, linewidth=0.4, alpha=0.5)
        axes.locator_params(axis="x", nbins=5)
    _draw_key(figure, key)
    return figure


def _key_entries(panels: Panels, omission: str) -> list[tuple[str, str]]:
    """Symbols in the plot with their meaning, and their colour."""
    points = [point for panel in panels.panels for point in panel.points if point]
    entries = {
        "● score, the mean over seeds": (BLUE, True),
        "○ with a mark, see the table": (BLUE, any(point.is_marked for point in points)),
        "━ 95 % interval": (BLUE, any(point.low is not None for point in points)),
        "| a seed": (BLUE, any(point.seeds for point in points)),
        "┆ constant baseline": (ORANGE, any(panel.baseline is not None for panel in panels.panels)),
        "◇ published result": (ORANGE, bool(panels.published)),
        f"… {omission}": (INK, bool(omission)),
    }
    return [(text, color) for text, (color, occurs) in entries.items() if occurs]


def _draw_scores(axes: Axes, panel: Panel) -> None:
    factor = 100 if panel.is_percent else 1
    if panel.baseline is not None:
        axes.axvline(factor * panel.baseline, color=ORANGE, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    points = [(line, point) for line, point in enumerate(panel.points) if point is not None]
    spans = [(line, factor * p.low, factor * p.high) for line, p in points if p.low is not None and p.high is not None]
    if spans:
        axes.hlines(*zip(*spans, strict=True), color=BLUE, linewidth=1.6, alpha=0.55)
    seeds = [(factor * seed, line) for line, point in points for seed in point.seeds]
    if seeds:
        axes.plot(*zip(*seeds, strict=True), "|", color=BLUE, markersize=5, markeredgewidth=0.7)

    def dots(points: Iterable[tuple[int, Point]], shape: str, color: str, fill: str) -> None:
        if positions := [(factor * point.score, line) for line, point in points]:
            axes.plot(*zip(*positions, strict=True), shape, color=color, markerfacecolor=fill, markersize=4.6)

    dots([(line, point) for line, point in points if not point.is_marked], "o", BLUE, BLUE)
    dots([(line, point) for line, point in points if point.is_marked], "o", BLUE, "none")
    dots([(len(panel.points), point) for point in panel.published if point is not None], "D", ORANGE, "none")


def _draw_key(figure: Figure, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Draws the meaning of the symbols along the upper edge."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        x, y = 0.15, 1 - (0.15 + _KEY_LINE * number) / height
        for text, color in line:
            figure.text(x / width, y, text[0], color=color, fontsize=8, va="center")
            figure.text((x + 0.13) / width, y, text[2:], color=INK, fontsize=7.5, va="center")
            x += _key_width(text)


def _key_width(text: str) -> float:
    return 0.25 + 0.85 * _CHARACTER * len(text)


def _in_lines(entries: Iterable[tuple[str, str]], width: float) -> list[list[tuple[str, str]]]:
    """The entries of a key in lines of at most this width."""
    lines: list[list[tuple[str, str]]] = [[]]
    for entry in entries:
        if lines[-1] and sum(_key_width(text) for text, _ in (*lines[-1], entry)) > width:
            lines.append([])
        lines[-1].append(entry)
    return lines


def _name_lines(axes: Axes, names: Sequence[str], heights: Iterable[float]) -> None:
    """Draws names left of the axes."""
    for name, y in zip(names, heights, strict=True):
        gap, transform = -0.08 / _inches(axes), axes.get_yaxis_transform()
        axes.text(gap, y, name, transform=transform, color=INK, fontsize=8, ha="right", va="center", **_PLAIN)


def _inches(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(axes.get_position().width * figure.get_size_inches()[0])


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


def _label_width(names: Sequence[str]) -> float:
    return 0.2 + _CHARACTER * max(map(len, names))


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, color=INK, fontsize=8.5, loc="left", **_PLAIN)
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)


# -- a heat map over tasks ---------------------------------------------------------------------------------------------


def _heat_map(panels: Panels, omission: str) -> Figure:
    """A cell per model and task, shaded from the constant baseline to a perfect score."""
    from matplotlib.patches import Rectangle

    names, columns = panels.names, panels.panels
    sizes = Sizes(
        left=_label_width(names), top=0.3, gap_down=0, cell=(0.78 * len(columns), 0.28 * len(names)), bottom=0.55
    )
    figure, add_axes = sizes.figure(1, 1)
    axes = add_axes(0, 0)
    _style(axes, "")
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(names), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for column, panel in enumerate(columns):
        for line, point in enumerate(panel.points):
            normalized = None if point is None else normalized_score(panel, point.score)
            shade = None if normalized is None else min(int(normalized * len(_SHADES)), len(_SHADES) - 1)
            box: dict[str, Any] = dict(facecolor="none", edgecolor=FAINT, linewidth=0.4, alpha=0.5)
            box = box if shade is None else dict(facecolor=_SHADES[shade], linewidth=0)
            axes.add_patch(Rectangle((column + 0.03, line + 0.05), 0.94, 0.9, **box))
            if point is not None:
                text = format_metric(point.score, panel.is_percent) + ("*" if point.is_marked else "")
                color = INK if shade is None else "#ffffff" if shade < 5 else "#000000"
                axes.text(column + 0.5, line + 0.53, text, color=color, fontsize=8, ha="center", va="center")
        title = panel.heading if len(panel.heading) <= 11 else f"{panel.heading[:10]}…"
        axes.text(column + 0.5, -0.15, title, color=INK, fontsize=8, ha="center", va="bottom", **_PLAIN)
    _name_lines(axes, names, [line + 0.5 for line in range(len(names))])
    is_marked = any(point and point.is_marked for panel in columns for point in panel.points)
    notes = ["* with a mark, see the table"] if is_marked else []
    _draw_scale(figure, [*notes, *([omission] if omission else [])])
    return figure


def _draw_scale(figure: Figure, notes: Sequence[str]) -> None:
    """Draws the meaning of the shades along the lower edge."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 0.2 / height, "constant baseline", color=INK, fontsize=7.5, va="center")
    x = 0.25 + _CHARACTER * 17
    for shade in _SHADES:
        box: dict[str, Any] = dict(facecolor=shade, linewidth=0, transform=figure.transFigure)
        figure.add_artist(Rectangle((x / width, 0.13 / height), 0.14 / width, 0.14 / height, **box))
        x += 0.14
    x += 0.1
    for text in ("perfect", *notes):
        figure.text(x / width, 0.2 / height, text, color=INK, fontsize=7.5, va="center")
        x += 0.3 + _CHARACTER * len(text)


# -- score against cost ------------------------------------------------------------------------------------------------


def _cost(content: Content, panels: Panels, omission: str) -> Figure | None:
    """A point per model: its mean score over shared tasks, and the device-hours of one run of each of them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    headings, points = cost_points(content, panels)
    if not points:
        return None
    high = max(2.6, 0.17 * len(points) + 0.1)
    note = f"device-hours for one run of each of {', '.join(headings)}; above, the mean of their scores"
    if len(points) < len(panels.names):
        note += f"; {len(panels.names) - len(points)} of {len(panels.names)} entries lack one of these tasks"
    note += f"; {omission}" if omission else ""
    note_lines = textwrap.wrap(note, 76)
    sizes = Sizes(
        left=0.6,
        top=0.3,
        gap_down=0,
        cell=(5.2, high),
        right=_label_width(panels.names) + 0.9,
        bottom=0.4 + 0.15 * len(note_lines),
    )
    figure, add_axes = sizes.figure(1, 1)
    axes = add_axes(0, 0)
    _style(axes, "Score against cost")
    axes.set_xscale("log")
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
    device_names = sorted({point.devices for point in points})
    shapes = {devices: "osD^vP*Xph"[number % 10] for number, devices in enumerate(device_names)}
    for point in points:
        fill = "none" if point.is_marked else BLUE
        dot: dict[str, Any] = dict(color=BLUE, markerfacecolor=fill, markersize=5)
        axes.plot([point.hours], [100 * point.score], shapes[point.devices], **dot)
    axes.margins(0.12)
    low, top = axes.get_xlim()
    if top < 12 * low:  # so that there is a number or two on the axis
        middle = math.sqrt(low * top)
        axes.set_xlim(middle / 3.5, middle * 3.5)
    low, top = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 1e4 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=2, color=FAINT)
    _number_points(axes, points)
    for line, text in enumerate(note_lines):
        y = -(0.32 + 0.15 * line) / high
        axes.text(0, y, text, transform=axes.transAxes, color=INK, fontsize=7.5, va="center", **_PLAIN)
    for line, point in enumerate(points):
        y = 1 - (line + 0.5) * 0.17 / high
        for x, text in ((1.03, str(line + 1)), (1.075, point.name)):
            axes.text(x, y, text, transform=axes.transAxes, color=INK, fontsize=7.5, va="center", **_PLAIN)
    if len(shapes) > 1:
        handles = [
            axes.plot([], [], shape, color=INK, markersize=4.5, label=devices)[0] for devices, shape in shapes.items()
        ]
        legend = axes.legend(handles=handles, loc="lower right", fontsize=7, labelcolor=INK, framealpha=0)
        for label in legend.get_texts():
            label.set_parse_math(False)
    return figure


def _number_points(axes: Axes, entries: Sequence[CostPoint]) -> None:
    """Draws a number at each point, on the side that is furthest from the other points and numbers."""
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [tuple(to_axes.transform((point.hours, 100 * point.score))) for point in entries]
    occupied = list(points)
    for number, (x, y) in enumerate(points, start=1):
        sides = [(x + dx, y + dy) for dx, dy in ((0.022, 0), (-0.022, 0), (0, 0.045), (0, -0.045))]
        others = [position for position in occupied if position != (x, y)]
        best = max(sides, key=lambda side: min((math.dist(side, other) for other in others), default=1.0))
        occupied.append(best)
        axes.text(*best, str(number), transform=axes.transAxes, color=INK, fontsize=6.5, ha="center", va="center")


# -- as a file ---------------------------------------------------------------------------------------------------------


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
