"""Kills a run at random moments with SIGKILL, starts it again, and compares its outcome with an uninterrupted run's.

    python tests/kill_twenty.py                   # one process, 20 moments
    python tests/kill_twenty.py --processes 2     # two, connected by gloo

Prints one line per moment and a count; exits with 1 unless weights, predictions and history are bit-for-bit equal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]


def command(results: Path, processes: int, epochs: int) -> list[str]:
    """Returns the command of a run with dropout, selection of the best epoch and checkpoints within epochs."""
    run = ["harness/run.py", "--task", "rte", "--test-mode", "--results", str(results), "--epochs", str(epochs)]
    run += ["--checkpoint-every", "7", "--select", "best"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), *run]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Starts a run with one thread per process and all output in one stream."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "yes", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Sends SIGKILL to the process and its descendants: a launcher's workers have process groups of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def finish(arguments: list[str]) -> str:
    """Runs a command to its end and returns its output."""
    process = start(arguments)
    printed, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode} of {' '.join(arguments)}\n{printed}")
    return printed


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Kills a run some seconds after its first line; returns whether it was still running."""
    process = start(arguments)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    was_running = process.poll() is None
    if was_running:
        kill(process)
    process.communicate()
    return was_running


def seconds_of_work(arguments: list[str]) -> float:
    """Runs a command to its end and returns the time from its first line to its last, without start and shutdown."""
    process = start(arguments)
    assert process.stdout is not None
    times = [time.perf_counter() for _ in process.stdout]
    process.communicate()
    return times[-1] - times[0]


def outcome_of(results: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Returns what must be bit-for-bit equal: the record without times and paths, and the files of predictions."""
    (record,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    facts = json.loads(record.read_text())
    names = ("run_id", "status", "metrics", "predictions", "selected_epoch", "weights_sha256")
    outcome = {name: facts[name] for name in names}
    outcome["history"] = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in facts["history"]]
    return outcome, {path.name: path.read_bytes() for path in record.parent.glob("*.parquet")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, equal = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        uninterrupted = Path(scratch) / "uninterrupted"
        seconds = seconds_of_work(command(uninterrupted, options.processes, options.epochs))
        expected = outcome_of(uninterrupted)
        for moment in range(1, options.moments + 1):
            results = Path(scratch) / f"killed-{moment}"
            arguments, after = command(results, options.processes, options.epochs), draw.uniform(0, seconds)
            was_running = kill_after(arguments, after)
            printed = finish(arguments)
            prefixes = ("resuming after", "already finished")
            resumed = next((line for line in printed.splitlines() if line.startswith(prefixes)), "from the start")
            leftovers = [
                str(path) for path in results.rglob("*") if "checkpoints" in path.parts or path.name.startswith(".")
            ]
            is_equal = outcome_of(results) == expected and not leftovers
            equal += is_equal
            state = resumed.split(":")[0] if was_running else "had ended"
            verdict = "equal" if is_equal else f"DIFFERS {leftovers or ''}"
            print(f"{moment:3}  killed {after:5.2f} s after its first line, {state}: {verdict}", flush=True)
    print(f"{equal} of {options.moments} bit-for-bit equal on {options.processes} process(es)")
    sys.exit(0 if equal == options.moments else 1)


if __name__ == "__main__":
    main()
