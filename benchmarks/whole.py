"""Whole runs as programs, from the command to the written result: the harness and a script of Trainer, in alternation.

`python benchmarks/throughput.py --whole` calls it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.rows import LARGEST_TASK
from harness.errors import UserError
from harness.facts.tasks import load_task

if TYPE_CHECKING:
    from benchmarks.throughput import Options

ROOT = Path(__file__).resolve().parents[1]


class Took(NamedTuple):
    """What a program took."""

    seconds: float
    peak_bytes: int
    """Resident memory at its highest."""


def whole(options: Options, max_steps: int | None = None) -> dict[str, Any]:
    """What whole runs of one epoch took: the values of whole.json. `max_steps` cuts them short.

    Each program runs once for one step beforehand, so that everything is cached: data, tokens, model.

    Raises:
        UserError: a program failed, with what it said.
    """
    import torch

    from benchmarks.measuring import surroundings

    programs = [name for name in ("trainer", "ours") if name in options.variants]
    tasks: dict[str, Any] = {}
    for name in options.tasks:
        rows = load_task(name).rows["train"]
        tasks[name] = dict(rows=min(rows, LARGEST_TASK), measured={program: [] for program in programs})
        for program in programs:
            _run(program, name, rows, options, max_steps=1)
    for round_ in range(1, options.rounds + 1):
        for name in options.tasks:
            for program in programs if round_ % 2 else reversed(programs):
                took = _run(program, name, load_task(name).rows["train"], options, max_steps)
                tasks[name]["measured"][program].append(took._asdict())
                print(f"round {round_} {name:>5} {program:<8}{took.seconds:8.1f} s", flush=True)
    shown = dict(model=options.model, tasks=options.tasks, variants=programs, rounds=options.rounds)
    shown |= dict(
        precision=options.precision, global_batch_size=options.global_batch_size, max_length=options.max_length
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return dict(machine=surroundings(device, options.threads), settings=shown, tasks=tasks)


def _run(program: str, task: str, rows: int, options: Options, max_steps: int | None) -> Took:
    with tempfile.TemporaryDirectory() as folder:
        place = {"ours": "--results", "trainer": "--output"}[program]
        flags: dict[str, Any] = {
            "--task": task,
            "--model": options.model,
            "--precision": options.precision,
            "--global-batch-size": options.global_batch_size,
            "--max-length": options.max_length,
            "--epochs": 1,
            place: folder,
        }
        if rows > LARGEST_TASK:
            flags["--train-rows"] = LARGEST_TASK
        if max_steps is not None:
            flags["--max-steps"] = max_steps
        script = {"ours": "harness/run.py", "trainer": "benchmarks/trainer_script.py"}[program]
        words = [sys.executable, script, *(str(word) for flag in flags.items() for word in flag)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
        with tempfile.TemporaryFile("w+") as said:
            began = time.perf_counter()
            running = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(running.pid, 0)
            took = Took(time.perf_counter() - began, usage.ru_maxrss * 1024)
            running.returncode = os.waitstatus_to_exitcode(status)
            if running.returncode != 0:
                said.seek(0)
                raise UserError(f"{' '.join(words[1:])} ended with {running.returncode}:\n{said.read()[-2000:]}")
    return took
