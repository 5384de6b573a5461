"""The level of a score from its re-runs, without a results folder; `tests/commands/test_verify.py` has the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.boards import record_with_predictions

from harness.facts.records import RunRecord
from harness.reports.standings import FolderFacts, build_leaderboard
from harness.stats.uncertainty import Aggregate
from harness.stats.verification import Rerun


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
