"""leaderboard.html: the content of leaderboard.json as one page, to sort, filter, compare and download.

This module prepares the values of its template, which escapes all of them but the plots, whose own writer has escaped
their text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any
from urllib.parse import quote

from harness.facts.published import UNSTATED, is_percentage
from harness.reports.cells import NO_SCORE, format_metric, format_spread, interval_text
from harness.reports.costs import energy_text, tuning_text
from harness.reports.drawing import BLUE, FAINT, INK, ORANGE
from harness.reports.formulas import NOT_RANKED
from harness.reports.html_parts import (
    entry_identity,
    html_cell,
    model_identity,
    record_links,
    render_template,
)
from harness.reports.markdown import SHORT_SPLITS
from harness.reports.pages import FIRST_PAGE, plot_name, task_page_name
from harness.reports.panels import Content
from harness.stats.groups import sort_marks
from harness.stats.uncertainty import Interval
from harness.stats.verification import LEVELS

_COLORS = {INK: "--plot-ink", FAINT: "--plot-faint", BLUE: "--plot-blue", ORANGE: "--plot-orange"}
"""The page's variables for the plots' colours: clearer, since the page knows its background."""

_PLOT_SCALE = 1.15
"""Enlarges plots, so that their text is about as large as the page's."""

_PLOTS = {
    "scores.svg": ("Scores per task", "Scores with their 95 % intervals over seeds and rows, task by task."),
    "heatmap.svg": ("Heat map over tasks", "Each score on the way from the constant baseline to a perfect score."),
    "learning_curves.svg": (
        "Learning curves",
        "Scores with their 95 % intervals against the number of training rows, all other hyperparameters equal.",
    ),
    "cost.svg": ("Score against cost", "Mean score against the device-hours of one run of each task."),
}

Dicts = list[dict[str, Any]]


