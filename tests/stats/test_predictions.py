"""Agreement between the seeds of a group, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from support.boards import page, record, table_with

from harness.facts.packing import pack_array
from harness.facts.records import RunRecord
from harness.reports.data_files import render_csv, render_json
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard
from harness.stats.groups import group_runs
from harness.stats.predictions import in_smallest_type, read_predictions, seed_disagreement
from harness.stats.verification import contradictions


def runs_that_predict(task: str, gold: Any, *predictions: Any) -> list[RunRecord]:
    return [
        record(
            task,
            0.7,
            seed=seed,
            predictions={split: pack_array(np.array(values)) for split, values in _by_split(values).items()},
            gold={split: pack_array(np.array(labels)) for split, labels in _by_split(gold).items()},
        )
        for seed, values in enumerate(predictions)
    ]


def _by_split(values: Any) -> dict[str, Any]:
    return values if isinstance(values, dict) else {"validation": values}


def disagreement(runs: list[RunRecord]) -> float | None:
    (group,) = group_runs(runs)
    predictions = read_predictions(group)
    return None if predictions is None else seed_disagreement(predictions)


def test_labels_that_differ_between_two_runs_are_counted() -> None:
    assert disagreement(runs_that_predict("rte", [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1])) == 1 / 4
    assert disagreement(runs_that_predict("rte", [0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1])) == 0


def test_four_runs_are_six_pairs() -> None:
    runs = [0, 0, 1], [0, 0, 1], [0, 1, 1], [1, 1, 1]
    assert disagreement(runs_that_predict("rte", [0, 0, 1], *runs)) == pytest.approx((3 / 6 + 4 / 6 + 0) / 3)


def test_label_sets_differ_as_a_whole() -> None:
    one, other = [[1, 0, 0], [0, 1, 1]], [[0, 1, 0], [0, 1, 1]]
    assert disagreement(runs_that_predict("emotions", one, one, other)) == 1 / 2


def test_values_have_the_mean_standard_deviation_of_a_row() -> None:
    runs = [1.0, 2.0], [2.0, 2.0], [3.0, 5.0]
    expected = (np.std([1, 2, 3], ddof=1) + np.std([2, 2, 5], ddof=1)) / 2
    assert disagreement(runs_that_predict("ratings", [1.5, 2.5], *runs)) == pytest.approx(expected)


def test_rows_of_all_reported_splits_count_alike() -> None:
    matched, mismatched = "validation_matched", "validation_mismatched"
    gold = {matched: [0, 1], mismatched: [0, 1, 1, 0]}
    runs = gold, {matched: [1, 0], mismatched: [0, 1, 1, 1]}
    assert disagreement(runs_that_predict("mnli", gold, *runs)) == pytest.approx(3 / 6)


def test_a_single_run_and_runs_on_other_rows_have_none() -> None:
    assert disagreement(runs_that_predict("rte", [0, 1], [0, 1])) is None
    assert disagreement([*runs_that_predict("rte", [0, 1], [0, 1]), record("rte", 0.7, seed=9)]) is None


def test_groups_of_rows_are_the_units_and_two_numberings_are_other_rows() -> None:
    over_groups = {"metrics": ["exact_match_by_group"], "main_metrics": ["exact_match_by_group"]}
    runs = runs_that_predict("answers", [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1])
    metrics = {"validation": {"exact_match_by_group": 0.5}}
    numbers = [{"validation": pack_array(np.array(row_groups))} for row_groups in ([0, 0, 1, 1], [0, 1, 1, 1])]

    def of(*row_groups: Any) -> list[RunRecord]:
        changes = [
            {"task": run.task.model_copy(update=over_groups), "row_groups": n, "metrics": metrics}
            for run, n in zip(runs, row_groups, strict=True)
        ]
        return [run.model_copy(update=change) for run, change in zip(runs, changes, strict=True)]

    board = build_leaderboard(of(numbers[0], numbers[0]))
    ((group, evidence),) = board.evidence.items()
    assert evidence.rows == 2
    assert "on validation, 2 groups of rows." in render_markdown(board)
    assert group.baseline("validation", "exact_match_by_group") == 0
    (group,) = group_runs(of(*numbers))
    assert read_predictions(group) is None


def test_score_of_groups_is_verified_from_the_groups_in_the_record() -> None:
    over_groups = {"metrics": ["exact_match_by_group"], "main_metrics": ["exact_match_by_group"]}
    (run,) = runs_that_predict("answers", [0, 1, 1, 0], [0, 1, 1, 1])

    def findings(score: float) -> list[str]:
        changes: dict[str, Any] = {
            "task": run.task.model_copy(update=over_groups),
            "row_groups": {"validation": pack_array(np.array([0, 0, 1, 1]))},
            "metrics": {"validation": {"exact_match_by_group": score}},
        }
        return [finding.field for finding in contradictions(run.model_copy(update=changes))]

    assert "metrics.validation.exact_match_by_group" not in findings(0.5)
    assert "metrics.validation.exact_match_by_group" in findings(0.75)


def test_metrics_of_evaluate_have_it_too() -> None:
    facts = {"metrics": ["perplexity"], "main_metrics": ["perplexity"]}
    runs = runs_that_predict("rte", [0, 1], [0, 1], [0, 0])
    changed = [run.model_copy(update={"task": run.task.model_copy(update=facts)}) for run in runs]
    assert disagreement(changed) == 1 / 2


def test_the_table_of_a_task_the_json_and_the_csv_show_it() -> None:
    runs = runs_that_predict("rte", [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1])
    line, _ = table_with(page(runs), "over rows")
    assert line["seed disagreement"] == "25.0"
    board = build_leaderboard(runs)
    (entry,) = json.loads(render_json(board))["entries"]
    assert entry["tasks"]["rte"]["seed_disagreement"] == 0.25
    lines = [line for line in csv.DictReader(io.StringIO(render_csv(board))) if not line["source"]]
    assert {line["seed_disagreement"] for line in lines} == {"0.25"}
    assert "seed disagreement" not in table_with(page(runs[:1]), "over rows")[0]


@pytest.mark.parametrize("values, dtype", [([0, 255], "uint8"), ([3, 256], "uint16"), ([-1, 200], "int16")])
def test_classes_are_kept_in_the_smallest_type_without_loss(values: list[int], dtype: str) -> None:
    smallest = in_smallest_type(np.array(values))
    assert (smallest.tolist(), smallest.dtype) == (values, dtype)
    assert in_smallest_type(np.array([0.5])).dtype == "float64"
