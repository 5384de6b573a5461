"""The check that a lock held on another machine is seen here, too.

Some network file systems give each machine locks of its own, without a word: two sweeps could then do the same run. So
a sweep looks at the lock of each run that has begun until it has seen it held.
"""

from __future__ import annotations

import time
from pathlib import Path

from harness.errors import UserError
from harness.sweeps.launch import sweep_lock_path
from harness.system.locks import holder_of, is_free

CHECK_SECONDS = 2.0
"""Seconds between two checks of a lock."""

FREE_SECONDS = 10.0
"""Seconds in which a lock that has a holder is free here in every check, until that is an error."""


class LockCheck:
    """The check of one run's lock, from before its start."""

    def __init__(self, record: Path) -> None:
        self.path = sweep_lock_path(record)
        self.earlier_holder = holder_of(self.path)
        """The text of a killed supervisor, or of one that an earlier sweep has started."""
        self.is_passed = False
        self.holder = ""
        self.free_since = self.checked_at = float("-inf")

    def check(self) -> None:
        """Checks the lock, unless it has been seen held, and at most every two seconds.

        A supervisor removes the holder's file before it releases the lock. So a lock that is free while the file has
        the same text before and after is not the supervisor's lock.

        Raises:
            UserError: another machine holds the lock, and it is free here.
        """
        now = time.monotonic()
        if self.is_passed or now < self.checked_at + CHECK_SECONDS:
            return
        self.checked_at = now
        holder = holder_of(self.path)
        if holder in ("", self.earlier_holder):  # the run has not begun, or has ended
            return
        state = is_free(self.path)
        self.is_passed = state is False
        if not state or holder != holder_of(self.path) or holder != self.holder:
            self.holder, self.free_since = holder, now
        elif now > self.free_since + FREE_SECONDS:
            raise UserError(
                f"{self.path}: a run on another machine holds this lock, but it is free on this one: the file system "
                "does not share locks, so two sweeps could do the same run. Mount it with shared locks (NFS: without "
                "nolock and local_lock; Lustre: flock; BeeGFS: tuneUseGlobalFileLocks), or name a folder on another "
                "file system with --results."
            )
