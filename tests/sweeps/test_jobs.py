"""The order of runs, longest first with everything that waits for them, and the time until the last one ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.sweeps.estimates import Estimate
from harness.sweeps.jobs import Job, longest_first, seconds_left, startable


def job(name: str, seconds: float, after: str | None = None) -> Job:
    run: Any = SimpleNamespace(run_id=name, after=after)
    return Job(run, Estimate(seconds, "", 0), seconds, saves_model=False, is_repeat=False)


ALONE = [job("short", 1), job("long", 9), job("middle", 5)]
CHAIN = [job("parent", 2), job("child", 8, after="parent"), job("other", 9)]


def names(jobs: list[Job]) -> list[str]:
    return [each.run.run_id for each in jobs]


def test_longest_comes_first() -> None:
    assert names(longest_first(ALONE)) == ["long", "middle", "short"]


def test_job_counts_with_those_that_wait_for_it() -> None:
    assert names(longest_first(CHAIN)) == ["parent", "other", "child"]


def test_a_chain_of_any_length_has_an_order() -> None:
    chain = [job(str(number), 1, after=str(number - 1) if number else None) for number in range(2_000)]
    assert longest_first(chain[::-1]) == chain


def test_ties_keep_their_order() -> None:
    assert names(longest_first([job("b", 1), job("a", 1)])) == ["b", "a"]


def test_job_waits_for_the_one_it_needs() -> None:
    assert names(startable(CHAIN, done=[])) == ["parent", "other"]
    assert names(startable(CHAIN[1:], done=["parent"])) == ["child", "other"]


def test_time_left_is_that_of_the_last_slot() -> None:
    assert seconds_left(ALONE, {}, slots=1) == 15
    assert seconds_left(ALONE, {}, slots=2) == 9
    assert seconds_left(ALONE, {"running": 4}, slots=2) == 10  # the long one from 0 to 9, the others from 4 to 10
    assert seconds_left([], {"late": -3}, slots=1) == 0
    assert seconds_left([], {}, slots=1) == 0


def test_time_left_counts_waiting_for_the_parent() -> None:
    assert seconds_left(CHAIN, {}, slots=2) == 10
    assert seconds_left([CHAIN[1]], {"parent": 3}, slots=2) == 11


def test_job_that_is_not_left_to_do_is_done() -> None:
    assert seconds_left([job("child", 8, after="finished long ago")], {}, slots=1) == 8
