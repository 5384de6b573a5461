"""Growth of cost with rows, size of the model, length and processes, on generated rows and without a network.

python benchmarks/scaling.py    # benchmarks/results/scaling.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import report
from harness.errors import UserError
from harness.facts.tasks import load_task
from harness.system.exit_codes import exit_code_on_error

GLOBAL_BATCH_SIZE = 32


@dataclass(frozen=True)
class Options:
    """Measure the growth of the harness's cost."""

    rows: tuple[int, ...] = (1_000, 10_000, 100_000, 400_000)
    """Numbers of pairs of mnli's lengths, to encode and to cut into the batches of an epoch."""
    own_rows: tuple[int, ...] = (100_000, 300_000, 1_000_000)
    """Numbers of such pairs in a Parquet file, for whole runs of one step."""
    shapes: tuple[str, ...] = ("tiny", "mini", "MiniLM", "medium", "base")
    """Models, on rows of 64 tokens."""
    lengths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Tokens per row, for --shape."""
    shape: str = "MiniLM"
    """The model for lengths and processes."""
    processes: tuple[str, ...] = ("1x1", "1x2", "2x1")
    """Processes x threads per process."""
    steps: int = 2
    """Timed steps, after as many that are not timed."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    threads: int = os.cpu_count() or 1
    """Threads of torch on a CPU."""
    output: Path = report.RESULTS / "scaling.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes scaling.json and prints its tables."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/scaling.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        report.save("scaling", measure_scaling(options), options.output)


def measure_scaling(options: Options) -> dict[str, Any]:
    """Returns the values of scaling.json.

    Raises:
        UserError: an unknown shape, or a run of several processes failed.
    """
    import torch

    from benchmarks.generated import SHAPES
    from benchmarks.measuring import machine_facts

    if unknown := {*options.shapes, options.shape} - set(SHAPES):
        raise UserError(f"--shapes {' '.join(sorted(unknown))}: unknown shape; shapes: {', '.join(SHAPES)}.")
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        return dict(
            machine=machine_facts(device, options.threads),
            settings=dict(shape=options.shape, precision=options.precision, global_batch_size=GLOBAL_BATCH_SIZE),
            rows=_printed(_rows_cost(number, scratch) for number in options.rows),
            own_rows=_printed(_own_rows_cost(number, scratch) for number in options.own_rows),
            shapes=_printed(_step_cost(options, shape, 64, device, scratch) for shape in options.shapes),
            lengths=_printed(_step_cost(options, options.shape, length, device, scratch) for length in options.lengths),
            processes=_printed(_processes_cost(options, scratch)),
        )


