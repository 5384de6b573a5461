"""Commands and messages with their secrets replaced, so that a record may contain them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_SECRET_FLAG = re.compile(r"(token|secret|password|passwd|api[-_]?key|credential)", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_\-]{8,}|(?<=://)[^/\s]+(?=@)")


def redact_command(argv: Sequence[str]) -> str:
    """The command quoted for a shell, with tokens and the values of secret-looking flags replaced by ***."""
    args: list[str] = []
    hide_next = False
    for arg in argv:
        flag, equals, _ = arg.partition("=")
        if hide_next:
            arg = "***"
        hide_next = False
        if _SECRET_FLAG.search(flag) and (equals or flag.startswith("-")):
            arg, hide_next = (f"{flag}=***", False) if equals else (arg, True)
        args.append(shlex.quote(redact_secrets(arg)))
    return " ".join(args)


def redact_secrets(text: str) -> str:
    """The text with tokens, and passwords in URLs, replaced by ***."""
    return _SECRET_VALUE.sub("***", text)
