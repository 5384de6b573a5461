"""Files of predictions: what a run has written is read back, for each kind of label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.records import finished_record, task_facts

from harness.engine.predictions import write_predictions
from harness.errors import UserError
from harness.facts.prediction_files import prediction_path, read_prediction_file
from harness.rows.splits import Split

NAMES = ["no", "yes", "perhaps"]


@pytest.mark.parametrize(
    ("problem_type", "columns", "gold", "threshold"),
    [
        ("single_label_classification", 3, [0, 2, 1, 1], None),
        ("multi_label_classification", 3, [[0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]], 0.4),
        ("regression", 1, [0.5, 1.0, 2.5, 3.0], None),
    ],
)
@pytest.mark.parametrize("is_hidden", [False, True])
def test_predictions_are_read_as_they_were_written(
    tmp_path: Path, problem_type: Any, columns: int, gold: Any, threshold: float | None, is_hidden: bool
) -> None:
    labels = None if problem_type == "regression" else NAMES
    values = np.random.default_rng(1).normal(size=(4, columns)).astype(np.float32)
    path = tmp_path / "run.test.parquet"
    split = Split(["text"] * 4, None, None if is_hidden else np.array(gold))
    write_predictions(path, values, labels, split, threshold)
    stored = read_prediction_file(path, task_facts(problem_type=problem_type, labels=labels))
    np.testing.assert_array_equal(stored.rows, np.arange(4))
    np.testing.assert_array_equal(stored.scores, values)
    assert stored.predictions.shape == np.shape(gold)
    assert (stored.gold is None) == is_hidden
    if stored.gold is not None:
        np.testing.assert_array_equal(stored.gold, gold)


def test_questions_of_candidates_are_read_and_required(tmp_path: Path) -> None:
    path, values = tmp_path / "run.test.parquet", np.array([[0, 1], [0, 2], [3, 0]], np.float32)
    facts = task_facts(problem_type="answer_selection", labels=["wrong", "right"])
    split = Split(["text"] * 3, None, None, np.array([4, 4, 7]), candidates=["a", "b", "c"])
    write_predictions(path, values, facts.labels, split)
    stored = read_prediction_file(path, facts)
    assert stored.questions is not None
    assert stored.questions.tolist() == [4, 4, 7]
    assert stored.predictions.tolist() == [0, 1, 1]
    write_predictions(path, values, facts.labels, split._replace(candidates=None))
    with pytest.raises(UserError, match="missing column 'question'"):
        read_prediction_file(path, facts)


@pytest.mark.parametrize("name", ["", ".", "..", "../x.parquet", "a/b", "a\0b", "é" * 128, "x" * 9999])
def test_file_of_predictions_is_next_to_its_record(tmp_path: Path, name: str) -> None:
    record = finished_record(prediction_files={"test": "mine.parquet", "other": name})
    assert prediction_path(record, tmp_path, "test") == tmp_path / "runs" / "rte" / "mine.parquet"
    with pytest.raises(UserError, match=r"invalid prediction_files\.other: .* 255 bytes") as error:
        prediction_path(record, tmp_path, "other")
    assert len(str(error.value).removeprefix(str(tmp_path))) < 300
