"""The queue of a sweep's workers: files in the results folder, of the runs that workers are to do.

A run stays in the queue until it has ended, so another worker does it when one is lost. Its lock in the queue, which a
killed worker does not keep, lets one worker at a time do it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.sweeps.launch import Start
from harness.system.atomic import write_atomically
from harness.system.locks import hold_lock


def queue_folder(record: Path) -> Path:
    """The folder of the queue, next to that of the records."""
    return record.parents[2] / "workers"


class QueuedRun:
    """The files of one run in the queue."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.start_file, self.job_file, self.exit_file, self.lock = (
            folder / f"{run_id}.{suffix}" for suffix in ("start", "job", "exit", "lock")
        )

    def put(self, start: Start) -> None:
        """Adds the run to the queue, or replaces its start there."""
        self.exit_file.unlink(missing_ok=True)
        write_atomically(self.start_file, start.to_json())

    def is_queued(self) -> bool:
        """False once the run has ended or was withdrawn."""
        return self.start_file.exists()

    def withdraw(self) -> None:
        """Takes the run out of the queue; a worker that does it already finishes it."""
        self.start_file.unlink(missing_ok=True)

    @contextmanager
    def take(self, job: str) -> Iterator[Start | None]:
        """The start of the run for the worker in `job`, which does it inside the block; None if it was withdrawn.

        Raises:
            AlreadyLocked: another worker does it.
        """
        with hold_lock(self.lock):
            self.job_file.write_text(job)
            start = None
            try:
                # read after the job is named, for which a withdrawal looks after it has removed the start
                with suppress(FileNotFoundError):
                    start = Start.from_json(json.loads(self.start_file.read_text(encoding="utf-8")))
                yield start
            finally:
                self.job_file.unlink(missing_ok=True)

    def end(self, code: int) -> None:
        """Notes the exit code and takes the run out of the queue."""
        write_atomically(self.exit_file, str(code))
        self.withdraw()

    def exit_code(self) -> int | None:
        """The exit code that a worker has noted."""
        with suppress(FileNotFoundError):
            return int(self.exit_file.read_text())
        return None

    def job(self) -> str:
        """The job of the worker that does the run, or did it when it was killed; empty before."""
        with suppress(FileNotFoundError):
            return self.job_file.read_text()
        return ""

    def forget(self) -> None:
        """Removes all files of a run that has ended."""
        for file in (self.start_file, self.exit_file, self.job_file):
            file.unlink(missing_ok=True)


def queued_runs(folder: Path) -> list[QueuedRun]:
    """The runs in the queue, the first first."""
    times: dict[str, int] = {}
    for file in folder.glob("*.start"):
        with suppress(FileNotFoundError):  # it has just ended
            times[file.stem] = file.stat().st_mtime_ns
    return [QueuedRun(folder, run_id) for run_id in sorted(times, key=lambda run_id: (times[run_id], run_id))]
