"""Calibration of class probabilities: how far they are from the shares of rows on which they are right.

Every function takes scores, float32[N, C], and class numbers [N]; probabilities are their softmax, after division by a
temperature.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.scoring import mean_loss

BINS = 15
"""The number of bins of the expected calibration error, as in Guo et al. 2017."""

_TEMPERATURES = (0.05, 20.0)
"""The range of temperatures that are tried."""


class Calibration(NamedTuple):
    """The calibration of a split's probabilities."""

    temperature: float
    """The number that scores are divided by; 1 leaves the model's own probabilities."""
    expected_calibration_error: float
    brier_score: float
    log_loss: float


def calibration(scores: NDArray[np.float32], gold: NDArray[Any], temperature: float = 1.0) -> Calibration:
    """The calibration of the probabilities at a temperature."""
    scaled = scores.astype(np.float64) / temperature
    probabilities = class_probabilities(scaled)
    return Calibration(
        temperature,
        expected_calibration_error(probabilities, gold),
        brier_score(probabilities, gold),
        mean_loss(scaled, gold),
    )


def class_probabilities(scores: NDArray[Any]) -> NDArray[np.float64]:
    """The softmax of each row, float64[N, C]."""
    from scipy.special import softmax

    return np.asarray(softmax(scores.astype(np.float64), axis=1))


def expected_calibration_error(probabilities: NDArray[np.float64], gold: NDArray[Any]) -> float:
    """Σ over bins of (rows / N) |share of correct rows - mean confidence| (Guo et al. 2017).

    The confidence is the probability of the predicted class; the bins are 15 of equal width, each with its upper end.
    """
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    edges = np.arange(1, BINS) / BINS
    gaps = np.bincount(np.searchsorted(edges, confidence), weights=is_correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(gold))


def brier_score(probabilities: NDArray[np.float64], gold: NDArray[Any]) -> float:
    """The mean over rows of Σ over classes of (probability - truth)², from 0 to 2 (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[gold]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def fit_temperature(scores: NDArray[np.float32], gold: NDArray[Any]) -> float:
    """The temperature with the lowest log loss on these rows, which must not be those that are reported."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return mean_loss(scores.astype(np.float64) / np.exp(logarithm), gold)

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))
