"""Whether what makes a run fast changes its scores: pairs of runs that differ in one thing, over several seeds.

python benchmarks/quality.py --run    # make the runs that are missing, then write benchmarks/results/quality.json
python benchmarks/quality.py          # read the records that are there
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from benchmarks import report
from harness.errors import UserError
from harness.facts.records import RunRecord, read_records
from harness.system.exit_codes import exit_code_on_error

ROOT = Path(__file__).resolve().parents[1]

SETTINGS: dict[str, tuple[str, ...]] = {
    "bf16, grouped by length": ("--precision", "bf16"),
    "bf16, random order": ("--precision", "bf16", "--no-length-grouping"),
    "fp32, grouped by length": ("--precision", "fp32"),
}
"""What runs are made with: the first is the default on these devices, each other differs from it in one thing."""


@dataclass(frozen=True)
class Options:
    """Compare the scores of runs with and without what makes them fast."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hub, or a folder."""
    tasks: tuple[str, ...] = ("cola", "mrpc", "stsb", "rte")
    """Registered tasks, each with its own recipe."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each runs in every setting, with the same head and, grouped or not, from the same permutations."""
    run: bool = False
    """Make the runs that are missing; finished ones are kept, interrupted ones go on."""
    records: Path = Path("benchmarks/runs")
    """Where the records of the runs lie, in a folder for each setting."""
    threads: int = os.cpu_count() or 1
    """Of each run."""
    flags: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """More flags for every run, each as --flags=--epochs=2."""
    output: Path = Path("benchmarks/results/quality.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/quality.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        if options.run:
            make_runs(options)
        measured = quality(options)
        from benchmarks.measuring import write_json

        write_json(options.output, measured)
        report.show(report.quality_tables(measured))
        print(options.output)


def make_runs(options: Options) -> None:
    """Calls the harness for every task, seed and setting; it passes over those that have finished.

    Raises:
        UserError: a run ended with an error, which it has printed.
    """
    for task in options.tasks:
        for seed in options.seeds:
            for setting, flags in SETTINGS.items():
                print(f"{task}, seed {seed}, {setting}", flush=True)
                words = [sys.executable, "harness/run.py", "--task", task, "--seed", str(seed)]
                words += ["--results", str(folder_of(options.records, setting).resolve()), *flags, *options.flags]
                words += [] if "--test-mode" in options.flags else ["--model", options.model]
                environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
                code = subprocess.run(words, cwd=ROOT, env=environment).returncode
                if code > 1:  # 1: it diverged, which is an outcome too
                    raise UserError(f"{' '.join(words[1:])} ended with {code}; the same command goes on from there.")


def quality(options: Options) -> dict[str, Any]:
    """The scores that the records tell: the values of quality.json, without the tasks that a setting lacks seeds of.

    Raises:
        UserError: a run of the first setting is missing, or a record has no score.
    """
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {setting: {} for setting in SETTINGS}
    surroundings: dict[str, Any] = {}
    for setting in SETTINGS:
        folder = folder_of(options.records, setting)
        folder = folder / "test-mode" if "--test-mode" in options.flags else folder
        found = {
            (record.spec.task, record.spec.seed): record
            for record in read_records(folder).records
            if record.spec.test_mode or record.spec.model == options.model
        }
        for task in options.tasks:
            wanted = [found.get((task, seed)) for seed in options.seeds]
            if setting != next(iter(SETTINGS)) and None in wanted:
                print(f"{setting}: not all seeds of {task} were run")
                continue
            runs[setting][task] = [_facts(options, setting, task, record) for record in wanted]
        for record in found.values():
            if (where := record.environment) is not None:
                surroundings = dict(
                    date=max(surroundings.get("date", ""), record.finished.date().isoformat()),
                    commit=where.git_commit,
                    uncommitted_changes=where.git_dirty,
                    device=where.devices[0],
                    cores=os.cpu_count(),
                    threads=where.threads,
                    memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
                    versions=where.versions,
                )
    model = Path(options.model).name if Path(options.model).is_dir() else options.model
    return dict(
        machine=surroundings,
        settings=dict(model=model, tasks=options.tasks, seeds=options.seeds),
        runs=runs,
    )


def folder_of(records: Path, setting: str) -> Path:
    """The results folder of a setting's runs: precision does not enter a run's identity, so each has its own."""
    return records / setting.replace(", ", "-").replace(" ", "-")


def _facts(options: Options, setting: str, task: str, record: RunRecord | None) -> dict[str, Any]:
    if record is None:
        seeds = ", ".join(map(str, options.seeds))
        raise UserError(f"{task}: not all seeds of {seeds} have a record for {setting}; --run makes them.")
    values = [
        record.metrics.get(split, {}).get(name) for split in record.task.report for name in record.task.main_metrics
    ]
    scores = [value for value in values if value is not None]
    if not scores or len(scores) < len(values):
        raise UserError(f"{task}: the run {record.run_id} for {setting} has no score ({record.status}).")
    return dict(
        run_id=record.run_id,
        score=statistics.mean(scores),
        status=record.status,
        precision=record.environment.precision if record.environment else None,
        train_seconds=record.cost.train_seconds if record.cost else None,
        padding_share=record.padding_share,
    )


if __name__ == "__main__":
    main()
