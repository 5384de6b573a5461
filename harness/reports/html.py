"""leaderboard.html: the content of leaderboard.json as one page that needs nothing but itself, to sort and to filter.

The page is `leaderboard.html.jinja`; here its values are made ready. Jinja2 escapes all of them but the plots, whose
own writer has escaped what stands in them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from harness.facts.metrics import METRICS, title_of
from harness.reports.markdown import SHORT_SPLITS
from harness.reports.panels import Content
from harness.reports.plots import BLUE, FAINT, INK, ORANGE
from harness.reports.standings import NO_SCORE, is_fraction, shown
from harness.stats.groups import in_order

_PAGE = Path(__file__).with_name("leaderboard.html.jinja")

_COLORS = {INK: "--plot-ink", FAINT: "--plot-faint", BLUE: "--plot-blue", ORANGE: "--plot-orange"}
"""The page has its own in place of the plots': clearer, as it knows its ground."""

_LARGER = 1.15
"""So that a plot's letters are nearly those of the page."""

_PLOTS = {
    "scores.svg": ("Scores per task", "Scores with their 95 % intervals over seeds and rows, task by task."),
    "heatmap.svg": (
        "Heat map over tasks",
        "How far each score is on the way from the best constant answer to a perfect one.",
    ),
    "cost.svg": ("Score against cost", "What a mean score takes: a run of each task, in device-hours."),
}

_INTERVALS = ("total", "seeds", "split")
_SURE = (
    ("95 % interval", "seeds and rows", "descending"),
    ("over seeds", "95 %", "descending"),
    ("over rows", "95 %", "descending"),
    ("to best", "with 95 % interval", "descending"),
    ("p", "Holm's (its own)", "descending"),
)
"""A task's columns that say how sure its scores are: title, what it is, the direction that comes first."""

_COSTS = {
    "tasks": ("tasks", ""),
    "runs": ("runs", "all seeds"),
    "seconds": ("hours", "start to record"),
    "device_seconds": ("device-hours", "hours × processes"),
    "once_seconds": ("hours once", "a run of each task"),
    "once_device_seconds": ("device-hours once", "a run of each task"),
}

Dicts = list[dict[str, Any]]


def render_html(content: Content, plots: Mapping[str, str], formulas: Mapping[str, Sequence[str]]) -> str:
    """The page. `plots`: SVG by file name; `formulas`: sentences by section, scores, costs, tasks and published."""
    import jinja2

    surroundings = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = [
        dict(file=name, title=title, caption=caption, svg=_inline(plots[name], name))
        for name, (title, caption) in _PLOTS.items()
        if name in plots
    ]
    values = _values(content) | dict(plots=drawn, formulas=formulas)
    return surroundings.from_string(_PAGE.read_text(encoding="utf-8")).render(values) + "\n"


def _inline(svg: str, name: str) -> str:
    """A plot within a page: without a file's head, with names of its own, and in the page's colours."""
    svg = svg[svg.index("<svg") :]
    own = name.removesuffix(".svg")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}-", svg)
    for color, variable in _COLORS.items():
        svg = svg.replace(color, f"var({variable})")

    def larger(size: re.Match[str]) -> str:
        return f'{size[1]}="{_LARGER * float(size[2]):.0f}pt"'

    return re.sub(r'\b(width|height)="([\d.]+)pt"', larger, svg, count=2)


