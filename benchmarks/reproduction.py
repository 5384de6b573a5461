"""The verdicts of `harness reproduce` on scores whose recipe is known: those of transformers.Trainer.

    python benchmarks/reproduction.py    # make the missing runs, then write benchmarks/results/reproduction.json
    python benchmarks/reproduction.py --row benchmarks/results/trainer.yaml    # the harness alone, on a row made before

A program that imports nothing of the harness makes the runs of a row. The harness then repeats the row twice: with its
recipe, where the verdict should be `agrees`, and with one known change, where it should be `differs`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import tyro

from benchmarks import report
from harness.errors import UserError
from harness.facts.published import PublishedRow, PublishedTask, Score, Variant, read_row, row_text
from harness.facts.recipes import Recipe
from harness.facts.records import read_records
from harness.facts.tasks import load_task
from harness.metrics.registry import is_fraction
from harness.reports.own_row import DIGITS
from harness.system.atomic import write_atomically
from harness.system.exit_codes import exit_code_on_error

RECIPE = dict(epochs=1, global_batch_size=16, warmup=0.1, weight_decay=0.01, length_grouping=False)
_WHOLE = dict(epochs=2, global_batch_size=32, learning_rate=1e-4)
BY_TASK: dict[str, dict[str, Any]] = {
    "sst2": dict(learning_rate=3e-4, train_rows=1600, max_length=32),
    "mrpc": _WHOLE,
    "stsb": _WHOLE,
    "cola": _WHOLE,
}
"""What both programs train with; the rest has the defaults of both. A small model learns sst2 in a minute on a CPU; the
other tasks need all their rows, and all-MiniLM-L6-v2 learns them with this rate (benchmarks/results/quality.json)."""

DEVICES = 8
VARIANT = "per-device"
"""The batch size of the row, misread as that of each of eight devices."""

REPRODUCTIONS = {"the recipe of the row": None, f"{DEVICES} times its batch size": VARIANT}
"""Title and variant of each reproduction."""

ROW = "trainer"


@dataclass(frozen=True)
class Options:
    """Reproduce scores of transformers.Trainer with their own recipe and with a changed one."""

    model: str = "sentence-transformers/paraphrase-MiniLM-L3-v2"
    """Name on the Hub, or a folder."""
    tasks: tuple[str, ...] = ()
    """sst2 by default, or every task of --row."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """The seeds of both programs, which draw other orders of rows from them. With --row only their number is used."""
    row: Path | None = None
    """Reproduce the row of this file and run no Trainer; then nothing is changed in the recipe."""
    margin: float = 2.0
    """Points within which scores count as equal."""
    train_rows: int | None = None
    """Another number of training rows for every task."""
    data: Path | None = None
    """Read the rows of both programs from DIR/<task>/<split>.parquet; without a test split there, none is predicted."""
    records: Path = Path("benchmarks/runs/reproduction")
    """The folder of the row, the scores and the records; finished runs in it are not repeated."""
    threads: int = 1
    """Threads of each run."""
    jobs: int = 1
    """Runs at the same time; they share the GPU where there is one."""
    output: Path | None = None
    """The JSON file to write: reproduction.json or reproduction_of_row.json in benchmarks/results by default."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the missing runs, writes reproduction.json and prints its tables."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/reproduction.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        name = "reproduction" if options.row is None else "reproduction_of_row"
        if options.row is None:
            values = compare_programs(replace(options, tasks=options.tasks or ("sst2",)))
        else:
            values = reproduce_row(options, options.row)
        report.save(name, values, options.output or report.RESULTS / f"{name}.json")


def compare_programs(options: Options) -> dict[str, Any]:
    """Returns the values of reproduction.json, after the missing runs.

    Raises:
        UserError: a task has no recipe here, or a program ended with an error.
    """
    if unknown := next((task for task in options.tasks if task not in BY_TASK), None):
        raise UserError(f"--tasks {unknown}: no recipe here; tasks: {', '.join(BY_TASK)}.")
    if len(options.seeds) < 2:
        raise UserError(f"--seeds: expected 2 or more seeds; got {len(options.seeds)}.")
    trainer = _trainer_runs(options)
    path = options.records.resolve() / f"{ROW}.yaml"
    write_atomically(path, row_text(make_row(options, trainer)))
    row = read_row(path)
    reproductions = {title: _reproduce(options, path, variant) for title, variant in REPRODUCTIONS.items()}
    return dict(
        machine=_machine(options),
        settings=dict(
            model=row.model if row.model == options.model and not Path(row.model).exists() else Path(row.model).name,
            seeds=options.seeds,
            margin=options.margin,
            recipes={task: row.recipe_of(task) for task in options.tasks},
            changed={task: row.recipe_of(task, VARIANT) for task in options.tasks},
        ),
        trainer=trainer,
        reproductions=reproductions,
    )


def reproduce_row(options: Options, path: Path) -> dict[str, Any]:
    """Returns the values of reproduction_of_row.json, after the missing runs.

    Raises:
        UserError: the row is invalid, or a flag would change it.
    """
    row = read_row(path)
    if options.model != Options.model or options.train_rows is not None:
        raise UserError("--row: the row has its own model and recipe; drop --model and --train-rows.")
    return dict(
        machine=_machine(options),
        settings=dict(model=row.model, row=path.name, margin=options.margin),
        **_reproduce(options, path.resolve(), None),
    )


def _machine(options: Options) -> dict[str, Any]:
    import torch

    from benchmarks.measuring import machine_facts

    return machine_facts(torch.device("cuda" if torch.cuda.is_available() else "cpu"), options.threads)


