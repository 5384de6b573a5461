"""leaderboard.html: the content of leaderboard.json as one self-contained page, to sort and to filter.

The template is `leaderboard.html.jinja`; this module prepares its values. Jinja2 escapes all of them but the plots,
whose own writer has escaped their text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from harness.metrics.registry import METRICS, is_fraction, title_of
from harness.reports.cells import NO_SCORE, format_metric, format_spread
from harness.reports.costs import energy_text, parameters_text, tuning_text
from harness.reports.drawing import BLUE, FAINT, INK, ORANGE
from harness.reports.formulas import NOT_RANKED
from harness.reports.markdown import SHORT_SPLITS, calibration_cells, format_disagreement
from harness.reports.pages import FIRST_PAGE, plot_name
from harness.reports.panels import Content
from harness.reports.resolution import resolution_note
from harness.stats.groups import sort_marks
from harness.stats.power import SmallestDifferences
from harness.stats.uncertainty import Interval
from harness.stats.verification import LEVELS

_PAGE = Path(__file__).with_name("leaderboard.html.jinja")

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
    page: str = FIRST_PAGE,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page, from leaderboard.json, SVG by file name, and the `formulas` of each section.

    `page` is the name of its files, without their endings; `links` are those of all pages by their titles.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= dict(
        metric=format_metric,
        interval=_interval,
        energy=energy_text,
        parameters=_parameters,
        disagreement=format_disagreement,
    )
    figures = [
        dict(file=plot_name(page, name), title=heading, caption=caption, svg=_inline(plots[name], name))
        for name, (heading, caption) in _PLOTS.items()
        if name in plots
    ]
    pages = [
        dict(title=heading, href=f"{quote(name)}.html", is_own=name == page) for heading, name in (links or {}).items()
    ]
    values = _values(content) | dict(plots=figures, formulas=formulas, title=title, page=quote(page), pages=pages)
    return environment.from_string(_PAGE.read_text(encoding="utf-8")).render(values) + "\n"


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
    for number in range(len(columns)):
        cells = [line["cells"][number] for line in lines]
        if sum(cell["sort"] is not None for cell in cells) < 2:  # no rival
            for cell in cells:
                cell["is_top"] = cell["is_best"] = False
    return dict(
        summary=f"{_count(runs, 'run')} of {_count(models, 'model')} on {_count(len(columns), 'task')}.",
        columns=[_column(column) for column in columns],
        averages=[dict(title=name, note=note, first=first) for name, (note, first) in averages.items()],
        facts=[dict(title=name, note=note, first=first) for name, (note, first) in facts.items()],
        rows=lines,
        recipes=sorted({entry["variant"] for entry in entries}),
        baseline=dict(
            label=baseline["label"],
            averages=[
                _average(baseline["averages"][name]) if name in baseline["averages"] else _cell() for name in averages
            ],
            cells=[
                _cell(shown=baseline["shown"].get(column["task"]), sort=baseline["tasks"].get(column["task"]))
                for column in columns
            ],
        ),
        published=_published(content),
        marks=content["marks"],
        occurring=sort_marks(mark for result in results for mark in result["marks"]),
        notes=content["notes"],
        calibrations=_calibrations(columns, entries),
        has_energy=any(any(entry["cost"]["measured"].values()) for entry in entries),
        has_tuning="Tuning" in facts,
        tables=[_task_table(column, entries) for column in columns],
        not_ranked=_not_ranked(content),
        not_ranked_note=NOT_RANKED,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    splits = [SHORT_SPLITS.get(split, split) for split in column["report"]]
    subtitle = "/".join(column["main_metric_titles"]) + ("" if splits == ["validation"] else f" {'/'.join(splits)}")
    first = "ascending" if column["lower_is_better"] else "descending"
    return dict(task=column["task"], heading=column["heading"], subtitle=subtitle, first=first)


def _averages(content: Content) -> dict[str, tuple[str, str]]:
    """A note and the direction of the first sort for each average that an entry has."""
    entries = content["entries"]
    names = entries[0]["averages"] if entries else ()
    used = [name for name in names if any(entry["averages"][name] is not None for entry in entries)]
    averages = dict.fromkeys(used, ("mean score", "descending"))
    if any(entry["average_rank"] for entry in entries):
        averages["Rank"] = (f"over {_count(len(content['ranked_tasks']), 'task')}", "ascending")
    return averages


def _facts(content: Content) -> dict[str, tuple[str, str]]:
    """A note and the direction of the first sort for each column after the tasks: facts about the entries' runs."""
    facts = {}
    if any(entry["tuning"] for entry in content["entries"]):
        facts["Tuning"] = ("points tried and device-hours", "ascending")
    if any(entry["verification"] not in (None, "reported") for entry in content["entries"]):
        facts["Verification"] = ("of all scores", "descending")
    return facts


