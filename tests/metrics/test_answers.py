"""Answers selected for questions: normalisation and agreement by hand, metrics on questions and on resampled ones."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics.answers import agreement, normalize_answer, positions_in_groups, select_rows
from harness.metrics.registry import METRICS
from harness.metrics.scoring import baseline, predictions_from_scores, score
from harness.stats.resampling import resampled

QUESTIONS = np.array([0, 0, 1, 1, 1, 2, 0])
GOLD = np.array([1.0, 0.5, 0.0, 1.0, 1.0, 0.25, 0.0])
RUNS = np.array([[0, 1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1, 0]])
NAMES = ["answer_f1", "answer_exact_match"]


@pytest.mark.parametrize(
    "text, normalized",
    [
        ("The U.S.  Army,", "us army"),
        ("an apple a day", "apple day"),
        ("Anathema", "anathema"),
        ("Müller's", "müllers"),
        ("The", ""),
        (" Los\u00a0Angeles\n", "los angeles"),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    "answer, right, expected",
    [
        ("the Taliban", ["Taliban"], 1.0),
        ("Barack Obama", ["Michelle Obama", "Clinton"], 0.5),
        ("Barack Obama", ["Obama", "Barack Hussein Obama II"], 2 / 3),
        ("New York York", ["York York"], 4 / 5),
        ("Paris", ["London"], 0.0),
        ("Paris", [], 0.0),
        ("the", ["London"], 0.0),
    ],
)
def test_agreement_is_the_best_f1_of_tokens(answer: str, right: list[str], expected: float) -> None:
    assert agreement(answer, right) == pytest.approx(expected)
    assert (agreement(answer, right) == 1) == (expected == 1)


def test_same_tokens_in_another_order_are_no_exact_match() -> None:
    assert 1 - 1e-12 < agreement("York New", ["New York"]) < 1


def test_one_row_of_each_question_is_selected_wherever_its_rows_are() -> None:
    scores = np.array([1, 3, 0, 5, 5, -9, 2], np.float32)
    assert select_rows(scores, QUESTIONS).tolist() == [0, 1, 0, 1, 0, 1, 0], "the first of equals"
    assert select_rows(scores, QUESTIONS * -7).tolist() == [0, 1, 0, 1, 0, 1, 0], "numbers are only names"
    assert positions_in_groups(QUESTIONS).tolist() == [0, 1, 0, 1, 2, 0, 2]


def test_the_most_probable_row_is_selected_not_the_highest_logit() -> None:
    scores = np.array([[4, 5], [-3, 1]], np.float32)
    assert predictions_from_scores(scores, questions=np.zeros(2, np.int64)).tolist() == [0, 1]


def test_metrics_are_means_over_questions() -> None:
    by_name = {name: [METRICS[name].of(run, GOLD, QUESTIONS) for run in RUNS] for name in NAMES}
    assert by_name["answer_f1"] == pytest.approx([(0.5 + 1 + 0.25) / 3, (1 + 0 + 0.25) / 3])
    assert by_name["answer_exact_match"] == pytest.approx([1 / 3, 1 / 3])
    scores = np.stack([np.zeros(7), RUNS[0]], axis=1).astype(np.float32)
    scored = score(NAMES, scores, GOLD, None, QUESTIONS, selects_answers=True)
    assert scored.values == pytest.approx({NAMES[0]: 1.75 / 3, NAMES[1]: 1 / 3})


def test_baseline_is_the_best_position_of_a_candidate() -> None:
    expected = {
        NAMES[0]: (1 + 0 + 0.25) / 3,
        NAMES[1]: 1 / 3,
    }  # the second ones agree better: 0.5 + 1, third ones 0 + 1
    second = {NAMES[0]: 1.5 / 3, NAMES[1]: 1 / 3}
    assert baseline(NAMES, GOLD, 1, NAMES, QUESTIONS) == pytest.approx(second)
    assert baseline(NAMES, np.where(GOLD == 0.5, 0.0, GOLD), 1, NAMES, QUESTIONS) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_resampled_metric_is_that_of_the_drawn_questions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 0, 2]])
    monkeypatch.setattr("harness.stats.resampling.weights_of", lambda *_: [drawn[:, QUESTIONS].astype(float)])
    values = resampled([name], RUNS, GOLD, "t.v", len(drawn), QUESTIONS)
    for sample, times in enumerate(drawn):
        rows = [np.flatnonzero(question == QUESTIONS) for question in np.repeat(np.arange(3), times)]
        at, numbers = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        expected = [METRICS[name].of(run[at], GOLD[at], numbers) for run in RUNS]
        assert values[:, sample] == pytest.approx(expected)
