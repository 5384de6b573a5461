"""The paired tests of the HTML page are those of the Markdown page, of a bounded number of entries."""

from __future__ import annotations

import pytest
from support.boards import record, record_with_predictions

from harness.reports import pair_tests as module
from harness.reports.cells import format_metric
from harness.reports.markdown import format_p
from harness.reports.pair_tests import pair_tests
from harness.reports.standings import Leaderboard, build_leaderboard


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    qualities = {"a": 0.9, "b": 0.6, "c": 0.5}
    return build_leaderboard(
        [
            *(record_with_predictions("rte", q, model=m, seed=s) for m, q in qualities.items() for s in (1, 2)),
            *(record_with_predictions("ratings", q, model=m, seed=s) for m, q in qualities.items() for s in (1, 2)),
            *(record_with_predictions("qnli", q, model=m) for m, q in qualities.items()),
            record_with_predictions("sst2", 0.7, model="a"),
            record("rte", 0.99, model="without-predictions"),
        ]
    )


def test_tests_against_the_best_are_those_of_the_table(board: Leaderboard) -> None:
    tests, entries, checked = pair_tests(board)["tests"], list(board.entries), 0
    for (entry, task), group in board.groups.items():
        if (test := board.evidence[group].to_best) is None:
            continue
        compared = board.compared[task]
        best = compared.groups[compared.best].entry
        first, second = sorted((entries.index(entry), entries.index(best)))
        item = tests[task][first][second - first - 1]
        shown = test if entries[first] == entry else test.reversed()
        assert item[0] == format_metric(shown.difference, as_percent=task != "ratings")
        assert item[2:4] == [format_p(test.p_holm), format_p(test.p)]
        is_better = (shown.difference > 0) != (task == "ratings")
        assert item[4] == (None if task == "qnli" else 0 if not test.is_significant else 1 if is_better else -1)
        checked += 1
    assert checked == 6


def test_pairs_without_a_test_are_null(board: Leaderboard) -> None:
    data = pair_tests(board)
    at = [entry.label for entry in board.entries].index("without-predictions")
    rows = data["tests"]["rte"]
    assert [rows[min(at, other)][abs(at - other) - 1] for other in range(4) if other != at] == [None] * 3
    assert data["tests"].keys() == {"rte", "ratings", "qnli"}
    assert data["entries"] == 4


def test_number_of_tests_is_bounded(board: Leaderboard, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, entries in ((4 * 6, 4), (4 * 6 - 1, 3), (4 * 3, 3), (4, 2), (0, 1)):
        monkeypatch.setattr(module, "MAX_TESTS", most)
        data = pair_tests(board)
        assert data["entries"] == entries
        assert sum(len(row) for rows in data["tests"].values() for row in rows) <= most