def render_html(
    content: Content,
    plots: Mapping[str, str],
    formulas: Mapping[str, Sequence[str]],
    title: str,
    pair_tests: Mapping[str, Any],
    page: str = FIRST_PAGE,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page, from leaderboard.json, SVG by file name, the `formulas` of each section, and the tests of `pair_tests`.

    `page` is the name of its files, without their endings; `links` are those of all pages by their titles.
    """
    figures = [
        dict(file=plot_name(page, name), title=heading, caption=caption, svg=_inline(plots[name], name))
        for name, (heading, caption) in _PLOTS.items()
        if name in plots
    ]
    pages = [
        dict(title=heading, href=f"{quote(name)}.html", is_own=name == page) for heading, name in (links or {}).items()
    ]
    values = _values(content) | dict(plots=figures, formulas=formulas, title=title, page=quote(page), pages=pages)
    return render_template("leaderboard.html.jinja", values | dict(pair_tests=pair_tests), energy=energy_text)


def _inline(svg: str, name: str) -> str:
    """A plot within the page: without its file header, with unique ids, and in the page's colours."""
    svg = svg[svg.index("<svg") :]
    prefix = name.removesuffix(".svg")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    for color, variable in _COLORS.items():
        svg = svg.replace(color, f"var({variable})")

    def scaled(size: re.Match[str]) -> str:
        return f'{size[1]}="{_PLOT_SCALE * float(size[2]):.0f}pt"'

    return re.sub(r'\b(width|height)="([\d.]+)pt"', scaled, svg, count=2)


def _values(content: Content) -> dict[str, Any]:
    columns, entries, baseline = content["columns"], content["entries"], content["baseline"]
    results = [*(result for entry in entries for result in entry["tasks"].values()), *content["not_ranked"]]
    averages, facts = _averages(content), _facts(content)
    runs, models = sum(len(result["runs"]) for result in results), len({entry["model"] for entry in entries})
    lines = [_line(entry, columns, averages, facts) for entry in entries]
    for cells in zip(*(line["cells"] for line in lines), strict=True):
        if sum(cell["sort"] is not None for cell in cells) < 2:  # no rival
            for cell in cells:
                cell["is_top"] = cell["is_best"] = False
    baseline_cells = [
        *(_average(baseline["averages"][name]) if name in baseline["averages"] else html_cell() for name in averages),
        *(html_cell(shown=baseline["shown"][one["task"]], sort=baseline["tasks"][one["task"]]) for one in columns),
        *(html_cell() for _ in facts),
    ]
    return dict(
        root="",
        summary=f"{_count(runs, 'run')} of {_count(models, 'model')} on {_count(len(columns), 'task')}.",
        columns=[*averages.values(), *map(_column, columns), *facts.values()],
        rows=lines,
        recipes=sorted({entry["variant"] for entry in entries}),
        baseline=dict(label=baseline["label"], cells=baseline_cells),
        published=_published(content, len(averages), len(facts)),
        marks=content["marks"],
        occurring=sort_marks(mark for result in results for mark in result["marks"]),
        notes=content["notes"],
        has_energy=any(any(entry["cost"]["measured"].values()) for entry in entries),
        has_tuning="Tuning" in facts,
        not_ranked=_not_ranked(content),
        not_ranked_note=NOT_RANKED,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    splits = [SHORT_SPLITS.get(split, split) for split in column["report"]]
    subtitle = "/".join(column["main_metric_titles"]) + ("" if splits == ["validation"] else f" {'/'.join(splits)}")
    first = "ascending" if column["lower_is_better"] else "descending"
    link = dict(href=quote(f"{task_page_name(column['task'])}.html"), title=column["title"])
    return _head(column["heading"], subtitle, first, kind="task") | link | dict(key=column["task"])


def _head(heading: str, note: str, first: str, kind: str) -> dict[str, Any]:
    """The head of a column; `first` is the direction of its first sort, `key` its name in links."""
    return dict(key=heading, kind=kind, heading=heading, subtitle=note, first=first, href="", title="")


def _averages(content: Content) -> dict[str, dict[str, Any]]:
    """The column of each average that an entry has."""
    entries = content["entries"]
    names = entries[0]["averages"] if entries else ()
    used = [name for name in names if any(entry["averages"][name] is not None for entry in entries)]
    averages = {name: _head(name, "mean score", "descending", "average") for name in used}
    if any(entry["average_rank"] for entry in entries):
        averages["Rank"] = _head("Rank", f"over {_count(len(content['ranked_tasks']), 'task')}", "ascending", "average")
    return averages


def _facts(content: Content) -> dict[str, dict[str, Any]]:
    """The columns after the tasks: facts about the entries' runs."""
    facts = {}
    if any(entry["tuning"] for entry in content["entries"]):
        facts["Tuning"] = _head("Tuning", "points tried and device-hours", "ascending", "text")
    if any(entry["verification"] not in (None, "reported") for entry in content["entries"]):
        facts["Verification"] = _head("Verification", "of all scores", "descending", "text")
    return facts


def _average(score: float | None) -> dict[str, Any]:
    return html_cell(shown=NO_SCORE if score is None else format_metric(score, as_percent=True), sort=score)


def _line(
    entry: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], averages: Iterable[str], facts: Iterable[str]
) -> dict[str, Any]:
    """The names and the cells of an entry."""

    def average(name: str) -> dict[str, Any]:
        if name != "Rank":
            is_best = name in entry["best_averages"]
            marks = entry["average_marks"].get(name, [])
            score, intervals = entry["averages"].get(name), entry["average_intervals"].get(name, {})
            uncertainty = _uncertainty(score, intervals, as_percent=True)
            return _average(score) | dict(marks=marks, is_best=is_best, is_top=is_best) | uncertainty
        if (rank := entry["average_rank"]) is None:
            return html_cell()
        interval = f"by the pairwise tests {rank['low']:.1f} to {rank['high']:.1f}"
        return html_cell(
            shown=f"{rank['mean']:.1f}", sort=rank["mean"], interval=interval, ends=(rank["low"], rank["high"])
        )

    cells = [_result_cell(entry["tasks"].get(column["task"]), column) for column in columns]
    cells_of_facts = {"Tuning": _tuning_cell(entry["tuning"]), "Verification": _level_cell(entry)}
    cells = [*map(average, averages), *cells, *(cells_of_facts[name] for name in facts)]
    return entry_identity(entry) | dict(cells=cells, cost=entry["cost"])


def _level_cell(entry: Mapping[str, Any]) -> dict[str, Any]:
    level = entry["verification"]
    if level is None:
        return html_cell()
    reruns = [path for result in entry["tasks"].values() for run in result["runs"] for path in run["reruns"]]
    links = [dict(href=quote(path), tooltip=path, text="re-run") for path in reruns]
    return html_cell(shown=level, sort=list(LEVELS).index(level), interval=LEVELS[level], links=links)


def _tuning_cell(tuning: Mapping[str, Any] | None) -> dict[str, Any]:
    if tuning is None:
        return html_cell()
    links = [dict(href=quote(path), tooltip=path, text="grid") for path in tuning["grids"]]
    return html_cell(shown=tuning_text(**tuning), sort=tuning["device_seconds"], links=links)


def _result_cell(result: Mapping[str, Any] | None, column: Mapping[str, Any]) -> dict[str, Any]:
    if result is None:
        return html_cell()
    as_percent = column["as_percent"]
    return html_cell(
        shown=result["shown"],
        sort=result["score"],
        **_uncertainty(result["score"], result["intervals"], as_percent),
        marks=result["marks"],
        runs=record_links(result, as_percent),
        is_best=result["is_best"],
        is_tied=result["is_tied"],
        is_top=result["is_best"] or result["is_tied"],
    )


def _uncertainty(score: float | None, intervals: Mapping[str, Any], as_percent: bool) -> dict[str, Any]:
    if not intervals.get("total"):
        return {}
    ends, is_over_rows_only = Interval(*intervals["total"]), intervals["is_over_rows_only"]
    kind = "other rows only" if is_over_rows_only else "other seeds and rows"
    return dict(
        spread=format_spread(score, ends, is_over_rows_only, as_percent),
        interval=f"95 % interval for {kind}: {interval_text(ends, as_percent)}",
        ends=ends,
    )


def _published(content: Content, averages: int, facts: int) -> Dicts:
    """A line for each model and source with a score on a reported split; `?`: the source does not name the metric.

    Its cells are empty in the columns before and after the tasks.
    """
    numbers: dict[tuple[str, str], dict[tuple[str, str, str], float]] = defaultdict(dict)
    settings: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for one in content["references"]:
        key = one["model"], one["source"]
        numbers[key].setdefault((one["task"], one["split"], one["metric"]), one["score"])
        settings[key][one["setting"]] = None

    def cell(known: Mapping[tuple[str, str, str], float], column: Mapping[str, Any]) -> dict[str, Any]:
        task, splits, metrics = (column[key] for key in ("task", "report", "main_metrics"))
        scores = [(metric, known.get((task, split, metric))) for split in splits for metric in metrics]
        if any(value is not None for _, value in scores):
            text = "/".join(format_metric(value, is_percentage(metric)) for metric, value in scores)
            values = [value for _, value in scores if value is not None]
            return html_cell(shown=text, sort=fmean(values) if len(values) == len(scores) else None)
        vague = [known[task, split, UNSTATED] for split in splits if (task, split, UNSTATED) in known]
        text = "/".join(format_metric(value, as_percent=True) for value in vague)
        return html_cell(shown=f"{text} ?", interval="the source does not name the metric") if vague else html_cell()

    lines = (
        model_identity(model, "", is_on_hub=True)
        | dict(subtitle=source, tooltip="; ".join(settings[model, source]))
        | dict(cells=[cell(known, column) for column in content["columns"]])
        for (model, source), known in numbers.items()
    )
    before, after = ([html_cell()] * number for number in (averages, facts))
    scored = [line for line in lines if any(one != html_cell() for one in line["cells"])]
    return [line | dict(cells=[*before, *line["cells"], *after]) for line in scored]


def _not_ranked(content: Content) -> Dicts:
    columns = {column["task"]: column for column in content["columns"]}
    return [
        entry_identity(result, result["recipe"])
        | dict(heading=columns[result["task"]]["heading"], reason=result["reason"])
        | dict(cell=_result_cell(result, columns[result["task"]]))
        for result in content["not_ranked"]
    ]