def _values(content: Content) -> dict[str, Any]:
    columns, rows = content["columns"], content["rows"]
    averages = _averages(content)
    has_constant = content["best_constant_answer"]
    marks = {mark for row in rows for entry in row["tasks"].values() for mark in entry["marks"]}
    marks |= {mark for entry in content["apart"] for mark in entry["marks"]}
    runs = sum(len(entry["runs"]) for row in rows for entry in row["tasks"].values())
    runs += sum(len(entry["runs"]) for entry in content["apart"])
    models = len({row["model"] for row in rows})
    test_mode = "Test mode: a check of the pipeline, these are no benchmark results"
    page_columns = [_column(column) for column in columns]
    lines = [_row(row, columns, averages) for row in rows]
    for place in range(len(columns)):
        if sum(line["cells"][place]["sort"] is not None for line in lines) < 2:  # best of nobody else
            for line in lines:
                line["cells"][place]["is_top"] = line["cells"][place]["is_best"] = False
    return dict(
        title=test_mode if content["is_test_mode"] else "Leaderboard",
        summary=f"{_count(runs, 'run')} of {_count(models, 'model')} on {_count(len(columns), 'task')}.",
        columns=page_columns,
        averages=[dict(title=name, note=note, first=first) for name, (note, first) in averages.items()],
        rows=lines,
        recipes=sorted({row["variant"] for row in rows}),
        constant=dict(
            averages=[_average(has_constant["averages"].get(name)) for name in averages],
            cells=[
                _cell(shown=has_constant["shown"].get(column["task"]), sort=has_constant["tasks"].get(column["task"]))
                for column in columns
            ],
        ),
        elsewhere=_elsewhere(content),
        marks=content["marks"],
        occurring=in_order(marks),
        notes=content["notes"],
        tables=[_in_full(column, rows) for column in columns],
        apart=_apart(content),
        costs=_costs(rows),
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    splits = [SHORT_SPLITS.get(split, split) for split in column["report"]]
    small = "/".join(column["headline_titles"]) + ("" if splits == ["validation"] else f" {'/'.join(splits)}")
    first = "ascending" if column["lower_is_better"] else "descending"
    return dict(task=column["task"], heading=column["heading"], small=small, first=first)


def _averages(content: Content) -> dict[str, tuple[str, str]]:
    """By name of those that a row has: a note, and the direction in which the best comes first."""
    names = {name for row in content["rows"] for name, score in row["averages"].items() if score is not None}
    found = {name: ("mean score", "descending") for row in content["rows"] for name in row["averages"] if name in names}
    if any(row["average_rank"] for row in content["rows"]):
        found["Rank"] = (f"mean over {_count(len(content['ranked_tasks']), 'task')}", "ascending")
    return found


def _average(score: float | None) -> dict[str, Any]:
    return _cell(shown=NO_SCORE if score is None else shown(score, as_percent=True), sort=score)


def _cell(**values: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = dict(shown="", sort=None, spread="", interval="", marks=[], runs=[])
    return nothing | dict(is_best=False, is_tied=False, is_top=False) | values


def _identity(label: str, variant: str, is_on_hub: bool) -> dict[str, Any]:
    owner, _, name = label.partition("/")
    page = label.partition("@")[0]
    is_name = is_on_hub and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", page, re.ASCII) is not None
    remark = "" if variant == "default" else variant
    link = f"https://huggingface.co/{page}" if is_name else None
    return dict(
        label=label, owner=owner if name else "", name=name or owner, recipe=variant, remark=remark, about="", page=link
    )


def _of(row: Mapping[str, Any], recipe: str | None = None) -> dict[str, Any]:
    """`recipe` is that of a single task, which is shown instead of all."""
    is_on_hub = not row["revision"].startswith("sha256:")
    identity = _identity(row.get("label", row["model"]), row["variant"], is_on_hub)
    return identity if recipe is None else identity | dict(remark="" if recipe == "default" else recipe)


def _row(row: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], averages: Iterable[str]) -> dict[str, Any]:
    def average(name: str) -> dict[str, Any]:
        if name != "Rank":
            is_best = name in row["best_averages"]
            told = dict(marks=row["average_marks"].get(name, []), is_best=is_best, is_top=is_best)
            return _average(row["averages"].get(name)) | told
        if (rank := row["average_rank"]) is None:
            return _cell()
        interval = f"95 % interval {rank['low']:.1f} to {rank['high']:.1f}"
        return _cell(shown=f"{rank['mean']:.1f}", sort=rank["mean"], interval=interval)

    cells = [_entry(row["tasks"].get(column["task"]), column) for column in columns]
    return _of(row) | dict(averages=list(map(average, averages)), cells=cells)


def _entry(entry: Mapping[str, Any] | None, column: Mapping[str, Any]) -> dict[str, Any]:
    if entry is None:
        return _cell()
    numbers = [(figure["mean"], figure["metric"]) for figure in entry["figures"] if figure["is_headline"]]
    total, as_percent = entry["intervals"]["total"], column["as_percent"]
    interval = spread = ""
    if total:
        spread = f"±{shown((total[1] - total[0]) / 2, as_percent)}"
        interval = f"95 % interval of the score {shown(total[0], as_percent)} to {shown(total[1], as_percent)}"
    text = "/".join(shown(value, is_fraction(metric)) for value, metric in numbers)
    return _cell(
        shown=entry["shown"] or text or NO_SCORE,
        sort=entry["score"],
        spread=spread,
        interval=interval,
        marks=entry["marks"],
        runs=_runs(entry, as_percent),
        is_best=entry["is_best"],
        is_tied=entry["is_tied"],
        is_top=entry["is_best"] or entry["is_tied"],
    )


def _runs(entry: Mapping[str, Any], as_percent: bool) -> Dicts:
    return [
        dict(
            seed=run["seed"],
            href=quote(run["record"]),
            status=run["status"],
            about=f"seed {run['seed']}: {shown(run['score'], as_percent)} ({run['status']}), {run['run_id']}",
        )
        for run in entry["runs"]
    ]


def _elsewhere(content: Content) -> Dicts:
    """A row for each model and source; a number whose metric the source does not state has a question mark."""
    numbers: dict[tuple[str, str], dict[tuple[str, str, str], float]] = defaultdict(dict)
    settings: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for one in content["references"]:
        key = one["model"], one["source"]
        numbers[key].setdefault((one["task"], one["split"], one["metric"]), one["score"])
        settings[key][one["setting"]] = None

    def cell(known: Mapping[tuple[str, str, str], float], column: Mapping[str, Any]) -> dict[str, Any]:
        task, splits, metrics = column["task"], column["report"], column["main_metrics"]
        values = [known.get((task, split, metric)) for split in splits for metric in metrics]
        if any(value is not None for value in values):
            text = "/".join(shown(value, column["as_percent"]) for value in values)
            return _cell(shown=text, sort=None if None in values else fmean(value or 0.0 for value in values))
        vague = [known[task, split, "unstated"] for split in splits if (task, split, "unstated") in known]
        text = "/".join(shown(value, column["as_percent"]) for value in vague)
        return _cell(shown=f"{text} ?", interval="the source does not say which metric") if vague else _cell()

    return [
        _identity(model, "", is_on_hub=True)
        | dict(remark=source, about="; ".join(settings[model, source]))
        | dict(cells=[cell(known, column) for column in content["columns"]])
        for (model, source), known in numbers.items()
    ]


def _in_full(column: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A task's own table: every metric of every split, then what the runs took."""
    entries = [(row, row["tasks"][column["task"]]) for row in rows if column["task"] in row["tasks"]]
    places = list(
        dict.fromkeys((figure["metric"], figure["split"]) for _, entry in entries for figure in entry["figures"])
    )
    heads: list[dict[str, Any]] = []
    for metric, split in places:
        is_lower = metric == "loss" or (metric in METRICS and METRICS[metric].lower_is_better)
        heads.append(dict(title=title_of(metric), small=split, first="ascending" if is_lower else "descending"))
    heads += [dict(title=title, small=small, first=first) for title, small, first in _SURE]
    told = ("n", "", "descending"), ("rows/s", "training", "descending")
    took = ("peak MiB", "of a process", "ascending"), ("seconds", "start to record", "ascending")
    heads += [dict(title=title, small=small, first=first) for title, small, first in (*told, *took)]
    heads += [dict(title=title, small="", first="ascending") for title in ("precision", "devices")]
    table = []
    for row, entry in entries:
        figures = {(figure["metric"], figure["split"]): figure for figure in entry["figures"]}
        values = [_figure(figures.get(place)) for place in places]
        values += _how_sure(entry, column["as_percent"]) + _took(entry)
        table.append(_of(row, entry["recipe"]) | dict(numbers=values, runs=_runs(entry, column["as_percent"])))
    return dict(heading=column["heading"], title=column["title"], columns=heads, rows=table)


def _how_sure(entry: Mapping[str, Any], as_percent: bool) -> Dicts:
    """In the order of `_SURE`."""

    def between(ends: Sequence[float] | None) -> str:
        return f"{shown(ends[0], as_percent)} to {shown(ends[1], as_percent)}" if ends else ""

    intervals, versus = entry["intervals"], entry["to_best"]
    sure = [_value(between(intervals[name]), intervals[name] and intervals[name][0]) for name in _INTERVALS]
    if versus is None:
        return [*sure, _value("", None), _value("", None)]
    less = shown(versus["difference"], as_percent)
    text = f"{less} ({between((versus['low'], versus['high']))})"
    p = f"{versus['p_holm']:.2g} ({versus['p']:.2g})"
    return [*sure, _value(text, versus["difference"]), _value(p, versus["p_holm"])]


def _figure(figure: Mapping[str, Any] | None) -> dict[str, Any]:
    if figure is None:
        return _value("", None)
    as_percent = is_fraction(figure["metric"])
    spread = "" if figure["std"] is None else f" ±{shown(figure['std'], as_percent)}"
    return _value(shown(figure["mean"], as_percent) + spread, figure["mean"])


def _value(text: str, sort: float | str | None) -> dict[str, Any]:
    return dict(shown=text, sort=sort)


def _took(entry: Mapping[str, Any]) -> Dicts:
    """In the order of the table's last columns."""
    scored = [run for run in entry["runs"] if run["score"] is not None]

    def number(key: str, form: str, scale: float = 1) -> dict[str, Any]:
        known = [run[key] / scale for run in scored if run[key] is not None]
        one = (max if key == "peak_bytes" else fmean)(known) if known else None
        return _value("" if one is None else format(one, form), one)

    precision = ", ".join(sorted({run["precision"] for run in scored if run["precision"]}))
    devices = ", ".join(sorted({_devices(run["devices"]) for run in scored}))
    took = number("rows_per_second", ",.1f"), number("peak_bytes", ",.0f", 2**20), number("seconds", ",.1f")
    return [_value(str(entry["n"]), entry["n"]), *took, _value(precision, precision), _value(devices, devices)]


def _devices(names: Sequence[str]) -> str:
    return " + ".join(f"{names.count(name)} × {name}" for name in sorted(set(names)))


def _apart(content: Content) -> Dicts:
    columns = {column["task"]: column for column in content["columns"]}
    return [
        _of(entry, entry["recipe"])
        | dict(heading=columns[entry["task"]]["heading"], reason=entry["reason"])
        | dict(cell=_entry(entry, columns[entry["task"]]))
        for entry in content["apart"]
    ]


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def value(name: str, number: float) -> dict[str, Any]:
        return _value(f"{number / 3600:,.2f}" if name.endswith("seconds") else f"{number:,}", number)

    table = [_of(row) | dict(numbers=[value(name, row["cost"][name]) for name in _COSTS]) for row in rows]
    return dict(columns=list(_COSTS.values()), rows=table)
