"""One check whether the Hub can be reached; where it cannot, its clients use their caches at once."""

from __future__ import annotations

import os
import socket
import sys
import time
from threading import Thread
from urllib.parse import SplitResult, urlsplit

from harness.errors import UserError, boundary
from harness.system.redaction import redact_secrets

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""Environment variables with which the user decides whether to use the Hub."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Environment variables of a proxy, behind which a direct connection proves nothing."""

TIMEOUT = 3.0
"""Seconds until an attempt to connect counts as failed, with the name lookup; there are two, a second apart."""


def hub_url() -> SplitResult:
    """The address of the Hub, from HF_ENDPOINT if it is set.

    Raises:
        UserError: HF_ENDPOINT is not a URL of http or https.
    """
    url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    name, advice = f"HF_ENDPOINT {redact_secrets(url)}", "Expected a URL such as https://huggingface.co."
    with boundary(f"{name}: invalid URL", ValueError, advice=advice):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise UserError(f"{name}: invalid URL. {advice}")
    return parts


def use_cache_unless_reachable() -> str | None:
    """Sets HF_HUB_OFFLINE for this process when the Hub cannot be reached, and then returns a message for the user.

    Otherwise the clients would try each of a dozen requests six times, for 23 s each. They read the variable when they
    are imported; after that this does nothing.

    Raises:
        UserError: HF_ENDPOINT is not a URL.
    """
    url = hub_url()
    environment = {name.upper() for name, value in os.environ.items() if value}
    if "huggingface_hub" in sys.modules or environment & {*OFFLINE_VARIABLES, *PROXY_VARIABLES}:
        return None
    if _connection_error(url) is None:
        return None
    time.sleep(1)
    error = _connection_error(url)
    if error is None:
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"
    shown = redact_secrets(url.geturl())
    return f"{shown} cannot be reached ({error}): using cached files only. Set HF_HUB_OFFLINE=0 to try the Hub anyway."


def _connection_error(url: SplitResult) -> str | None:
    """The reason why no connection can be made, or None when one can."""
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    results: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=TIMEOUT).close()
            results.append(None)
        except OSError as error:
            results.append(error.strerror or str(error))

    thread = Thread(target=connect, daemon=True)  # a name lookup has no timeout of its own
    thread.start()
    thread.join(TIMEOUT)
    return results[0] if results else f"no answer within {TIMEOUT:g} s"
