"""Files and folders that are written completely or not at all: under a temporary name, then renamed."""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import first_line, reason

PROBE_BYTES = 1 << 16
"""Bytes that must be free at the start; a full disk still takes the names of empty files."""

ABANDONED_SECONDS = 24 * 60 * 60
"""Seconds without a write after which a temporary file is that of a killed process."""


def check_writable(folder: Path) -> None:
    """Makes the folder and proves that a file with content can be written in it, before hours are spent.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix=".probe-") as file:
        file.write(bytes(PROBE_BYTES))


_FAILED_WRITE = re.compile("PytorchStreamWriter|file write failed|iostream|unexpected pos")
"""Words of the errors of torch.save on a full disk, which do not name the cause."""

_NUMBER = re.compile(r"(?:\(os error |Os \{ code: )(\d+)")
"""The number of a system's error in the texts of safetensors and tokenizers."""


def write_fault(error: BaseException) -> str | None:
    """The cause of a failed write of any library, without a full stop; None for another error.

    The errors of torch.save, safetensors and tokenizers have no type of their own.
    """
    if isinstance(error, OSError):
        return reason(error)
    if number := _NUMBER.search(str(error)):
        return os.strerror(int(number[1])).lower()
    if not isinstance(error, RuntimeError) or not _FAILED_WRITE.search(str(error)):
        return None
    return f"the disk is full, or a quota or a limit on the size of files is reached ({first_line(error)})"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file next to `path`; when the block ends it is flushed to disk, made readable for all and renamed.

    An exception in the block or after it leaves no temporary file, and a file at `path` as it was; an OSError names
    `path`, whatever file the system names, or none, as a full disk does. Temporary files for `path` that a killed
    process has left are removed a day later.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        temporary = Path(name)
        _remove_abandoned(path)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


@functools.cache
def _remove_abandoned(path: Path) -> None:
    """Removes temporary files for `path` that are a day old; a younger one may belong to a process, on any machine.

    It does so once in a process: the folder may have thousands of files, and a run writes its progress again and again.
    """
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}-{'?' * 8}"):  # as mkstemp names them
        with suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                abandoned.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file as `atomic_path` does; a text in UTF-8."""
    octets = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(octets)


def replace_folder(scratch: Path, final: Path) -> None:
    """Renames the folder `scratch` to `final`; a folder that has this name is removed once the new one is in its place.

    Raises:
        OSError: a rename failed; the earlier folder still has its name.
    """
    if not final.exists():
        os.replace(scratch, final)
        return
    earlier = final.with_name(f".{final.name}-earlier")
    shutil.rmtree(earlier, ignore_errors=True)  # of a process that was killed between the renames
    os.replace(final, earlier)
    try:
        os.replace(scratch, final)
    except BaseException:
        os.replace(earlier, final)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
