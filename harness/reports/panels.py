"""Data of the plots, from leaderboard.json: names, scores of each task, cost of each entry, and learning curves."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from harness.reports.drawing import shortened
from harness.reports.markdown_text import printable_line

Content = Mapping[str, Any]
"""The parsed leaderboard.json."""

MAX_NAME = 36
"""The number of characters of a name that are shown."""

FEWEST_SIZES = 3
"""The numbers of training rows that make a learning curve."""


class Point(NamedTuple):
    """An entry's score on a task."""

    score: float
    low: float | None = None
    high: float | None = None
    """The ends of the 95 % interval."""
    seeds: tuple[float, ...] = ()
    """The runs' scores, if there are several."""
    is_marked: bool = False
    """The score has a mark that limits comparisons."""


class Panel(NamedTuple):
    """A task's scores."""

    task: str
    heading: str
    title: str
    """The heading with its metrics."""
    as_percent: bool
    lower_is_better: bool
    baseline: float | None
    """The best score of a constant prediction."""
    points: tuple[Point | None, ...]
    """A point for each entry of the leaderboard."""
    published: tuple[Point | None, ...]
    """A point for each name of `Panels.published`."""


class Panels(NamedTuple):
    """The panels of all tasks with a score."""

    names: tuple[str, ...]
    """Short, unique names of the entries."""
    published: tuple[str, ...]
    """Names of models with published scores."""
    panels: tuple[Panel, ...]


class Curve(NamedTuple):
    """The scores of a model by its number of training rows, all other hyperparameters equal."""

    name: str
    points: tuple[tuple[int, Point], ...]
    """(training rows, score), at least `FEWEST_SIZES`, the fewest rows first; a mark is one besides `[r]`."""


class CurvePanel(NamedTuple):
    """The learning curves of a task."""

    title: str
    as_percent: bool
    baseline: float | None
    curves: tuple[Curve, ...]


class CostPoint(NamedTuple):
    """An entry in the plot of cost."""

    name: str
    hours: float
    """Device-hours of one run of each task."""
    score: float
    """The mean over the tasks."""
    devices: str
    is_marked: bool


class CostPoints(NamedTuple):
    """Entries that have these tasks in common, the best first."""

    headings: tuple[str, ...]
    points: tuple[CostPoint, ...]


def panels_of(content: Content) -> Panels:
    """A panel for each task on which an entry has a score."""
    entries, published = content["entries"], _published(content)
    panels = []
    for column in content["columns"]:
        task = column["task"]
        points = tuple(_point(entry["tasks"].get(task)) for entry in entries)
        if not any(points):
            continue
        panels.append(
            Panel(
                task=task,
                heading=column["heading"],
                title=_title(column),
                as_percent=column["as_percent"],
                lower_is_better=column["lower_is_better"] is True,
                baseline=content["baseline"]["tasks"].get(task),
                points=points,
                published=tuple(Point(scores[task]) if task in scores else None for scores in published.values()),
            )
        )
    labels, recipes = {entry["label"] for entry in entries}, {entry["variant"] for entry in entries}
    needs_recipe = len(recipes) > 1 and len(labels) < len(entries)
    names = _short([(entry["label"], entry["variant"] if needs_recipe else "default") for entry in entries])
    drawn = [number for number in range(len(published)) if any(panel.published[number] for panel in panels)]
    return Panels(
        names=tuple(names),
        published=tuple(_short([(list(published)[number], "default") for number in drawn])),
        panels=tuple(panel._replace(published=tuple(panel.published[number] for number in drawn)) for panel in panels),
    )


def _title(column: Mapping[str, Any]) -> str:
    splits = [split.removeprefix("validation_") for split in column["report"]]
    title = [column["heading"], "/".join(column["main_metric_titles"])]
    return " ".join([*title, *(["/".join(splits)] if splits != ["validation"] else [])])


def _point(result: Mapping[str, Any] | None) -> Point | None:
    if result is None or result["score"] is None:
        return None
    low, high = result["intervals"]["total"] or (None, None)
    seeds = [run["score"] for run in result["runs"] if run["score"] is not None]
    return Point(result["score"], low, high, tuple(seeds) if len(seeds) > 1 else (), bool(result["marks"]))


