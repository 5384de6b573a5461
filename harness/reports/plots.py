"""The leaderboard as plots in SVG: scores per task, a heat map over tasks, score against cost and training rows.

The same content gives the same bytes with the same matplotlib.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.reports.cells import format_metric
from harness.reports.drawing import (
    BLUE,
    CHARACTER,
    FAINT,
    INK,
    ORANGE,
    PANELS_PER_LINE,
    PLAIN,
    Sizes,
    draw_legend,
    figure_as_svg,
    label_width,
    name_lines,
    panel_figure,
    plain_style,
    shortened,
    style,
)
from harness.reports.panels import (
    Content,
    CostPoint,
    Curve,
    CurvePanel,
    Panel,
    Panels,
    Point,
    cost_points,
    curve_panels,
    normalized_score,
    panels_of,
    pareto_front,
)
from harness.stats.uncertainty import Aggregate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHADES = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
"""Shades from 0 to 1: `cividis` of Nuñez et al. 2018, made for readers with any colour vision."""

_MAX_ENTRIES = 40
"""The number of entries that are drawn."""
_NUMBER_SIZE = 0.1
"""Width and height in inches of the number of an entry in the plot of cost."""
_NUMBER_STEP = 0.1144, 0.117
"""Inches from a point to its number, across and up."""
_LINES = (
    ("●", "o", BLUE),
    ("■", "s", "#b8446a"),
    ("▲", "^", "#1d9a74"),
    ("◆", "D", "#8a68bd"),
    ("▼", "v", "#97792c"),
    ("✚", "P", "#5c7f94"),
)
"""The symbol in the key, the marker and the colour of each learning curve; they repeat after six."""
_MAX_CURVES = 12
"""The number of learning curves that are drawn."""

PLOTS = ("scores.svg", "heatmap.svg", "cost.svg", "learning_curves.svg")
"""Names of all files that `render_plots` can return."""


def render_plots(content: Content) -> dict[str, str]:
    """The SVG of each plot that has something to show, by file name."""
    entries, curves = len(content["entries"]), curve_panels(content)
    content = {**content, "entries": content["entries"][:_MAX_ENTRIES]}
    panels = panels_of(content)
    if not panels.panels:
        return {}
    omission = f"the first {_MAX_ENTRIES} of {entries} entries" if entries > _MAX_ENTRIES else ""
    with plain_style():
        figures = (
            _scores(panels, content["aggregate"], omission),
            *(_heat_map(panels, omission), _cost(content, panels, omission)),
            _learning_curves(curves) if curves else None,
        )
        drawn = [(name, figure) for name, figure in zip(PLOTS, figures, strict=True) if figure is not None]
        return {name: figure_as_svg(figure, name) for name, figure in drawn}


# -- scores with intervals ---------------------------------------------------------------------------------------------


def _scores(panels: Panels, aggregate: Aggregate, omission: str) -> Figure:
    """A panel per task, a line per model: its score, the interval, each seed; the last line has published scores."""
    number = len(panels.published)
    published = [] if number == 0 else [panels.published[0] if number == 1 else f"{number} published models"]
    names = [*panels.names, *published]
    sizes = Sizes(left=label_width(names), top=0.5, gap_down=0.72, cell=(2.2, max(0.5, 0.21 * len(names) + 0.1)))
    key = _key_of_scores(panels, aggregate, omission)
    figure, panel_axes = panel_figure([panel.title for panel in panels.panels], sizes, key)
    for number, (panel, axes) in enumerate(zip(panels.panels, panel_axes, strict=True)):
        _draw_scores(axes, panel)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks([])
        if number % PANELS_PER_LINE == 0:
            name_lines(axes, names, range(len(names)))
        if panels.published:
            axes.axhline(len(panels.names) - 0.5, color=FAINT, linewidth=0.6)
        axes.margins(x=0.08)
        axes.grid(axis="x", color=FAINT, linewidth=0.4, alpha=0.5)
        axes.locator_params(axis="x", nbins=5)
    return figure


def _key_of_scores(panels: Panels, aggregate: Aggregate, omission: str) -> dict[str, tuple[str, bool]]:
    """Symbols with their meaning, colour and whether they occur."""
    points = [point for panel in panels.panels for point in panel.points if point]
    return {
        f"● score, the {aggregate} over seeds": (BLUE, True),
        "○ with a mark, see the table": (BLUE, any(point.is_marked for point in points)),
        "━ 95 % interval": (BLUE, any(point.low is not None for point in points)),
        "| a seed": (BLUE, any(point.seeds for point in points)),
        "┆ constant baseline": (ORANGE, any(panel.baseline is not None for panel in panels.panels)),
        "◇ published result": (ORANGE, bool(panels.published)),
        f"… {omission}": (INK, bool(omission)),
    }


def _draw_scores(axes: Axes, panel: Panel) -> None:
    factor = 100 if panel.as_percent else 1
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


# -- a heat map over tasks ---------------------------------------------------------------------------------------------


def _heat_map(panels: Panels, omission: str) -> Figure:
    """A cell per model and task, shaded from the constant baseline to a perfect score."""
    from matplotlib.patches import Rectangle

    names, columns = panels.names, panels.panels
    is_marked = any(point and point.is_marked for panel in columns for point in panel.points)
    notes = ["perfect", *(["* with a mark, see the table"] if is_marked else []), *([omission] if omission else [])]
    left, cell = label_width(names), (0.78 * len(columns), 0.28 * len(names))
    right = max(0.15, _scale_width(notes) - left - cell[0])
    sizes = Sizes(left=left, top=0.3, gap_down=0, cell=cell, right=right, bottom=0.55)
    figure, add_axes = sizes.figure(1, 1)
    axes = add_axes(0, 0)
    style(axes, "")
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
                text = format_metric(point.score, panel.as_percent) + ("*" if point.is_marked else "")
                color = INK if shade is None else "#ffffff" if shade < 5 else "#000000"
                axes.text(column + 0.5, line + 0.53, text, color=color, fontsize=8, ha="center", va="center")
        heading = shortened(panel.heading, 11)
        axes.text(column + 0.5, -0.15, heading, color=INK, fontsize=8, ha="center", va="bottom", **PLAIN)
    name_lines(axes, names, [line + 0.5 for line in range(len(names))])
    _draw_scale(figure, notes)
    return figure


def _scale_width(notes: Sequence[str]) -> float:
    """The width in inches of the scale with its notes."""
    *others, last = notes
    scale = 0.25 + CHARACTER * 17 + 0.14 * len(_SHADES) + 0.1
    return scale + sum(0.3 + CHARACTER * len(text) for text in others) + CHARACTER * len(last)


def _draw_scale(figure: Figure, notes: Sequence[str]) -> None:
    """Draws the meaning of the shades along the lower edge, the brightest before the first note."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    figure.text(0.15 / width, 0.2 / height, "constant baseline", color=INK, fontsize=7.5, va="center")
    x = 0.25 + CHARACTER * 17
    for shade in _SHADES:
        box: dict[str, Any] = dict(facecolor=shade, linewidth=0, transform=figure.transFigure)
        figure.add_artist(Rectangle((x / width, 0.13 / height), 0.14 / width, 0.14 / height, **box))
        x += 0.14
    x += 0.1
    for text in notes:
        figure.text(x / width, 0.2 / height, text, color=INK, fontsize=7.5, va="center")
        x += 0.3 + CHARACTER * len(text)


