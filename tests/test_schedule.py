"""What runs next: the longest, counted with all that waits for it; and when the last one ends."""

from __future__ import annotations

from harness.sweeps.ordering import Job, longest_first, seconds_left, startable

ALONE = [Job("short", 1), Job("long", 9), Job("middle", 5)]
CHAIN = [Job("parent", 2), Job("child", 8, after="parent"), Job("other", 9)]


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_longest_comes_first() -> None:
    assert names(longest_first(ALONE)) == ["long", "middle", "short"]


def test_a_run_counts_with_what_waits_for_it() -> None:
    assert names(longest_first(CHAIN)) == ["parent", "other", "child"]


def test_equals_keep_their_order() -> None:
    assert names(longest_first([Job("b", 1), Job("a", 1)])) == ["b", "a"]


def test_a_run_waits_for_the_one_it_needs() -> None:
    assert names(startable(CHAIN, done=[])) == ["parent", "other"]
    assert names(startable(CHAIN[1:], done=["parent"])) == ["child", "other"]


def test_time_left_is_that_of_the_last_place() -> None:
    assert seconds_left(ALONE, {}, places=1) == 15
    assert seconds_left(ALONE, {}, places=2) == 9
    assert seconds_left(ALONE, {"running": 4}, places=2) == 10  # the long one from 0 to 9, the others from 4 to 10
    assert seconds_left([], {"late": -3}, places=1) == 0
    assert seconds_left([], {}, places=1) == 0


def test_time_left_counts_waiting_for_the_parent() -> None:
    assert seconds_left(CHAIN, {}, places=2) == 10
    assert seconds_left([CHAIN[1]], {"parent": 3}, places=2) == 11


def test_what_is_not_among_the_runs_is_done() -> None:
    assert seconds_left([Job("child", 8, after="finished long ago")], {}, places=1) == 8
