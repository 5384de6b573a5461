"""The user's mistake as its own kind of error: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Ends the program with its message, no traceback, and exit code 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'metrics'?"` for the known word nearest to `word`, or an empty string when none is near."""
    by_folded = {name.casefold(): name for name in known}
    nearest = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean {by_folded[nearest[0]]!r}?" if nearest else ""
