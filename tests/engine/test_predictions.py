"""Predictions for a split as a file: one line per row in row order, written completely or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from harness.engine.predictions import write_predictions
from harness.rows.splits import Split

SCORES = np.array([[0.1, 0.9], [2.0, -1.0], [0.5, 0.25]], np.float32)
VALUES = np.array([[2.5], [-0.5]], np.float32)


def rows(label: NDArray[Any] | None, **fields: Any) -> Split:
    return Split(["text"] * (3 if label is None else len(label)), None, label, **fields)


def test_classes_have_their_names(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.validation.parquet"
    write_predictions(path, SCORES, ["no", "yes"], rows(np.array([1, 1, 0])))
    table = pq.read_table(path)
    assert table.column_names == ["row", "prediction", "label", "scores"]
    assert table.drop(["scores"]).to_pylist() == [
        {"row": 0, "prediction": "yes", "label": "yes"},
        {"row": 1, "prediction": "no", "label": "yes"},
        {"row": 2, "prediction": "no", "label": "no"},
    ]
    assert np.array_equal(np.array(table["scores"].to_pylist(), np.float32), SCORES)
    assert str(table.schema.field("scores").type) == "fixed_size_list<element: float>[2]"


def test_values_of_a_regression_are_numbers(tmp_path: Path) -> None:
    write_predictions(tmp_path / "run.parquet", VALUES, None, rows(np.array([2.0, 0.0])))
    assert pq.read_table(tmp_path / "run.parquet").to_pylist() == [
        {"row": 0, "prediction": 2.5, "label": 2.0, "scores": [2.5]},
        {"row": 1, "prediction": -0.5, "label": 0.0, "scores": [-0.5]},
    ]


def test_label_sets_are_lists_of_names(tmp_path: Path) -> None:
    write_predictions(tmp_path / "run.parquet", SCORES, ["no", "yes"], rows(np.array([[0, 0], [1, 0], [1, 1]])), 0.6)
    table = pq.read_table(tmp_path / "run.parquet")
    assert table["prediction"].to_pylist() == [["yes"], ["no"], ["no"]]
    assert table["label"].to_pylist() == [[], ["no"], ["no", "yes"]]
    assert str(table.schema.field("prediction").type) == "list<element: string>"


def test_answers_have_their_question_and_candidate(tmp_path: Path) -> None:
    selection: dict[str, Any] = {"row_groups": np.array([0, 0, 1]), "candidates": ["Ann", "Bob", "Cy"]}
    write_predictions(tmp_path / "run.parquet", SCORES, ["wrong", "right"], rows(np.array([1, 1, 0]), **selection))
    assert pq.read_table(tmp_path / "run.parquet").drop(["scores"]).to_pylist() == [
        {"row": 0, "prediction": "right", "label": "right", "question": 0, "candidate": "Ann"},
        {"row": 1, "prediction": "wrong", "label": "right", "question": 0, "candidate": "Bob"},
        {"row": 2, "prediction": "right", "label": "wrong", "question": 1, "candidate": "Cy"},
    ]


def test_hidden_labels_have_no_column(tmp_path: Path) -> None:
    write_predictions(tmp_path / "run.parquet", SCORES, ["no", "yes"], rows(None))
    assert pq.read_table(tmp_path / "run.parquet").column_names == ["row", "prediction", "scores"]


def test_earlier_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    path.write_text("an earlier one")
    write_predictions(path, SCORES, ["no", "yes"], rows(None))
    assert pq.read_table(path).num_rows == 3
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "run.parquet").mkdir()
    with pytest.raises(OSError, match=r"run\.parquet"):
        write_predictions(tmp_path / "run.parquet", SCORES, ["no", "yes"], rows(None))
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


def test_columns_that_identify_a_row_are_copied(tmp_path: Path) -> None:
    ids = {"idx": [{"question": 7, "answer": row} for row in range(3)], "name": ["a", "b", None]}
    write_predictions(tmp_path / "run.parquet", SCORES, ["no", "yes"], rows(None, ids=ids))
    table = pq.read_table(tmp_path / "run.parquet")
    assert {name: table[f"id_{name}"].to_pylist() for name in ids} == ids
