"""Kills a run at random moments with SIGKILL, starts it again, and compares its outcome with an uninterrupted run's.

    python tests/kill_twenty.py                   # one process, 20 moments
    python tests/kill_twenty.py --processes 2     # two, connected by gloo
    python tests/kill_twenty.py --evaluate-every 0.3

Prints one line per moment and a count; exits with 1 unless weights, predictions and history are bit-for-bit equal.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from support.processes import finish, kill, leftovers, outcome_of, python_command, record_paths, start


def run_command(results: Path, options: argparse.Namespace) -> list[str]:
    """The command of a run with dropout, selection of the best evaluation and checkpoints within epochs."""
    args = ["harness/run.py", "--task", "rte", "--test-mode", "--results", results, "--epochs", options.epochs]
    args += ["--evaluate-every", options.evaluate_every]
    return python_command(options.processes, *args, "--checkpoint-every", 7, "--select", "best")


def kill_after(command: list[str], seconds: float) -> bool:
    """Kills a run some seconds after its first line; returns whether it was still running."""
    process = start(command)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    was_running = process.poll() is None
    if was_running:
        kill(process)
    process.communicate()
    return was_running


def seconds_of_work(command: list[str]) -> float:
    """Runs a command to its end and returns the time from its first line to its last, without start and shutdown."""
    process = start(command)
    assert process.stdout is not None
    times = [time.perf_counter() for _ in process.stdout]
    process.communicate()
    return times[-1] - times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--evaluate-every", default="1.0")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_moments, equal = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        uninterrupted = Path(scratch) / "uninterrupted"
        seconds = seconds_of_work(run_command(uninterrupted, options))
        expected = [outcome_of(record) for record in record_paths(uninterrupted)]
        assert len(expected) == 1, expected
        for moment in range(1, options.moments + 1):
            results = Path(scratch) / f"killed-{moment}"
            command = run_command(results, options)
            after = random_moments.uniform(0, seconds)
            was_running = kill_after(command, after)
            prefixes = ("resuming after", "already finished")
            lines = finish(command).splitlines()
            resumed = next((line for line in lines if line.startswith(prefixes)), "from the start")
            is_equal = [outcome_of(record) for record in record_paths(results)] == expected and not leftovers(results)
            equal += is_equal
            state = resumed.split(":")[0] if was_running else "had ended"
            verdict = "equal" if is_equal else f"DIFFERS {leftovers(results) or ''}"
            print(f"{moment:3}  killed {after:5.2f} s after its first line, {state}: {verdict}", flush=True)
    print(f"{equal} of {options.moments} bit-for-bit equal on {options.processes} process(es)")
    sys.exit(0 if equal == options.moments else 1)


if __name__ == "__main__":
    main()
