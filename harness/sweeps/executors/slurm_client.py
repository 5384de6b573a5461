"""Slurm as a sweep uses it: sbatch, squeue, scontrol and scancel, which need no accounting.

Slurm requeues a job when its node fails; shortly before the time limit the job's program saves its work, and the job
requeues itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings, SubmissionRefused
from harness.sweeps.launch import STOPPED

POLL_SECONDS = 2.0
"""Seconds between two questions to Slurm, one for all jobs."""

SIGNAL_SECONDS = 10.0
"""Seconds between two requests to stop a job, where Slurm did not take the first."""

NOTICE_SECONDS = 60
"""Seconds before the time limit at which a run saves its checkpoint."""

MISSING_SECONDS = 30.0
"""Seconds after which a job that Slurm does not list has ended."""

NEVER_SECONDS = 10.0
"""Seconds in which a job has a reason never to start, until that is an error."""

RESERVED = (
    "array",
    "chdir",
    "dependency",
    "job-name",
    "no-requeue",
    "open-mode",
    "output",
    "requeue",
    "signal",
    "wrap",
)
"""Options of sbatch that the executor sets itself, or leaves out: jobs need the working directory of the sweep."""

LOST = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
"""States of jobs that have ended through no fault of the run: it is started again."""

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY", *LOST)
"""States of jobs that will not start again."""

RUNNING = ("RUNNING", "RESIZING", "SIGNALING", "STAGE_OUT", "COMPLETING")
"""States of jobs whose program runs, or is ending."""

NEVER = re.compile(
    r"BadConstraints|Partition(Config|NodeLimit|TimeLimit)|DependencyNeverSatisfied|(Account|QOS)NotAllowed|"
    r"Invalid(Account|QOS)|MaxMemPerLimit|(Assoc|QOS)\w*PerJob(Limit)?|launch failed.*"
)
"""Reasons of pending jobs that will not start, as Slurm's documentation lists them."""

CLIENT_VARIABLES = ("SLURM_CLUSTERS", "SLURM_CONF", "SLURM_JWT")
"""Variables that are about no job, but about the commands of Slurm."""

NO_LOG_SIGNAL = "53"
"""The signal that a job ends with whose output file its node cannot open."""

SCRIPT = """\
#!/bin/bash
{command} <<'INPUT' &
{text}
INPUT
program=$!
trap 'kill -TERM $program 2> /dev/null' TERM
trap 'is_at_time_limit=yes; kill -TERM $program 2> /dev/null' USR1
while kill -0 $program 2> /dev/null; do wait $program; done
wait $program
code=$?
if [ "$is_at_time_limit" = yes ] && [ $code -eq {stopped} ]; then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit $code
"""
"""The batch job: a signal for the shell, by scancel or shortly before the time limit, asks the program to stop."""


class JobState(NamedTuple):
    """A job as squeue lists it."""

    job: str
    name: str
    state: str
    node: str
    reason: str

    def __str__(self) -> str:
        """The node of a running job; the state of any other, with the reason why it waits."""
        if self.state == "RUNNING" and self.node:
            return self.node
        reason = f" ({self.reason})" if self.state == "PENDING" and self.reason != "None" else ""
        return f"{self.state.lower()}{reason}"


