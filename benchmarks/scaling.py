"""How cost grows with rows, with the size of the model, with length and with processes; generated rows, no network.

python benchmarks/scaling.py    # writes benchmarks/results/scaling.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import report
from harness.errors import UserError
from harness.facts.tasks import load_task
from harness.system.exit_codes import exit_code_on_error

ROOT = Path(__file__).resolve().parents[1]
GLOBAL_BATCH = 32


@dataclass(frozen=True)
class Options:
    """Measure how the harness's cost grows."""

    rows: tuple[int, ...] = (1_000, 10_000, 100_000, 400_000)
    """Pairs as long as mnli's, encoded and cut into the batches of an epoch."""
    shapes: tuple[str, ...] = ("tiny", "mini", "MiniLM", "medium", "base")
    """Models, on rows of 64 tokens."""
    lengths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Tokens of every row, for --shape."""
    shape: str = "MiniLM"
    """The model for lengths and processes."""
    processes: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Processes x threads of each."""
    steps: int = 2
    """Timed ones, after as many that are not."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    threads: int = os.cpu_count() or 1
    output: Path = ROOT / "benchmarks" / "results" / "scaling.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/scaling.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        measured = scaling(options)
        from benchmarks.measuring import write_json

        write_json(options.output, measured)
        report.show(report.scaling_tables(measured))
        print(options.output)


def scaling(options: Options) -> dict[str, Any]:
    """The values of scaling.json."""
    import torch

    from benchmarks.generated import SHAPES
    from benchmarks.measuring import surroundings

    if unknown := {*options.shapes, options.shape} - set(SHAPES):
        raise UserError(f"--shapes {' '.join(sorted(unknown))}: there are {', '.join(SHAPES)}.")
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as scratch:
        return dict(
            machine=surroundings(device, options.threads),
            settings=dict(shape=options.shape, precision=options.precision, global_batch_size=GLOBAL_BATCH),
            rows=[_said(_rows(number, Path(scratch))) for number in options.rows],
            shapes=[_said(_updates(options, shape, 64, device, Path(scratch))) for shape in options.shapes],
            lengths=[
                _said(_updates(options, options.shape, length, device, Path(scratch))) for length in options.lengths
            ],
            processes=[_said(took) for took in _processes(options, Path(scratch))],
        )


def _said(took: dict[str, Any]) -> dict[str, Any]:
    shown = (f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in took.items())
    print(", ".join(shown), flush=True)
    return took


def _rows(number: int, scratch: Path) -> dict[str, Any]:
    """Seconds to encode pairs of mnli's lengths, to read them from the cache, to cut an epoch's batches; memory."""
    import torch
    from transformers import AutoTokenizer

    from benchmarks.generated import SHAPES, split_like, write_model
    from benchmarks.measuring import Watch
    from harness.engine.batches import step_batches
    from harness.engine.token_cache import encode_splits
    from harness.facts.recipes import Recipe, plan_steps

    folder, cache = scratch / "tokenizer", scratch / f"cache-{number}"
    if not folder.exists():
        write_model(folder, SHAPES["tiny"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    splits = {"train": split_like(load_task("mnli"), number)}
    watch = Watch(torch.device("cpu"))
    watch.start()
    rows = encode_splits(splits, tokenizer, 128, cache, print)["train"]
    watch.stop()
    began = time.perf_counter()
    rows = encode_splits(splits, tokenizer, 128, cache, print)["train"]
    cached = time.perf_counter() - began
    plan = plan_steps(len(rows), Recipe(global_batch_size=GLOBAL_BATCH, epochs=1), processes=1)
    began, tokens, computed = time.perf_counter(), 0, 0
    for window in step_batches(rows, plan, seed=0, epoch=0, process=0):
        tokens, computed = tokens + window.tokens, computed + window.computed_tokens
    return dict(
        rows=number,
        encode_seconds=watch.seconds,
        cached_seconds=cached,
        windows_seconds=time.perf_counter() - began,
        padding_share=1 - tokens / computed,
        peak_bytes=watch.peak_bytes,
    )


def _updates(options: Options, shape: str, length: int, device: Any, scratch: Path) -> dict[str, Any]:
    """Seconds of a step of the harness, and memory, for a shape of model and rows of one length."""
    import torch
    from transformers import AutoTokenizer

    from benchmarks.generated import SHAPES, split_of, write_model
    from benchmarks.measuring import on_its_own
    from benchmarks.rows import tokenise
    from benchmarks.variants import Setting, ours

    folder = scratch / shape
    if not folder.exists():
        write_model(folder, SHAPES[shape])
    tokenizer, task, count = AutoTokenizer.from_pretrained(folder), load_task("mnli"), options.steps * GLOBAL_BATCH
    split = split_of(task, np.full(count, length), np.random.default_rng(0))
    setting = Setting(
        rows=tokenise(task, split, tokenizer, length),
        all_rows=count,
        model=str(folder),
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=GLOBAL_BATCH,
        max_length=length,
        precision=options.precision,
        device=torch.device(device),
        seed=0,
        untimed_epochs=1,
    )
    with on_its_own(options.threads, seed=0):
        took = ours(setting)
    return dict(
        shape=shape,
        length=length,
        update_seconds=took.seconds / took.steps,
        tokens_per_second=took.tokens / took.seconds,
        peak_bytes=took.peak_bytes,
    )


def _processes(options: Options, scratch: Path) -> Iterator[dict[str, Any]]:
    """Rows per second of whole runs on several processes, as their records tell."""
    from transformers import AutoTokenizer

    from benchmarks.generated import SHAPES, split_like, write_model
    from benchmarks.rows import tokenise
    from harness.facts.records import read_records

    folder, task = scratch / options.shape, load_task("mrpc")
    if not folder.exists():
        write_model(folder, SHAPES[options.shape])
    split = split_like(task, 6 * options.steps * GLOBAL_BATCH)
    tokenise(task, split, AutoTokenizer.from_pretrained(folder), 128).write(scratch / "data")
    for combination in options.processes:
        processes, threads = map(int, combination.split("x"))
        results = scratch / f"results-{combination}"
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        words += ["harness/run.py", "--task", task.name, "--model", str(folder), "--data", str(scratch / "data")]
        words += ["--epochs", "1", "--results", str(results), "--precision", options.precision]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "yes", "HARNESS_CACHE": ""}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise UserError(f"{' '.join(words[2:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        (record,) = read_records(results).records
        assert record.cost is not None
        yield dict(
            processes=processes,
            threads=threads,
            rows_per_second=record.rows_per_second,
            peak_bytes=sum(record.cost.peak_bytes_per_process),
        )


if __name__ == "__main__":
    main()
