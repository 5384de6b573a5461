"""The paired tests between entries of a leaderboard, as data of its HTML page, which shows two entries at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.reports.cells import format_metric, interval_text, is_shown_as_percent
from harness.reports.markdown import format_p
from harness.reports.standings import Leaderboard
from harness.stats.entries import Entry
from harness.stats.significance import Comparison
from harness.stats.uncertainty import PairwiseTest

MAX_TESTS = 10_000
"""The largest number of tests on a page, about 50 bytes each: all pairs of 47 entries on nine tasks."""


def pair_tests(board: Leaderboard) -> dict[str, Any]:
    """The tests of each task: one list per entry with an item for every later entry, null where no test is possible.

    An item is the difference, its 95 % interval, Holm's p and the uncorrected one as texts, and the verdict on the
    earlier entry: 1 better, -1 worse, 0 tied, null where nothing is known about seeds. The tests of a task are those of
    the Markdown page, corrected for all pairs of its table. `entries` is the number of first entries that have tests.
    """
    most = (1 + math.isqrt(1 + 8 * (MAX_TESTS // max(len(board.tasks), 1)))) // 2  # whose pairs have at most MAX_TESTS
    entries = board.entries[:most]
    return {
        "entries": len(entries),
        "tests": {task: list(_rows(board, task, one, entries)) for task, one in board.compared.items()},
    }


def _rows(board: Leaderboard, task: str, compared: Comparison, entries: Sequence[Entry]) -> Iterator[list[Any]]:
    position = {entry: number for number, entry in enumerate(board.entries)}
    ordered = compared.subset(sorted(compared.groups, key=lambda group: position[group.entry]))
    first, second = np.triu_indices(len(ordered.groups), 1)
    family = ordered.test_pairs(first, second)
    members = [group.entry for group in ordered.groups]
    pairs = {(members[a], members[b]): at for at, (a, b) in enumerate(zip(first, second, strict=True))}
    as_percent = is_shown_as_percent(board.tasks[task])
    for at, entry in enumerate(entries[:-1]):
        numbers = [pairs.get((entry, other)) for other in entries[at + 1 :]]
        yield [
            None if pair is None else _item(family.test(pair), as_percent, ordered.direction or 0) for pair in numbers
        ]


def _item(test: PairwiseTest, as_percent: bool, direction: int) -> list[Any]:
    difference, interval = format_metric(test.difference, as_percent), interval_text((test.low, test.high), as_percent)
    verdict = int(np.sign(direction * test.difference)) if test.is_significant else 0
    known = None if test.is_over_rows_only else verdict
    return [difference, interval, format_p(test.p_holm), format_p(test.p), known]
