"""The order of runs: longest first, each after the run that it needs; and the time until all are done."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class QueueItem(NamedTuple):
    """A job in the queue."""

    name: str
    seconds: float
    """Expected duration, or a guess that is comparable with the other items'."""
    after: str | None = None
    """The item that must be done before; one that is not in the queue counts as done."""


def longest_first(queue: Sequence[QueueItem]) -> list[QueueItem]:
    """The items by the time until the last of those that wait for them ends, themselves included; ties keep order."""
    by_name, waiting = {item.name: item for item in queue}, Counter(item.after for item in queue)
    until_last = {item.name: item.seconds for item in queue}
    ready = [item for item in queue if not waiting[item.name]]
    while ready:  # from those that nothing waits for to the ones that they need; a chain may have thousands
        item = ready.pop()
        if (needed := by_name.get(item.after or "")) is not None:
            until_last[needed.name] = max(until_last[needed.name], needed.seconds + until_last[item.name])
            waiting[needed.name] -= 1
            ready += [needed] if not waiting[needed.name] else []
    return sorted(queue, key=lambda item: until_last[item.name], reverse=True)


def startable(queue: Sequence[QueueItem], done: Collection[str]) -> list[QueueItem]:
    """The items, in order, that wait for nothing or for one that is done."""
    return [item for item in queue if item.after is None or item.after in done]


def seconds_left(waiting: Sequence[QueueItem], running: Mapping[str, float], slots: int) -> float:
    """Seconds until the last item ends, if each free slot takes the next that can start.

    `running` holds the seconds that each running item has left.
    """
    ends = [(max(0.0, left), name) for name, left in running.items()]
    heapq.heapify(ends)
    unfinished = {item.name for item in waiting} | set(running)
    ready: list[tuple[int, QueueItem]] = []
    blocked: dict[str | None, list[tuple[int, QueueItem]]] = {}
    for entry in enumerate(longest_first(waiting)):
        after = entry[1].after
        (blocked.setdefault(after, []) if after in unfinished else ready).append(entry)
    free, now = slots - len(ends), 0.0
    while ready or ends:
        while ready and free > 0:
            _, item = heapq.heappop(ready)
            heapq.heappush(ends, (now + item.seconds, item.name))
            free -= 1
        now, name = heapq.heappop(ends)
        for entry in blocked.pop(name, []):
            heapq.heappush(ready, entry)
        free += 1
    return now