class Slurm:
    """The cluster, with the user's options for its jobs."""

    def __init__(self, settings: ExecutorSettings, gpus: int) -> None:
        """Raises UserError when Slurm is missing or a setting is not for the user to set."""
        if missing := [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]:
            raise UserError(f"--executor slurm: {missing[0]} not found. Start the sweep on a login node.")
        self.options = {key.lstrip("-").replace("_", "-"): value for key, value in settings.slurm.items()}
        if reserved := sorted(set(self.options) & set(RESERVED)):
            raise UserError(f"--slurm {reserved[0]}: the sweep sets it for each job itself; drop it.")
        own = {"partition": settings.partition, "time": settings.time}
        self.options |= {key: value for key, value in own.items() if value is not None}
        limit = self.options.get("time", "")
        if (seconds := seconds_of(limit)) and seconds <= NOTICE_SECONDS:
            raise UserError(
                f"--time {limit}: {seconds} s: expected more than {NOTICE_SECONDS} s, since a run saves its checkpoint "
                "that long before the limit; this one would be requeued without end."
            )
        cpus = self.options.pop("cpus-per-task", "1")
        if not cpus.isdecimal() or int(cpus) < 1:
            raise UserError(f"--slurm cpus-per-task={cpus}: expected 1 or more.")
        if gpus and not gpu_options(self.options):
            others = [self.options["gres"]] if "gres" in self.options else []
            self.options["gres"] = ",".join([*others, f"gpu:{gpus}"])
        cluster = self.options.get("clusters", self.options.get("cluster"))
        if cluster and "," in cluster:
            raise UserError(f"--slurm clusters={cluster}: expected one cluster, whose jobs the sweep can find again.")
        self.cluster = [f"--clusters={cluster}"] if cluster else []
        """The option that names the cluster of the jobs, where it is another one than this machine's."""
        self.cpus = int(cpus)
        """Processor cores on each node of a job."""
        self.threads = max(1, self.cpus // max(1, gpus))
        """Threads of each process of a run."""
        self.listed: dict[str, JobState] = {}
        """Every job of the user that Slurm lists, by its number."""
        self.polled_at = float("-inf")

    def jobs(self) -> dict[str, JobState]:
        """The jobs by number, read again at most every two seconds; as before where squeue fails."""
        if time.monotonic() - self.polled_at > POLL_SECONDS:
            answer = self.call("squeue", "--noheader", "--me", "--states=all", "--format=%i|%j|%T|%N|%r")
            self.polled_at = time.monotonic()
            if answer.returncode == 0:
                lines = (line.split("|", 4) for line in answer.stdout.splitlines())
                self.listed = {fields[0]: JobState(*fields) for fields in lines if len(fields) == 5}
        return self.listed

    def call(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs a command about jobs, on their cluster."""
        return call([program, *self.cluster, *args])

    def active(self, name: str) -> list[str]:
        """The numbers of the jobs with this name that have not ended."""
        return [job.job for job in self.jobs().values() if job.name == name and job.state not in ENDED]

    def submit(self, name: str, log: Path, command: Sequence[str], text: str, options: Mapping[str, str]) -> str:
        """Submits a job that runs the command with `text` as its standard input, and returns the job's number.

        `log` is its output, in whose name Slurm replaces patterns such as %j. `options` may be replaced by the user's.

        Raises:
            SubmissionRefused: sbatch refuses the job.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        folder = str(log.parent.absolute()).replace("%", "%%")
        own = {
            **{"export": f"ALL,OMP_NUM_THREADS={self.threads},PYTHONUNBUFFERED=1", "job-name": name},
            **{"open-mode": "append", "output": f"{folder}/{log.name}", "signal": f"B:USR1@{NOTICE_SECONDS}"},
        }
        script = SCRIPT.format(command=shlex.join(command), text=text, stopped=STOPPED)
        args = [f"--{key}={value}" for key, value in {**own, **options, **self.options}.items()]
        submitted = call(["sbatch", "--parsable", "--requeue", *args], script)
        if submitted.returncode:
            lines = submitted.stderr.strip().splitlines() or [f"exit code {submitted.returncode}"]
            fault = next((line for line in lines if "error:" in line), lines[0])
            advice = ". Have fewer jobs in the queue with --max-jobs or --workers." if "MaxSubmit" in fault else ""
            raise SubmissionRefused(f"--executor slurm: {fault}{advice}")
        job = submitted.stdout.strip().rpartition("\n")[2].split(";")[0]
        self.listed[job] = JobState(job, name, "PENDING", "", "None")
        return job


def gpu_options(options: Mapping[str, str]) -> list[str]:
    """The options that ask for GPUs, as `key=value`."""
    return [
        f"{key}={value}"
        for key, value in options.items()
        if key.startswith("gpus") or (key == "gres" and "gpu" in value)
    ]


def seconds_of(time: str) -> int | None:
    """The seconds of a time limit as sbatch reads it: 90 and 90:00 are minutes, 1-12 is a day and 12 hours.

    None for another form, about which sbatch itself has a message.
    """
    if not re.fullmatch(r"(\d{1,6}-)?\d{1,6}(:\d{1,6}){0,2}", time):
        return None
    days, _, clock = time.rpartition("-")
    parts = list(map(int, clock.split(":")))
    hours, minutes, seconds = [*(parts if days or len(parts) == 3 else [0, *parts]), 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class SlurmJob:
    """A job that has been submitted."""

    def __init__(self, slurm: Slurm, job: str, log: Path) -> None:
        self.slurm, self.job, self.log = slurm, job, log
        self.end: str | None = None
        """The state in which it has ended; empty if squeue lists it no longer."""
        self.is_signalled = False
        """Slurm has taken the request to stop."""
        self.next_signal = float("-inf")
        """Time on the monotonic clock of the next request to stop."""
        self.listed_at = time.monotonic()
        self.is_startable_at = time.monotonic()

    def location(self) -> str:
        """The number of the job and its node, or its state while it has none."""
        job = self.slurm.jobs().get(self.job)
        return f"Slurm job {self.job}" if job is None else f"Slurm job {self.job}, {job}"

    def state(self) -> str | None:
        """The state in which the job has ended for good; empty if squeue lists it no longer; None before.

        Raises:
            UserError: it will never start, or its node does not see the folder of its log. Raised once.
        """
        job = self.slurm.jobs().get(self.job)
        now = time.monotonic()
        if self.end is not None:
            return self.end
        if job is None:
            self.end = "" if now - self.listed_at > MISSING_SECONDS else None
            return self.end
        self.listed_at = now
        if job.state in ENDED:
            self.end = job.state
            if job.state == "FAILED" and (job.reason == "JobLaunchFailure" or self.exit_status()[1] == NO_LOG_SIGNAL):
                raise UserError(
                    f"--results: node {job.node} cannot write {self.log}: it does not see this folder. Name a folder "
                    f"that all nodes share with --results, or leave out the node with --slurm exclude={job.node}."
                )
        elif job.state != "PENDING" or not NEVER.fullmatch(job.reason):
            self.is_startable_at = now
        elif now - self.is_startable_at > NEVER_SECONDS:
            self.end = "CANCELLED"
            self.cancel()
            raise UserError(
                f"--executor slurm: job {self.job} will never start: {job.reason}. Ask for less with --gpus-per-run, "
                f"--nodes-per-run, --time or --slurm; `sinfo` shows what the nodes of each partition have."
            )
        return self.end

    def exit_status(self) -> tuple[str, str]:
        """The exit code and the signal of an ended job, as numbers; empty if they are unknown."""
        shown = self.slurm.call("scontrol", "show", "job", self.job).stdout
        status = next((part.removeprefix("ExitCode=") for part in shown.split() if part.startswith("ExitCode=")), "")
        code, _, number = status.partition(":")
        return code, number

    def stop(self) -> None:
        """Cancels a pending job; asks the program of a running one to stop. A later call repeats it after an outage."""
        if self.is_signalled or time.monotonic() < self.next_signal:
            return
        signal = [] if self.is_pending() else ["--batch", "--signal=TERM"]
        self.is_signalled = self.slurm.call("scancel", *signal, self.job).returncode == 0
        self.next_signal = time.monotonic() + SIGNAL_SECONDS

    def is_pending(self) -> bool:
        """True for a job that does not run now, but may start."""
        job = self.slurm.jobs().get(self.job)
        return job is not None and job.state not in (*RUNNING, *ENDED)

    def cancel(self) -> bool:
        """Cancels the job; False where Slurm does not answer."""
        return self.slurm.call("scancel", self.job).returncode == 0


def call(args: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command of Slurm; one that does not answer within a minute has failed.

    It runs without the SLURM_* variables of this process's own job, which srun would apply to the new one.
    """
    in_job = "SLURM_JOB_ID" in os.environ
    env = {
        name: value
        for name, value in os.environ.items()
        if not (in_job and name.startswith("SLURM_")) or name in CLIENT_VARIABLES
    }
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(args, input=text, env=env, capture_output=True, text=True, timeout=60)
    return subprocess.CompletedProcess(args, 1, "", f"{args[0]}: no answer within a minute")
