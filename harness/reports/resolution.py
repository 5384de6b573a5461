"""The resolution of a column: the smallest difference between two models that its seeds and rows can show."""

from __future__ import annotations

from harness.reports.cells import format_metric
from harness.reports.standings import Leaderboard
from harness.stats.power import MORE_SEEDS, SmallestDifferences, column_of


def resolution_of(board: Leaderboard, task: str) -> SmallestDifferences | None:
    """The resolution of a task's column; None where no two models are compared."""
    compared = board.compared.get(task)
    column = column_of(compared) if compared else None
    return None if column is None else column.smallest_differences()


def resolution_note(resolution: SmallestDifferences, as_percent: bool) -> str:
    """The smallest differences in words, in points for fractions."""
    parts = [
        (resolution.with_present_seeds, str(resolution.seeds)),
        (resolution.with_ten_seeds, str(MORE_SEEDS)),
        (resolution.with_any_number, "any number of"),
    ]
    unit = " points" if as_percent else ""
    shown = [f"{format_metric(value, as_percent)}{unit} with {seeds}" for value, seeds in parts if value is not None]
    is_unknown = resolution.with_ten_seeds is None
    rest = "; with fewer it is unknown, since no model has two" if is_unknown else ""
    return f"Resolution: the smallest difference that two models can show is {', '.join(shown)} seeds{rest}."
