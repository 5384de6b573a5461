"""Companion tasks: predicted by the runs of another task, and scored where their labels are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.records import finished_record

from harness.engine import test_mode
from harness.engine.inference import Scores
from harness.engine.predictions import write_predictions
from harness.errors import UserError
from harness.facts.packing import unpack_array
from harness.facts.records import RunRecord, read_record, record_path
from harness.facts.tasks import load_task
from harness.inspection.record_checks import check_files
from harness.requests.companions import companion_splits, record_companion
from harness.requests.options import RunOptions, parse_options

ROWS = test_mode.ROWS["labelled"]
NAMES = ["entailment", "not_entailment"]


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return parse_options(["--task", "axb", "--test-mode", "--results", str(tmp_path)])


def _parent(options: RunOptions, task: str, **files: str) -> RunRecord:
    record = finished_record(task, data={"rows": {"train": 9, "validation": 5}, "full_rows": {"train": 9}})
    record = record.model_copy(update={"prediction_files": files, "run_id": record.spec.run_id})
    path = record_path(options.folder, task, record.run_id)
    values = np.eye(2, dtype=np.float32)[[0] * (ROWS // 2) + [1] * (ROWS // 2)]
    hidden = SimpleNamespace(label=None, ids={}, questions=None, candidates=None)
    for file in files.values():
        write_predictions(path.with_name(file), Scores(np.arange(ROWS), values), NAMES, hidden)
    return record


def test_labelled_companion_is_scored_from_the_prediction_file(options: RunOptions) -> None:
    axb = load_task("axb")
    parent = _parent(options, "superglue_rte", **{"axb.test": "a.axb.test.parquet"})
    record = record_companion(axb, options, lambda _: parent)
    gold: Any = np.arange(ROWS) % 2
    expected = float(np.mean(gold == ([0] * (ROWS // 2) + [1] * (ROWS // 2))))
    assert record.metrics["test"]["accuracy"] == pytest.approx(expected)
    assert unpack_array(record.gold["test"]).tolist() == gold.tolist()
    assert (record.status, record.trained_by) == ("ok", parent.run_id)
    assert record.data is not None
    assert record.data.rows == {"train": 9, "validation": 5, "test": ROWS}
    assert record.data.fingerprint != parent.data.fingerprint  # type: ignore[union-attr]
    assert read_record(record_path(options.folder, "axb", record.run_id)) == record
    assert [finding for finding in check_files(record, options.folder).findings if "test" in finding.field] == []


def test_companion_with_hidden_labels_has_no_scores(options: RunOptions) -> None:
    parent = _parent(options, "mnli", **{"ax.test": "a.ax.test.parquet"})
    record = record_companion(load_task("ax"), options, lambda _: parent)
    assert (record.metrics, record.predictions) == ({}, {})
    assert record.data == parent.data


def test_run_without_predictions_for_the_companion_is_named(options: RunOptions) -> None:
    with pytest.raises(UserError, match=r"--task axb: .*axb\.test"):
        record_companion(load_task("axb"), options, lambda _: _parent(options, "superglue_rte"))


def test_rows_of_companions_have_no_labels_in_the_run_that_predicts_them(options: RunOptions) -> None:
    splits = companion_splits(load_task("superglue_rte"), options)
    assert splits.keys() == {"axb.test", "axg.test"}
    assert all(split.label is None for split in splits.values())