def _average(score: float | None) -> dict[str, Any]:
    return _cell(shown=NO_SCORE if score is None else format_metric(score, as_percent=True), sort=score)


def _cell(**values: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict(shown="", sort=None, spread="", interval="", marks=[], runs=[], links=[])
    return empty | dict(is_best=False, is_tied=False, is_top=False) | values


def _identity(label: str, variant: str, is_on_hub: bool) -> dict[str, Any]:
    owner, _, name = label.partition("/")
    page = label.partition("@")[0]
    has_page = is_on_hub and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", page, re.ASCII) is not None
    names = dict(label=label, owner=owner if name else "", name=name or owner, recipe=variant)
    subtitle = "" if variant == "default" else variant
    return names | dict(subtitle=subtitle, tooltip="", page=f"https://huggingface.co/{page}" if has_page else None)


def _entry_identity(entry: Mapping[str, Any], recipe: str | None = None) -> dict[str, Any]:
    """The names of an entry, with `recipe`, that of a single task, instead of its variant."""
    is_on_hub = not entry["revision"].startswith("sha256:")
    identity = _identity(entry.get("label", entry["model"]), entry["variant"], is_on_hub)
    return identity if recipe is None else identity | dict(subtitle="" if recipe == "default" else recipe)


def _line(
    entry: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], averages: Iterable[str], facts: Iterable[str]
) -> dict[str, Any]:
    def average(name: str) -> dict[str, Any]:
        if name != "Rank":
            is_best = name in entry["best_averages"]
            marks = entry["average_marks"].get(name, [])
            score, intervals = entry["averages"].get(name), entry["average_intervals"].get(name, {})
            uncertainty = _uncertainty(score, intervals, as_percent=True)
            return _average(score) | dict(marks=marks, is_best=is_best, is_top=is_best) | uncertainty
        if (rank := entry["average_rank"]) is None:
            return _cell()
        interval = f"by the pairwise tests {rank['low']:.1f} to {rank['high']:.1f}"
        return _cell(shown=f"{rank['mean']:.1f}", sort=rank["mean"], interval=interval)

    cells = [_result_cell(entry["tasks"].get(column["task"]), column) for column in columns]
    cells_of_facts = {"Tuning": _tuning_cell(entry["tuning"]), "Verification": _level_cell(entry)}
    return _entry_identity(entry) | dict(
        averages=list(map(average, averages)),
        cells=cells,
        facts=[cells_of_facts[name] for name in facts],
        cost=entry["cost"],
    )


def _level_cell(entry: Mapping[str, Any]) -> dict[str, Any]:
    level = entry["verification"]
    if level is None:
        return _cell()
    reruns = [path for result in entry["tasks"].values() for run in result["runs"] for path in run["reruns"]]
    links = [dict(href=quote(path), tooltip=path, text="re-run") for path in reruns]
    return _cell(shown=level, sort=list(LEVELS).index(level), interval=LEVELS[level], links=links)


def _tuning_cell(tuning: Mapping[str, Any] | None) -> dict[str, Any]:
    if tuning is None:
        return _cell()
    links = [dict(href=quote(path), tooltip=path, text="grid") for path in tuning["grids"]]
    return _cell(shown=tuning_text(**tuning), sort=tuning["device_seconds"], links=links)


def _result_cell(result: Mapping[str, Any] | None, column: Mapping[str, Any]) -> dict[str, Any]:
    if result is None:
        return _cell()
    as_percent = column["as_percent"]
    return _cell(
        shown=result["shown"],
        sort=result["score"],
        **_uncertainty(result["score"], result["intervals"], as_percent),
        marks=result["marks"],
        runs=_runs(result, as_percent),
        is_best=result["is_best"],
        is_tied=result["is_tied"],
        is_top=result["is_best"] or result["is_tied"],
    )


def _uncertainty(score: float | None, intervals: Mapping[str, Any], as_percent: bool) -> dict[str, str]:
    if not intervals.get("total"):
        return {}
    ends, is_over_rows_only = Interval(*intervals["total"]), intervals["is_over_rows_only"]
    kind = "other rows only" if is_over_rows_only else "other seeds and rows"
    return dict(
        spread=format_spread(score, ends, is_over_rows_only, as_percent),
        interval=f"95 % interval for {kind}: {_interval(ends, as_percent)}",
    )


def _runs(result: Mapping[str, Any], as_percent: bool) -> Dicts:
    return [
        dict(
            seed=run["seed"],
            href=quote(run["record"]),
            status=run["status"],
            tooltip=f"seed {run['seed']}: {format_metric(run['score'], as_percent)} ({run['status']}), {run['run_id']}",
        )
        for run in result["runs"]
    ]


