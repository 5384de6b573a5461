"""The resolution of a column: the same numbers in the Markdown page, the HTML page, the JSON and the CSV."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from support.boards import BERT, ELECTRA, record_with_predictions

from harness.facts.records import RunRecord
from harness.reports.data_files import render_csv, render_json
from harness.reports.markdown import render_markdown
from harness.reports.standings import Leaderboard, build_leaderboard
from harness.reports.task_page import render_task_page


def two_models(task: str = "qnli", seeds: tuple[int, ...] = (1, 2, 3)) -> list[RunRecord]:
    models = ((BERT, 0.6), (ELECTRA, 0.8))
    return [
        record_with_predictions(task, quality, model=model, seed=seed) for model, quality in models for seed in seeds
    ]


def board_of(records: list[RunRecord]) -> Leaderboard:
    return build_leaderboard(records, resamples=400)


def resolutions(text: str) -> list[str]:
    return re.findall(r"Resolution: [^<]*?seeds[^.<]*\.(?!\d)", text)


def test_pages_and_files_have_the_same_numbers() -> None:
    board = board_of(two_models())
    content = json.loads(render_json(board))
    (column,) = content["columns"]
    differences = column["smallest_differences"]
    assert (differences["rows"], differences["seeds"]) == (200, 3)
    keys = ("with_present_seeds", "with_ten_seeds", "with_any_number")
    present, ten, limit = (differences[key] for key in keys)
    assert present > ten > limit > 0
    (note,) = resolutions(render_markdown(board))
    assert re.findall(r"\d+\.\d", note) == [f"{100 * value:.1f}" for value in (present, ten, limit)]
    assert resolutions(render_task_page(board, content, "qnli", "leaderboard")) == [note]
    lines = [line for line in csv.DictReader(io.StringIO(render_csv(board))) if not line["source"]]
    names = ("smallest_difference", "smallest_difference_ten_seeds", "smallest_difference_any_number")
    assert {tuple(float(line[name]) for name in names) for line in lines} == {(present, ten, limit)}


@pytest.mark.parametrize("models", [(BERT,), (BERT, "a/twin")], ids=["a single model", "models that predict alike"])
def test_nothing_is_said_where_no_two_models_differ(models: tuple[str, ...]) -> None:
    board = board_of(
        [record_with_predictions("qnli", 0.6, model=model, seed=seed) for model in models for seed in (1, 2)]
    )
    assert len(board.entries) == len(models)
    content = json.loads(render_json(board))
    assert [column["smallest_differences"] for column in content["columns"]] == [None]
    page = render_task_page(board, content, "qnli", "leaderboard")
    assert "Resolution:" not in render_markdown(board) + page


def test_one_seed_of_each_model_knows_the_limit_of_the_rows_alone() -> None:
    board = board_of(two_models(seeds=(1,)))
    (column,) = json.loads(render_json(board))["columns"]
    differences = column["smallest_differences"]
    assert differences["with_present_seeds"] is differences["with_ten_seeds"] is None
    (note,) = resolutions(render_markdown(board))
    assert re.findall(r"\d+\.\d+", note) == [f"{100 * differences['with_any_number']:.1f}"]


def test_differences_of_unbounded_metrics_are_unscaled() -> None:
    board = board_of(two_models("ratings"))
    (column,) = json.loads(render_json(board))["columns"]
    (note,) = resolutions(render_markdown(board))
    assert "points" not in note
    assert f"{column['smallest_differences']['with_present_seeds']:#.3g} with 3" in note
