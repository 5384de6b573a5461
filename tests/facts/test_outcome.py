"""Outcome: scores and gold labels as fields of a record."""

import math

import numpy as np
import pytest

from harness.errors import UserError
from harness.facts.outcome import prediction_threshold, score_split, split_fields
from harness.facts.packing import unpack_array
from harness.facts.recipes import Recipe
from harness.facts.tasks import TaskSpec, load_task
from harness.metrics.scoring import Scored


def one_hot(classes, count):
    return np.eye(count, dtype=np.float32)[classes]


def test_values_have_the_loss_and_the_metrics_of_the_task():
    gold = np.array([0, 1, 1, 0, 1])
    outcome = score_split(load_task("rte"), "validation", one_hot([0, 1, 0, 0, 0], 2), gold)
    assert outcome.values["accuracy"] == pytest.approx(0.6)
    assert outcome.values["loss"] == outcome.loss
    assert outcome.main_score == outcome.values["accuracy"]
    assert not outcome.is_collapsed


def test_main_metric_that_returns_another_name_is_refused(monkeypatch):
    monkeypatch.setattr("harness.facts.outcome.score", lambda *_: Scored({"half": 0.5}, {}))
    task = load_task("rte").model_copy(update={"metrics": ("own.py",), "main_metrics": ("own.py",)})
    with pytest.raises(UserError, match=r"main_metrics: 'own\.py' .*half"):
        score_split(task, "validation", one_hot([0, 1], 2), np.array([0, 1]))


def test_predictions_and_gold_are_recorded_so_that_every_metric_can_be_recomputed():
    task, gold = load_task("mnli"), np.array([0, 1, 2, 2])
    outcome = score_split(task, "validation_matched", one_hot([0, 2, 2, 2], 3), gold)
    fields = split_fields(task, dict.fromkeys(task.report, outcome))
    assert fields["predictions"].keys() == fields["gold"].keys() == set(task.report)
    assert unpack_array(fields["predictions"]["validation_matched"]).tolist() == [0, 2, 2, 2]
    assert unpack_array(fields["gold"]["validation_mismatched"]).tolist() == [0, 1, 2, 2]


def test_values_of_a_regression_are_recorded_exactly():
    predictions, gold = np.array([[0.1], [2.5], [3.0]], np.float32), np.array([0.1, 3.8, 5.0])
    outcome = score_split(load_task("stsb"), "validation", predictions, gold)
    assert np.array_equal(unpack_array(outcome.predictions), predictions[:, 0].astype(np.float64))
    assert np.array_equal(unpack_array(outcome.gold), gold)


def test_one_class_throughout_is_collapse_unless_gold_has_one_class_too():
    task, gold = load_task("rte"), np.array([0, 1, 1])
    assert score_split(task, "validation", one_hot([1, 1, 1], 2), gold).is_collapsed
    assert not score_split(task, "validation", one_hot([1, 1, 1], 2), np.ones(3, int)).is_collapsed


def test_equal_values_of_a_regression_are_collapse_and_an_undefined_metric_has_a_note():
    outcome = score_split(load_task("stsb"), "validation", np.full((3, 1), 2.0, np.float32), np.array([1.0, 2.0, 3.0]))
    assert outcome.is_collapsed
    assert outcome.values["pearson"] is None
    assert "pearson" not in outcome.defined
    assert any("constant" in note for note in outcome.notes)
    assert outcome.main_score == -math.inf


def test_selection_minimises_the_loss_or_a_score_that_is_negated_where_more_is_better():
    predictions, gold = np.array([[0.5], [2.0], [5.0]], np.float32), np.array([1.0, 3.0, 5.0])
    outcome = score_split(load_task("stsb"), "validation", predictions, gold)
    assert outcome.minimised("last") == outcome.minimised("best") == outcome.loss
    assert outcome.minimised("best_main_score") == -outcome.main_score
    assert outcome.minimised("spearman") == -1
    assert outcome.minimised("mae") == outcome.values["mae"] == 0.5
    constant = score_split(load_task("stsb"), "validation", np.ones((3, 1), np.float32), gold)
    assert constant.minimised("pearson") == math.inf


