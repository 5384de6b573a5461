"""Standard output and error that cannot fail a command: every character is shown, and a lost reader costs no run."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from harness.errors import reason

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and line feed: a terminal obeys them, so a label or title could clear it or rename its window."""

LINE_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""All that end a line too: a label with a line break could imitate other lines of the output."""

UNUSUAL_CONTROLS = re.compile(rf"(?!\r|\x1b\[[\d;]*m|\x1b\[A){CONTROL_CHARACTERS.pattern}")
"""All but those that progress bars and trackers write to standard error: carriage return, colours, a line up."""


def escape_controls(text: str, characters: re.Pattern[str] = CONTROL_CHARACTERS) -> str:
    r"""The text with its control characters as JSON writes them, such as \u001b, so that JSON lines stay the same."""
    return characters.sub(lambda match: _escape(match[0]), text)


def _escape(text: str) -> str:
    return re.sub("....", r"\\u\g<0>", text.encode("utf-16-be", "surrogatepass").hex())


class Output:
    """Standard output or error: it escapes what the terminal would obey or its encoding cannot show."""

    def __init__(self, stream: TextIO, name: str, *, is_optional: bool, controls: re.Pattern[str] | None) -> None:
        """`is_optional`: a failed write is no error, and the rest is discarded. `controls` are escaped."""
        self.stream, self.name, self.is_optional, self.controls = stream, name, is_optional, controls
        codecs.register_error("harness.escape", lambda e: (_escape(e.object[e.start : e.end]), e.end))  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        """Writes the text, escaped, and returns its length."""
        shown = escape_controls(text, self.controls) if self.controls else text
        encoding = self.stream.encoding or "utf-8"
        with self._loss_handled():
            self.stream.write(shown.encode(encoding, "harness.escape").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        with self._loss_handled():
            self.stream.flush()

    @property
    def rich_proxied_file(self) -> Output:
        """The stream for rich, whose own escape sequences must reach the terminal; its consoles escape the texts."""
        return Output(self.stream, self.name, is_optional=self.is_optional, controls=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _loss_handled(self) -> Iterator[None]:
        """Sends the rest to the null device after a failed write: the pipe is closed, or the disk is full."""
        try:
            yield
        except OSError as error:
            with suppress(OSError, ValueError):  # a stream of a test has no file descriptor
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)
            if not self.is_optional:
                error.filename, error.filename2 = self.name, None
                raise
            if not isinstance(error, BrokenPipeError) and sys.stderr is not self:
                print(f"{self.name}: {reason(error)}; continuing without it", file=sys.stderr)


@contextmanager
def standard_streams(is_output_optional: bool) -> Iterator[None]:
    """Standard streams that exist, whatever the caller has closed, and an `Output` for output and error inside.

    Bytes of standard input that are not in its encoding become lone surrogates, which the reader can name.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    if isinstance(sys.stdin, io.TextIOWrapper):
        is_ascii = codecs.lookup(sys.stdin.encoding).name == "ascii"  # that of a locale without characters of its own
        with suppress(io.UnsupportedOperation):  # a part of it has been read
            sys.stdin.reconfigure(encoding="utf-8" if is_ascii else None, errors="surrogateescape")
    if isinstance(sys.stdout, Output):
        yield
        return
    outer = sys.stdout, sys.stderr
    output = Output(outer[0], "standard output", is_optional=is_output_optional, controls=CONTROL_CHARACTERS)
    error = Output(outer[1], "standard error", is_optional=True, controls=UNUSUAL_CONTROLS)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, error)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = outer
