"""What plots show of leaderboard.json: short names, a panel of scores per task, and what each model took."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

Content = Mapping[str, Any]
"""Of leaderboard.json."""

LONGEST = 36
"""Letters of a name that are shown."""


class Point(NamedTuple):
    """A model's score on a task."""

    score: float
    low: float | None = None
    high: float | None = None
    """Of the 95 % interval."""
    seeds: tuple[float, ...] = ()
    """The runs' scores, where there are several."""
    is_marked: bool = False
    """It does not simply compare with the others."""


class Panel(NamedTuple):
    """A task."""

    task: str
    heading: str
    title: str
    """The heading with its metrics."""
    is_percent: bool
    lower_is_better: bool
    constant: float | None
    """What the best constant answer scores."""
    points: tuple[Point | None, ...]
    """By row of the leaderboard."""
    elsewhere: tuple[Point | None, ...]
    """By name of `Panels.elsewhere`."""


class Panels(NamedTuple):
    """All tasks that have a score."""

    names: tuple[str, ...]
    """Of the leaderboard's rows, short and all different."""
    elsewhere: tuple[str, ...]
    """Of models whose scores were published elsewhere."""
    panels: tuple[Panel, ...]


class Priced(NamedTuple):
    """A row's place in the plot of cost."""

    name: str
    hours: float
    """Device-hours: a run of each task."""
    score: float
    """The mean over the tasks."""
    devices: str
    is_marked: bool


class Prices(NamedTuple):
    """Rows that have these tasks in common, the best first."""

    headings: tuple[str, ...]
    points: tuple[Priced, ...]


def panels_of(content: Content) -> Panels:
    """A panel for each task on which a row has a score."""
    rows, published = content["rows"], _published(content)
    panels = []
    for column in content["columns"]:
        task = column["task"]
        points = tuple(_point(row["tasks"].get(task)) for row in rows)
        if not any(points):
            continue
        splits = [split.removeprefix("validation_") for split in column["report"]]
        words = [column["heading"], "/".join(column["headline_titles"])]
        panels.append(
            Panel(
                task=task,
                heading=column["heading"],
                title=" ".join([*words, *(["/".join(splits)] if splits != ["validation"] else [])]),
                is_percent=column["as_percent"],
                lower_is_better=column["lower_is_better"] is True,
                constant=content["best_constant_answer"]["tasks"].get(task),
                points=points,
                elsewhere=tuple(_known(scores.get(task)) for scores in published.values()),
            )
        )
    labels, recipes = {row["label"] for row in rows}, {row["variant"] for row in rows}
    is_needed = len(recipes) > 1 and len(labels) < len(rows)  # to tell rows apart
    names = _short([(row["label"], row["variant"] if is_needed else "default") for row in rows])
    drawn = [place for place in range(len(published)) if any(panel.elsewhere[place] for panel in panels)]
    return Panels(
        names=tuple(names),
        elsewhere=tuple(_short([(list(published)[place], "default") for place in drawn])),
        panels=tuple(panel._replace(elsewhere=tuple(panel.elsewhere[place] for place in drawn)) for panel in panels),
    )


def _point(entry: Mapping[str, Any] | None) -> Point | None:
    if entry is None or entry["score"] is None:
        return None
    low, high = entry["intervals"]["total"] or (None, None)
    seeds = [run["score"] for run in entry["runs"] if run["score"] is not None]
    return Point(entry["score"], low, high, tuple(seeds) if len(seeds) > 1 else (), bool(entry["marks"]))


def _known(score: float | None) -> Point | None:
    return None if score is None else Point(score)


