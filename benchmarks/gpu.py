"""What a GPU does with BERT-base: the variants in bf16 and fp16, eager and compiled, where time goes, all of GLUE.

`benchmarks/gpu.sh` calls it. Stages come in the order of what they are worth; one that no longer fits is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from benchmarks import report
from benchmarks.throughput import Options as Throughput
from benchmarks.throughput import throughput
from harness.requests.options import RunOptions
from harness.system.exit_codes import exit_code_on_error

RESULTS = Path(__file__).resolve().parent / "results"
COMPILE = ("--compile", "on")
GLUE = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte", "wnli")
PROFILED_UPDATES = 12


@dataclass(frozen=True)
class Options:
    """Measure BERT-base on a GPU."""

    smoke: bool = False
    """Try the script: a tiny model, few steps, on whatever device there is; results go to a temporary folder."""
    minutes: float = 9.0
    """No stage begins later than this."""
    output: Path | None = None
    """A folder; benchmarks/results by default."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with exit_code_on_error(), TemporaryDirectory() as scratch:
        options = tyro.cli(Options, args=arguments, prog="benchmarks/gpu.sh", config=(tyro.conf.FlagCreatePairsOff,))
        folder = options.output or (Path(scratch) / "results" if options.smoke else RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        measure(options, Path(scratch), folder)


def measure(options: Options, scratch: Path, folder: Path) -> dict[str, Any]:
    """Runs the stages, writes gpu.json after each, and prints its tables; gives its values."""
    import torch

    from benchmarks.generated import SHAPES, Shape, write_model
    from benchmarks.measuring import surroundings, write_json

    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = Shape(layers=1, hidden=32, heads=2) if options.smoke else SHAPES["base"]
    common = Throughput(
        model=str(write_model(scratch / ("tiny" if options.smoke else "bert-base"), shape)),
        generated=True,
        tasks=("mrpc",) if options.smoke else ("cola", "sst2", "mrpc", "rte", "stsb"),
        rounds=1 if options.smoke else 2,
        steps=2 if options.smoke else 24,
    )
    compiled = replace(common, variants=("ours",), flags=COMPILE, untimed_epochs=1, rounds=1)
    beside = ("plain-mixed", "trainer", "ours", "limit", "limit-stock")
    glue = ("rte", "wnli") if options.smoke else GLUE
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "bf16": lambda: throughput(replace(common, variants=("plain", *beside))),
        "profile": lambda: profile(common, folder / "gpu_profile.txt"),
        "glue": lambda: throughput(replace(common, tasks=glue, variants=("ours",), rounds=1)),
        "fp16": lambda: throughput(replace(common, precision="fp16", variants=beside, rounds=1)),
        "bf16, compiled": lambda: throughput(replace(compiled, tasks=glue[:1])),
        "bf16, compiled, short rows": lambda: throughput(replace(compiled, tasks=common.tasks[:1])),
        "fp16, compiled": lambda: throughput(replace(compiled, tasks=glue[:1], precision="fp16")),
    }
    values: dict[str, Any] = dict(machine=surroundings(device, torch.get_num_threads()), left_out=[], stages={})
    for name, stage in stages.items():
        reasons = {
            "CPUs have no fp16": "fp16" in name and device.type == "cpu",
            "the harness has no --compile": "compiled" in name and "compile" not in RunOptions.__dataclass_fields__,
            "time is up": time.perf_counter() - began > 60 * options.minutes,
        }
        if reason := next((reason for reason, holds in reasons.items() if holds), None):
            values["left_out"].append(f"{name}: {reason}")
            print(f"\n{name}: left out, {reason}", flush=True)
            continue
        print(f"\n{name}, after {time.perf_counter() - began:.0f} s", flush=True)
        values["stages"][name] = stage()
        write_json(folder / "gpu.json", values)
    values["seconds"] = time.perf_counter() - began
    write_json(folder / "gpu.json", values)
    report.show(report.gpu_tables(values))
    return values


def profile(common: Throughput, listing: Path) -> dict[str, Any]:
    """Where the time of the harness's steps goes: kernels, or on a CPU operators, and how busy the GPU is."""
    import torch
    from torch.profiler import ProfilerActivity
    from transformers import AutoTokenizer

    from benchmarks import rows as rows_of
    from benchmarks.measuring import Watch, on_its_own
    from benchmarks.variants import Setting, ours

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU, *on_gpu])

    class Profiling(Watch):
        def start(self) -> None:
            super().start()
            profiler.start()

        def stop(self) -> None:
            super().stop()
            profiler.stop()

    tokenizer = AutoTokenizer.from_pretrained(common.model)
    every = rows_of.generated("mrpc", tokenizer, common.max_length)
    setting = Setting(
        rows=every.take(rows_of.drawn(every.lengths, PROFILED_UPDATES, common.global_batch_size, seed=0)),
        all_rows=len(every.split.text),
        model=common.model,
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=common.global_batch_size,
        max_length=common.max_length,
        precision=common.precision,
        device=device,
        seed=0,
    )
    with on_its_own(common.threads, seed=0):
        took = ours(setting, Profiling)
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    averages = profiler.key_averages()
    listing.write_text(averages.table(sort_by=own, row_limit=40, max_name_column_width=70), encoding="utf-8")
    # operators have the time of the kernels they start, too: on a GPU only kernels count
    where = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [event for event in averages if event.device_type == where]
    total = sum(getattr(event, own) for event in events)
    first = sorted(events, key=lambda event: -getattr(event, own))[:12]
    return dict(
        steps=took.steps,
        seconds=took.seconds,
        busy_share=total / 1e6 / took.seconds if on_gpu else None,
        operators=[
            dict(name=event.key[:80], share=getattr(event, own) / total, calls=event.count / took.steps)
            for event in first
        ],
    )


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
