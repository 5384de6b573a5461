"""Calls to the Hub that are retried after short outages, with growing pauses, for about two minutes in all."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from harness.system.offline import hub_url
from harness.system.redaction import redact_secrets

Value = TypeVar("Value")

PAUSES = (1, 2, 4, 8, 15, 30, 60)
"""Seconds before each retry."""

TOTAL_SECONDS = 120.0
"""No retry begins later. The Hub's client has retries of its own, of 23 s, inside each of ours."""

TRANSIENT = re.compile(
    r"\b(429|500|502|503|504)\b.{0,30}(Error|Unavailable|Gateway|Too Many|Time-?out)"
    r"|timed out|Timeout|ConnectionReset|RemoteProtocol|Server disconnected|peer closed|ReadError"
    r"|IncompleteRead|Consistency check failed"
)
"""A text that the errors of all the transports share when a retry may succeed."""


def call_with_retries(target: str, call: Callable[[], Value], pauses: tuple[float, ...] = PAUSES) -> Value:
    """The result of `call`, which is retried while it fails for a transient reason; `target` names it in messages.

    Raises:
        UserError: HF_ENDPOINT is not a URL.
        Exception: the last failure, or the first that no retry would mend.
    """
    hub_url()
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # else it prints a line per retry too
    end = time.monotonic() + TOTAL_SECONDS
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            if not _is_transient(error) or time.monotonic() + pause > end:
                raise
            message = f"{target}: {type(error).__name__}, retrying in {pause:g} s: {str(error)[:120]!r}"
            print(redact_secrets(message), file=sys.stderr, flush=True)
            time.sleep(pause)
    return call()


def _is_transient(error: BaseException | None) -> bool:
    while error is not None:
        if TRANSIENT.search(f"{type(error).__name__}: {error}"):
            return True
        error = error.__cause__ or error.__context__
    return False
