"""Kills a run at random moments with SIGKILL, starts it again, and compares its end with that of an undisturbed one.

    python tests/kill_twenty.py                   # one process, 20 moments
    python tests/kill_twenty.py --processes 2     # two, connected by gloo

Prints one line a moment and a count; exit code 1 when weights, predictions or history differ by a bit.
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
    """A run in test mode with dropout on, the best epoch selected and checkpoints within epochs."""
    run = ["harness/run.py", "--task", "rte", "--test-mode", "--results", str(results), "--epochs", str(epochs)]
    run += ["--checkpoint-every", "7", "--select", "best"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), *run]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """The run, one thread a process, everything it prints in one stream."""
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
    """SIGKILL for the process and all that it started, at once: a launcher's workers have groups of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def finish(arguments: list[str]) -> str:
    """Runs to the end and gives what was printed."""
    process = start(arguments)
    printed, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode} of {' '.join(arguments)}\n{printed}")
    return printed


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Kills the run so many seconds after its first line; whether it was still going on."""
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
    """Runs to the end and gives the time from the first line to the last, without start and shutdown."""
    process = start(arguments)
    assert process.stdout is not None
    at = [time.perf_counter() for _ in process.stdout]
    process.communicate()
    return at[-1] - at[0]


def essence(results: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What must agree to the bit: the record without times and places, and the bytes of the predictions."""
    (record,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    facts = json.loads(record.read_text())
    kept = {name: facts[name] for name in ("run_id", "status", "metrics", "hits", "selected_epoch", "weights_sha256")}
    kept["history"] = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in facts["history"]]
    return kept, {path.name: path.read_bytes() for path in record.parent.glob("*.parquet")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, equal = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        seconds = seconds_of_work(command(undisturbed, options.processes, options.epochs))
        expected = essence(undisturbed)
        for moment in range(1, options.moments + 1):
            results = Path(scratch) / f"killed-{moment}"
            arguments, after = command(results, options.processes, options.epochs), draw.uniform(0, seconds)
            was_running = kill_after(arguments, after)
            printed = finish(arguments)
            told = ("going on after", "finished already")
            went_on = next((line for line in printed.splitlines() if line.startswith(told)), "from the start")
            left = [
                str(path) for path in results.rglob("*") if "checkpoints" in path.parts or path.name.startswith(".")
            ]
            same = essence(results) == expected and not left
            equal += same
            state = went_on.split(":")[0] if was_running else "had ended"
            verdict = "equal" if same else f"DIFFERS {left or ''}"
            print(f"{moment:3}  killed {after:5.2f} s after its first line, {state}: {verdict}", flush=True)
    print(f"{equal} of {options.moments} bit-equal on {options.processes} process(es)")
    sys.exit(0 if equal == options.moments else 1)


if __name__ == "__main__":
    main()