def _published(content: Content) -> Dicts:
    """A line for each model and source with a score on a reported split; `?`: the source does not name the metric."""
    numbers: dict[tuple[str, str], dict[tuple[str, str, str], float]] = defaultdict(dict)
    settings: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for one in content["references"]:
        key = one["model"], one["source"]
        numbers[key].setdefault((one["task"], one["split"], one["metric"]), one["score"])
        settings[key][one["setting"]] = None

    def cell(known: Mapping[tuple[str, str, str], float], column: Mapping[str, Any]) -> dict[str, Any]:
        task, splits, metrics, as_percent = (column[key] for key in ("task", "report", "main_metrics", "as_percent"))
        values = [known.get((task, split, metric)) for split in splits for metric in metrics]
        if any(value is not None for value in values):
            text = "/".join(format_metric(value, as_percent) for value in values)
            return _cell(shown=text, sort=None if None in values else fmean(value or 0.0 for value in values))
        vague = [known[task, split, "unstated"] for split in splits if (task, split, "unstated") in known]
        text = "/".join(format_metric(value, as_percent) for value in vague)
        return _cell(shown=f"{text} ?", interval="the source does not name the metric") if vague else _cell()

    lines = (
        _identity(model, "", is_on_hub=True)
        | dict(subtitle=source, tooltip="; ".join(settings[model, source]))
        | dict(cells=[cell(known, column) for column in content["columns"]])
        for (model, source), known in numbers.items()
    )
    return [line for line in lines if any(one != _cell() for one in line["cells"])]


def _task_table(column: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A task's own table, with a column for every metric of every split."""
    results = [(entry, entry["tasks"][column["task"]]) for entry in entries if column["task"] in entry["tasks"]]
    pairs = list(dict.fromkeys((one["metric"], one["split"]) for _, result in results for one in result["figures"]))
    heads = []
    for metric, split in pairs:
        is_lower = metric == "loss" or (metric in METRICS and METRICS[metric].lower_is_better)
        heads.append((title_of(metric), split, "ascending" if is_lower else "descending"))
    rows = []
    for entry, result in results:
        figures = {(figure["metric"], figure["split"]): figure for figure in result["figures"]}
        cells = [_figure_cell(figures.get(pair)) for pair in pairs]
        identity = _entry_identity(entry, result["recipe"])
        rows.append(identity | dict(cells=cells, result=result, runs=_runs(result, column["as_percent"])))
    differences = column["smallest_differences"]
    resolution = resolution_note(SmallestDifferences(**differences), column["as_percent"]) if differences else ""
    return dict(column=column, heads=heads, rows=rows, resolution=resolution)


def _interval(ends: Sequence[float] | None, as_percent: bool) -> str:
    return f"{format_metric(ends[0], as_percent)} to {format_metric(ends[1], as_percent)}" if ends else ""


def _parameters(cost: Mapping[str, Any]) -> str:
    return parameters_text(cost["parameters"], cost["trainable_parameters"])


def _figure_cell(figure: Mapping[str, Any] | None) -> tuple[str, float | None]:
    """The text and the sort key of a metric."""
    if figure is None:
        return "", None
    as_percent = is_fraction(figure["metric"])
    spread = "" if figure["std"] is None else f" ±{format_metric(figure['std'], as_percent)}"
    return format_metric(figure["value"], as_percent) + spread, figure["value"]


def _calibrations(columns: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> Dicts:
    """A line per task and entry whose scores are stored: the text and the sort key of each number."""
    lines = []
    for column in columns:
        for entry in entries:
            result = entry["tasks"].get(column["task"])
            if result and (calibration := result["calibration"]):
                plain, scaled = calibration["plain"], calibration["scaled"]
                texts = [*calibration_cells(plain)[1:], *calibration_cells(scaled)]
                keys = ("temperature", "expected_calibration_error", "brier_score", "log_loss")
                sorts = [*(plain[key] for key in keys[1:]), *(scaled and scaled[key] for key in keys)]
                identity = _entry_identity(entry, result["recipe"])
                cells = list(zip(texts, sorts, strict=True))
                lines.append(identity | dict(heading=column["heading"], runs=calibration["runs"], cells=cells))
    return lines


def _not_ranked(content: Content) -> Dicts:
    columns = {column["task"]: column for column in content["columns"]}
    return [
        _entry_identity(result, result["recipe"])
        | dict(heading=columns[result["task"]]["heading"], reason=result["reason"])
        | dict(cell=_result_cell(result, columns[result["task"]]))
        for result in content["not_ranked"]
    ]
