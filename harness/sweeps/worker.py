"""A worker: one job of a cluster that does the runs of a queue, one after the other.

It is started as a file, with the folder of the queue and the number of GPUs of a run. SIGTERM stops its run, which
saves a checkpoint and stays in the queue for the next worker. A worker ends when the queue has had nothing for it for a
minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file, as harness/run.py is
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import os
import time
from datetime import UTC, datetime

from harness.sweeps.launch import STOPPED
from harness.sweeps.tied_supervisors import Supervisors
from harness.sweeps.worker_queue import QueuedRun, queued_runs
from harness.system.devices import Slot
from harness.system.exit_codes import exit_code_on_error
from harness.system.locks import AlreadyLocked
from harness.system.signals import StopRequest, catch_stop_signals

IDLE_SECONDS = 60.0
"""Seconds without a run after which a worker ends."""

POLL_SECONDS = 1.0
"""Seconds between two looks at the queue."""

SUPERVISE_SECONDS = 0.1
"""Seconds between two looks at a run."""


def main(folder: Path, job: str, supervisors: Supervisors) -> int:
    """Does runs until there are none, and returns 0; STOPPED if a signal came first."""
    idle_since = time.monotonic()
    with catch_stop_signals() as stop_request:
        while not stop_request.signal:
            if any(do_run(queued, job, supervisors, stop_request) for queued in queued_runs(folder)):
                idle_since = time.monotonic()
            elif time.monotonic() > idle_since + IDLE_SECONDS:
                return 0
            else:
                time.sleep(POLL_SECONDS)
    return STOPPED


def do_run(queued: QueuedRun, job: str, supervisors: Supervisors, stop_request: StopRequest) -> bool:
    """Does a run of the queue, unless another worker does it; True if it was done.

    A run is stopped when the worker is, and then stays in the queue.
    """
    try:
        with queued.take(job) as start:
            if start is None:
                return False
            print(f"-- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {start.record.stem}", flush=True)
            supervisor = supervisors.start(start, Slot())
            while (code := supervisor.exit_code()) is None:
                if stop_request.signal:
                    supervisor.stop()
                time.sleep(SUPERVISE_SECONDS)
            if code != STOPPED or not queued.is_queued():
                queued.end(code)
            return True
    except AlreadyLocked:
        return False


if __name__ == "__main__":
    with exit_code_on_error():
        own = Supervisors(gpus=int(sys.argv[2]), threads=int(os.environ.get("OMP_NUM_THREADS", "1")))
        sys.exit(main(Path(sys.argv[1]), os.environ["SLURM_JOB_ID"], own))
