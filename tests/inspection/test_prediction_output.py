"""Replies: names and probabilities of every row in order, whole files or none, and no formula for a spreadsheet."""

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
from harness.inspection import prediction_output
from harness.inspection.prediction_output import Replies

SCORES = np.array([[2.0, -1.0, 0.5], [0.0, 900.0, -900.0], [1.0, 1.0, 1.0]], np.float32)


@pytest.fixture
def three(make_task: Callable[..., Path]) -> TaskSpec:
    return read_task(make_task(labels=["kötü", "orta", "iyi"]))


@pytest.mark.parametrize("form", prediction_output.FORMATS)
def test_every_format_tells_the_same(form: str, three: TaskSpec, tmp_path: Path) -> None:
    path = tmp_path / f"out.{form}"
    assert prediction_output.check_place(path, overwrite=False) == form
    with prediction_output.writing(path, form) as write:
        write(prediction_output.replies_of(three, SCORES[:2]))
        write(prediction_output.replies_of(three, SCORES[2:], first=2))
    if form == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        frame = pd.DataFrame(rows)
        probabilities = [list(each.values()) for each in frame["probabilities"]]
    else:
        frame = pd.read_parquet(path) if form == "parquet" else pd.read_csv(path, sep="\t" if form == "tsv" else ",")
        labels = ["probability_kötü", "probability_orta", "probability_iyi"]
        assert list(frame.columns) == ["row", "prediction", "probability", *labels]
        probabilities = frame[labels].to_numpy()
        assert np.allclose(frame["probability"], np.max(probabilities, axis=1))
    assert frame["row"].tolist() == [0, 1, 2]
    assert frame["prediction"].tolist() == ["kötü", "orta", "kötü"]
    assert np.allclose(probabilities, softmax(SCORES.astype(np.float64), axis=1), atol=1e-6)
    assert [file.name for file in tmp_path.glob("*out*")] == [path.name]


@pytest.mark.parametrize("form", prediction_output.FORMATS)
def test_sets_of_labels_are_lists_or_joined_names_with_a_probability_each(
    form: str, make_task: Callable[..., Path], tmp_path: Path
) -> None:
    keys = {"kind": "multi_label", "metrics": ["f1_micro"], "main_metrics": "f1_micro", "separator": " / "}
    task = read_task(make_task(labels=["kötü", "orta", "iyi"], **keys))
    probabilities = np.array([[0.2, 0.1, 0.39], [0.9, 0.41, 0.0], [0.41, 0.42, 1.0]])
    scores = np.clip(np.log(probabilities + 1e-30) - np.log1p(-probabilities + 1e-12), -900, 900).astype(np.float32)
    told = [prediction_output.replies_of(task, scores[rows], rows.start, 0.4) for rows in (slice(0, 1), slice(1, 3))]
    with prediction_output.writing(tmp_path / f"out.{form}", form) as write:
        for part in told:  # the first has no label at all, so its lists tell no type
            write(part)
    if form == "jsonl":
        frame = pd.read_json(tmp_path / "out.jsonl", lines=True)
        found = np.array([list(each.values()) for each in frame["probabilities"]])
    else:
        path = tmp_path / f"out.{form}"
        frame = pd.read_parquet(path) if form == "parquet" else pd.read_csv(path, sep="\t" if form == "tsv" else ",")
        assert "probability" not in frame
        found = frame[[f"probability_{label}" for label in ("kötü", "orta", "iyi")]].to_numpy()
    sets = [[], ["kötü", "orta"], ["kötü", "orta", "iyi"]]
    if form in ("csv", "tsv"):
        assert frame["prediction"].fillna("").tolist() == [" / ".join(names) for names in sets]
    else:
        assert [list(names) for names in frame["prediction"]] == sets
    assert np.allclose(found, probabilities, atol=1e-6)


