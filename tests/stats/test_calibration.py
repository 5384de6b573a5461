"""Calibration in the leaderboard: from stored scores, with a temperature from rows that are not reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.boards import record

from harness.commands.leaderboard import read_leaderboard
from harness.facts.packing import pack_array
from harness.facts.records import RunRecord, record_path, write_record
from harness.metrics.calibration import calibration, fit_temperature
from harness.reports.data_files import render_json
from harness.reports.markdown import render_markdown

ROWS = 300
NAMES = np.array(["no", "yes"])


def stored(seed: int, sharpness: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure by the factor `sharpness`, and class numbers."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(ROWS, 2))
    share = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    return (sharpness * logits).astype(np.float32), (random.random(ROWS) < share).astype(int)


def write_run(results: Path, protocol: str, splits: list[str], **changes: Any) -> RunRecord:
    recipe = {} if protocol == "standard" else {"protocol": protocol}
    report = ["validation_holdout"] if protocol == "holdout" else ["validation"]
    run = record("rte", recipe=recipe, facts={"report": report}, **changes)
    files = {split: f"{run.run_id}.{split}.parquet" for split in splits}
    run = run.model_copy(update={"prediction_files": files})
    path = write_record(run, results)
    for number, split in enumerate(splits):
        scores, gold = stored(10 * run.spec.seed + number)
        columns = {"row": np.arange(ROWS), "prediction": NAMES[scores.argmax(axis=1)], "label": NAMES[gold]}
        lists = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), 2)
        pq.write_table(pa.table({**columns, "scores": lists}), path.with_name(files[split]))
    return run


def calibrations(results: Path) -> list[dict[str, Any]]:
    """The calibrations in leaderboard.json."""
    entries = json.loads(render_json(read_leaderboard(results)[0]))["entries"]
    return [entry["tasks"]["rte"]["calibration"] for entry in entries]


def test_temperature_is_fitted_on_the_selection_half_and_scored_on_the_other(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path, "holdout", ["validation", "validation_holdout"], seed=seed)
    (result,) = calibrations(tmp_path)
    assert result["runs"] == 2
    reported = [stored(10 * seed + 1) for seed in (1, 2)]
    temperatures = [fit_temperature(*stored(10 * seed)) for seed in (1, 2)]
    for name, at in (("plain", (1.0, 1.0)), ("scaled", temperatures)):
        each = [calibration(*one, temperature) for one, temperature in zip(reported, at, strict=True)]
        expected = dict(zip(each[0]._fields, np.mean(each, axis=0), strict=True))
        assert result[name] == pytest.approx(expected, abs=1e-5)
    assert 3 < result["scaled"]["temperature"] < 5, "the factor by which the scores are too sure"
    assert result["scaled"]["log_loss"] < result["plain"]["log_loss"]


def test_mean_at_the_temperatures_needs_one_of_each_run(tmp_path: Path) -> None:
    """The two numbers of a line are of the same runs."""
    runs = [write_run(tmp_path, "holdout", ["validation", "validation_holdout"], seed=seed) for seed in (1, 2)]
    record_path(tmp_path, "rte", runs[0].run_id).with_name(runs[0].prediction_files["validation"]).unlink()
    (result,) = calibrations(tmp_path)
    assert (result["runs"], result["scaled"]) == (2, None)


def test_no_temperature_where_the_selection_rows_are_reported(tmp_path: Path) -> None:
    write_run(tmp_path, "standard", ["validation"])
    (result,) = calibrations(tmp_path)
    assert result["scaled"] is None
    assert result["plain"]["temperature"] == 1
    assert "## Calibration" in render_markdown(read_leaderboard(tmp_path)[0])


def test_no_table_without_stored_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path, "standard", ["validation"])
    record_path(tmp_path, "rte", run.run_id).with_name(run.prediction_files["validation"]).unlink()
    board, messages = read_leaderboard(tmp_path)
    assert (board.calibrations, messages) == ({}, [])
    assert "## Calibration" not in render_markdown(board)


@pytest.mark.parametrize("is_other", [False, True])
def test_file_of_another_run_is_named_and_not_used(tmp_path: Path, is_other: bool) -> None:
    """The record of one person next to the predictions of another's run of the same spec."""
    run = write_run(tmp_path, "standard", ["validation"])
    scores, gold = stored(10)
    predictions = scores.argmax(axis=1)
    packed = {
        "gold": {"validation": pack_array(gold)},
        "predictions": {"validation": pack_array(predictions ^ is_other)},
    }
    write_record(run.model_copy(update=packed), tmp_path, overwrite=True)
    board, messages = read_leaderboard(tmp_path)
    assert bool(board.calibrations) != is_other
    assert [run.prediction_files["validation"] in message for message in messages] == [True] * is_other


@pytest.mark.parametrize("name", ["bytes", "other labels", "other folder"])
def test_unreadable_predictions_are_named_and_the_board_is_made(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, "standard", ["validation"])
    path = record_path(tmp_path, "rte", run.run_id)
    if name == "bytes":
        path.with_name(run.prediction_files["validation"]).write_bytes(b"PAR1")
    elif name == "other labels":
        write_record(
            run.model_copy(update={"task": run.task.model_copy(update={"labels": ["a", "b"]})}),
            tmp_path,
            overwrite=True,
        )
    else:
        outside = run.model_copy(update={"prediction_files": {"validation": "../../secret.parquet"}})
        write_record(outside, tmp_path, overwrite=True)
    board, messages = read_leaderboard(tmp_path)
    assert (len(board.entries), board.calibrations) == (1, {})
    (message,) = messages
    assert str(path.parent) in message
