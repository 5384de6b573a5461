"""What a text file that is not in the expected encoding may be instead, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import UserError
from harness.rows.compression import unpacked

_TURKISH = frozenset("ĞİŞğış".encode("iso-8859-9"))
"""Where ISO-8859-9 differs from ISO-8859-1, which has Icelandic letters there."""

_SAMPLE = 1 << 16
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def encoding_of(head: bytes, given: str | None) -> str:
    """The encoding to read with: that of the mark a file begins with, else the one given, else UTF-8."""
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if given is None or (given == "utf-8" and marked == "utf-8-sig"):
        return marked or "utf-8"
    return given


def likely_encoding(octets: bytes) -> str:
    """A guess from bytes that are not UTF-8."""
    high = [octet for octet in octets if octet >= 0x80]
    is_windows = any(octet < 0xA0 for octet in high)  # ISO-8859 has only control characters there
    if sum(octet in _TURKISH for octet in high) > len(high) / 5:
        return "cp1254" if is_windows else "iso-8859-9"
    if sum(map(len, re.findall(rb"[\x80-\xff]{3,}", octets))) > len(high) / 2:  # whole words: not a Latin script
        return "cp1251"
    return "cp1252" if is_windows else "iso-8859-1"


def undecodable(path: Path, name: str, encoding: str) -> UserError:
    """The error that names the line at which the file cannot be decoded, and how it would read otherwise."""
    with unpacked(path, name) as file:
        for number, line in enumerate(file.stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                rest = line + file.stream.read(_SAMPLE)
                return UserError(
                    f"{name}:{number}: is not {encoding.upper()} ({error.reason}, byte {line[error.start]:#04x}). "
                    + _advice(line, error.start, rest, encoding)
                )
    return UserError(f"{name}: is not {encoding.upper()}. Convert it to UTF-8.")


def _advice(line: bytes, position: int, rest: bytes, encoding: str) -> str:
    guess = likely_encoding(rest)
    if encoding.startswith("utf-16") or guess == encoding:
        return "Say which encoding it has with --encoding (in a task file: source.encoding), or convert it to UTF-8."
    begin = max(0, position - 15)
    shown = line[begin : position + 15].decode(guess, "replace").strip()
    return (
        f"As {guess} it reads {shown!r}: if that is right, give --encoding {guess} "
        f"(in a task file: source.encoding); or convert it to UTF-8."
    )
