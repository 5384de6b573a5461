"""What was typed and printed, as a record may show it: to be typed again, and without anything secret."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_SECRET_FLAG = re.compile(r"(token|secret|password|passwd|api[-_]?key|credential)", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_\-]{8,}|(?<=://)[^/\s]+(?=@)")


def command_line(argv: Sequence[str]) -> str:
    """The command as it can be typed again, with values of secret-looking flags and tokens replaced by ***."""
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        if hide_next:
            argument = "***"
        hide_next = False
        if _SECRET_FLAG.search(flag) and (equals or flag.startswith("-")):
            argument, hide_next = (f"{flag}=***", False) if equals else (argument, True)
        shown.append(shlex.quote(without_secrets(argument)))
    return " ".join(shown)


def without_secrets(text: str) -> str:
    """The text with tokens, and passwords in addresses, replaced by ***."""
    return _SECRET_VALUE.sub("***", text)