# -- score against cost ------------------------------------------------------------------------------------------------


def _cost(content: Content, panels: Panels, omission: str) -> Figure | None:
    """A point per model: its mean score over shared tasks, the device-hours of a run of each, and the Pareto front."""
    headings, points = cost_points(content, panels)
    if not points:
        return None
    high = max(2.6, 0.17 * len(points) + 0.1)
    note = f"device-hours for one run of each of {', '.join(headings)}; above, the mean of their scores"
    note += "; line: no other entry on these devices has a better score for less"
    if len(points) < len(panels.names):
        note += f"; {len(panels.names) - len(points)} of {len(panels.names)} entries lack one of these tasks"
    note += f"; {omission}" if omission else ""
    note_lines = textwrap.wrap(note, 76)
    right, bottom = label_width(panels.names) + 0.9, 0.4 + 0.15 * len(note_lines)
    sizes = Sizes(left=0.6, top=0.3, gap_down=0, cell=(5.2, high), right=right, bottom=bottom)
    figure, add_axes = sizes.figure(1, 1)
    axes = add_axes(0, 0)
    style(axes, "Score against cost")
    shapes = _draw_costs(axes, points)
    _number_points(axes, points)
    texts = [(0.0, -(0.32 + 0.15 * line) / high, text) for line, text in enumerate(note_lines)]
    for line, point in enumerate(points):
        y = 1 - (line + 0.5) * 0.17 / high
        texts += [(1.03, y, str(line + 1)), (1.075, y, point.name)]
    for x, y, text in texts:
        axes.text(x, y, text, transform=axes.transAxes, color=INK, fontsize=7.5, va="center", **PLAIN)
    if len(shapes) > 1:
        handles = [
            axes.plot([], [], shape, color=INK, markersize=4.5, label=devices)[0] for devices, shape in shapes.items()
        ]
        draw_legend(axes, handles=handles, loc="lower right", fontsize=7, labelcolor=INK, framealpha=0)
    return figure


def _draw_costs(axes: Axes, points: Sequence[CostPoint]) -> dict[str, str]:
    """Draws the points and their Pareto front over device-hours; returns the marker of each set of devices."""
    axes.set_xscale("log")
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
    device_names = sorted({point.devices for point in points})
    shapes = {devices: "osD^vP*Xph"[number % 10] for number, devices in enumerate(device_names)}
    front = pareto_front(points)
    for devices in device_names:
        steps = [(point.hours, 100 * point.score) for point in front if point.devices == devices]
        axes.step(*zip(*steps, strict=True), where="post", color=ORANGE, linewidth=1, alpha=0.6, zorder=1)
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
    _mark_powers(axes, (1, 2, 5) if top < 1e4 * low else (1,), lambda value, _: f"{value:g}")
    return shapes


