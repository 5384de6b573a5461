"""The cost of each run of a sweep of small runs: forked from a fork server, and launched one by one.

python benchmarks/sweep_overhead.py    # benchmarks/results/sweep.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import gc
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from benchmarks import report
from harness.commands import sweep
from harness.errors import UserError
from harness.facts.records import read_records
from harness.sweeps.launch import launch_command
from harness.system.exit_codes import exit_code_on_error


@dataclass(frozen=True)
class Options:
    """Sweep tasks x seeds in test mode, in alternation with forked and with launched runs."""

    tasks: tuple[str, ...] = ("rte", "mrpc", "wnli")
    """Tasks of the sweep."""
    seeds: int = 5
    """Runs of each task."""
    max_jobs: int = 1
    """Runs at the same time, which share the cores."""
    max_steps: int | None = None
    """Steps of each run; by default those of test mode."""
    rounds: int = 3
    """Sweeps of each kind."""
    output: Path = report.RESULTS / "sweep.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes sweep.json and prints its table."""
    with exit_code_on_error():
        options = tyro.cli(Options, args=arguments, prog="benchmarks/sweep_overhead.py")
        report.save("sweep", measure_sweeps(options), options.output)


def measure_sweeps(options: Options) -> dict[str, Any]:
    """Returns the values of sweep.json: the cost of each sweep.

    Raises:
        UserError: a run has failed, or forked and launched runs have different weights.
    """
    import torch

    from benchmarks.measuring import machine_facts

    measured: dict[str, list[dict[str, float]]] = {variant: [] for variant in COMMANDS}
    weights: dict[str, str] = {}
    for round_ in range(1, options.rounds + 1):
        for variant in list(COMMANDS)[:: 1 if round_ % 2 else -1]:
            cost, own_weights = _sweep(variant, options)
            if own_weights != (weights := weights or own_weights):
                raise UserError(f"{variant}: other weights than in the first sweep.")
            measured[variant].append(cost)
            print(f"round {round_} {variant:<9}{cost['seconds']:8.1f} s", flush=True)
    settings = dict(tasks=options.tasks, runs=len(weights), max_jobs=options.max_jobs, max_steps=options.max_steps)
    machine = machine_facts(torch.device("cpu"), max(1, len(os.sched_getaffinity(0)) // options.max_jobs))
    return dict(machine=machine, settings=settings, measured=measured)


def _launched(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
    """The command of one run; a sweep forks a run only where its command is its own, which has no --quiet."""
    python, module, launcher, *rest = launch_command(config, processes, threads, args)
    return [python, module, launcher, "--quiet", *rest]


COMMANDS: Mapping[str, Callable[[Path, int, int, Sequence[str]], list[str]]] = {
    "launched": _launched,
    "forked": launch_command,
}
"""The command of a run in each kind of sweep."""


def _sweep(variant: str, options: Options) -> tuple[dict[str, float], dict[str, str]]:
    """The cost of one sweep, and the hash of the weights of each run."""
    from benchmarks.measuring import capture_output

    args = ["--tasks", *options.tasks, "--seeds", *map(str, range(options.seeds)), "--test-mode"]
    args += ["--max-jobs", str(options.max_jobs)]
    args += [] if options.max_steps is None else ["--max-steps", str(options.max_steps)]
    with TemporaryDirectory() as folder:
        began, processors_began = time.perf_counter(), _processor_seconds()
        try:
            with capture_output() as output:
                sweep.main([*args, "--results", folder], COMMANDS[variant])
        except SystemExit as end:
            if end.code:
                raise UserError(f"{variant}: exit code {end.code}\n{output.getvalue()[-2000:]}") from None
        seconds = time.perf_counter() - began
        gc.collect()  # ends the fork server, whose seconds count from then on
        cost = dict(seconds=seconds, processor_seconds=_processor_seconds() - processors_began)
        records = read_records(Path(folder) / "test-mode").records
        return cost, {record.run_id: str(record.weights_sha256) for record in records}


def _processor_seconds() -> float:
    """The seconds of processors of this process and its ended descendants."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
