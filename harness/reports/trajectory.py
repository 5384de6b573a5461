"""The scores of a pretraining run's checkpoints: a page in Markdown, a plot in SVG, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from harness import __version__
from harness.facts.suites import registered_suites, task_headings
from harness.metrics.registry import title_of
from harness.reports.cells import group_cell, is_shown_as_percent
from harness.reports.drawing import BLUE, FAINT, INK, ORANGE, Sizes, figure_as_svg, panel_figure, plain_style
from harness.reports.markdown import difference_text, format_p
from harness.reports.markdown_text import escape_markdown, markdown_table
from harness.stats.groups import mean_or_none, reported_metrics
from harness.stats.trajectories import Trajectory, TrajectoryPoint
from harness.stats.uncertainty import PairwiseTest
from harness.system.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION = 1
"""The version of trajectory.json, raised when a key is renamed or changes its meaning."""

HEAD = ("checkpoint", "score", "change from previous", "p", "difference from best", "p")

METHOD = """\
± is the distance to the farther end of the 95 % interval over seeds and rows, with the number of runs. Differences have
95 % intervals; their p-values are Holm-corrected, those of neighbours as one family, those of all pairs as another. *No
gain since* names the earliest checkpoint that no later one significantly beats, at 0.05. Smaller gains may exist that
this many rows and seeds cannot detect."""

_SUFFIXES = ((10**9, "B"), (10**6, "M"), (10**4, "k"))


class WatchedRun(NamedTuple):
    """A pretraining run and the scores of its checkpoints."""

    source: str
    """Its folder or repository."""
    names: Sequence[str]
    """The names of the checkpoints, in the order of pretraining."""
    amounts: Sequence[float]
    """The number in each name, of steps, tokens or words."""
    trajectories: Mapping[str, Trajectory]
    """The scores of each task."""


def write_trajectories(watched: WatchedRun, folder: Path) -> list[Path]:
    """Writes trajectory.md, trajectory.json and trajectory.svg."""
    texts = {
        "trajectory.md": render_trajectory_markdown(watched),
        "trajectory.json": render_trajectory_json(watched),
        "trajectory.svg": render_trajectory_plot(watched),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def trajectory_table(watched: WatchedRun) -> Table:
    """A line for each checkpoint and a column for each task, for a terminal."""
    titles = list(_titles(watched).values())
    by_task = [{point.checkpoint: _score(point) for point in one.points} for one in watched.trajectories.values()]
    table = Table("checkpoint", *titles, box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(watched.names):
        table.add_row(Text(name), *(Text(scores.get(number, "")) for scores in by_task))
    return table


def verdict_lines(watched: WatchedRun) -> list[str]:
    """A line for each task: the best checkpoint, and the one since which there is no significant gain."""
    headings = task_headings(watched.trajectories, registered_suites().values())
    return [f"{headings[task]}: {_verdict(watched, trajectory)}" for task, trajectory in watched.trajectories.items()]


def render_trajectory_markdown(watched: WatchedRun) -> str:
    """trajectory.md."""
    parts = [
        f"# Checkpoints of {escape_markdown(watched.source)}",
        "![Score of each checkpoint, a panel per task](trajectory.svg)",
        "\n".join(f"- {escape_markdown(line)}" for line in verdict_lines(watched)),
    ]
    for title, trajectory in zip(_titles(watched).values(), watched.trajectories.values(), strict=True):
        body = [[escape_markdown(cell) for cell in _cells(watched, trajectory, p)] for p in trajectory.points]
        parts += [f"## {escape_markdown(title)}", markdown_table(HEAD, body, left=1)]
    return "\n\n".join([*parts, METHOD]) + "\n"


def render_trajectory_json(watched: WatchedRun) -> str:
    """trajectory.json: all numbers of trajectory.md, unrounded."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "source": watched.source,
        "checkpoints": [
            {"name": name, "amount": amount} for name, amount in zip(watched.names, watched.amounts, strict=True)
        ],
        "tasks": {
            task: {
                "metrics": list(trajectory.task.main_metrics),
                "best": _name(watched, trajectory.best),
                "no_gain_since": _name(watched, trajectory.no_gain_since),
                "points": [_point(watched, point) for point in trajectory.points],
            }
            for task, trajectory in watched.trajectories.items()
        },
        "harness": __version__,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _point(watched: WatchedRun, point: TrajectoryPoint) -> dict[str, Any]:
    interval = point.evidence.total
    return {
        "checkpoint": watched.names[point.checkpoint],
        "amount": watched.amounts[point.checkpoint],
        "score": point.group.score.center,
        "interval": interval and list(interval),
        "is_over_rows_only": point.evidence.is_over_rows_only,
        "marks": sorted(point.group.marks),
        "to_previous": point.to_previous and point.to_previous._asdict(),
        "to_best": point.evidence.to_best and point.evidence.to_best._asdict(),
        "runs": [{"run_id": run.run_id, "seed": run.spec.seed, "status": run.status} for run in point.group.runs],
    }


