"""The rungs of a successive halving: how many, and how long."""

import pytest

from harness.sweeps.search import half, number_of_rungs, rung_epochs


@pytest.mark.parametrize(
    ("points", "epochs", "rungs"),
    [(8, 8, [1, 2, 4, 8]), (8, 3, [1, 2, 3]), (4, 10, [3, 5, 10]), (3, 10, [3, 5, 10]), (2, 3, [2, 3]), (9, 1, [1])],
)
def test_rungs_end_with_all_epochs_and_begin_with_one_or_with_all_points(
    points: int, epochs: int, rungs: list[int]
) -> None:
    number = number_of_rungs(points, epochs)
    assert [rung_epochs(rung, number, epochs) for rung in range(1, number + 1)] == rungs
    left = points
    for _ in range(number - 1):
        left = half(left)
    assert left == 1 or rungs[0] == 1
