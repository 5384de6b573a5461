"""The decompressed bytes of a file: gzip, bzip2, xz, zstandard, or a zip with one member."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

from harness.errors import UserError, boundary, list_first
from harness.facts.sources import FileEnding, file_ending

MAX_RATIO = 50
"""Bytes of content for each byte of a file: text has 3 to 20, a decompression bomb 1,000."""

ALWAYS_ALLOWED = 1 << 24
"""Bytes of content that the smallest file may have."""

_PIECE = 1 << 16
"""Bytes of content between two checks. zipfile reads as many compressed bytes ahead, which would hide a bomb."""


@contextmanager
def open_decompressed(path: Path, name: str) -> Iterator[tuple[io.BufferedReader, str]]:
    """The decompressed bytes of the file at `path`, and their format; nothing is written.

    `name` ends in the format and the compression; the format of a bare `.zip` is that of its member.

    Raises:
        UserError: the file cannot be read or decompressed, is a decompression bomb, or is a zip without exactly one
            member of a known format.
    """
    try:
        ending = file_ending(name)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    if ending.compression is None:
        with boundary(f"{name}: cannot be read"), path.open("rb") as file:
            yield file, str(ending.format)
        return
    errors = (EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
    action = f"{name}: cannot be decompressed as {ending.compression}"
    with boundary(action, *errors, advice="Is the file complete?"), ExitStack() as stack:
        file, form = stack.enter_context(path.open("rb")), str(ending.format)
        if ending.compression == "zip":
            archive = stack.enter_context(zipfile.ZipFile(file))
            member = _only_member(archive, name)
            form = _member_format(ending, member, name)
            stream = stack.enter_context(archive.open(member))
        else:
            stream = stack.enter_context(_decompress(file, ending.compression))
        content = _Content(stream, file, name)
        yield io.BufferedReader(content, ALWAYS_ALLOWED + 1), form  # so large that a bomb fails at once


def check_ratio(content: int, compressed: int, name: str) -> None:
    """Raises UserError when the content has too many bytes for its number of compressed ones."""
    if content > max(ALWAYS_ALLOWED, MAX_RATIO * compressed):
        raise UserError(
            f"{name}: decompression bomb: more than {content - 1:,} bytes of content in {compressed:,} bytes, expected "
            f"at most {MAX_RATIO} times as many. If the content is right, unpack the file."
        )


class _Content(io.RawIOBase):
    """The content of a compressed file, checked while it is read."""

    def __init__(self, stream: IO[bytes], file: IO[bytes], name: str) -> None:
        self._stream, self._file, self._name, self._size = stream, file, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        filled = 0
        while octets := self._stream.read(min(len(buffer) - filled, _PIECE)):
            buffer[filled : filled + len(octets)] = octets
            filled += len(octets)
            self._size += len(octets)
            check_ratio(self._size, self._file.tell(), self._name)
        return filled


def _decompress(file: IO[bytes], compression: str) -> IO[bytes]:
    if compression == "gz":
        return cast(IO[bytes], gzip.open(file))
    if compression == "bz2":
        return bz2.open(file)
    if compression == "xz":
        return lzma.open(file)
    import pyarrow as pa

    return cast(IO[bytes], pa.CompressedInputStream(file, "zstd"))


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    for member in members:
        parts = {*PurePosixPath(member).parts, *PureWindowsPath(member).parts}
        if ".." in parts or member.startswith(("/", "\\")) or PureWindowsPath(member).drive:
            raise UserError(f"{name}: unsafe zip: its member {member!r} is outside the archive's folder.")
    members = [member for member in members if not member.startswith("__MACOSX/")]
    if len(members) != 1:
        shown = f" ({list_first(members, 5)})" if members else ""
        raise UserError(f"{name}: expected one file in the zip, got {len(members)}{shown}. Unpack it.")
    if archive.getinfo(members[0]).flag_bits & 1:
        raise UserError(f"{name}: the zip is password-protected. Unpack it first.")
    return members[0]


def _member_format(ending: FileEnding, member: str, name: str) -> str:
    try:
        inner = file_ending(member)
    except ValueError:
        inner = FileEnding(ending.format, None)
    if inner.compression or (inner.format or ending.format) is None:
        raise UserError(f"{name}: unsupported file format of {member!r} in the zip. Unpack it first.")
    return str(inner.format or ending.format)
