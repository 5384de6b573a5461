"""Runs as jobs of a Slurm cluster, by sbatch, squeue, scontrol and scancel, which need no accounting.

A run is one job, named after it. Slurm requeues the job when its node fails; shortly before the time limit the run
saves a checkpoint and the job requeues itself, so that a run may be longer than the limit. A sweep that is started
again finds the jobs of the earlier one by their names. The results folder must be visible on the nodes.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, NamedTuple

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.launch import STOPPED, SUPERVISOR, Start, log_size, log_tail
from harness.system.devices import Slot

JOBS = 100
"""Default number of jobs in the queue at a time."""

POLL_SECONDS = 2.0
"""Seconds between two questions to Slurm, one for all jobs."""

NOTICE_SECONDS = 60
"""Seconds before the time limit at which a run saves its checkpoint."""

MISSING_SECONDS = 30.0
"""Seconds after which a job that Slurm does not list has ended."""

RESERVED = ("array", "dependency", "job-name", "no-requeue", "open-mode", "output", "requeue", "signal", "wrap")
"""Options of sbatch that the executor sets itself."""

LOST = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
"""States of jobs that have ended through no fault of the run: it is started again."""

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", *LOST)
"""States of jobs that will not start again."""

SCRIPT = """\
#!/bin/bash
{supervisor} <<'START' &
{start}
START
supervisor=$!
trap 'kill -TERM $supervisor' TERM
trap 'is_at_time_limit=yes; kill -TERM $supervisor' USR1
while kill -0 $supervisor 2> /dev/null; do wait $supervisor; done
wait $supervisor
code=$?
if [ "$is_at_time_limit" = yes ] && [ $code -eq {stopped} ]; then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""
"""The batch job: a signal for the shell, by scancel or shortly before the time limit, asks the run to stop."""


class JobState(NamedTuple):
    """A job as squeue lists it."""

    job: str
    name: str
    state: str
    node: str


