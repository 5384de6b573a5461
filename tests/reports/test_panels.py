"""Data of the plots: every score of the leaderboard once, short unique names, and comparable costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.boards import ELECTRA, record

from harness.facts.records import RunRecord
from harness.reports.data_files import render_json
from harness.reports.panels import (
    MAX_NAME,
    CostPoint,
    Panel,
    cost_points,
    curve_panels,
    normalized_score,
    panels_of,
    pareto_front,
)
from harness.reports.standings import build_leaderboard


def content_of(*records: RunRecord) -> dict[str, Any]:
    return json.loads(render_json(build_leaderboard(records)))


def panel(baseline: float | None = 0.5, as_percent: bool = True, lower_is_better: bool = False) -> Panel:
    return Panel("t", "T", "T accuracy", as_percent, lower_is_better, baseline, (), ())


def test_a_panel_per_task_with_the_score_and_each_seed(make_record: Callable[..., RunRecord]) -> None:
    records = [make_record("rte", {"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))]
    panels = panels_of(content_of(*records, make_record("mnli", {"accuracy": 0.7}, model="b/other")))
    assert panels.names == ("other", "bert")
    assert [one.task for one in panels.panels] == ["mnli", "rte"]
    mnli, rte = panels.panels
    assert mnli.points[1] is None
    assert rte.points[0] is None
    assert rte.points[1].score == pytest.approx(0.7)
    assert rte.points[1].seeds == (0.6, 0.8)
    assert mnli.points[0].seeds == ()
    assert rte.baseline == 0.5
    assert rte.title == "RTE accuracy"


def test_a_task_without_a_score_has_no_panel(make_record: Callable[..., RunRecord]) -> None:
    lost = make_record("rte").model_copy(update={"status": "diverged", "metrics": {}})
    assert panels_of(content_of(lost)).panels == ()


def test_marked_scores_are_marked_points(make_record: Callable[..., RunRecord]) -> None:
    (one,) = panels_of(content_of(make_record(data={"is_partial": True}))).panels
    assert one.points[0].is_marked


def test_names_are_short_and_unique(make_record: Callable[..., RunRecord]) -> None:
    long = "x" * 80
    models = ["a/bert", "b/bert", "c/" + long + "1", "c/" + long + "2", "d/<b>&\n$x$", "plain"]
    records = [make_record(model=model, scores={"accuracy": 0.9 - n / 10}) for n, model in enumerate(models)]
    names = panels_of(content_of(*records, make_record(model="plain", recipe={"epochs": 9}))).names
    assert {"a/bert", "b/bert", "<b>& $x$", "plain", "plain (epochs=9)"} < set(names)
    assert len(set(names)) == len(names) == 7
    assert all(len(name) <= MAX_NAME + 1 for name in names)
    assert all(name.isprintable() for name in names)


def test_a_recipe_that_all_entries_share_is_not_repeated(make_record: Callable[..., RunRecord]) -> None:
    assert panels_of(content_of(make_record(recipe={"epochs": 9}))).names == ("bert",)


def test_published_scores_need_all_main_metrics(
    make_record: Callable[..., RunRecord],
) -> None:
    content = content_of(make_record("rte"), make_record("mrpc", {"f1": 0.8, "accuracy": 0.7}))
    content["columns"][0]["main_metrics"] = ["f1", "accuracy"]
    one = dict(model="x/base", parameters_millions=None, split="validation", setting="s", source="a paper")
    content["references"] = [
        {**one, "task": "rte", "metric": "accuracy", "score": 0.6},
        {**one, "task": "mrpc", "metric": "f1", "score": 0.9},
        {**one, "model": "y/base", "task": "mrpc", "metric": "unstated", "score": 0.9},
        {**one, "source": "a second paper", "task": "rte", "metric": "accuracy", "score": 0.1},
    ]
    panels = panels_of(content)
    assert panels.published == ("base",)
    mrpc, rte = panels.panels
    assert mrpc.published == (None,)
    assert rte.published[0].score == 0.6
    content["references"].append({**one, "task": "mrpc", "metric": "accuracy", "score": 0.7})
    assert panels_of(content).panels[0].published[0].score == pytest.approx(0.8)


@pytest.mark.parametrize(
    "one, score, expected",
    [
        (panel(0.5), 0.5, 0.0),
        (panel(0.5), 0.75, 0.5),
        (panel(0.5), 1.0, 1.0),
        (panel(0.5), 0.2, 0.0),
        (panel(None), 0.8, 0.8),
        (panel(1.0), 1.0, 1.0),
        (panel(2.0, as_percent=False, lower_is_better=True), 0.5, 0.75),
        (panel(2.0, as_percent=False, lower_is_better=True), 3.0, 0.0),
        (panel(None, as_percent=False, lower_is_better=True), 0.5, None),
        (panel(2.0, as_percent=False), 0.5, None),
    ],
)
def test_normalized_score_is_0_at_the_baseline_and_1_when_perfect(
    one: Panel, score: float, expected: float | None
) -> None:
    assert normalized_score(one, score) == (None if expected is None else pytest.approx(expected))


def test_cost_points_are_one_run_of_each_shared_task(make_record: Callable[..., RunRecord]) -> None:
    records = [
        *(make_record(task, {"accuracy": 0.6}, seed=seed) for task in ("rte", "wnli") for seed in (1, 3)),
        *(make_record(task, {"accuracy": 0.8}, model="b/better") for task in ("rte", "wnli", "sst2")),
        make_record("sst2", model="c/little"),
    ]
    content = content_of(*records)
    headings, points = cost_points(content, panels_of(content))
    assert headings == ("RTE", "WNLI")
    assert [point.name for point in points] == ["better", "bert"]
    assert points[1].hours == pytest.approx((62 + 62) / 3600)  # each the mean of 61 and 63
    assert points[1].score == pytest.approx(0.6)
    assert points[1].devices == "NVIDIA H100"


def test_a_loss_is_no_score_of_a_cost_point() -> None:
    """The entry with the larger Hamming loss would be the best."""
    facts = {"metrics": ["hamming_loss"], "main_metrics": ["hamming_loss"]}
    content = content_of(*(record("emotions", loss, model=f"a/{loss}", facts=facts) for loss in (0.1, 0.3)))
    assert cost_points(content, panels_of(content)).points == ()


def test_pareto_front_has_the_best_score_for_each_cost_on_the_same_devices() -> None:
    numbers = {"cheap": (1, 0.5), "worse": (2, 0.4), "equal": (3, 0.5), "better": (4, 0.7), "tie": (4, 0.6)}
    points = [CostPoint(name, hours, score, "a GPU", False) for name, (hours, score) in numbers.items()]
    points.append(CostPoint("elsewhere", 9, 0.1, "another GPU", False))
    assert [point.name for point in pareto_front(points)] == ["cheap", "better", "elsewhere"]


def test_without_costs_there_are_no_cost_points(make_record: Callable[..., RunRecord]) -> None:
    content = content_of(make_record(cost=None))
    assert cost_points(content, panels_of(content)).points == ()


def sized(rows: int | None, score: float = 0.7, seed: int = 1, **changes: Any) -> RunRecord:
    """A run on that many training rows; None is all 2,000."""
    recipe = {**({} if rows is None else {"train_rows": rows}), **changes.pop("recipe", {})}
    counts = {"train": rows or 2_000, "validation": 277}
    data = {"rows": counts, "full_rows": {**counts, "train": 2_000}, "fingerprint": f"{rows} rows"}
    return record(changes.pop("task", "rte"), score, seed=seed, recipe=recipe, data=data, **changes)


def test_a_learning_curve_has_each_number_of_training_rows_in_order() -> None:
    sizes = ((1000, 0.65), (None, 0.7), (100, 0.5), (300, 0.6))
    (task,) = curve_panels(content_of(*(sized(rows, score, seed) for rows, score in sizes for seed in (1, 2))))
    (curve,) = task.curves
    assert curve.name == "bert-base-cased"
    assert [(rows, point.score) for rows, point in curve.points] == [
        (100, 0.5),
        (300, 0.6),
        (1000, 0.65),
        (2000, 0.7),
    ]
    assert not any(point.is_marked for _, point in curve.points), "[r] is what the curve shows"
    assert task.baseline == pytest.approx(0.6838)


def test_two_numbers_of_training_rows_are_no_curve() -> None:
    assert curve_panels(content_of(sized(100), sized(300))) == ()


def test_a_curve_has_one_recipe_and_one_model() -> None:
    slow = [sized(rows, recipe={"epochs": 9}) for rows in (100, 300)]
    others = [sized(rows, model=ELECTRA) for rows in (100, 300)]
    assert curve_panels(content_of(*slow, *others, sized(1000))) == ()
    whole = [sized(rows) for rows in (100, 300, 1000)]
    (task,) = curve_panels(content_of(*slow, sized(1000, recipe={"epochs": 9}), *whole))
    assert sorted(curve.name for curve in task.curves) == [
        "bert-base-cased",
        "bert-base-cased (epochs=9)",
    ]


def test_a_curve_has_its_other_marks_and_no_failed_run() -> None:
    collapsed = sized(100, status="collapsed")
    (task,) = curve_panels(content_of(collapsed, sized(300), sized(1000), sized(50, status="failed", metrics={})))
    (curve,) = task.curves
    assert [(rows, point.is_marked) for rows, point in curve.points] == [(100, True), (300, False), (1000, False)]


def test_of_equal_numbers_of_rows_the_curve_has_the_result_of_more_runs() -> None:
    by_number = [sized(2000, 0.8, seed) for seed in (1, 2)]
    (task,) = curve_panels(content_of(sized(100), sized(300), sized(None, 0.9), *by_number))
    assert dict(task.curves[0].points)[2000].score == pytest.approx(0.8)
