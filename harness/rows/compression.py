"""The decompressed bytes of a file: gzip, bzip2, xz, zstandard, or a zip with one member."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple, cast

from harness.errors import UserError
from harness.facts.sources import FileEnding, file_ending

DECOMPRESSION_ERRORS = (EOFError, OSError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""Errors at the opening or at any read of a file that is damaged, cut off, encrypted or of an unknown method."""


class OpenFile(NamedTuple):
    """An open file of rows."""

    stream: io.BufferedReader
    format: str
    """One of FILE_FORMATS."""


@contextmanager
def open_decompressed(path: Path, name: str) -> Iterator[OpenFile]:
    """The decompressed bytes of the file at `path`, whose format and compression `name` tells; nothing is written.

    Raises:
        UserError: the file cannot be read or decompressed, or is a zip without exactly one member of a known format.
    """
    try:
        ending = file_ending(name)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    try:
        if ending.compression == "zip":
            with zipfile.ZipFile(path) as archive:
                member = _only_member(archive, name)
                with archive.open(member) as stream:
                    yield OpenFile(_buffered(stream), _member_format(ending, member, name))
        else:
            with _open(path, ending.compression) as stream:
                yield OpenFile(_buffered(stream), str(ending.format))
    except DECOMPRESSION_ERRORS as error:
        if isinstance(error, RuntimeError) and "encrypted" in str(error):
            raise UserError(f"{name}: the zip is password-protected. Unpack it first.") from None
        if ending.compression is None and not isinstance(error, OSError):
            raise  # not an error of decompression
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        action = f"decompressed as {ending.compression}" if ending.compression else "read"
        raise UserError(f"{name}: cannot be {action}: {reason}. Is the file complete?") from None


def _buffered(stream: IO[bytes]) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16)


def _open(path: Path, compression: str | None) -> IO[bytes]:
    if compression == "gz":
        return cast(IO[bytes], gzip.open(path))
    if compression == "bz2":
        return bz2.open(path)
    if compression == "xz":
        return lzma.open(path)
    if compression == "zst":
        import pyarrow as pa

        return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    for member in members:
        parts = {*PurePosixPath(member).parts, *PureWindowsPath(member).parts}
        if ".." in parts or member.startswith(("/", "\\")) or PureWindowsPath(member).drive:
            raise UserError(f"{name}: unsafe zip: its member {member!r} is outside the archive's folder.")
    members = [member for member in members if not member.startswith("__MACOSX/")]
    if len(members) != 1:
        shown = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
        raise UserError(
            f"{name}: expected one file in the zip, got {len(members)}{f' ({shown})' if members else ''}. Unpack it."
        )
    return members[0]


def _member_format(ending: FileEnding, member: str, name: str) -> str:
    try:
        inner = file_ending(member)
    except ValueError:
        inner = FileEnding(ending.format, None)
    if inner.compression or (inner.format or ending.format) is None:
        raise UserError(f"{name}: unsupported file format of {member!r} in the zip. Unpack it first.")
    return str(inner.format or ending.format)