def test_screen_marks_each_label_of_a_set() -> None:
    task = load_task("rte").model_copy(update={"labels": {f"l{n}": n for n in range(9)}, "kind": "multi_label"})
    scores = np.full((1, 9), -1.0, np.float32)
    scores[0, 8] = 3.0
    (few,) = prediction_output.lines(prediction_output.replies_of(task, scores, threshold=0.5))
    assert few.splitlines()[0] == "l8  0.9526  predicted"
    assert few.count("predicted") == 1
    assert few.endswith("and 4 more")
    (all_of_them,) = prediction_output.lines(prediction_output.replies_of(task, -np.abs(scores), threshold=0.01))
    assert all_of_them.count("predicted") == 9
    assert "more" not in all_of_them


def test_regression_has_values_and_no_probabilities(tmp_path: Path) -> None:
    told = prediction_output.replies_of(load_task("stsb"), np.array([[1.5], [-0.25]], np.float32))
    with prediction_output.writing(tmp_path / "out.csv", "csv") as write:
        write(told)
    assert (tmp_path / "out.csv").read_text() == "row,prediction\n0,1.5\n1,-0.25\n"
    assert list(prediction_output.lines(told)) == ["1.5000", "-0.2500"]
    assert list(prediction_output.json_lines(told)) == [
        '{"row": 0, "prediction": 1.5}',
        '{"row": 1, "prediction": -0.25}',
    ]


def test_screen_shows_the_likeliest_first(three: TaskSpec) -> None:
    told = list(prediction_output.lines(prediction_output.replies_of(three, SCORES[:1])))
    assert [line.split()[0] for line in told[0].splitlines()] == ["kötü", "iyi", "orta"]
    many = Replies(0, ["l0"], tuple(f"l{number}" for number in range(9)), np.full((1, 9), 1 / 9))
    assert next(prediction_output.lines(many)).endswith("l4  0.1111\nand 4 more")


@pytest.mark.parametrize("label", ["=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_label_that_is_a_formula_is_none_in_a_csv(label: str, tmp_path: Path) -> None:
    told = Replies(0, [label], (label, "other"), np.array([[0.75, 0.25]]))
    with prediction_output.writing(tmp_path / "out.csv", "csv") as write:
        write(told)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    assert row[1] == "'" + label.replace("\r", "\n")
    assert all(cell[0] not in "=+-@\t\r" for cell in (*header, *row))


@pytest.mark.parametrize("text", ["-1", "+3.5", "-0,5", "a=b", "plain", ""])
def test_number_and_plain_text_stay_as_they_are(text: str) -> None:
    assert prediction_output.harmless(text) == text


@pytest.mark.parametrize("form", prediction_output.FORMATS)
def test_what_fails_half_way_leaves_no_file(form: str, three: TaskSpec, tmp_path: Path) -> None:
    (tmp_path / f"out.{form}").write_text("from before")

    def half() -> None:
        with prediction_output.writing(tmp_path / f"out.{form}", form) as write:
            write(prediction_output.replies_of(three, SCORES))
            raise UserError("row 7 is no text")

    with pytest.raises(UserError, match="row 7"):
        half()
    assert [file.read_text() for file in tmp_path.glob("*out*")] == ["from before"]


def test_place_that_is_taken_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("")
    with pytest.raises(UserError, match=r"there\.csv: is there already; --overwrite replaces it"):
        prediction_output.check_place(tmp_path / "there.csv", overwrite=False)
    assert prediction_output.check_place(tmp_path / "there.csv", overwrite=True) == "csv"
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="this is a folder"):
        prediction_output.check_place(tmp_path / "folder.csv", overwrite=True)
    with pytest.raises(UserError, match=r"its name must end in one of \.csv, \.tsv, \.jsonl, \.parquet"):
        prediction_output.check_place(tmp_path / "out.xlsx", overwrite=False)
    with pytest.raises(UserError, match="cannot be written"):
        prediction_output.check_place(tmp_path / "there.csv" / "out.csv", overwrite=False)
