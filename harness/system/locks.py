"""One run of an identity at a time: the lock of a run, which a killed holder does not keep."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError


def lock_of(record: Path) -> Path:
    """The lock of the run that writes `record`."""
    return record.with_name(f".{record.stem}.lock")


class AlreadyLocked(UserError):
    """Somebody else holds the lock."""


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock at `path` now; where it cannot be locked at all, nobody does."""
    if not path.exists():
        return False
    try:
        with hold_lock(path):
            return False
    except AlreadyLocked:
        return True
    except UserError:
        return False


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Holds the lock at `path` and says there who does.

    Raises:
        AlreadyLocked: somebody else holds it.
        UserError: the file system has no locks.
    """
    lock = FileLock(path, fallback_to_soft=False)
    holder = path.with_suffix(".holder")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise AlreadyLocked(
            f"{path}: this run is going on already{_who(holder)}. Wait for it, or end it and give the command again."
        ) from None
    except (NotImplementedError, OSError) as error:
        raise UserError(
            f"{path}: cannot be locked ({error}): its file system has no locks, so two runs could write the same "
            "record. Name a folder on another file system with --results."
        ) from None
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        with suppress(OSError):  # before the release: a lock on a file that is gone is refused to the next
            path.unlink()
        lock.release()


def _who(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        return f", by process {facts['process']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
