"""The Hub's model-index: a result for each metric, averaged over seeds."""

from __future__ import annotations

import pytest

from harness.reports.hub_metadata import eval_results, model_index
from harness.stats.groups import mark_names


def test_a_result_for_each_metric_of_the_task(make_record):
    results = model_index([make_record("mrpc", {"f1": 0.85, "accuracy": 0.77, "loss": 0.5})])
    assert [(result.metric_type, result.metric_value, result.metric_name) for result in results] == [
        ("f1", 0.85, "F1"),
        ("accuracy", 0.77, "accuracy"),
    ]
    first = results[0]
    assert (first.task_type, first.dataset_type, first.dataset_config) == (
        "text-classification",
        "example/glue",
        "mrpc",
    )
    assert (first.dataset_split, first.dataset_revision, first.dataset_name) == ("validation", "r1", "The mrpc task")
    assert first.verified is None


def test_metrics_have_the_names_of_the_hub(make_record):
    results = model_index([make_record("mine", {"pearson": 0.8, "rmse": 1.2, "bleu": 3.0})])
    results += model_index([make_record("news", {"f1_macro": 0.7})])
    assert [(result.metric_type, result.metric_args) for result in results] == [
        ("pearsonr", None),
        ("mse", {"squared": False}),
        ("bleu", None),
        ("f1", {"average": "macro"}),
    ]


def test_the_half_that_a_run_was_selected_on_is_left_out(make_record):
    splits = {"validation": {"accuracy": 0.9}, "validation_holdout": {"accuracy": 0.8}}
    facts = {"report": ["validation_holdout"]}
    results = model_index([make_record(recipe={"protocol": "holdout"}, facts=facts, metrics=splits)])
    assert [(result.dataset_split, result.metric_value) for result in results] == [("validation_holdout", 0.8)]


def test_seeds_are_averaged_and_counted(make_record):
    results = model_index([make_record(scores={"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))])
    assert [(result.metric_value, result.metric_name) for result in results] == [
        (pytest.approx(0.7), "accuracy (mean of 2 seeds)")
    ]


def test_recipes_are_named_and_not_averaged(make_record):
    results = model_index([make_record(), make_record(recipe={"epochs": 9}, scores={"accuracy": 0.9})])
    assert [(result.metric_value, result.metric_name) for result in results] == [
        (0.7, "accuracy (default)"),
        (0.9, "accuracy (epochs=9)"),
    ]


def test_revisions_of_a_model_are_named(make_record):
    runs = [make_record("rte", commit=commit, spec={"revision": commit}) for commit in ("a" * 40, "b" * 40)]
    assert [result.metric_name for result in model_index(runs)] == [
        f"accuracy (revision {letter * 8}; default)" for letter in "ab"
    ]
    assert ["revision aaaaaaaa" in entry["notes"] for entry in eval_results(runs)] == [True, False]


def test_name_of_a_mark_is_understood_without_the_rest_of_the_legend():
    assert mark_names("spv") == [
        "partial data",
        "weights or threshold selected on the reported split",
        "another version, definition or data of the task",
    ]


def test_marks_are_in_the_name_of_the_metric(make_record):
    (partial,) = model_index([make_record(data={"is_partial": True})])
    assert partial.metric_name == "accuracy (partial data)"
    (trial,) = model_index([make_record(spec={"test_mode": True}, data={"source": "generated"})])
    assert trial.metric_name == "accuracy (test mode)"
    assert trial.dataset_type == "rte"


def test_runs_without_a_score_have_no_result(make_record):
    assert model_index([]) == []
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    assert model_index([lost]) == []
    assert model_index([make_record(scores={"accuracy": None})]) == []
