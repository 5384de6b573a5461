"""Commands and messages with their secrets replaced, so that a record may contain them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_SECRET_FLAG = re.compile(r"(token|secret|password|passwd|api[-_]?key|credential)", re.IGNORECASE)

_SECRET_VALUE = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_\-]{8,}"
    r"|(?<=://)[^/\s]+(?=@)"  # user and password of a URL
    r"|(?<=[Bb]earer )\S+|(?<=[Bb]asic )\S+"
)
_SECRET_SETTING = re.compile(
    r"\b((?:\w+_)?(?:token|secret|password|passwd|api[-_]?key)=|authorization\W{1,4}(?!bearer|basic))[^\s&]+",
    re.IGNORECASE,
)
_QUERY = re.compile(r"""(://[^\s?#"'<>]*)?\?([^\s#"'<>]*[^\s#"'<>.,:;)])""")
_HARMLESS_PARAMETER = re.compile(
    r"(?:(?!\w*(?:token|key|secret|pass|pw|sig|auth|cred|session|code|jwt|hmac|sas))[\w.-]+=)?(?:[a-z]{1,10}|\d{1,10})",
    re.IGNORECASE,
)
"""A parameter of a URL whose value is a short word or number, as in `raw=1`: neither a password nor a signature."""


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
    """The text with tokens, credentials and the users, passwords and signed queries of URLs replaced by ***."""
    text = _SECRET_SETTING.sub(r"\1***", _SECRET_VALUE.sub("***", text))
    return _QUERY.sub(_redact_query, text)


def _redact_query(match: re.Match[str]) -> str:
    """The query as it is where each of its parameters is harmless: part of a signed query is of no use."""
    url, query = match.groups()
    is_query = url is not None or "=" in query
    if not is_query or all(map(_HARMLESS_PARAMETER.fullmatch, query.split("&"))):
        return match[0]
    return f"{url or ''}?***"
