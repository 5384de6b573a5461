"""Cells: the digits that they show follow the size of their numbers."""

from __future__ import annotations

import re

import pytest
from support.boards import page, record, record_with_predictions, table, table_with

from harness.facts.packing import pack_array, unpack_array
from harness.facts.records import RunRecord
from harness.metrics.registry import METRICS
from harness.reports.cells import format_figure, format_metric, format_spread, interval_text
from harness.stats.uncertainty import Interval

SMALL = 2.0**-10


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0152e10, "1.02e+10"),
        (1234.5678, "1234.568"),
        (0.5312, "0.531"),
        (0.1, "0.100"),
        (0.0512, "0.0512"),
        (0.0002, "0.000200"),
        (0.0004, "0.000400"),
        (-0.00043, "-0.000430"),
        (2.13e-7, "2.13e-07"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (None, "–"),
    ],
)
def test_a_small_or_very_large_error_has_three_significant_digits(value: float | None, shown: str) -> None:
    assert format_metric(value, as_percent=False) == shown


def test_fractions_have_one_decimal_of_any_size() -> None:
    assert [format_metric(value, as_percent=True) for value in (0.8421, 0.0004, -0.0001)] == ["84.2", "0.0", "0.0"]


def test_numbers_of_one_text_have_the_same_decimals() -> None:
    assert format_figure(2.1309, 0.0473, "mse") == "2.131 ±0.047"
    assert format_figure(0.00213, 0.000047, "mse") == "0.00213 ±0.00005"
    assert format_figure(2.13e-7, 4.7e-9, "mse") == "2.13e-07 ±4.70e-09"
    assert interval_text((-0.0004, 0.0123), as_percent=False) == "-0.0004 to 0.0123"
    assert interval_text((0.4, 0.41), as_percent=True) == "40.0 to 41.0"
    assert interval_text(None, as_percent=True) == ""
    assert format_spread(0.00213, Interval(0.0018, 0.0023), False, as_percent=False) == "±0.00033"


def _small(run: RunRecord) -> RunRecord:
    """The run with labels from 0 to 0.005, so that the MSE is about a millionth."""
    gold, predictions = (SMALL * unpack_array(one["validation"]) for one in (run.gold, run.predictions))
    packed = {"gold": {"validation": pack_array(gold)}, "predictions": {"validation": pack_array(predictions)}}
    mse = METRICS["mse"].value(predictions, gold)
    return run.model_copy(
        update={**packed, "metrics": {"validation": {"mse": mse}}, "baseline": {"validation": {"mse": 1.0}}}
    )


def test_small_errors_can_be_told_from_each_other_on_the_page() -> None:
    facts = {"metrics": ["mse"], "main_metrics": ["mse"], "problem_type": "regression", "labels": None}
    qualities = {"a/good": 0.8, "a/better": 0.9}
    runs = [
        _small(record_with_predictions("ratings", quality, model=model, seed=seed, facts=facts))
        for model, quality in qualities.items()
        for seed in (1, 2, 3)
    ]
    markdown = page(runs)
    better, good, baseline = table(markdown)
    assert re.fullmatch(r"\*\*4\.\d\de-08\*\* ±\d\.\d\de-09 \(3\)", better["ratings MSE"])
    assert re.fullmatch(r"\d\.\d\de-08 ±\d\.\d\de-08 \(3\)", good["ratings MSE"])
    assert re.fullmatch(r"2\.\d\de-06", baseline["ratings MSE"])
    (line,) = (line for line in table_with(markdown, "over rows") if line["p"])
    assert "0.000" not in " ".join(line[title] for title in ("score", "over seeds", "over rows", "to best"))


def test_the_best_of_small_errors_is_bold() -> None:
    runs = [record("ratings", value, model=model) for model, value in (("a/b", 0.0002), ("c/d", 0.0004))]
    assert [line["ratings RMSE"] for line in table(page(runs))[:2]] == ["**0.000200** (1)", "0.000400 (1)"]
