"""Outcome: what scores amount to in a record."""

import math

import numpy as np
import pytest

from harness.facts.outcome import score_split, split_fields, threshold_of
from harness.facts.packing import unpack_array, unpack_hits
from harness.facts.recipes import Recipe
from harness.facts.tasks import TaskSpec, load_task


def one_hot(classes, count):
    return np.eye(count, dtype=np.float32)[classes]


def test_hits_are_bits_in_row_order():
    gold = np.array([0, 1, 1, 0, 1])
    outcome = score_split(load_task("rte"), "validation", one_hot([0, 1, 0, 0, 0], 2), gold)
    assert unpack_hits(outcome.hits, 5).tolist() == [True, True, False, True, False]
    assert outcome.values["accuracy"] == pytest.approx(0.6)
    assert outcome.values["loss"] == outcome.loss
    assert outcome.main_score == outcome.values["accuracy"]
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
    assert outcome.main_score == -math.inf


def test_a_run_has_collapsed_only_when_every_reported_split_has():
    task, gold = load_task("mnli"), np.array([0, 1, 2])
    good = score_split(task, "validation_matched", one_hot([0, 1, 2], 3), gold)
    bad = score_split(task, "validation_mismatched", one_hot([1, 1, 1], 3), gold)
    fields = split_fields(task, {"validation_matched": good, "validation_mismatched": bad})
    assert fields["status"] == "ok"
    both = split_fields(task, {"validation_matched": bad, "validation_mismatched": bad})
    assert both["status"] == "collapsed"
    assert set(fields["hits"]) == set(task.report)


def multi_label(**keys):
    facts = dict(
        title="Topics",
        problem_type="multi_label_classification",
        source={"hub": "some/topics"},
        text="text",
        labels=["a", "b"],
        splits={"train": "train", "validation": "validation"},
        rows={},
        metrics=["f1_micro", "hamming_loss"],
        main_metrics=["f1_micro", "hamming_loss"],
    )
    return TaskSpec(name="topics", **(facts | keys))


SETS = np.array([[1, 0], [1, 1], [0, 0]], np.int8)


def test_set_of_labels_is_a_hit_when_all_of_it_is_right():
    scores = np.array([[1, -1], [1, -1], [-1, -1]], np.float32)
    outcome = score_split(multi_label(), "validation", scores, SETS, 0.5)
    assert unpack_hits(outcome.hits, 3).tolist() == [True, False, True]
    assert outcome.main_score == pytest.approx((2 * 2 / (2 + 3) - 1 / 6) / 2)
    assert unpack_array(outcome.answers).tolist() == [[1, 0], [1, 0], [0, 0]]
    assert unpack_array(outcome.gold).tolist() == SETS.tolist()
    assert outcome.squared_errors is None
    assert not outcome.is_collapsed


def test_one_set_throughout_is_collapse_unless_gold_is_too():
    same = np.tile(np.array([1, -1], np.float32), (3, 1))
    assert score_split(multi_label(), "validation", same, SETS, 0.5).is_collapsed
    assert not score_split(multi_label(), "validation", same, np.tile(SETS[1], (3, 1)), 0.5).is_collapsed


def test_threshold_is_a_half_unless_the_recipe_lets_it_be_chosen():
    low = np.where(SETS > 0, -1.0, -3.0).astype(np.float32)
    assert threshold_of(load_task("rte"), Recipe(), low, SETS) is None
    assert threshold_of(multi_label(), Recipe(), low, SETS) == 0.5
    chosen = threshold_of(multi_label(), Recipe(threshold="validation"), low, SETS)
    assert score_split(multi_label(), "validation", low, SETS, chosen).values["f1_micro"] == 1.0


def test_hidden_labels_are_never_scored():
    with pytest.raises(AssertionError, match="hidden"):
        score_split(load_task("rte"), "test", one_hot([0], 2), None)
