"""Contradictions and levels without a results folder; `tests/commands/test_verify.py` has the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from support.boards import record, record_with_predictions

from harness.facts.packing import pack_array
from harness.facts.records import RunRecord
from harness.metrics.registry import METRICS
from harness.reports.standings import FolderFacts, build_leaderboard
from harness.stats.uncertainty import Aggregate
from harness.stats.verification import Rerun, contradictions


@pytest.mark.parametrize("unit", [1.0, 1e-6])
def test_edited_error_is_found_in_any_unit(unit: float) -> None:
    gold = unit * np.arange(50.0)
    predictions = gold + unit * np.random.default_rng(1).normal(size=50)
    shape = dict(metrics=["mse"], main_metrics=["mse"], problem_type="regression", labels=None)
    packed = {"gold": {"validation": pack_array(gold)}, "predictions": {"validation": pack_array(predictions)}}
    rows = {"train": 10, "validation": 50}
    mse = METRICS["mse"].value(predictions, gold)
    for factor, fields in ((1.0, []), (1 + 1e-12, []), (0.5, ["metrics.validation.mse"])):
        run = record("ratings", {"mse": factor * mse}, facts=shape, data={"rows": rows, "full_rows": rows}, **packed)
        assert [finding.field for finding in contradictions(run)] == fields


def again(run: RunRecord, **changes: Any) -> Rerun:
    """A re-run on a GPU with other weights, whose predictions are the same by default."""
    times = {name: getattr(run, name) + timedelta(days=1) for name in ("started", "finished")}
    return Rerun(
        f"reruns/lab/{run.run_id}.json", run.model_copy(update={**times, "weights_sha256": "other", **changes})
    )


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_reruns_are_aggregated_as_the_score_is(aggregate: Aggregate) -> None:
    """A third of the runs is at chance, so that mean and median are far apart: each is verified by the same scores."""
    runs = [record_with_predictions("rte", 0.9 if seed % 3 else 0.4, seed=seed) for seed in range(30)]
    reruns = {run.run_id: [again(run)] for run in runs}
    board = build_leaderboard(runs, resamples=200, aggregate=aggregate, folder=FolderFacts(reruns=reruns))
    ((group, evidence),) = board.evidence.items()
    assert evidence.total is not None
    other = sum(score or 0.0 for score in group.scores) / len(runs)
    assert (evidence.total.low <= other <= evidence.total.high) == (aggregate == "mean")
    assert board.levels[group] == "verified"