@pytest.mark.parametrize("unit", [1, 1e-4, 1e4])
def test_regression_collapses_relative_to_the_spread_of_its_labels(unit):
    task = load_task("stsb")
    gold = unit * np.array([1.0, 3.0, 5.0])
    for width, is_collapsed in ((1e-4, True), (0.1, False)):
        scores = unit * (3 + width * np.array([[0.0], [0.5], [1.0]], np.float32))
        assert score_split(task, "validation", np.float32(scores), gold).is_collapsed == is_collapsed


def test_run_has_collapsed_only_when_every_reported_split_has():
    task, gold = load_task("mnli"), np.array([0, 1, 2])
    good = score_split(task, "validation_matched", one_hot([0, 1, 2], 3), gold)
    collapsed = score_split(task, "validation_mismatched", one_hot([1, 1, 1], 3), gold)
    fields = split_fields(task, {"validation_matched": good, "validation_mismatched": collapsed})
    assert fields["status"] == "ok"
    assert set(fields["predictions"]) == set(task.report)
    fields = split_fields(task, {"validation_matched": collapsed, "validation_mismatched": collapsed})
    assert fields["status"] == "collapsed"


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


LABEL_SETS = np.array([[1, 0], [1, 1], [0, 0]], np.int8)


def test_metric_where_lower_is_better_counts_negated_in_the_main_score():
    scores = np.array([[1, -1], [1, -1], [-1, -1]], np.float32)
    outcome = score_split(multi_label(), "validation", scores, LABEL_SETS, 0.5)
    assert outcome.main_score == pytest.approx((2 * 2 / (2 + 3) - 1 / 6) / 2)
    assert unpack_array(outcome.predictions).tolist() == [[1, 0], [1, 0], [0, 0]]
    assert unpack_array(outcome.gold).tolist() == LABEL_SETS.tolist()
    assert not outcome.is_collapsed


def test_one_label_set_throughout_is_collapse_unless_gold_has_one_too():
    same = np.tile(np.array([1, -1], np.float32), (3, 1))
    assert score_split(multi_label(), "validation", same, LABEL_SETS, 0.5).is_collapsed
    assert not score_split(multi_label(), "validation", same, np.tile(LABEL_SETS[1], (3, 1)), 0.5).is_collapsed


def test_threshold_is_one_half_unless_the_recipe_chooses_it():
    low = np.where(LABEL_SETS > 0, -1.0, -3.0).astype(np.float32)
    assert prediction_threshold(load_task("rte"), Recipe(), low, LABEL_SETS) is None
    assert prediction_threshold(multi_label(), Recipe(), low, LABEL_SETS) == 0.5
    threshold = prediction_threshold(multi_label(), Recipe(threshold="validation"), low, LABEL_SETS)
    assert score_split(multi_label(), "validation", low, LABEL_SETS, threshold).values["f1_micro"] == 1.0


def test_hidden_labels_are_never_scored():
    with pytest.raises(AssertionError, match="hidden"):
        score_split(load_task("rte"), "test", one_hot([0], 2), None)


def test_answers_are_scored_by_question_and_their_loss_is_that_of_the_candidates() -> None:
    scores = np.array([[0, 1], [0, 2], [0, 3], [1, 0]], np.float32)
    gold, questions = np.array([1.0, 0.5, 0.25, 1.0]), np.array([0, 0, 1, 1])
    outcome = score_split(load_task("record"), "validation", scores, gold, None, questions)
    assert outcome.values["answer_f1"] == pytest.approx((0.5 + 0.25) / 2)
    assert outcome.values["answer_exact_match"] == 0
    right = np.array([1, 0, 0, 1])
    expected = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(4), right]
    assert outcome.loss == pytest.approx(expected.mean())
    assert unpack_array(outcome.predictions).tolist() == [0, 1, 1, 0]
    assert not outcome.is_collapsed


def test_answers_at_one_position_of_every_question_are_a_collapse() -> None:
    questions, gold = np.array([0, 0, 1, 1]), np.array([1.0, 0.0, 0.0, 1.0])
    outcome = score_split(load_task("record"), "validation", np.zeros((4, 2), np.float32), gold, None, questions)
    assert outcome.is_collapsed
