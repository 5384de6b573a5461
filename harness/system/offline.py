"""A Hub that cannot be reached is noticed once and not at every request: its clients then use what they have cached."""

from __future__ import annotations

import os
import socket
import sys
import time
from threading import Thread
from urllib.parse import urlsplit

SETTLED_BY = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""With one of these the user has said whether the Hub is to be asked."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Behind one of these a direct connection says nothing."""

LONGEST_WAIT = 3.0
"""Seconds until a try to connect has failed, the resolution of the name included; there are two, a second apart."""


def use_cache_unless_reachable() -> str | None:
    """Sets HF_HUB_OFFLINE for this process where no connection to the Hub comes about, and then says so in a sentence.

    The clients would try each of a dozen requests six times, 23 s long. They read the variable when they are imported:
    after that nothing is tried here.
    """
    environment = {name.upper() for name, value in os.environ.items() if value}
    if "huggingface_hub" in sys.modules or environment & {*SETTLED_BY, *PROXIES}:
        return None
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    fault = _fault(address)
    if fault is not None:
        time.sleep(1)
        fault = _fault(address)
    if fault is None:
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"
    return (
        f"{address} cannot be reached ({fault}): going on with what is cached. HF_HUB_OFFLINE=0 asks it all the same."
    )


def _fault(address: str) -> str | None:
    """Why no connection comes about, or None."""
    parts = urlsplit(address)
    place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    found: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection(place, timeout=LONGEST_WAIT).close()
            found.append(None)
        except OSError as error:
            found.append(error.strerror or str(error))

    thread = Thread(target=connect, daemon=True)  # to resolve a name has no time limit of its own
    thread.start()
    thread.join(LONGEST_WAIT)
    return found[0] if found else f"no answer within {LONGEST_WAIT:g} s"
