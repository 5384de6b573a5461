"""Which run comes next, and when all will be done: longest first, each after the one that it needs."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """A run as the schedule sees it."""

    name: str
    seconds: float
    """That it is expected to take, or a guess that at least compares with the others."""
    after: str | None = None
    """The job that must be done before; one that is not among the jobs counts as done."""


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """By the time until the last of those that wait for a job, itself included; equals as they come."""
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        if job.after is not None:
            waiting.setdefault(job.after, []).append(job)

    def until_last(job: Job) -> float:
        return job.seconds + max(map(until_last, waiting.get(job.name, [])), default=0.0)

    return sorted(jobs, key=until_last, reverse=True)


def startable(jobs: Sequence[Job], done: Collection[str]) -> list[Job]:
    """Those of the waiting `jobs`, in their order, that need no other of them and nothing that is not `done`."""
    return [job for job in jobs if job.after is None or job.after in done]


def seconds_left(waiting: Sequence[Job], running: Mapping[str, float], places: int) -> float:
    """Until the last job ends, when each place takes the next that can start; `running`: seconds that each has left."""
    ends = [(max(0.0, left), name) for name, left in running.items()]
    heapq.heapify(ends)
    queue, free, now = longest_first(waiting), places - len(ends), 0.0
    unfinished = {job.name for job in waiting} | set(running)
    while queue or ends:
        for job in [job for job in queue if job.after not in unfinished][: max(0, free)]:
            queue.remove(job)
            heapq.heappush(ends, (now + job.seconds, job.name))
            free -= 1
        now, name = heapq.heappop(ends)
        unfinished.discard(name)
        free += 1
    return now
