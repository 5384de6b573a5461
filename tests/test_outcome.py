"""Outcome: what scores amount to in a record."""

import math

import numpy as np
import pytest

from harness.outcome import score_split, split_fields
from harness.row_values import unpack_array, unpack_hits
from harness.tasks import load_task


def one_hot(classes, count):
    return np.eye(count, dtype=np.float32)[classes]


def test_hits_are_bits_in_row_order():
    gold = np.array([0, 1, 1, 0, 1])
    outcome = score_split(load_task("rte"), "validation", one_hot([0, 1, 0, 0, 0], 2), gold)
    assert unpack_hits(outcome.hits, 5).tolist() == [True, True, False, True, False]
    assert outcome.values["accuracy"] == pytest.approx(0.6)
    assert outcome.values["loss"] == outcome.loss
    assert outcome.headline == outcome.values["accuracy"]
    assert not outcome.is_collapsed


def test_answers_and_labels_are_kept_so_that_every_metric_can_be_computed_again():
    task, gold = load_task("mnli"), np.array([0, 1, 2, 2])
    outcome = score_split(task, "validation_matched", one_hot([0, 2, 2, 2], 3), gold)
    both = dict.fromkeys(task.report, outcome)
    fields = split_fields(task, both)
    assert fields["answers"].keys() == fields["gold"].keys() == set(task.report)
    assert unpack_array(fields["answers"]["validation_matched"]).tolist() == [0, 2, 2, 2]
    assert unpack_array(fields["gold"]["validation_mismatched"]).tolist() == [0, 1, 2, 2]


def test_values_of_a_regression_are_kept_exactly():
    predicted, gold = np.array([[0.1], [2.5], [3.0]], np.float32), np.array([0.1, 3.8, 5.0])
    outcome = score_split(load_task("stsb"), "validation", predicted, gold)
    assert np.array_equal(unpack_array(outcome.answers), predicted[:, 0].astype(np.float64))
    assert np.array_equal(unpack_array(outcome.gold), gold)


def test_one_class_throughout_is_collapse_unless_gold_is_too():
    task, gold = load_task("rte"), np.array([0, 1, 1])
    assert score_split(task, "validation", one_hot([1, 1, 1], 2), gold).is_collapsed
    assert not score_split(task, "validation", one_hot([1, 1, 1], 2), np.ones(3, int)).is_collapsed


def test_equal_values_of_a_regression_are_collapse_and_undefined_with_a_note():
    outcome = score_split(load_task("stsb"), "validation", np.full((3, 1), 2.0, np.float32), np.array([1.0, 2.0, 3.0]))
    assert outcome.is_collapsed
    assert outcome.values["pearson"] is None
    assert "pearson" not in outcome.defined
    assert any("constant" in note for note in outcome.notes)
    assert outcome.squared_errors == [1.0, 0.0, 1.0]
    assert outcome.hits is None
    assert outcome.headline == -math.inf


def test_a_run_has_collapsed_only_when_every_reported_split_has():
    task, gold = load_task("mnli"), np.array([0, 1, 2])
    good = score_split(task, "validation_matched", one_hot([0, 1, 2], 3), gold)
    bad = score_split(task, "validation_mismatched", one_hot([1, 1, 1], 3), gold)
    fields = split_fields(task, {"validation_matched": good, "validation_mismatched": bad})
    assert fields["status"] == "ok"
    both = split_fields(task, {"validation_matched": bad, "validation_mismatched": bad})
    assert both["status"] == "collapsed"
    assert set(fields["hits"]) == set(task.report)


def test_hidden_labels_are_never_scored():
    with pytest.raises(AssertionError, match="hidden"):
        score_split(load_task("rte"), "test", one_hot([0], 2), None)