def _name(watched: WatchedRun, number: int | None) -> str | None:
    return None if number is None else watched.names[number]


def _titles(watched: WatchedRun) -> dict[str, str]:
    """The heading and the metrics of each task."""
    headings = task_headings(watched.trajectories, registered_suites().values())
    return {
        task: f"{headings[task]}, {'/'.join(title_of(name) for name in trajectory.task.main_metrics)}"
        for task, trajectory in watched.trajectories.items()
    }


def _score(point: TrajectoryPoint) -> str:
    cell = group_cell(point.group, point.evidence)
    return f"{cell.text}{cell.suffix}"


def _verdict(watched: WatchedRun, trajectory: Trajectory) -> str:
    if len(trajectory.points) < 2:
        return "one checkpoint"
    if trajectory.best is None:
        return "no two checkpoints can be compared"
    best = f"best {_name(watched, trajectory.best)}"
    if trajectory.no_gain_since is None:
        return f"{best}; gains unknown, one run per checkpoint: add --seeds"
    if trajectory.no_gain_since == trajectory.points[-1].checkpoint:
        return f"{best}; still improving at the last checkpoint"
    return f"{best}; no gain since {_name(watched, trajectory.no_gain_since)}"


def _cells(watched: WatchedRun, trajectory: Trajectory, point: TrajectoryPoint) -> list[str]:
    as_percent = is_shown_as_percent(trajectory.task)
    tests = (point.to_previous, point.evidence.to_best)
    shown = [cell for test in tests for cell in _test_cells(test, as_percent)]
    return [watched.names[point.checkpoint], _score(point), *shown]


def _test_cells(test: PairwiseTest | None, as_percent: bool) -> tuple[str, str]:
    if test is None:
        return "", ""
    return difference_text(test, as_percent), "rows only" if test.is_over_rows_only else format_p(test.p_holm)


# -- the plot ----------------------------------------------------------------------------------------------------------


def render_trajectory_plot(watched: WatchedRun) -> str:
    """The SVG: a panel per task, the score of each checkpoint with its interval over the number in its name."""
    sizes = Sizes(left=0.5, top=0.5, gap_down=0.95, cell=(2.8, 1.9), gap_across=0.5, bottom=0.55)
    with plain_style():
        figure, panels = panel_figure(list(_titles(watched).values()), sizes, _key(watched))
        for trajectory, axes in zip(watched.trajectories.values(), panels, strict=True):
            axes.set_xlabel("steps, tokens or words, by the checkpoint's name", color=INK, fontsize=7.5)
            axes.grid(color=FAINT, linewidth=0.4, alpha=0.5)
            _draw(axes, watched, trajectory)
        return figure_as_svg(figure, "trajectory.svg")


def _key(watched: WatchedRun) -> dict[str, tuple[str, bool]]:
    """Symbols with their meaning, colour and whether they occur."""
    trajectories = watched.trajectories.values()
    points = [point for trajectory in trajectories for point in trajectory.points]
    return {
        "● score, the mean over seeds": (BLUE, True),
        "┃ 95 % interval": (BLUE, any(point.evidence.total for point in points)),
        "┆ no gain since": (ORANGE, any(one.no_gain_since is not None for one in trajectories)),
        "┄ constant baseline": (INK, any(_baseline(one) is not None for one in trajectories)),
    }


def _draw(axes: Axes, watched: WatchedRun, trajectory: Trajectory) -> None:
    factor = 100 if is_shown_as_percent(trajectory.task) else 1
    if (baseline := _baseline(trajectory)) is not None:
        axes.axhline(factor * baseline, color=INK, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    if trajectory.no_gain_since is not None:
        amount = watched.amounts[trajectory.no_gain_since]
        axes.axvline(amount, color=ORANGE, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    centers = {watched.amounts[point.checkpoint]: point.group.score.center for point in trajectory.points}
    scores = {amount: score for amount, score in centers.items() if score is not None}
    axes.plot(list(scores), [factor * score for score in scores.values()], color=BLUE, linewidth=1.2)
    axes.plot(list(scores), [factor * score for score in scores.values()], "o", color=BLUE, markersize=4.6)
    for point in trajectory.points:
        if (interval := point.evidence.total) is not None:
            ends = (factor * interval.low, factor * interval.high)
            axes.vlines(watched.amounts[point.checkpoint], *ends, color=BLUE, linewidth=1.6, alpha=0.55)
    axes.margins(0.08)
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: format_amount(value))


def _baseline(trajectory: Trajectory) -> float | None:
    group = trajectory.points[0].group
    return mean_or_none([group.baseline(split, name) for split, name in reported_metrics(trajectory.task)])


def format_amount(value: float) -> str:
    """`5,000`, `20k`, `1.5M`."""
    for size, suffix in _SUFFIXES:
        if abs(value) >= size:
            unit = 1000 if suffix == "k" else size
            return f"{value / unit:g}{suffix}"
    return f"{value:,g}"
