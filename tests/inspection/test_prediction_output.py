"""Predictions in a file or on a terminal: every row in order, complete files or none, no formula in a CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from harness.errors import UserError
from harness.facts.tasks import TaskSpec, load_task, read_task
from harness.inspection.prediction_output import (
    FORMATS,
    PredictedRows,
    json_rows,
    prediction_writer,
    rows_from_scores,
    screen_lines,
)

SCORES = np.array([[2.0, -1.0, 0.5], [0.0, 900.0, -900.0], [1.0, 1.0, 1.0]], np.float32)
LABELS = ["kötü", "orta", "iyi"]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskSpec:
    return read_task(make_task(labels=LABELS))


def read_rows(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """All columns of a file of predictions, and the probabilities by row and label."""
    if path.suffix == ".jsonl":
        frame = pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
        return frame, np.array([[row[label] for label in LABELS] for row in frame["probabilities"]])
    separator = "\t" if path.suffix == ".tsv" else ","
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep=separator)
    return frame, frame[[f"probability_{label}" for label in LABELS]].to_numpy()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_same_predictions(form: str, task: TaskSpec, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    with prediction_writer(path) as write:
        write(rows_from_scores(task, SCORES[:2]))
        write(rows_from_scores(task, SCORES[2:], first=2))
    frame, probabilities = read_rows(path)
    if form != "jsonl":
        assert list(frame.columns) == ["row", "prediction", "probability", *(f"probability_{name}" for name in LABELS)]
        assert np.allclose(frame["probability"], probabilities.max(axis=1))
    assert frame["row"].tolist() == [0, 1, 2]
    assert frame["prediction"].tolist() == ["kötü", "orta", "kötü"]
    assert np.allclose(probabilities, softmax(SCORES.astype(np.float64), axis=1), atol=1e-6)
    assert [file.name for file in tmp_path.glob("*out*")] == [path.name]


@pytest.mark.parametrize("form", FORMATS)
def test_label_sets_are_lists_or_joined_names_with_a_probability_per_label(
    form: str, make_task: Callable[..., Path], tmp_path: Path
) -> None:
    keys = dict(problem_type="multi_label_classification", metrics=["f1_micro"], main_metrics="f1_micro")
    task = read_task(make_task(labels=LABELS, separator=" / ", **keys))
    expected = np.array([[0.2, 0.1, 0.39], [0.9, 0.41, 0.0], [0.41, 0.42, 1.0]])
    scores = np.clip(np.log(expected + 1e-30) - np.log1p(-expected + 1e-12), -900, 900).astype(np.float32)
    path = tmp_path / f"out.{form}"
    with prediction_writer(path) as write:
        write(rows_from_scores(task, scores[:1], 0, 0.4))  # no label at all: lists without a type of their own
        write(rows_from_scores(task, scores[1:], 1, 0.4))
    frame, probabilities = read_rows(path)
    assert "probability" not in frame
    sets = [[], ["kötü", "orta"], ["kötü", "orta", "iyi"]]
    if form in ("csv", "tsv"):
        assert frame["prediction"].fillna("").tolist() == [" / ".join(names) for names in sets]
    else:
        assert [list(names) for names in frame["prediction"]] == sets
    assert np.allclose(probabilities, expected, atol=1e-6)


def test_screen_marks_each_predicted_label_of_a_set() -> None:
    sets = {"labels": {f"l{n}": n for n in range(9)}, "problem_type": "multi_label_classification"}
    task = load_task("rte").model_copy(update=sets)
    scores = np.full((1, 9), -1.0, np.float32)
    scores[0, 8] = 3.0
    lines = list(screen_lines(rows_from_scores(task, scores, threshold=0.5)))
    assert lines[0] == "l8  0.9526  predicted"
    assert sum("predicted" in line for line in lines) == 1
    assert (len(lines), lines[-1]) == (6, "and 4 more")
    lines = list(screen_lines(rows_from_scores(task, -np.abs(scores), threshold=0.01)))
    assert [line.endswith("predicted") for line in lines] == [True] * 9


def test_label_with_a_line_break_is_one_line_on_the_screen() -> None:
    task = load_task("rte").model_copy(update={"labels": {"a\nb  1.0000": 0, "c": 1}})
    first, second = screen_lines(rows_from_scores(task, np.array([[3.0, 0.0]], np.float32)))
    assert first == "a\\u000ab  1.0000  0.9526"
    assert second == "c                 0.0474"


def test_regression_has_values_and_no_probabilities(tmp_path: Path) -> None:
    rows = rows_from_scores(load_task("stsb"), np.array([[1.5], [-0.25]], np.float32))
    with prediction_writer(tmp_path / "out.csv") as write:
        write(rows)
    assert (tmp_path / "out.csv").read_text() == "row,prediction\n0,1.5\n1,-0.25\n"
    assert list(screen_lines(rows)) == ["1.5000", "-0.2500"]
    assert list(screen_lines(rows._replace(predictions=[0.0000123]))) == ["1.23e-05"]
    assert list(map(json.loads, json_rows(rows))) == [{"row": 0, "prediction": 1.5}, {"row": 1, "prediction": -0.25}]


def test_screen_shows_the_most_probable_labels_first(task: TaskSpec) -> None:
    lines = list(screen_lines(rows_from_scores(task, SCORES[:2])))
    assert [line.split()[0] for line in lines if line] == ["kötü", "iyi", "orta", "orta", "kötü", "iyi"]
    assert lines[3] == "", "between the rows"
    many = PredictedRows(0, ["l0"], tuple(f"l{number}" for number in range(9)), np.full((1, 9), 1 / 9))
    assert list(screen_lines(many))[-2:] == ["l4  0.1111", "and 4 more"]


def test_labels_in_a_csv_are_no_formulas(tmp_path: Path) -> None:
    labels = ("=cmd()", "\r=1")
    with prediction_writer(tmp_path / "out.csv") as write:
        write(PredictedRows(0, list(labels), labels, np.array([[0.75, 0.25], [0.25, 0.75]])))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert [row[1] for row in rows] == ["'=cmd()", "'\n=1"]
    assert all(cell[0] not in "=+-@\t\r" for row in (header, *rows) for cell in row)


@pytest.mark.parametrize("form", FORMATS)
def test_failure_half_way_leaves_the_earlier_file(form: str, task: TaskSpec, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    path.write_text("earlier")

    def write_and_fail() -> None:
        with prediction_writer(path) as write:
            write(rows_from_scores(task, SCORES))
            raise UserError("row 7 is no text")

    with pytest.raises(UserError, match="row 7"):
        write_and_fail()
    assert [file.read_text() for file in tmp_path.glob("*out*")] == ["earlier"]
