"""The lock of a run, so that one process at a time writes its record. A killed holder keeps no lock."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, Timeout

from harness.errors import UserError, boundary

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of a file system without locks; any other has a cause of its own, such as a full disk."""


def lock_path(record: Path) -> Path:
    """The lock file of the run that writes `record`."""
    return record.with_name(f".{record.stem}.lock")


def progress_path(record: Path) -> Path:
    """The file next to a run's lock with the progress of the run, for other processes; it is removed with the lock."""
    return record.with_name(f".{record.stem}.progress")


class AlreadyLocked(UserError):
    """Another process holds the lock."""


def is_locked(path: Path) -> bool:
    """True when a process holds the lock at `path` now; False too where the file system has no locks."""
    if not path.exists():
        return False
    try:
        with hold_lock(path):
            return False
    except AlreadyLocked:
        return True
    except UserError:
        return False


def is_free(path: Path) -> bool | None:
    """True when no process holds the lock at `path`, False when one does, None where that cannot be told.

    The check takes a free lock for a moment, and leaves all files as they are.
    """
    try:
        import fcntl

        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # another operating system, no such file, or no locks
        return None


def holder_of(path: Path) -> str:
    """The text about the holder of the lock at `path`, or of a process that was killed; empty without any."""
    try:
        return path.with_suffix(".holder").read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""


class Holder(NamedTuple):
    """The process that holds a lock."""

    process: int
    host: str
    since: datetime

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def read_holder(path: Path) -> Holder | None:
    """The holder of the lock at `path`, or a process that was killed; None without a readable text about one."""
    try:
        facts = json.loads(holder_of(path))
        return Holder(facts["process"], facts["host"], datetime.fromisoformat(facts["since"]).astimezone(UTC))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Holds the lock at `path`; a file next to it names the holder.

    Raises:
        AlreadyLocked: another process holds it.
        UserError: the file system has no locks, or cannot be written.
    """
    lock = FileLock(path, fallback_to_soft=False)
    holder = path.with_suffix(".holder")
    with boundary(f"{path}: cannot be locked", advice="Free disk space, or name another folder with --results."):
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path)
    try:
        with boundary(f"{holder}: cannot be written", advice="Free disk space, or name another folder with --results."):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        with suppress(OSError):  # before the release: a process that waits is refused a lock whose file is gone
            path.unlink()
        lock.release()


def _acquire(lock: BaseFileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = read_holder(path)
        about_holder = f", in {holder} since {holder.since.isoformat()}" if holder else ""
        raise AlreadyLocked(
            f"{path}: this run is already in progress{about_holder}. Wait until it ends, or stop it and "
            "run the same command again."
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        raise UserError(
            f"{path}: cannot be locked ({error}): the file system does not support locks, so two runs could write the "
            "same record. Name a folder on another file system with --results."
        ) from None
