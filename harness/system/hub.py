"""Calls to the Hub that are retried after short outages, with growing pauses, for about two minutes in all."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.errors import UserError
from harness.system.offline import hub_url
from harness.system.redaction import redact_secrets

Value = TypeVar("Value")

PAUSES = (1, 2, 4, 8, 15, 30, 60)
"""Seconds before each retry."""

TOTAL_SECONDS = 120.0
"""No retry begins later. The Hub's client has retries of its own, of 23 s, inside each of ours."""

CLIENTS = ("datasets", "huggingface_hub", "transformers")
"""Libraries that call the Hub; the names of their loggers."""

TRANSIENT = re.compile(
    r"\b(429|500|502|503|504)\b.{0,30}(Error|Unavailable|Gateway|Too Many|Time-?out)"
    r"|timed out|Timeout|ConnectionReset|RemoteProtocol|Server disconnected|peer closed|ReadError"
    r"|IncompleteRead|Consistency check failed"
)
"""A text that the errors of all the transports share when a retry may succeed."""

_RATE_LIMIT = re.compile(r"\b429\b.{0,30}(Error|Too Many)")


def call_with_retries(target: str, call: Callable[[], Value], pauses: tuple[float, ...] = PAUSES) -> Value:
    """The result of `call`, which is retried while it fails for a transient reason; `target` names it in messages.

    Raises:
        UserError: HF_ENDPOINT is not a URL, or the Hub's rate limit is reached.
        Exception: the last failure, or the first that no retry would mend.
    """
    try:
        return _call_with_retries(target, call, pauses)
    except Exception as error:
        if _RATE_LIMIT.search(text := "\n".join(map(_text, _causes(error)))) is None:
            raise
        seconds = re.search(r"retry.after\D{0,5}(\d{1,6})", text, flags=re.IGNORECASE)
        when = f"in {seconds[1]} s" if seconds else "in a few minutes"
        raise UserError(
            f"{redact_secrets(target)}: rate limit of the Hub reached (HTTP 429 Too Many Requests). Try again {when}, "
            "or set HF_TOKEN: the limit is higher for signed-in users."
        ) from error


def _call_with_retries(target: str, call: Callable[[], Value], pauses: tuple[float, ...]) -> Value:
    hub_url()
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # else it prints a line per retry too
    end = time.monotonic() + TOTAL_SECONDS
    for handler in (handler for name in CLIENTS for handler in logging.getLogger(name).handlers):
        handler.addFilter(_redact_record)
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            is_transient = any(TRANSIENT.search(_text(cause)) for cause in _causes(error))
            if not is_transient or time.monotonic() + pause > end:
                raise
            reason = redact_secrets(str(error))[:120]  # not the other way round: half a URL is no URL
            message = f"{redact_secrets(target)}: {type(error).__name__}, retrying in {pause:g} s: {reason!r}"
            print(message, file=sys.stderr, flush=True)
            time.sleep(pause)
    return call()


def _redact_record(record: logging.LogRecord) -> bool:
    """Redacts a message of a client, which has whole URLs, and lets it pass."""
    record.msg, record.args = redact_secrets(record.getMessage()), ()
    return True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error, and each that it follows from: transformers says "couldn't connect" for any of them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
