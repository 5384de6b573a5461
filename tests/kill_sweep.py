"""Kills a sweep of twelve runs twice with SIGKILL, starts it again, and compares its end with an undisturbed one.

    python tests/kill_sweep.py              # two runs at a time
    python tests/kill_sweep.py --jobs 1

The first kill takes the sweep alone: its runs notice, save a checkpoint and end. The second takes the sweep and all
that it has started. Exit code 1 when weights, predictions or history of a run differ by a bit, or something is left.
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
TASKS, SEEDS = ("rte", "wnli", "mrpc"), ("0", "1", "2", "3")
RUNS = len(TASKS) * len(SEEDS)


def start(results: Path, jobs: int) -> subprocess.Popen[str]:
    """The sweep: dropout on, checkpoints within epochs; what it prints in one stream."""
    words = ["sweep", "--tasks", *TASKS, "--seeds", *SEEDS, "--test-mode", "--results", str(results)]
    words += ["--jobs", str(jobs), "--epochs", "8", "--checkpoint-every", "7", "--select", "best"]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(results: Path, jobs: int) -> str:
    """Runs to the end and gives what was printed."""
    sweep = start(results, jobs)
    printed, _ = sweep.communicate()
    if sweep.returncode != 0:
        sys.exit(f"exit code {sweep.returncode} of the sweep\n{printed}")
    return printed


def kill_when_done(results: Path, jobs: int, runs: int, seconds: float, with_family: bool) -> str:
    """Kills the sweep while a run is between its first checkpoint and its record, when this many records are there, and
    so many seconds later; says what it took with it."""
    sweep, checkpoints = start(results, jobs), results / "test-mode" / "checkpoints"
    while len(records(results)) < runs or not any(checkpoints.glob("*/*/step-*")):
        if sweep.poll() is not None:
            sys.exit(f"the sweep ended before it could be killed\n{sweep.communicate()[0]}")
        time.sleep(0.05)
    time.sleep(seconds)
    assert sweep.poll() is None, "it ended first: give another --seed"
    family = psutil.Process(sweep.pid).children(recursive=True)
    sweep.kill()
    for member in family if with_family else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    sweep.communicate()
    gone, alive = psutil.wait_procs(family, timeout=120)
    assert not alive, f"still there two minutes after the sweep: {alive}"
    return (
        f"{len(gone)} processes {'killed' if with_family else 'ended by themselves'}, {len(records(results))} records"
    )


def records(results: Path) -> list[Path]:
    return sorted((results / "test-mode" / "runs").glob("*/*.json"))


def essence(results: Path) -> dict[str, Any]:
    """By run what must agree to the bit: the record without times and places, and the bytes of the predictions."""
    found = {}
    for record in records(results):
        facts = json.loads(record.read_text())
        kept = {
            name: facts[name] for name in ("status", "metrics", "hits", "selected_epoch", "weights_sha256", "notes")
        }
        kept["history"] = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in facts["history"]]
        bytes_of = {path.name: path.read_bytes() for path in record.parent.glob(f"{record.stem}.*.parquet")}
        found[f"{record.parent.name}/{record.stem}"] = (kept, bytes_of)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, killed = Path(scratch) / "undisturbed", Path(scratch) / "killed"
        finish(undisturbed, options.jobs)
        expected = essence(undisturbed)
        assert len(expected) == RUNS, len(expected)
        for runs, with_family in ((draw.randint(1, 4), False), (draw.randint(6, 9), True)):
            told = kill_when_done(killed, options.jobs, runs, draw.uniform(0, 1), with_family)
            print(f"killed {'with all its processes' if with_family else 'alone'}: {told}", flush=True)
        printed = finish(killed, options.jobs)
        print(printed.splitlines()[0])
        found = essence(killed)
        went_on = sum("going on after" in log.read_text() for log in (killed / "test-mode" / "logs").rglob("*.log"))
        left = [path for path in killed.rglob("*") if path.name.startswith(".") or "checkpoints" in path.parts]
        equal = sum(found.get(name) == facts for name, facts in expected.items())
        print(f"{equal} of {RUNS} runs bit-equal, {went_on} went on from a checkpoint; left: {left or 'nothing'}")
        sys.exit(0 if equal == RUNS == len(found) and not left else 1)


if __name__ == "__main__":
    main()
