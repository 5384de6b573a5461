"""The cost of a large leaderboard: statistics of 50 models and a table of 10,000 records, from generated predictions.

python benchmarks/leaderboard.py    # benchmarks/results/leaderboard.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks import report
from harness.facts.outcome import task_facts
from harness.facts.packing import pack_array
from harness.facts.recipes import Recipe
from harness.facts.record_parts import DataFacts
from harness.facts.records import RunRecord, RunSpec, write_record
from harness.facts.tasks import TaskSpec, load_task
from harness.metrics.registry import METRICS
from harness.system.exit_codes import exit_code_on_error

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


@dataclass(frozen=True)
class Options:
    """Write records of generated predictions for GLUE's validation splits, and time reading, statistics and files."""

    boards: tuple[tuple[int, int], ...] = ((50, 5), (222, 5))
    """Models and seeds of each board."""
    threads: int = os.cpu_count() or 1
    """Threads of NumPy."""
    records: Path = report.RESULTS.parent / "runs" / "leaderboard"
    """The folder for the records, which take a few minutes; existing ones are used again."""
    output: Path = report.RESULTS / "leaderboard.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the records, times each board and prints the table."""
    with exit_code_on_error():
        options = tyro.cli(Options, args=arguments, prog="benchmarks/leaderboard.py")
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
        boards = []
        for models, seeds in options.boards:
            folder = options.records / f"{models}x{seeds}"
            with get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
                if not folder.is_dir():
                    fresh.apply(write_records, (folder, models, seeds))
                boards.append(dict(models=models, seeds=seeds) | fresh.apply(_measure, (folder,)))
        import torch

        from benchmarks.measuring import machine_facts

        machine = machine_facts(torch.device("cpu"), options.threads)
        report.save("leaderboard", dict(machine=machine, boards=boards), options.output)


def write_records(folder: Path, models: int, seeds: int) -> None:
    """Writes a record for each model, GLUE task and seed; each model is better than the one before."""
    results = folder.with_name(f"{folder.name}-unfinished")
    for task in map(load_task, GLUE):
        for model in range(models):
            for seed in range(seeds):
                record = generated_record(task, f"some/model-{model:03d}", 0.6 + 0.35 * model / models, seed)
                write_record(record, results, overwrite=True)
    results.rename(folder)


def generated_record(task: TaskSpec, model: str, share: float, seed: int) -> RunRecord:
    """Returns the record of a run whose generated predictions are correct on about this share of rows."""
    spec = RunSpec(
        task=task.name,
        task_version=task.version,
        task_fingerprint=task.fingerprint,
        data=None,
        model=model,
        revision="main",
        seed=seed,
        recipe=Recipe(),
    )
    outcome: dict[str, Any] = {"metrics": {}, "predictions": {}, "gold": {}}
    for split, predictions, gold in _predictions(task, share, seed):
        outcome["metrics"][split] = {name: METRICS[name].value(predictions, gold) for name in task.main_metrics}
        outcome["predictions"][split], outcome["gold"][split] = pack_array(predictions), pack_array(gold)
    facts = dict(source="generated", revision=None, fingerprint=task.name, is_partial=False, missing_splits=[])
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RunRecord(
        run_id=spec.run_id,
        status="ok",
        spec=spec,
        recipe_changes={},
        task=task_facts(task),
        data=DataFacts(**facts, rows=task.rows, full_rows=task.rows, shared_texts={}),
        command="generated",
        started=moment,
        finished=moment,
        **outcome,
    )


def _predictions(task: TaskSpec, share: float, seed: int) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yields each reported split with predictions, about this share of them correct, and the gold labels."""
    for split in task.report:
        rows = task.rows[split]
        row_random, run_random = np.random.default_rng(rows), np.random.default_rng([seed, int(1e6 * share)])
        difficulty = row_random.random(rows)
        if task.labels is None:
            gold = np.round(5 * row_random.random(rows), 1)
            yield split, (gold + (1.3 - share) * run_random.normal(size=rows)).astype(np.float32).astype(float), gold
        else:
            gold = row_random.integers(len(task.labels), size=rows)
            is_correct = 0.7 * difficulty + 0.3 * run_random.random(rows) < share
            yield split, np.where(is_correct, gold, (gold + 1) % len(task.labels)), gold


def _measure(results: Path) -> dict[str, Any]:
    """Times reading the records, computing all statistics, and writing the files, plots included."""
    from harness.engine.provenance import peak_bytes
    from harness.facts.records import read_records
    from harness.reports.folder import write_leaderboard
    from harness.reports.pages import build_pages

    began = time.perf_counter()
    records = read_records(results).records
    read = time.perf_counter()
    pages = build_pages(records)
    built = time.perf_counter()
    write_leaderboard(pages, results)
    written = time.perf_counter()
    import torch

    return dict(
        records=len(records),
        read_seconds=read - began,
        statistics_seconds=built - read,
        files_seconds=written - built,
        peak_bytes=peak_bytes(torch.device("cpu")),
    )


if __name__ == "__main__":
    main()
