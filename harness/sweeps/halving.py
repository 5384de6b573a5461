"""Successive halving of a grid: in each rung the points train twice as long, and the better half advances.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1, with
epochs as the resource. A rung is a run of its own with a whole schedule over its epochs, not a run that is stopped: a
linear or cosine decay over more epochs has another learning rate at every step, so that a longer run is no continuation
of a shorter one. The epochs are in the run_id, and no rung needs the checkpoints of another.
"""

from __future__ import annotations


def number_of_rungs(points: int, epochs: int) -> int:
    """1, and one for each time that points and epochs can be halved, rounded up, until one is left of either."""
    return 1 + min((points - 1).bit_length(), (epochs - 1).bit_length())


def rung_epochs(rung: int, rungs: int, epochs: int) -> int:
    """Epochs in a rung, counted from 1: all of them in the last, half of the next one's in every other, rounded up."""
    return -(-epochs // (1 << (rungs - rung)))


def half(points: int) -> int:
    """Points that advance from a rung: half of them, rounded up."""
    return -(-points // 2)
