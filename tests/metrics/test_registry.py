"""Metrics by name: the harness's own in memory, any other through evaluate."""

from __future__ import annotations

import textwrap
from pathlib import Path

import datasets
import evaluate
import huggingface_hub
import numpy as np
import pytest

from harness.errors import UserError
from harness.metrics.registry import METRICS, direction_of, format_score, load_metric, title_of
from harness.metrics.scoring import score

SCORES, GOLD = np.eye(2, dtype=np.float32)[[0, 1, 1]], np.array([0, 0, 1])
"""Two of three rows are predicted correctly."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries read their environment when they are imported, which may have been before this file."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)


def test_metrics_are_evaluate_metrics_that_combine() -> None:
    both = evaluate.combine([load_metric("accuracy"), load_metric("f1")])
    assert both.compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 1]) == {"accuracy": 0.5, "f1": 0.5}


def test_metric_is_loaded_once() -> None:
    assert load_metric("accuracy") is load_metric("accuracy")


@pytest.mark.parametrize(
    "name, suggestion",
    [("acuracy", "Did you mean 'accuracy'?"), ("f1macro", "Did you mean 'f1_macro'?"), ("zzz", "")],
)
def test_unknown_metric_is_refused_with_the_nearest_and_all_names(name: str, suggestion: str) -> None:
    with pytest.raises(UserError) as caught:
        score([name], SCORES, GOLD)
    message = str(caught.value)
    assert repr(name) in message
    assert all(known in message for known in METRICS)
    assert message.endswith(suggestion)
    assert ".." not in message
    assert "\n" not in message


def write_metric(folder: Path, result: str) -> str:
    """A metric script of a user; its path."""
    path = folder / "own_metric.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import datasets
            import evaluate
            import numpy as np

            class OwnMetric(evaluate.Metric):
                def _info(self):
                    columns = {{name: datasets.Value("int64") for name in ("predictions", "references")}}
                    features = datasets.Features(columns)
                    return evaluate.MetricInfo(description="", citation="", features=features)

                def _compute(self, predictions, references):
                    return {result}
            """
        )
    )
    return str(path)


def test_own_metric_is_loaded_by_evaluate(tmp_path: Path) -> None:
    path = write_metric(tmp_path, "{'misses': np.sum(np.not_equal(predictions, references)), 'half': 0.5}")
    scored = score([path, "accuracy"], SCORES, GOLD)
    assert scored.values == pytest.approx({"misses": 1.0, "half": 0.5, "accuracy": 2 / 3})
    assert {type(value) for value in scored.values.values()} == {float}
    assert scored.notes == {}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_own_metric_that_is_not_finite_is_undefined(tmp_path: Path, value: str) -> None:
    scored = score([write_metric(tmp_path, f"{{'odd': float('{value}')}}")], SCORES, GOLD)
    assert scored.values == {"odd": None}
    assert scored.notes["odd"].endswith(f" {value}")


@pytest.mark.parametrize("result", ["{'odd': [1.0, 2.0]}", "{'odd': None}", "{'odd': 1 / 0}", "0.5", "None", "{}"])
def test_own_metric_without_a_number_is_named(tmp_path: Path, result: str) -> None:
    with pytest.raises(UserError, match=r"own_metric\.py"):
        score([write_metric(tmp_path, result)], SCORES, GOLD)


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_own_metric_does_not_replace_another_number(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"own_metric\.py' of evaluate returned '{name}'.*rename"):
        score(["accuracy", write_metric(tmp_path, f"{{'{name}': 0.5}}")], SCORES, GOLD)


@pytest.mark.parametrize(
    "name, title", [("f1_macro", "macro F1"), ("stsb", "stsb"), ("own/metric.py", "own/metric.py")]
)
def test_title_is_ours_or_the_name_itself(name: str, title: str) -> None:
    assert title_of(name) == title


def test_titles_differ() -> None:
    titles = [title_of(name) for name in METRICS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    "names, direction",
    [(["f1", "accuracy"], 1), (["mse", "rmse"], -1), (["pearson", "mse"], None), (["f1", "own.py"], None), ([], None)],
)
def test_direction_of_several_metrics_is_known_where_they_agree(names: list[str], direction: int | None) -> None:
    assert direction_of(names) == direction


@pytest.mark.parametrize(
    "value, text",
    [
        (0.5, "0.5000"),
        (-1.0, "-1.0000"),
        (0.0, "0.0000"),
        (0.00123, "0.0012"),
        (0.00004, "4.00e-05"),
        (-0.00004, "-4.00e-05"),
        (123.4567, "123.4567"),
        (225918.9193, "225918.9"),
        (50171228251.0222, "5.02e+10"),
        (None, "–"),
    ],
)
def test_metric_has_four_decimals_an_exponent_where_they_do_not_suffice_or_a_dash(
    value: float | None, text: str
) -> None:
    assert format_score(value) == text
