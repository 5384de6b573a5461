"""The effect of speed on scores: pairs of runs that differ in one setting, over several seeds.

python benchmarks/quality.py --run    # make the missing runs, then write benchmarks/results/quality.json
python benchmarks/quality.py          # read the records that exist
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
"""Flags of each setting: the first is the default on these devices, each other differs from it in one flag."""


@dataclass(frozen=True)
class Options:
    """Compare the scores of runs with and without length grouping and mixed precision."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hub, or a folder."""
    tasks: tuple[str, ...] = ("cola", "mrpc", "stsb", "rte")
    """Registered tasks, each with its own recipe."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; a seed has the same head and, grouped or not, the same permutations in every setting."""
    run: bool = False
    """Make the missing runs; finished ones are not repeated, interrupted ones resume."""
    records: Path = Path("benchmarks/runs")
    """The folder of the records, with a subfolder for each setting."""
    threads: int = os.cpu_count() or 1
    """Threads of each run."""
    flags: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """More flags for every run, each as --flags=--epochs=2."""
    output: Path = report.RESULTS / "quality.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the missing runs if requested, writes quality.json and prints its tables."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/quality.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        if options.run:
            make_runs(options)
        report.save("quality", compare_scores(options), options.output)


def make_runs(options: Options) -> None:
    """Calls the harness for every task, seed and setting; it does not repeat finished runs.

    Raises:
        UserError: a run ended with an error, which it has printed.
    """
    for task in options.tasks:
        for seed in options.seeds:
            for setting, flags in SETTINGS.items():
                print(f"{task}, seed {seed}, {setting}", flush=True)
                args = ["harness/run.py", "--task", task, "--seed", str(seed)]
                args += ["--results", str(settings_folder(options.records, setting).resolve()), *flags, *options.flags]
                args += [] if "--test-mode" in options.flags else ["--model", options.model]
                environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
                code = subprocess.run([sys.executable, *args], cwd=ROOT, env=environment).returncode
                if code > 1:  # 1: it diverged, which is an outcome too
                    raise UserError(f"{' '.join(args)}: exit code {code}. Repeat the same command to resume.")


def compare_scores(options: Options) -> dict[str, Any]:
    """Returns the values of quality.json, without tasks of which a setting lacks seeds.

    Raises:
        UserError: a run of the first setting is missing, or a record has no score.
    """
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {setting: {} for setting in SETTINGS}
    newest: RunRecord | None = None
    for setting in SETTINGS:
        folder = settings_folder(options.records, setting)
        folder = folder / "test-mode" if "--test-mode" in options.flags else folder
        records = {
            (record.spec.task, record.spec.seed): record
            for record in read_records(folder).records
            if record.spec.test_mode or record.spec.model == options.model
        }
        for task in options.tasks:
            missing = [seed for seed in options.seeds if (task, seed) not in records]
            if missing and setting == next(iter(SETTINGS)):
                raise UserError(f"{task}, seed {missing[0]}: missing record for {setting}. Make it with --run.")
            if missing:
                print(f"{setting}: {task} left out, missing seeds {', '.join(map(str, missing))}")
                continue
            runs[setting][task] = [_run_facts(setting, records[task, seed]) for seed in options.seeds]
        with_environment = [record for record in records.values() if record.environment is not None]
        newest = max([*with_environment, *filter(None, [newest])], key=lambda record: record.finished, default=None)
    model = Path(options.model).name if Path(options.model).is_dir() else options.model
    settings = dict(model=model, tasks=options.tasks, seeds=options.seeds)
    return dict(machine=_machine_of(newest), settings=settings, runs=runs)


def settings_folder(records: Path, setting: str) -> Path:
    """The results folder of a setting: precision is not part of a run's identity, so each setting has its own."""
    return records / setting.replace(", ", "-").replace(" ", "-")


def _machine_of(record: RunRecord | None) -> dict[str, Any]:
    """The facts of the machine that made the newest run; cores and memory are this machine's."""
    from benchmarks.measuring import memory_gib

    if record is None or record.environment is None:
        return {}
    return dict(
        date=record.finished.date().isoformat(),
        commit=record.environment.git_commit,
        uncommitted_changes=record.environment.git_dirty,
        device=record.environment.devices[0],
        cores=os.cpu_count(),
        threads=record.environment.threads,
        memory_gib=memory_gib(),
        versions=record.environment.versions,
    )


def _run_facts(setting: str, record: RunRecord) -> dict[str, Any]:
    task = record.task
    values = [record.value(split, name) for split in task.report for name in task.main_metrics]
    scores = [value for value in values if value is not None]
    if not scores or len(scores) < len(values):
        raise UserError(f"{record.spec.task}: run {record.run_id} for {setting} has no score ({record.status}).")
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
