"""The encoding of a text file, and the likely one of a file that is not in the expected encoding."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import UserError
from harness.rows.compression import open_decompressed

_TURKISH = frozenset("ĞİŞğış".encode("iso-8859-9"))
"""Bytes of ISO-8859-9 that are Icelandic letters in ISO-8859-1."""

_SAMPLE = 1 << 16
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def detect_encoding(head: bytes, requested: str | None) -> str:
    """The encoding to read with: the requested one, else that of the byte order mark, else UTF-8."""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if requested is None or (requested == "utf-8" and marked == "utf-8-sig"):
        return marked or "utf-8"
    return requested


def guess_encoding(octets: bytes) -> str:
    """The likely encoding of bytes that are not UTF-8."""
    high = [octet for octet in octets if octet >= 0x80]
    is_windows = any(octet < 0xA0 for octet in high)  # ISO-8859 has only control characters there
    if sum(octet in _TURKISH for octet in high) > len(high) / 5:
        return "cp1254" if is_windows else "iso-8859-9"
    if sum(map(len, re.findall(rb"[\x80-\xff]{3,}", octets))) > len(high) / 2:  # whole words: not a Latin script
        return "cp1251"
    return "cp1252" if is_windows else "iso-8859-1"


def decoding_error(path: Path, name: str, encoding: str) -> UserError:
    """The error that names the first line which cannot be decoded, and an encoding in which it can."""
    with open_decompressed(path, name) as (stream, _):
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                rest = line + stream.read(_SAMPLE)
                return UserError(
                    f"{name}:{number}: not {encoding.upper()} ({error.reason}, byte {line[error.start]:#04x}). "
                    + _advice(line, error.start, rest, encoding)
                )
    return UserError(f"{name}: not {encoding.upper()}. Convert it to UTF-8.")


def _advice(line: bytes, position: int, rest: bytes, encoding: str) -> str:
    guess = guess_encoding(rest)
    if encoding.startswith("utf-16") or guess == encoding:
        return "Name its encoding with --encoding (in a task file: source.encoding), or convert it to UTF-8."
    excerpt = line[max(0, position - 15) : position + 15].decode(guess, "replace").strip()
    return (
        f"In {guess} it reads {excerpt!r}: if that is right, use --encoding {guess} "
        "(in a task file: source.encoding), or convert the file to UTF-8."
    )