def _published(content: Content) -> dict[str, dict[str, float]]:
    """By model, from the source that says most of it: the score of each task whose main_metrics is known in full."""
    places = {
        column["task"]: [(split, metric) for split in column["report"] for metric in column["main_metrics"]]
        for column in content["columns"]
    }
    numbers: dict[str, dict[str, dict[tuple[str, str, str], float]]] = defaultdict(lambda: defaultdict(dict))
    for one in content["references"]:
        numbers[one["model"]][one["source"]].setdefault((one["task"], one["split"], one["metric"]), one["score"])

    def scores(known: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
        return {
            task: fmean(known[task, split, metric] for split, metric in wanted)
            for task, wanted in places.items()
            if wanted and all((task, split, metric) in known for split, metric in wanted)
        }

    return {model: max(map(scores, sources.values()), key=len) for model, sources in numbers.items()}


def _short(labels: Sequence[tuple[str, str]]) -> list[str]:
    """Of names with their recipes: without the owner where that is enough, and cut in the middle if it is long."""
    bare = [label.partition("/")[2] or label for label, _ in labels]
    owners: dict[str, set[str]] = defaultdict(set)
    for (label, _), name in zip(labels, bare, strict=True):
        owners[name].add(label)
    short: list[str] = []
    for (label, recipe), name in zip(labels, bare, strict=True):
        full = (name if len(owners[name]) == 1 else label) + (f" ({recipe})" if recipe != "default" else "")
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in full).split()) or "?"
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]}…{line[-(LONGEST - LONGEST // 2 - 1) :]}"
        while line in short:
            line += "′"
        short.append(line)
    return short


def normalized_score(panel: Panel, score: float) -> float | None:
    """From 0, no better than the best constant answer, to 1, perfect; None where a task has no such limits.

    (score - constant) / (1 - constant), and for an error 1 - error / constant; less than nothing counts as nothing.
    A correlation has no constant answer: there it is 0.
    """
    if panel.lower_is_better:
        return min(1.0, max(0.0, 1 - score / panel.constant)) if panel.constant else None
    if not panel.is_percent:
        return None
    constant = panel.constant or 0.0
    return 1.0 if constant >= 1 else min(1.0, max(0.0, (score - constant) / (1 - constant)))


def cost_points(content: Content, panels: Panels) -> Prices:
    """Of rows and tasks that fill much of the table without a gap: the tasks of a row, or that two have in common."""
    entries = [row["tasks"] for row in content["rows"]]
    usable = [panel for panel in panels.panels if panel.is_percent]
    has = [
        frozenset(panel.task for panel in usable if panel.points[row] is not None and _seconds(tasks[panel.task]))
        for row, tasks in enumerate(entries)
    ]
    in_common = {one & other for one, other in itertools.combinations_with_replacement(has, 2)} - {frozenset()}

    def places(tasks: frozenset[str]) -> tuple[int, int, list[str]]:
        rows = sum(tasks <= own for own in has)
        return rows * len(tasks), rows, sorted(tasks)

    tasks = max(in_common, key=places, default=frozenset[str]())
    having = [row for row, own in enumerate(has) if tasks and tasks <= own]
    shared = [panel for panel in usable if panel.task in tasks]
    points = [_priced(panels.names[row], [entries[row][panel.task] for panel in shared]) for row in having]
    points.sort(key=lambda point: (-point.score, point.hours, point.name))
    return Prices(tuple(panel.heading for panel in shared), tuple(points))


def _priced(name: str, entries: Iterable[Mapping[str, Any]]) -> Priced:
    entries = list(entries)
    devices = {device for entry in entries for run in entry["runs"] for device in run["devices"]}
    hours = math.fsum(fmean(_seconds(entry)) for entry in entries) / 3600
    score = fmean(entry["score"] for entry in entries)
    return Priced(name, max(hours, 1e-6), score, " + ".join(sorted(devices)), any(entry["marks"] for entry in entries))


def _seconds(entry: Mapping[str, Any]) -> list[float]:
    """Device-seconds of the runs that have a score of their own training."""
    runs = [run for run in entry["runs"] if run["score"] is not None and run["trained_by"] is None]
    return [run["device_seconds"] for run in runs if run["device_seconds"] is not None]
