"""The unfinished runs of a results folder, from its files alone: locks, logs, checkpoints and records.

No executor is asked, so the machines that do the runs need only share the folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from harness.engine.progress import ProgressSummary, read_summary
from harness.errors import UserError
from harness.facts.records import RunRecord, record_path
from harness.facts.run_files import checkpoint_folder, log_path
from harness.facts.tasks import load_task
from harness.sweeps.estimates import comparable, estimate
from harness.sweeps.launch import sweep_lock_path
from harness.system.locks import Holder, is_free, lock_path, progress_path, read_holder

RunState = Literal["running", "stopped with a checkpoint", "stopped", "failed", "done"]
"""The states in the order in which runs are listed."""


class RunKey(NamedTuple):
    """A run by the names of its files."""

    task: str
    run_id: str


class RunStatus(NamedTuple):
    """The state of one run."""

    key: RunKey
    state: RunState
    location: str
    """The process and its machine while the run lasts."""
    since: datetime | None
    """The start of a running run, the end of any other."""
    summary: ProgressSummary | None
    seconds_left: float | None


def run_statuses(
    results: Path, records: Sequence[RunRecord], earlier: Collection[RunKey] = frozenset()
) -> list[RunStatus]:
    """Every run that is locked, failed or has a checkpoint, or a log without a finished record; also `earlier` ones."""
    by_key = {RunKey(record.spec.task, record.run_id): record for record in records}
    finished = {key for key, record in by_key.items() if record.is_finished}
    logs = {RunKey(log.parent.name, log.stem) for log in (results / "logs").glob("*/*.log")}
    saved = {RunKey(*folder.parts[-3:-1]) for folder in (results / "checkpoints").glob("*/*/step-*")}
    holders = (results / "runs").glob("*/.*.holder")
    locks = {RunKey(path.parent.name, path.stem[1:].removesuffix("-sweep")) for path in holders}
    running = {key: holder for key in locks if (holder := _holder_of(record_path(results, *key))) is not None}
    keys = running.keys() | saved | (logs | by_key.keys()) - finished | set(earlier)
    statuses = [_status(results, key, running.get(key), by_key.get(key), records) for key in keys]
    return sorted(statuses, key=lambda status: (get_args(RunState).index(status.state), status.key))


def _holder_of(record: Path) -> Holder | None:
    """The process that works on a run: the supervisor of a sweep, or the run itself if it was started by hand.

    A check takes a free lock for a moment. So a lock without a holder's name is not checked, it may be about to be
    taken; and the run's own lock is not checked while a sweep has the run, as its supervisor may be starting it. A free
    lock is left as it is: it may be held on another machine, where the file system does not share locks, and a sweep
    finds that by the holder. In a folder that this user cannot write no lock can be checked, and its file is believed.
    """
    can_check = os.access(record.parent, os.W_OK)
    for lock in (sweep_lock_path(record), lock_path(record)):
        if (holder := read_holder(lock)) is not None and (not can_check or is_free(lock) is False):
            return holder
    return None


def _status(
    results: Path, key: RunKey, holder: Holder | None, record: RunRecord | None, records: Sequence[RunRecord]
) -> RunStatus:
    checkpoints = sorted(checkpoint_folder(results, *key).glob("step-*/manifest.json"))
    summary = read_summary(checkpoints[-1]) if checkpoints else None
    if holder is not None:
        live = read_summary(progress_path(record_path(results, *key)))
        summary = live if live is not None and (live.total_steps or summary is None) else summary
        return RunStatus(key, "running", str(holder), holder.since, summary, _seconds_left(summary, records))
    if record is not None:
        return RunStatus(key, "done" if record.is_finished else "failed", "", record.finished, summary, None)
    state: RunState = "stopped with a checkpoint" if checkpoints else "stopped"
    file = checkpoints[-1] if checkpoints else log_path(results, *key)
    since = None
    with suppress(OSError):
        since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return RunStatus(key, state, "", since, summary, _seconds_left(summary, records))


def _seconds_left(summary: ProgressSummary | None, records: Sequence[RunRecord]) -> float | None:
    """The steps left at the pace of those before, with evaluations; the estimate of the whole run without a step."""
    if summary is None:
        return None
    if summary.step:
        steps_left = max(0, summary.total_steps - summary.step)
        return steps_left * (summary.train_seconds + summary.evaluate_seconds) / summary.step
    with suppress(UserError):  # a task that is not in the registry
        spec = summary.spec
        return estimate(load_task(spec.task), spec, comparable(records, "", spec.test_mode)).seconds
    return None