def _printed(costs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints each cost as soon as it is measured, and returns all of them."""
    all_costs = []
    for cost in costs:
        numbers = (
            f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in cost.items()
        )
        print(", ".join(numbers), flush=True)
        all_costs.append(cost)
    return all_costs


def _bert(scratch: Path, shape: str) -> Path:
    """The folder of a generated model, written at the first call."""
    from benchmarks.generated import SHAPES, write_bert

    folder = scratch / shape
    return folder if folder.exists() else write_bert(folder, SHAPES[shape])


def _rows_cost(number: int, scratch: Path) -> dict[str, Any]:
    """Seconds to encode pairs of mnli's lengths, to read them from the cache, to cut an epoch's batches; memory."""
    import torch
    from transformers import AutoTokenizer

    from benchmarks.generated import generate_split
    from benchmarks.measuring import Meter
    from harness.engine.batches import step_batches
    from harness.engine.token_cache import encode_splits
    from harness.facts.recipes import Recipe, plan_steps

    tokenizer, cache = AutoTokenizer.from_pretrained(_bert(scratch, "tiny")), scratch / f"cache-{number}"
    splits = {"train": generate_split(load_task("mnli"), number)}
    meter = Meter(torch.device("cpu"))
    meter.start()
    rows = encode_splits(splits, tokenizer, 128, cache, print)["train"]
    meter.stop()
    began = time.perf_counter()
    rows = encode_splits(splits, tokenizer, 128, cache, print)["train"]
    cached_seconds = time.perf_counter() - began
    plan = plan_steps(len(rows), Recipe(global_batch_size=GLOBAL_BATCH_SIZE, epochs=1), processes=1)
    began, tokens, computed_tokens = time.perf_counter(), 0, 0
    for step in step_batches(rows, plan, seed=0, epoch=0, process=0):
        tokens, computed_tokens = tokens + step.tokens, computed_tokens + step.computed_tokens
    return dict(
        rows=number,
        encode_seconds=meter.seconds,
        cached_seconds=cached_seconds,
        batch_seconds=time.perf_counter() - began,
        padding_share=1 - tokens / computed_tokens,
        peak_bytes=meter.peak_bytes,
    )


def _own_rows_cost(number: int, scratch: Path) -> dict[str, Any]:
    """Seconds and memory of a whole run of one step on rows of one's own: read, checked, hashed, encoded, and again."""
    import pandas as pd

    from benchmarks.generated import generate_split
    from harness.facts.records import read_records

    folder = scratch / f"own-{number}"
    for name, rows, seed in (("train", number, 0), ("validation", 1000, 1)):
        split = generate_split(load_task("mnli"), rows, seed)
        folder.mkdir(exist_ok=True)
        columns = {"premise": split.text, "hypothesis": split.pair, "label": split.label}
        pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet")
    args = ["harness/run.py", "--train-file", str(folder / "train.parquet"), "--text-columns", "premise"]
    args += ["--validation-file", str(folder / "validation.parquet"), "--pair-column", "hypothesis"]
    args += [
        "--label-column",
        "label",
        "--model",
        str(_bert(scratch, "tiny")),
        "--max-steps",
        "1",
        "--precision",
        "fp32",
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "yes", "HARNESS_CACHE": str(folder / "cache")}
    seconds, peaks = [], []
    for times in ("first", "again"):
        began = time.perf_counter()
        _run([*args, "--results", str(folder / times)], environment)
        seconds.append(time.perf_counter() - began)
        (record,) = read_records(folder / times).records
        peaks.append(record.peak_bytes or 0)
    return dict(rows=number, first_seconds=seconds[0], cached_seconds=seconds[1], peak_bytes=max(peaks))


def _run(args: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs Python with these arguments.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run([sys.executable, *args], cwd=report.ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"{' '.join(args)}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def _step_cost(options: Options, shape: str, length: int, device: Any, scratch: Path) -> dict[str, Any]:
    """Seconds per step of the harness, and memory, for a shape of model and rows of one length."""
    import torch
    from transformers import AutoTokenizer

    from benchmarks.generated import split_with_lengths
    from benchmarks.measuring import fresh_state
    from benchmarks.rows import tokenise
    from benchmarks.setting import Setting
    from benchmarks.variants import ours

    folder = _bert(scratch, shape)
    tokenizer, task, count = AutoTokenizer.from_pretrained(folder), load_task("mnli"), options.steps * GLOBAL_BATCH_SIZE
    split = split_with_lengths(task, np.full(count, length), np.random.default_rng(0))
    setting = Setting(
        rows=tokenise(task, split, tokenizer, length),
        all_rows=count,
        model=str(folder),
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=GLOBAL_BATCH_SIZE,
        max_length=length,
        precision=options.precision,
        device=torch.device(device),
        seed=0,
        untimed_epochs=1,
    )
    with fresh_state(options.threads, seed=0):
        epoch = ours(setting)
    return dict(
        shape=shape,
        length=length,
        step_seconds=epoch.seconds / epoch.steps,
        tokens_per_second=epoch.tokens / epoch.seconds,
        peak_bytes=epoch.peak_bytes,
    )


def _processes_cost(options: Options, scratch: Path) -> Iterator[dict[str, Any]]:
    """Rows per second of whole runs on several processes, from their records."""
    from transformers import AutoTokenizer

    from benchmarks.generated import generate_split
    from benchmarks.rows import tokenise
    from harness.facts.records import read_records

    folder, task = _bert(scratch, options.shape), load_task("mrpc")
    split = generate_split(task, 6 * options.steps * GLOBAL_BATCH_SIZE)
    tokenise(task, split, AutoTokenizer.from_pretrained(folder), 128).write(scratch / "data")
    for combination in options.processes:
        processes, threads = map(int, combination.split("x"))
        results = scratch / f"results-{combination}"
        args = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        args += ["harness/run.py", "--task", task.name, "--model", str(folder), "--data", str(scratch / "data")]
        args += ["--epochs", "1", "--results", str(results), "--precision", options.precision]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "yes", "HARNESS_CACHE": ""}
        _run(args, environment)
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
