"""The plots: well-formed, reproducible and complete, with escaped names.

Only their structure is compared: another version of matplotlib may write other bytes for the same picture.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from support.records import finished_record

from harness.facts.records import RunRecord
from harness.reports.data_files import render_json
from harness.reports.drawing import BLUE, INK, ORANGE
from harness.reports.plots import PLOTS, render_plots
from harness.reports.standings import build_leaderboard

EVIL = "evil/<script>alert(1)</script> & \"q\" $x^2$ 'مثال' 日本\x07"


def content_of(*records: RunRecord) -> dict[str, Any]:
    return {**json.loads(render_json(build_leaderboard(records))), "references": []}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def dots(svg: str, color: str) -> int:
    """The number of uses of a marker in this colour."""
    return len(re.findall(rf"<use [^>]*style=\"[^\"]*stroke: {color}", svg))


@pytest.fixture
def some(make_record: Callable[..., RunRecord]) -> dict[str, Any]:
    return content_of(
        *(make_record("rte", {"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))),
        make_record("cola", {"matthews_correlation": 0.3}),
        make_record("rte", {"accuracy": 0.9}, model=EVIL),
        make_record("stars", {"rmse": 0.4}, model=EVIL, facts={"suite": None}),
    )


def test_files_are_well_formed_and_load_nothing(some: dict[str, Any]) -> None:
    plots = render_plots(some)
    assert tuple(plots) == tuple(name for name in PLOTS if name != "learning_curves.svg")
    for svg in plots.values():
        root = ElementTree.fromstring(svg)
        assert root.get("class") == "plot"
        links = [value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert not [element for element in root.iter() if element.tag.endswith(("}image", "}script", "}foreignObject"))]
        assert "date" not in svg.lower()


def test_bytes_do_not_depend_on_the_readers_settings(some: dict[str, Any]) -> None:
    before = render_plots(some)
    with matplotlib.rc_context({"font.size": 31, "svg.fonttype": "path", "axes.facecolor": "red", "text.usetex": True}):
        assert render_plots(some) == before
        assert matplotlib.rcParams["font.size"] == 31


def test_names_and_tasks_are_escaped(some: dict[str, Any]) -> None:
    for name, svg in render_plots(some).items():
        shown = texts(svg)
        assert "bert" in shown
        evil = next(text for text in shown if "script" in text)
        assert evil.startswith("<script>alert(1)")
        assert evil.isprintable()
        if name != "cost.svg":
            assert any(text.startswith("RTE") for text in shown)
            assert any(text.startswith("CoLA") for text in shown)


def test_every_score_has_a_dot_and_every_seed_a_stroke(some: dict[str, Any]) -> None:
    svg = render_plots(some)["scores.svg"]
    assert dots(svg, BLUE) == 4 + 2
    assert dots(svg, ORANGE) == 0
    reference = dict(model="x/base", parameters_millions=1, split="validation", setting="", source="a paper")
    some["references"] = [{**reference, "task": "rte", "metric": "accuracy", "score": 0.7}]
    svg = render_plots(some)["scores.svg"]
    assert dots(svg, ORANGE) == 1
    assert "published result" in texts(svg)


@pytest.mark.parametrize(
    "is_partial, last", [(False, "perfect"), (True, "* with a mark, see the table")], ids=["perfect", "mark"]
)
def test_scale_of_a_narrow_heat_map_is_not_cut_off(
    make_record: Callable[..., RunRecord], is_partial: bool, last: str
) -> None:
    record = make_record("rte", model="m", data={"is_partial": is_partial})
    root = ElementTree.fromstring(render_plots(content_of(record))["heatmap.svg"])
    ends = {element.text: float(element.get("x", 0)) for element in root.iter() if element.text == last}
    width = float(root.get("width", "0pt").removesuffix("pt"))
    assert ends[last] + len(last) * 4.6 < width  # a character of 7.5 points in a wide font


@pytest.mark.parametrize("gap", [0.0, 0.002])
def test_numbers_of_many_entries_of_equal_cost_do_not_overlap(gap: float) -> None:
    """A fifth of the entries has the same score, too."""
    scores = [0.6 + gap * max(number, 8) for number in range(40)]
    names = [f"m{number}" for number in range(40)]
    svg = render_plots(
        content_of(*(finished_record(scores={"accuracy": s}, model=m) for m, s in zip(names, scores, strict=True)))
    )
    elements = ElementTree.fromstring(svg["cost.svg"]).iter()
    numbers = [one for one in elements if one.tag.endswith("}text") and "font-size: 6.5px" in one.get("style", "")]
    assert [one.text for one in numbers] == [str(number) for number in range(1, 41)]
    positions = [(float(one.get("x", 0)), float(one.get("y", 0))) for one in numbers]
    assert min(math.dist(one, other) for one, other in itertools.combinations(positions, 2)) > 6.5


def test_numbers_of_large_errors_fit_into_the_heat_map_and_the_scale_of_an_axis_is_small(
    make_record: Callable[..., RunRecord],
) -> None:
    plots = render_plots(
        content_of(*(make_record("prices", {"mse": value}, model=f"m{value}") for value in (1e10, 3e10)))
    )
    assert {"1.00e+10", "3.00e+10"} < set(texts(plots["heatmap.svg"]))
    (offset,) = (one for one in ElementTree.fromstring(plots["scores.svg"]).iter() if one.text == "1e10")
    assert "font-size: 8px" in offset.get("style", "")


def test_key_names_the_statistic_over_seeds(make_record: Callable[..., RunRecord]) -> None:
    board = build_leaderboard([make_record("rte", seed=seed) for seed in (1, 2, 3)], aggregate="median")
    assert "score, the median over seeds" in texts(render_plots(json.loads(render_json(board)))["scores.svg"])


def test_long_headings_neither_overlap_nor_look_the_same(make_record: Callable[..., RunRecord]) -> None:
    tasks = ["tweet_stance_abortion", "tweet_stance_atheism", "reviews_of_customers_of_our_company_in_france"]
    plots = render_plots(content_of(*(make_record(task, facts={"suite": None}) for task in tasks)))
    assert {"tweet…rtion", "tweet…heism"} < set(texts(plots["heatmap.svg"]))
    titles = [text for text in texts(plots["scores.svg"]) if text.endswith("accuracy")]
    assert "tweet_stance_abortion accuracy" in titles
    assert max(map(len, titles)) <= 34


def test_heat_map_shows_each_score_in_numbers(some: dict[str, Any]) -> None:
    shown = texts(render_plots(some)["heatmap.svg"])
    assert {"70.0", "30.0", "90.0", "0.400"} <= set(shown)


def test_marked_scores_are_explained(make_record: Callable[..., RunRecord]) -> None:
    plots = render_plots(content_of(make_record(data={"is_partial": True})))
    assert "70.0*" in texts(plots["heatmap.svg"])
    assert "with a mark, see the table" in texts(plots["scores.svg"])


def test_at_most_40_entries_are_drawn_and_the_rest_is_counted(make_record: Callable[..., RunRecord]) -> None:
    for count, drawn in ((1, 1), (45, 40)):
        records = [make_record(model=f"o/m{n}", scores={"accuracy": 0.5 + n / 100}) for n in range(count)]
        plots = render_plots(content_of(*records))
        for svg in plots.values():
            assert len([text for text in texts(svg) if re.fullmatch(r"m\d+", text)]) == drawn
            assert ("40 of 45" in " ".join(texts(svg))) == (count > 40)


def test_plots_without_data_are_left_out(make_record: Callable[..., RunRecord]) -> None:
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    assert render_plots(content_of(lost)) == {}
    assert tuple(render_plots(content_of(make_record(cost=None)))) == ("scores.svg", "heatmap.svg")


def test_a_wide_key_is_broken_into_lines(make_record: Callable[..., RunRecord]) -> None:
    """One panel is narrow; the key must fit into it."""
    content = content_of(*(make_record("rte", {"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))))
    root = ElementTree.fromstring(render_plots(content)["scores.svg"])
    width = float(root.get("viewBox", "").split()[2])
    key = [one for one in root.iter() if one.tag.endswith("}text") and "7.5px" in one.get("style", "")]
    ends = [float(one.get("x", 0)) + 7.5 * 0.6 * len(one.text or "") for one in key]  # wider than most fonts
    assert len({one.get("y") for one in key}) > 1
    assert max(ends) < width


def test_cost_axis_has_plain_numbers_in_the_ink_of_the_plot(some: dict[str, Any]) -> None:
    svg = render_plots(some)["cost.svg"]
    numbers = [one for one in re.findall(r"<text ([^>]*)>([^<]*)</text>", svg) if one[1].replace(".", "").isdigit()]
    assert len(numbers) > 3
    assert all(f"fill: {INK}" in style for style, _ in numbers)
    assert "×" not in svg


def sized(make_record: Callable[..., RunRecord], rows: int, model: str, quality: float) -> RunRecord:
    data = {"rows": {"train": rows, "validation": 277}, "fingerprint": f"{rows} rows"}
    score = {"accuracy": quality + rows / 10_000}
    return make_record("rte", score, model=model, recipe={"train_rows": rows}, data=data)


def test_learning_curves_have_a_line_per_model_a_dot_per_size_and_a_logarithmic_axis(
    make_record: Callable[..., RunRecord],
) -> None:
    models = (("a/one", 0.5), (EVIL, 0.6))
    records = [sized(make_record, rows, *model) for model in models for rows in (100, 300, 1000)]
    svg = render_plots(content_of(*records, sized(make_record, 100, "a/short", 0.7)))["learning_curves.svg"]
    assert dots(svg, BLUE) + dots(svg, "#b8446a") == 6
    shown = texts(svg)
    assert "one" in shown
    assert any(text.startswith("<script>") for text in shown)
    assert "short" not in shown
    assert {"100", "200", "500", "1,000", "training rows"} <= set(shown)


def test_marks_of_similar_numbers_of_rows_are_exact(make_record: Callable[..., RunRecord]) -> None:
    records = [sized(make_record, rows, "a/one", -1.0) for rows in (11_000, 11_800, 13_000)]
    shown = [text for text in texts(render_plots(content_of(*records))["learning_curves.svg"]) if text.endswith("k")]
    assert {"11.5k", "12k", "12.5k"} <= set(shown)
    assert len(set(shown)) == len(shown)


def test_at_most_twelve_learning_curves_are_drawn(make_record: Callable[..., RunRecord]) -> None:
    records = [sized(make_record, rows, f"a/m{n}", n / 100) for n in range(14) for rows in (10, 100, 1000)]
    shown = texts(render_plots(content_of(*records))["learning_curves.svg"])
    assert sum(text.startswith("m") and text[1:].isdigit() for text in shown) == 12
    assert "the first 12 of 14 models" in shown
