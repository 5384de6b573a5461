"""Parts of Markdown pages: texts that show as they are, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def printable_line(text: str) -> str:
    """The text on one line, with single spaces in place of white space and of characters that cannot be printed."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def escape_markdown(text: str) -> str:
    """Markdown that shows exactly this text, on one line: no markup, no HTML and no end of a cell."""
    line = re.sub(r"[\\`*_\[\]~$]", r"\\\g<0>", printable_line(text))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]], left: int) -> str:
    """A table of Markdown cells, the first `left` columns aligned to the left, the others to the right."""
    rule = [":---" if number < left else "---:" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))
