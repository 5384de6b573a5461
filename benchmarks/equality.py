"""Scores of transformers.Trainer and of the harness after the same steps: without dropout, all rows in each step.

    python benchmarks/equality.py

Both programs draw their own orders of rows and dropout masks. With nothing left to draw, different scores would mean
another loss, gradient norm, optimizer, schedule or head.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro

from benchmarks import report
from harness.system.exit_codes import exit_code_on_error

RECIPE = dict(learning_rate=1e-4, warmup=0.1, weight_decay=0.01, max_length=128)


@dataclass(frozen=True)
class Options:
    """Train a model of BERT's configuration with both programs and compare its scores of the test split."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hub, or a folder."""
    tasks: tuple[str, ...] = ("cola", "mrpc", "stsb")
    rows: int = 32
    """Training rows, the first of the split, which are one batch."""
    steps: int = 20
    seed: int = 0
    threads: int = os.cpu_count() or 1
    output: Path = report.RESULTS / "equality.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains with both programs, writes equality.json and prints its table."""
    with exit_code_on_error(), TemporaryDirectory() as folder:
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/equality.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        report.save("equality", measure_equality(options, Path(folder)), options.output)


def measure_equality(options: Options, folder: Path) -> dict[str, Any]:
    """Returns the values of equality.json; files are written to `folder`."""
    import torch

    from benchmarks.measuring import machine_facts

    model = write_model(options.model, folder / "model")
    tasks = {}
    for task in options.tasks:
        write_rows(task, options.rows, folder / "data")
        recipe = dict(RECIPE, epochs=options.steps, global_batch_size=options.rows)
        tasks[task] = compare_scores(task, model, folder / "data", recipe, options.seed, options.threads, folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return dict(
        machine=machine_facts(device, options.threads),
        settings=dict(model=Path(options.model).name, rows=options.rows, steps=options.steps, **RECIPE),
        tasks=tasks,
    )


def write_model(name: str, folder: Path) -> Path:
    """Writes the model without dropout, and its tokenizer; returns the folder."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(name).save_pretrained(folder)
    return folder


def write_rows(task: str, count: int, folder: Path) -> None:
    """Writes the splits of a GLUE task as Parquet files, with the first rows of the training split only."""
    import datasets

    (folder / task).mkdir(parents=True)
    for name, split in datasets.load_dataset("nyu-mll/glue", task).items():
        rows = split.select(range(count)) if name == "train" else split
        rows.to_parquet(folder / task / f"{name}.parquet")


def compare_scores(
    task: str, model: Path, data: Path, recipe: dict[str, Any], seed: int, threads: int, folder: Path
) -> dict[str, Any]:
    """Trains with both programs; returns the number of compared scores, their range and the largest difference.

    The scores are logits, or the values of a regression, of each row of the test split.
    """
    import pandas as pd

    from benchmarks.measuring import fresh_state
    from benchmarks.trainer_script import Options as TrainerOptions
    from benchmarks.trainer_script import main as run_trainer
    from harness.api import run
    from harness.facts.records import record_path

    settings = dict(recipe, model=str(model), data=data, precision="fp32", length_grouping=False)
    trainer = folder / f"trainer-{task}"
    with fresh_state(threads, seed):
        run_trainer(TrainerOptions(task=task, output=trainer, seeds=(seed,), **settings))  # type: ignore[arg-type]
        record = run(task, **settings, evaluate_every=recipe["epochs"], seed=seed, results=folder)
    expected = pd.read_parquet(trainer / f"seed-{seed}" / "test.parquet").to_numpy()
    stored = pd.read_parquet(record_path(folder, task, record.run_id).with_suffix(".test.parquet"))["scores"]
    scores = np.stack(stored.to_list()).reshape(expected.shape)
    return dict(
        steps=recipe["epochs"],
        scores=scores.size,
        range=float(np.ptp(expected, axis=0).min()),
        largest_difference=float(np.abs(scores - expected).max()),
    )


if __name__ == "__main__":
    main()
