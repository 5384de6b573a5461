"""Calls to the Hub that survive its hiccups: tried again after growing pauses, for minutes and not for hours."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

PAUSES = (1, 2, 4, 8, 15, 30, 60)
"""Seconds before each new try: two minutes in all."""

TRANSIENT = re.compile(
    r"\b(429|500|502|503|504)\b.{0,30}(Error|Unavailable|Gateway|Too Many|Time-?out)"
    r"|timed out|Timeout|ConnectionReset|RemoteProtocol|Server disconnected|peer closed|ReadError"
    r"|IncompleteRead|Consistency check failed"
)
"""What the many error types of the transports have in common when a later try may go through."""


def persistently(what: str, call: Callable[[], Value], pauses: tuple[float, ...] = PAUSES) -> Value:
    """What `call` gives, tried again while its failure looks like one of the network's moods.

    Raises:
        Exception: the last failure, or the first that another try would not mend.
    """
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            if not _is_transient(error):
                raise
            print(
                f"{what}: {type(error).__name__}, trying again in {pause:g} s: {str(error)[:120]!r}",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(pause)
    return call()


def _is_transient(error: BaseException | None) -> bool:
    while error is not None:
        if TRANSIENT.search(f"{type(error).__name__}: {error}"):
            return True
        error = error.__cause__ or error.__context__
    return False