def _mark_powers(axes: Axes, digits: Sequence[int], shown: Callable[[float, Any], str]) -> None:
    """Marks the multiples of powers of ten that begin with these digits on the horizontal axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=digits))
    axes.xaxis.set_major_formatter(shown)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=2, color=FAINT)


def _number_points(axes: Axes, entries: Sequence[CostPoint]) -> None:
    """Draws a number at each point: on the side that is furthest from others, or beyond the numbers on every side."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    to_inches = axes.transData + figure.dpi_scale_trans.inverted()
    points = [(point.hours, 100 * point.score) for point in entries]
    points = [(float(x), float(y)) for x, y in to_inches.transform(points)]
    occupied = list(points)
    for number, point in enumerate(points, start=1):
        others = [position for position in occupied if position != point]
        best = _free_position(*point, others)
        occupied.append(best)
        text: dict[str, Any] = dict(color=INK, fontsize=6.5, ha="center", va="center")
        axes.text(*best, str(number), transform=figure.dpi_scale_trans, **text)


def _free_position(x: float, y: float, others: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The position of the number of a point at (x, y), in inches."""

    def clearance(position: tuple[float, float]) -> float:
        return min((math.dist(position, other) for other in others), default=1.0)

    across, up = _NUMBER_STEP
    best = max([(x + across, y), (x - across, y), (x, y + up), (x, y - up)], key=clearance)
    if clearance(best) >= _NUMBER_SIZE:
        return best
    beyond = [(x + side * column * across, y) for column in range(2, _MAX_ENTRIES // 2) for side in (1, -1)]
    return next((position for position in beyond if clearance(position) >= _NUMBER_SIZE), best)


# -- score against training rows ---------------------------------------------------------------------------------------


def _learning_curves(panels: Sequence[CurvePanel]) -> Figure:
    """A panel per task, a line per model: its score for each number of training rows, with the interval."""
    every_name = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    lines = {name: _LINES[number % len(_LINES)] for number, name in enumerate(every_name[:_MAX_CURVES])}
    sizes = Sizes(left=0.5, top=0.5, gap_down=0.95, cell=(2.5, 1.9), gap_across=0.5, bottom=0.55)
    curves = [curve for panel in panels for curve in panel.curves if curve.name in lines]
    key = _key_of_curves(panels, curves, lines, len(every_name))
    figure, panel_axes = panel_figure([panel.title for panel in panels], sizes, key)
    for panel, axes in zip(panels, panel_axes, strict=True):
        axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
        axes.set_xlabel("training rows", color=INK, fontsize=7.5)
        factor = 100 if panel.as_percent else 1
        if panel.baseline is not None:
            axes.axhline(factor * panel.baseline, color=ORANGE, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        for curve in panel.curves:
            if curve.name in lines:
                _draw_curve(axes, curve, factor, *lines[curve.name][1:])
        _scale_rows(axes)
        axes.locator_params(axis="y", nbins=5)
    return figure


def _key_of_curves(
    panels: Sequence[CurvePanel], curves: Sequence[Curve], lines: Mapping[str, tuple[str, str, str]], number: int
) -> dict[str, tuple[str, bool]]:
    """The models, and the other symbols, with their colour and whether they occur."""
    points = [point for curve in curves for _, point in curve.points]
    models = {f"{symbol} {name}": (color, True) for name, (symbol, _, color) in lines.items()}
    return models | {
        "┃ 95 % interval": (INK, any(point.low is not None for point in points)),
        "○ hollow: with a mark besides [r], see the table": (INK, any(point.is_marked for point in points)),
        "┄ constant baseline": (ORANGE, any(panel.baseline is not None for panel in panels)),
        f"… the first {_MAX_CURVES} of {number} models": (INK, number > _MAX_CURVES),
    }


def _draw_curve(axes: Axes, curve: Curve, factor: float, shape: str, color: str) -> None:
    rows = [rows for rows, _ in curve.points]
    axes.plot(rows, [factor * point.score for _, point in curve.points], color=color, linewidth=1.2)
    for size, point in curve.points:
        fill = "none" if point.is_marked else color
        axes.plot([size], [factor * point.score], shape, color=color, markerfacecolor=fill, markersize=4.6)
        if point.low is not None and point.high is not None:
            axes.vlines(size, factor * point.low, factor * point.high, color=color, linewidth=1.6, alpha=0.55)


def _scale_rows(axes: Axes) -> None:
    """Makes the horizontal axis logarithmic, with whole numbers at its marks."""
    axes.set_xscale("log")
    axes.margins(0.08)
    low, high = axes.get_xlim()
    digits = (1, 2, 5) if high < 40 * low else (1, 3) if high < 400 * low else (1,)
    _mark_powers(axes, digits, lambda value, _: f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,g}k")