def _published(content: Content) -> dict[str, dict[str, float]]:
    """Published scores by model and task, from the source with most tasks; a score needs all main metrics."""
    pairs = {
        column["task"]: [(split, metric) for split in column["report"] for metric in column["main_metrics"]]
        for column in content["columns"]
    }
    numbers: dict[str, dict[str, dict[tuple[str, str, str], float]]] = defaultdict(lambda: defaultdict(dict))
    for one in content["references"]:
        numbers[one["model"]][one["source"]].setdefault((one["task"], one["split"], one["metric"]), one["score"])

    def scores(known: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
        return {
            task: fmean(known[task, split, metric] for split, metric in needed)
            for task, needed in pairs.items()
            if needed and all((task, split, metric) in known for split, metric in needed)
        }

    return {model: max(map(scores, sources.values()), key=len) for model, sources in numbers.items()}


def _short(labels: Sequence[tuple[str, str]]) -> list[str]:
    """Names from (label, recipe): without the owner where that is unique, and shortened in the middle if long."""
    bare = [label.partition("/")[2] or label for label, _ in labels]
    owners: dict[str, set[str]] = defaultdict(set)
    for (label, _), name in zip(labels, bare, strict=True):
        owners[name].add(label)
    short: list[str] = []
    for (label, recipe), name in zip(labels, bare, strict=True):
        full = (name if len(owners[name]) == 1 else label) + (f" ({recipe})" if recipe != "default" else "")
        line = shortened(printable_line(full) or "?", MAX_NAME)
        while line in short:
            line += "′"
        short.append(line)
    return short


def normalized_score(panel: Panel, score: float) -> float | None:
    """The score from 0, no better than the baseline, to 1, perfect; None where a task has no such limits.

    (score - baseline) / (1 - baseline), and for an error 1 - error / baseline; negative values become 0. A correlation
    without a baseline has 0.
    """
    if panel.lower_is_better:
        return min(1.0, max(0.0, 1 - score / panel.baseline)) if panel.baseline else None
    if not panel.as_percent:
        return None
    baseline = panel.baseline or 0.0
    return 1.0 if baseline >= 1 else min(1.0, max(0.0, (score - baseline) / (1 - baseline)))


def cost_points(content: Content, panels: Panels) -> CostPoints:
    """The largest set of entries and tasks without a missing score, among the tasks of one entry or shared by two."""
    results = [entry["tasks"] for entry in content["entries"]]
    usable = [panel for panel in panels.panels if panel.as_percent and not panel.lower_is_better]
    tasks_of_entries = [
        frozenset(panel.task for panel in usable if panel.points[number] is not None and _seconds(tasks[panel.task]))
        for number, tasks in enumerate(results)
    ]
    pairs = itertools.combinations_with_replacement(tasks_of_entries, 2)
    shared_tasks = {one & other for one, other in pairs} - {frozenset()}

    def size(tasks: frozenset[str]) -> tuple[int, int, list[str]]:
        number = sum(tasks <= own for own in tasks_of_entries)
        return number * len(tasks), number, sorted(tasks)

    tasks = max(shared_tasks, key=size, default=frozenset[str]())
    members = [number for number, own in enumerate(tasks_of_entries) if tasks and tasks <= own]
    shared = [panel for panel in usable if panel.task in tasks]
    points = [
        _cost_point(panels.names[number], [results[number][panel.task] for panel in shared]) for number in members
    ]
    points.sort(key=lambda point: (-point.score, point.hours, point.name))
    return CostPoints(tuple(panel.heading for panel in shared), tuple(points))


def pareto_front(points: Iterable[CostPoint]) -> list[CostPoint]:
    """The points than which no other on the same devices has as good a score for less, by rising cost."""
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.devices, point.hours, -point.score)):
        if not front or front[-1].devices != point.devices or point.score > front[-1].score:
            front.append(point)
    return front


def _cost_point(name: str, results: Iterable[Mapping[str, Any]]) -> CostPoint:
    results = list(results)
    devices = {device for result in results for run in result["runs"] for device in run["devices"]}
    hours = math.fsum(fmean(_seconds(result)) for result in results) / 3600
    score, is_marked = fmean(result["score"] for result in results), any(result["marks"] for result in results)
    return CostPoint(name, max(hours, 1e-6), score, " + ".join(sorted(devices)), is_marked)


def _seconds(result: Mapping[str, Any]) -> list[float]:
    """Device-seconds of the runs that were trained on this task and have a score."""
    runs = [run for run in result["runs"] if run["score"] is not None and run["trained_by"] is None]
    return [run["device_seconds"] for run in runs if run["device_seconds"] is not None]


def curve_panels(content: Content) -> tuple[CurvePanel, ...]:
    """The learning curves of each task, where a model has three numbers of training rows or more.

    A curve has the results of one model, recipe and version of the task. Of two results with the same number of rows,
    such as one with all rows by default and one by number, it has the one with more runs.
    """
    by_task = {column["task"]: _curves(content, column["task"]) for column in content["columns"]}
    keys = list(dict.fromkeys(key for curves in by_task.values() for key in curves))
    ambiguous = {
        label for curves in by_task.values() for label, count in Counter(key[0] for key in curves).items() if count > 1
    }
    identities = list(dict.fromkeys((label, recipe if label in ambiguous else "default") for label, recipe, *_ in keys))
    names = dict(zip(identities, _short(identities), strict=True))
    return tuple(
        CurvePanel(
            title=_title(column),
            as_percent=column["as_percent"],
            baseline=content["baseline"]["tasks"].get(column["task"]),
            curves=tuple(
                Curve(names[label, recipe if label in ambiguous else "default"], points)
                for (label, recipe, *_), points in by_task[column["task"]].items()
            ),
        )
        for column in content["columns"]
        if by_task[column["task"]]
    )


def _curves(content: Content, task: str) -> dict[tuple[Any, ...], tuple[tuple[int, Point], ...]]:
    """The points of each curve by label, recipe without its training rows, and what else the results have in common."""
    results: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for entry in content["entries"]:
        result = entry["tasks"].get(task)
        if result is None or result["score"] is None or result["training_rows"] is None:
            continue
        identity = entry["label"], result["recipe_without_train_rows"]
        definition = result["task_version"], result["task_fingerprint"], "p" in result["marks"]
        by_size, rows = results[*identity, *definition], result["training_rows"]
        if rows not in by_size or by_size[rows]["n"] < result["n"]:
            by_size[rows] = result
    curves = {}
    for key, by_size in results.items():
        if len(by_size) >= FEWEST_SIZES:
            points = ((rows, _point({**one, "marks": set(one["marks"]) - {"r"}})) for rows, one in by_size.items())
            curves[key] = tuple(sorted((rows, point) for rows, point in points if point is not None))
    return curves
