"""Whole programs from command to written result, in alternation: runs of the harness and a script of Trainer.

`python benchmarks/throughput.py --whole` calls it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import ROOT
from benchmarks.rows import LARGEST_TASK
from harness.errors import UserError
from harness.facts.tasks import load_task

if TYPE_CHECKING:
    from benchmarks.throughput import Options

PROGRAMS = {"trainer": ("benchmarks/trainer_script.py", "--output"), "ours": ("harness/run.py", "--results")}
"""Each program's script and its flag for the results folder."""


class ProgramCost(NamedTuple):
    """The time and peak resident memory of a program."""

    seconds: float
    peak_bytes: int


def measure_programs(options: Options, max_steps: int | None = None) -> dict[str, Any]:
    """Returns the values of whole.json: the cost of runs of one epoch, or of fewer steps with `max_steps`.

    Each program first runs for one step without being measured, so that data, tokens, model and bytecode are cached.

    Raises:
        UserError: a program failed; the message has the end of its output.
    """
    import torch

    from benchmarks.measuring import machine_facts

    programs = [name for name in PROGRAMS if name in options.variants]
    tasks: dict[str, Any] = {}
    for name in options.tasks:
        rows = min(load_task(name).rows["train"], LARGEST_TASK)
        tasks[name] = dict(rows=rows, measured={program: [] for program in programs})
        for program in programs:
            _run(program, name, options, max_steps=1)
    for round_ in range(1, options.rounds + 1):
        for name in options.tasks:
            for program in programs if round_ % 2 else reversed(programs):
                cost = _run(program, name, options, max_steps)
                tasks[name]["measured"][program].append(cost._asdict())
                print(f"round {round_} {name:>5} {program:<8}{cost.seconds:8.1f} s", flush=True)
    settings = dict(model=options.model, tasks=options.tasks, variants=programs, rounds=options.rounds)
    settings |= {name: getattr(options, name) for name in ("precision", "global_batch_size", "max_length")}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return dict(machine=machine_facts(device, options.threads), settings=settings, tasks=tasks)


def _run(program: str, task: str, options: Options, max_steps: int | None) -> ProgramCost:
    script, folder_flag = PROGRAMS[program]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        flags: dict[str, Any] = {
            "--task": task,
            "--model": options.model,
            "--precision": options.precision,
            "--global-batch-size": options.global_batch_size,
            "--max-length": options.max_length,
            "--epochs": 1,
            folder_flag: folder,
        }
        if load_task(task).rows["train"] > LARGEST_TASK:
            flags["--train-rows"] = LARGEST_TASK
        if max_steps is not None:
            flags["--max-steps"] = max_steps
        command = [sys.executable, script, *(str(part) for flag in flags.items() for part in flag)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        cost = ProgramCost(time.perf_counter() - began, usage.ru_maxrss * 1024)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise UserError(f"{' '.join(command[1:])}: exit code {process.returncode}\n{output.read()[-2000:]}")
    return cost