class SlurmExecutor:
    """Starts each run as a job of its own."""

    supported_settings: ClassVar = frozenset({"max_jobs", "gpus_per_run", "partition", "time", "slurm"})

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when Slurm is missing or a setting is not for the user to set."""
        if missing := [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]:
            raise UserError(f"--executor slurm: {missing[0]} not found. Start the sweep on a login node.")
        self.options = {key.lstrip("-").replace("_", "-"): value for key, value in settings.slurm.items()}
        if reserved := sorted(set(self.options) & set(RESERVED)):
            raise UserError(f"--slurm {reserved[0]}: the sweep sets it for each run itself; drop it.")
        own = {"partition": settings.partition, "time": settings.time}
        self.options |= {key: value for key, value in own.items() if value is not None}
        gpus = 0 if test_mode else settings.gpus_per_run or 0
        threads = self.options.get("cpus-per-task", "1")
        if not threads.isdecimal() or int(threads) < 1:
            raise UserError(f"--slurm cpus-per-task={threads}: expected 1 or more.")
        if gpus:
            self.options.setdefault("gres", f"gpu:{gpus}")
        slot = Slot(tuple(map(str, range(gpus))), max(1, int(threads) // max(1, gpus)))
        self.slots: Sequence[Slot] = [slot] * (settings.max_jobs or JOBS)
        self.device = ""
        self.jobs: dict[str, JobState] = {}
        """Every job of the user that Slurm lists, by its number."""
        self.polled_at = float("-inf")

    def start(self, start: Start, slot: Slot) -> SlurmRun:
        """Submits the job, or finds the one that an earlier sweep has submitted."""
        name = f"{start.record.stem}-{zlib.crc32(str(start.record.absolute()).encode()):08x}"
        self.poll()
        active = (job for job in self.jobs.values() if job.name == name and job.state not in ENDED)
        if (earlier := next(active, None)) is not None:
            return SlurmRun(self, earlier.job, start)
        start.log.parent.mkdir(parents=True, exist_ok=True)
        options = {
            **{"job-name": name, "dependency": "singleton", "open-mode": "append", "output": str(start.log.absolute())},
            **{"signal": f"B:USR1@{NOTICE_SECONDS}", "nodes": "1", "ntasks": "1", "cpus-per-task": str(slot.threads)},
            **self.options,
        }
        script = SCRIPT.format(
            supervisor=shlex.join([sys.executable, str(SUPERVISOR)]), start=start.to_json(), stopped=STOPPED
        )
        variables = f"ALL,OMP_NUM_THREADS={slot.threads},PYTHONUNBUFFERED=1"
        args = [f"--{key}={value}" for key, value in {"export": variables, **options}.items()]
        submitted = call(["sbatch", "--parsable", "--requeue", *args], script)
        if submitted.returncode:
            lines = submitted.stderr.strip().splitlines() or [f"exit code {submitted.returncode}"]
            raise UserError(f"--executor slurm: {lines[0]}")
        return SlurmRun(self, submitted.stdout.strip().split(";")[0], start)

    def poll(self) -> dict[str, JobState]:
        """The jobs by number, read again at most every two seconds."""
        if time.monotonic() - self.polled_at > POLL_SECONDS:
            listed = call(["squeue", "--noheader", "--me", "--states=all", "--format=%i|%j|%T|%N"])
            if listed.returncode == 0:
                lines = (line.split("|") for line in listed.stdout.splitlines())
                self.jobs = {fields[0]: JobState(*fields) for fields in lines if len(fields) == 4}
                self.polled_at = time.monotonic()
        return self.jobs


class SlurmRun:
    """A job."""

    def __init__(self, executor: SlurmExecutor, job: str, start: Start) -> None:
        self.executor, self.job = executor, job
        self.log, self.log_start = start.log, log_size(start.log)
        self.end: tuple[int, str] | None = None
        """The exit code and the state, once it has ended."""
        self.is_stopping = False
        self.seen_at = time.monotonic()

    def location(self) -> str:
        """The number of the job and its node, or its state while it has none."""
        job = self.executor.poll().get(self.job)
        if job is None:
            return f"Slurm job {self.job}"
        return f"Slurm job {self.job}, {job.node if job.node and job.state == 'RUNNING' else job.state.lower()}"

    def exit_code(self) -> int | None:
        """The exit code, or None until the job has ended for good."""
        if self.end is None:
            job = self.executor.poll().get(self.job)
            if job is not None:
                self.seen_at = time.monotonic()
            if job is not None and job.state in ENDED:
                self.end = self._exit_code(job.state), job.state
            elif job is None and time.monotonic() - self.seen_at > MISSING_SECONDS:
                self.end = 0, "no longer listed by squeue"  # its record tells
        return None if self.end is None else self.end[0]

    def _exit_code(self, state: str) -> int:
        if state in LOST or (state == "CANCELLED" and self.is_stopping):
            return STOPPED
        if state != "FAILED":
            return 0 if state == "COMPLETED" else 1
        shown = call(["scontrol", "show", "job", self.job]).stdout
        code = next((part.removeprefix("ExitCode=") for part in shown.split() if part.startswith("ExitCode=")), "")
        number = code.split(":")[0]
        return int(number) if number.isdecimal() and int(number) else 1

    def stop(self) -> None:
        """Cancels a pending job; asks the run of a running one to save a checkpoint and end."""
        self.is_stopping = True
        job = self.executor.poll().get(self.job)
        is_pending = job is not None and job.state not in ("RUNNING", "COMPLETING")
        call(["scancel", self.job] if is_pending else ["scancel", "--batch", "--signal=TERM", self.job])

    def kill(self) -> None:
        """Cancels the job."""
        self.is_stopping = True
        call(["scancel", self.job])

    def output(self) -> str:
        """The output of the run so far; at the end, the state in which Slurm has left the job."""
        output = log_tail(self.log, self.log_start)
        if self.end is None or self.end[1] in ("COMPLETED", "FAILED"):
            return output
        return f"{output}\nSlurm job {self.job}: {self.end[1]}\n"


def call(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command of Slurm; one that does not answer within a minute has failed."""
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(args, input=text, capture_output=True, text=True, timeout=60)
    return subprocess.CompletedProcess(args, 1, "", f"{args[0]}: no answer within a minute")
