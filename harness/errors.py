"""The user's mistake as its own kind of error: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Ends the program with its message, no traceback, and exit code 2."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'metrics'?"` for the known name nearest to `name`, or an empty string when none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean {by_folded[nearest[0]]!r}?" if nearest else ""


def first_line(error: BaseException) -> str:
    """`ValueError: the first line of its message`, or the type alone when there is no message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
