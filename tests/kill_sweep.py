"""Kills a sweep of twelve runs twice with SIGKILL, starts it again, and compares its records with an uninterrupted one.

    python tests/kill_sweep.py              # two runs at a time
    python tests/kill_sweep.py --max-jobs 1

The first time it kills the sweep alone: its runs notice, save a checkpoint and end. The second time it kills the sweep
and all its processes. Exits with 1 unless weights, predictions and history of each run are bit-for-bit equal and no
checkpoint or lock remains.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil
from support.processes import finish, kill, leftovers, outcome_of, python_command, record_paths, start

TASKS, SEEDS = ("rte", "wnli", "mrpc"), (0, 1, 2, 3)
RUNS = len(TASKS) * len(SEEDS)


def sweep_command(results: Path, jobs: int) -> list[str]:
    """The command of a sweep of runs with dropout and checkpoints within epochs."""
    args = ["sweep", "--tasks", *TASKS, "--seeds", *SEEDS, "--test-mode", "--results", results, "--max-jobs", jobs]
    args += ["--epochs", 8, "--checkpoint-every", 7, "--select", "best"]
    return python_command(1, "-m", "harness", *args)


def kill_within_run(command: list[str], results: Path, finished: int, seconds: float, with_children: bool) -> str:
    """Kills the sweep some seconds after it has that many records and a run between its first checkpoint and its end.

    Returns a summary of what has ended.
    """
    sweep, checkpoints = start(command), results / "test-mode" / "checkpoints"
    while len(record_paths(results)) < finished or not any(checkpoints.glob("*/*/step-*")):
        if sweep.poll() is not None:
            sys.exit(f"the sweep ended before it could be killed\n{sweep.communicate()[0]}")
        time.sleep(0.05)
    time.sleep(seconds)
    assert sweep.poll() is None, "the sweep ended first: use another --seed"
    children = psutil.Process(sweep.pid).children(recursive=True)
    if with_children:
        kill(sweep)
    else:
        sweep.kill()
    sweep.communicate()
    ended, running = psutil.wait_procs(children, timeout=120)
    assert not running, f"still running two minutes after the sweep: {running}"
    how = "killed" if with_children else "ended by themselves"
    return f"{len(ended)} processes {how}, {len(record_paths(results))} records"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        uninterrupted, killed = Path(scratch) / "uninterrupted", Path(scratch) / "killed"
        finish(sweep_command(uninterrupted, options.max_jobs), timeout=3600)
        expected = [outcome_of(record) for record in record_paths(uninterrupted)]
        assert len(expected) == RUNS, len(expected)
        command = sweep_command(killed, options.max_jobs)
        for finished, with_children in ((random_moments.randint(1, 4), False), (random_moments.randint(6, 9), True)):
            summary = kill_within_run(command, killed, finished, random_moments.uniform(0, 0.3), with_children)
            print(f"killed {'with all its processes' if with_children else 'alone'}: {summary}", flush=True)
        print(finish(command, timeout=3600).splitlines()[0])
        outcomes = [outcome_of(record) for record in record_paths(killed)]
        resumed = sum("resuming after" in log.read_text() for log in (killed / "test-mode" / "logs").rglob("*.log"))
        equal = sum(outcome in outcomes for outcome in expected)
        remaining = leftovers(killed)
        print(f"{equal} of {RUNS} runs bit-for-bit equal, {resumed} resumed; left: {remaining or 'nothing'}")
        sys.exit(0 if equal == RUNS == len(outcomes) and not remaining else 1)


if __name__ == "__main__":
    main()