def recipe_of(options: Options, task: str) -> Recipe:
    """The recipe of both programs."""
    own = {} if options.train_rows is None else {"train_rows": options.train_rows}
    return Recipe(**{**RECIPE, **BY_TASK[task], **own})


def make_row(options: Options, trainer: Mapping[str, Mapping[str, Mapping[str, float]]]) -> PublishedRow:
    """The row that the scores of Trainer make: the mean over seeds, with the standard deviation after ±."""
    stated = {"learning_rate", *RECIPE, *(name for own in BY_TASK.values() for name in own)}
    recipes = {task: recipe_of(options, task).model_dump(include=stated, exclude_none=True) for task in options.tasks}
    batch_sizes = {
        task: {"global_batch_size": DEVICES * recipe["global_batch_size"]} for task, recipe in recipes.items()
    }
    return PublishedRow(
        name=ROW,
        model=options.model,
        source="transformers.Trainer, benchmarks/trainer_script.py",
        setting=f"mean of {len(options.seeds)} seeds",
        seeds=options.seeds,
        aggregate="mean",
        plus_minus_is="standard_deviation",
        recipe={},
        tasks={
            task: PublishedTask(recipe=recipes[task], scores=_scores(task, list(trainer[task].values())))
            for task in options.tasks
        },
        conflicts={
            VARIANT: Variant(
                source="the same row, misread",
                note=f"The batch size is taken to be that of each of {DEVICES} devices.",
                tasks=batch_sizes,
            )
        },
    )


def _scores(task: str, runs: Sequence[Mapping[str, float]]) -> tuple[Score, ...]:
    """The main metrics of a task over seeds, as a table would state them."""
    spec = load_task(task)
    scores = []
    for metric in spec.main_metrics:
        values = [(100 if is_fraction(metric) else 1) * run[f"eval_{metric}"] for run in runs]
        scores.append(
            Score(
                metric=metric,
                split=spec.report[0],
                value=round(statistics.mean(values), DIGITS),
                plus_minus=round(statistics.stdev(values), DIGITS),
                by_seed=tuple(round(value, DIGITS) for value in values),
            )
        )
    return tuple(scores)


def _trainer_runs(options: Options) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of Trainer by task and seed; finished runs of the same recipe are not repeated."""
    paths = {
        task: {seed: _trainer_folder(options, task) / f"seed-{seed}" / "scores.json" for seed in options.seeds}
        for task in options.tasks
    }
    programs = []
    for task, by_seed in paths.items():
        missing = [seed for seed, path in by_seed.items() if not path.exists()]
        programs += [(task, part) for number in range(options.jobs) if (part := missing[number :: options.jobs])]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda program: _run_trainer(options, *program), programs))
    return {
        task: {str(seed): json.loads(path.read_text(encoding="utf-8")) for seed, path in by_seed.items()}
        for task, by_seed in paths.items()
    }


def _trainer_folder(options: Options, task: str) -> Path:
    return options.records / ROW / f"{task}-{recipe_of(options, task).train_rows or 'all'}-rows"


def _run_trainer(options: Options, task: str, seeds: Sequence[int]) -> None:
    """Makes the runs of these seeds, one after the other, in one program."""
    recipe, folder = recipe_of(options, task), _trainer_folder(options, task).resolve()
    flags: dict[str, Any] = dict(task=task, model=options.model, output=folder, precision="fp32")
    names = ("epochs", "train_rows", "global_batch_size", "max_length", "learning_rate", "warmup", "weight_decay")
    flags |= {name: value for name in names if (value := getattr(recipe, name)) is not None}
    flags |= {} if options.data is None else {"data": options.data.resolve()}
    args = [str(part) for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
    _call(options, {0}, "benchmarks/trainer_script.py", *args, "--no-length-grouping", "--seeds", *map(str, seeds))


def _reproduce(options: Options, row: Path, variant: str | None) -> dict[str, Any]:
    """The verdicts of `harness reproduce` and the seconds of its runs."""
    import torch

    jobs = "--runs-per-device" if torch.cuda.is_available() else "--max-jobs"
    results = options.records.resolve() / "results"
    args = ["-m", "harness", "reproduce", str(row), "--results", str(results), "--margin", str(options.margin)]
    args += ["--precision", "fp32", jobs, str(options.jobs)]
    args += ["--tasks", *options.tasks] if options.tasks else []
    args += ["--seeds", str(len(options.seeds)), "--no-predict"]
    args += [] if variant is None else ["--variant", variant]
    args += [] if options.data is None else ["--data", str(options.data.resolve())]
    _call(options, {0, 1}, *args)  # 1: a score differs
    folder = results / "reproductions" / (row.stem if variant is None else f"{row.stem}-{variant}")
    verdicts = json.loads((folder / "reproduction.json").read_text(encoding="utf-8"))["scores"]
    costs = {record.run_id: record.cost for record in read_records(results).records}
    for one in verdicts:
        for run in one["runs"]:
            cost = costs[run["run_id"]]
            run |= {} if cost is None else {"seconds": cost.seconds, "steps": cost.steps}
    return dict(variant=variant, verdicts=verdicts)


def _call(options: Options, expected: set[int], *args: str) -> None:
    """Runs a program of Python, whose output is shown.

    Raises:
        UserError: its exit code is not one of those expected.
    """
    path = os.pathsep.join(filter(None, [str(report.ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": path}
    code = subprocess.run([sys.executable, *args], cwd=report.ROOT, env=environment).returncode
    if code not in expected:
        raise UserError(f"{' '.join(args)}: exit code {code}. Repeat the same command to resume.")


if __name__ == "__main__":
    main()
