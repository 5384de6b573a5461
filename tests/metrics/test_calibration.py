"""Calibration: values by hand and by scikit-learn, and a temperature that undoes a known one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from harness.metrics.calibration import (
    brier_score,
    calibration,
    class_probabilities,
    expected_calibration_error,
    fit_temperature,
)


def calibrated(rows: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and gold labels that are drawn from their softmax."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(rows, classes)) * 2
    drawn = random.random((rows, 1)) > np.cumsum(class_probabilities(scores), axis=1)
    return scores.astype(np.float32), drawn.sum(axis=1)


def test_expected_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [0.7, 0.3]])
    gold = np.array([0, 1, 1, 0])
    # bins: (13/15, 14/15] has 0.9 and 0.92, one of them right; 9/15 = 0.6 is in (8/15, 9/15]; 0.7 is in (10/15, 11/15]
    expected = (abs(1 - 0.9 - 0.92) + abs(1 - 0.6) + abs(1 - 0.7)) / 4
    assert expected_calibration_error(probabilities, gold) == pytest.approx(expected)
    upper_end = np.array([[0.6, 0.4], [0.41, 0.59]])  # both in (8/15, 9/15]
    assert expected_calibration_error(upper_end, np.array([0, 0])) == pytest.approx(abs(1 - 0.6 - 0.59) / 2)


def test_certain_and_right_has_no_error_and_certain_and_wrong_the_largest() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    for gold, error, brier in (([0, 1], 0, 0), ([1, 0], 1, 2)):
        assert expected_calibration_error(certain, np.array(gold)) == error
        assert brier_score(certain, np.array(gold)) == brier


def test_brier_score_and_log_loss_are_scikit_learns() -> None:
    scores, gold = calibrated(500, classes=2)
    probabilities = class_probabilities(scores)
    own = calibration(scores, gold)
    assert own.brier_score == pytest.approx(2 * brier_score_loss(gold, probabilities[:, 1]))
    scores, gold = calibrated(500, classes=4)
    assert calibration(scores, gold).log_loss == pytest.approx(log_loss(gold, class_probabilities(scores)))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_fitted_temperature_undoes_the_factor_of_scores(factor: float) -> None:
    scores, gold = calibrated(20_000)
    scaled = scores * np.float32(factor)
    temperature = fit_temperature(scaled, gold)
    assert temperature == pytest.approx(factor, rel=0.05)
    before, after = calibration(scaled, gold), calibration(scaled, gold, temperature)
    assert after.temperature == temperature
    assert after.expected_calibration_error < 0.015
    assert after.log_loss <= before.log_loss + 1e-9
    if factor != 1:
        assert after.expected_calibration_error < before.expected_calibration_error / 3
