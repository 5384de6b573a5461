"""Programs of the harness as processes of their own: start, finish and kill them, and read the outcome of a run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


def python_command(processes: int, *args: Any) -> list[str]:
    """The command of `python` with these arguments on several processes connected by gloo."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes] if processes > 1 else []
    return [sys.executable, *map(str, launcher), *map(str, args)]


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Starts a command with one thread per process and all output in one stream."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "yes", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Sends SIGKILL to the process and its descendants: a launcher's workers have process groups of their own."""
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def finish(command: Sequence[str], timeout: float = 400) -> str:
    """Runs a command to its end and returns its output; its exit code must be 0."""
    process = start(command)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    assert process.returncode == 0, output
    return output


def wait_until(is_true: Callable[[], object], seconds: float = 60, state: Callable[[], object] = lambda: "") -> None:
    """Waits until the condition is true; fails after `seconds`, with the state then as its text."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, state()
        time.sleep(0.02)


def record_paths(results: Path) -> list[Path]:
    """The records of runs in test mode."""
    return sorted((results / "test-mode" / "runs").glob("*/*.json"))


def outcome_of(record: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The results that an interruption must not change: the record without times and paths, and its predictions."""
    fields = json.loads(record.read_text())
    names = ("run_id", "status", "metrics", "predictions", "selected_epoch", "weights_sha256", "notes", "padding_share")
    outcome = {name: fields[name] for name in names} | {"tokens": fields["cost"]["tokens"]}
    outcome["history"] = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in fields["history"]]
    return outcome, {path.name: path.read_bytes() for path in record.parent.glob(f"{record.stem}.*.parquet")}


def leftovers(results: Path) -> list[Path]:
    """Hidden files, locks and checkpoints, which a finished run must not leave."""
    return [path for path in results.rglob("*") if "checkpoints" in path.parts or path.name.startswith(".")]
