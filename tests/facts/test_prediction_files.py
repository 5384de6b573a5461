"""Files of predictions: what a run has written is read back, for each kind of label."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.records import task_facts

from harness.engine.inference import Scores
from harness.engine.predictions import write_predictions
from harness.facts.prediction_files import read_prediction_file

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
    split = SimpleNamespace(label=None if is_hidden else np.array(gold), ids={})
    write_predictions(path, Scores(np.arange(4), values), labels, split, threshold)
    stored = read_prediction_file(path, task_facts(problem_type=problem_type, labels=labels))
    np.testing.assert_array_equal(stored.rows, np.arange(4))
    np.testing.assert_array_equal(stored.scores, values)
    assert stored.predictions.shape == np.shape(gold)
    assert (stored.gold is None) == is_hidden
    if stored.gold is not None:
        np.testing.assert_array_equal(stored.gold, gold)
