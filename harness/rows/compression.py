"""The bytes of a file as they are meant: unpacked from gzip, bzip2, xz, zstandard or a zip of one member."""

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
from harness.facts.sources import Ending, ending_of

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)
"""What unpacking raises, at the opening or at any read: damaged, cut off, encrypted, or an unknown method."""


class Unpacked(NamedTuple):
    """An open file."""

    stream: io.BufferedReader
    format: str
    """One of FILE_FORMATS."""


@contextmanager
def unpacked(path: Path, name: str) -> Iterator[Unpacked]:
    """The bytes of the file at `path`, read as its `name` says; nothing is written to disk.

    Raises:
        UserError: the file cannot be read or unpacked, or is a zip of anything but one member with a format we know.
    """
    try:
        ending = ending_of(name)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    try:
        if ending.packing == "zip":
            with zipfile.ZipFile(path) as archive:
                member = _only_member(archive, name)
                with archive.open(member) as stream:
                    yield Unpacked(_buffered(stream), _format_of_member(ending, member, name))
        else:
            with _opened(path, ending.packing) as stream:
                yield Unpacked(_buffered(stream), str(ending.format))
    except BROKEN as error:
        if isinstance(error, RuntimeError) and "encrypted" in str(error):
            raise UserError(f"{name}: the zip has a password. Unpack it first.") from None
        if ending.packing is None and not isinstance(error, OSError):
            raise  # not of our doing: nothing was unpacked
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        as_what = f"unpacked as {ending.packing}" if ending.packing else "read"
        raise UserError(f"{name}: cannot be {as_what}: {problem}. Is the file whole?") from None


def _buffered(stream: IO[bytes]) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream), 1 << 16)


def _opened(path: Path, packing: str | None) -> IO[bytes]:
    if packing == "gz":
        return cast(IO[bytes], gzip.open(path))
    if packing == "bz2":
        return bz2.open(path)
    if packing == "xz":
        return lzma.open(path)
    if packing == "zst":
        import pyarrow as pa

        return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    for member in members:
        parts = {*PurePosixPath(member).parts, *PureWindowsPath(member).parts}
        if ".." in parts or member.startswith(("/", "\\")) or PureWindowsPath(member).drive:
            raise UserError(f"{name}: the zip has a member {member!r}, outside its own folder. Do not trust this file.")
    members = [member for member in members if not member.startswith("__MACOSX/")]
    if len(members) != 1:
        shown = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
        raise UserError(
            f"{name}: the zip has {len(members)} files{f' ({shown})' if members else ''}; it must have one. Unpack it."
        )
    return members[0]


def _format_of_member(ending: Ending, member: str, name: str) -> str:
    try:
        inner = ending_of(member)
    except ValueError:
        inner = Ending(ending.format, None)
    if inner.packing or (inner.format or ending.format) is None:
        raise UserError(f"{name}: the zip has {member!r}, which is no file of rows by its name. Unpack it first.")
    return str(inner.format or ending.format)
