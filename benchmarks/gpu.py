"""The cost of BERT-base on a GPU: the variants in bf16 and fp16, eager and compiled, a profile, and all of GLUE.

`benchmarks/gpu.sh` calls it. The most useful stages come first; those for which no time is left are skipped.
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
from benchmarks.throughput import measure_throughput
from harness.system.exit_codes import exit_code_on_error

COMPILE = ("--compile", "on")
GLUE = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte", "wnli")
PROFILED_STEPS = 12


@dataclass(frozen=True)
class Options:
    """Measure BERT-base on a GPU."""

    smoke: bool = False
    """Try the script on any device: a tiny model, few steps; results go to a temporary folder."""
    minutes: float = 9.0
    """Minutes after which no stage begins."""
    output: Path | None = None
    """The folder to write; benchmarks/results by default."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes gpu.json and gpu_profile.txt."""
    with exit_code_on_error(), TemporaryDirectory() as scratch:
        options = tyro.cli(Options, args=arguments, prog="benchmarks/gpu.sh", config=(tyro.conf.FlagCreatePairsOff,))
        folder = options.output or (Path(scratch) / "results" if options.smoke else report.RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        run_stages(options, Path(scratch), folder)


def run_stages(options: Options, scratch: Path, folder: Path) -> dict[str, Any]:
    """Runs the stages, writes gpu.json after each, and prints its tables; returns its values."""
    import torch

    from benchmarks.generated import SHAPES, Shape, write_bert
    from benchmarks.measuring import machine_facts

    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = Shape(layers=1, hidden=32, heads=2) if options.smoke else SHAPES["base"]
    common = Throughput(
        model=str(write_bert(scratch / ("tiny" if options.smoke else "bert-base"), shape)),
        generated=True,
        tasks=("mrpc",) if options.smoke else ("cola", "sst2", "mrpc", "rte", "stsb"),
        rounds=1 if options.smoke else 2,
        steps=2 if options.smoke else 24,
    )
    compiled = replace(common, variants=("ours",), flags=COMPILE, untimed_epochs=1, rounds=1)
    mixed = ("plain-mixed", "trainer", "ours", "limit", "limit-stock")
    glue = ("rte", "wnli") if options.smoke else GLUE
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "bf16": lambda: measure_throughput(replace(common, variants=("plain", *mixed))),
        "profile": lambda: profile(common, folder / "gpu_profile.txt"),
        "glue": lambda: measure_throughput(replace(common, tasks=glue, variants=("ours",), rounds=1)),
        "fp16": lambda: measure_throughput(replace(common, precision="fp16", variants=mixed, rounds=1)),
        "bf16, compiled": lambda: measure_throughput(replace(compiled, tasks=glue[:1])),
        "bf16, compiled, short rows": lambda: measure_throughput(replace(compiled, tasks=common.tasks[:1])),
        "fp16, compiled": lambda: measure_throughput(replace(compiled, tasks=glue[:1], precision="fp16")),
    }
    values: dict[str, Any] = dict(machine=machine_facts(device, torch.get_num_threads()), left_out=[], stages={})
    for name, stage in stages.items():
        reasons = {
            "fp16 is unsupported on a CPU": "fp16" in name and device.type == "cpu",
            "no time left": time.perf_counter() - began > 60 * options.minutes,
        }
        if reason := next((reason for reason, holds in reasons.items() if holds), None):
            values["left_out"].append(f"{name}: {reason}")
            print(f"\n{name}: skipped, {reason}", flush=True)
            continue
        print(f"\n{name}, after {time.perf_counter() - began:.0f} s", flush=True)
        values["stages"][name] = stage()
        report.write_json(folder / "gpu.json", values)
    values["seconds"] = time.perf_counter() - began
    report.write_json(folder / "gpu.json", values)
    report.show(report.gpu_tables(values))
    return values


def profile(common: Throughput, listing: Path) -> dict[str, Any]:
    """Profiles steps of the harness: time by kernel, or by operator on a CPU, and the share that the GPU is busy."""
    import torch
    from torch.profiler import ProfilerActivity
    from transformers import AutoTokenizer

    from benchmarks.measuring import Meter, fresh_state
    from benchmarks.rows import generate_rows, sample_rows
    from benchmarks.setting import Setting
    from benchmarks.variants import ours

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU, *on_gpu])

    class ProfilingMeter(Meter):
        def start(self) -> None:
            super().start()
            profiler.start()

        def stop(self) -> None:
            super().stop()
            profiler.stop()

    tokenizer = AutoTokenizer.from_pretrained(common.model)
    all_rows = generate_rows("mrpc", tokenizer, common.max_length)
    setting = Setting(
        rows=all_rows.take(sample_rows(all_rows.lengths, PROFILED_STEPS, common.global_batch_size, seed=0)),
        all_rows=len(all_rows.split.text),
        model=common.model,
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=common.global_batch_size,
        max_length=common.max_length,
        precision=common.precision,
        device=device,
        seed=0,
    )
    with fresh_state(common.threads, seed=0):
        epoch = ours(setting, ProfilingMeter)
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    averages = profiler.key_averages()
    listing.write_text(averages.table(sort_by=own, row_limit=40, max_name_column_width=70), encoding="utf-8")
    # operators also have the time of the kernels they start, so on a GPU only kernels count
    device_type = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [event for event in averages if event.device_type == device_type]
    total = sum(getattr(event, own) for event in events)
    longest = sorted(events, key=lambda event: -getattr(event, own))[:12]
    return dict(
        steps=epoch.steps,
        seconds=epoch.seconds,
        busy_share=total / 1e6 / epoch.seconds if on_gpu else None,
        operators=[
            dict(name=event.key[:80], share=getattr(event, own) / total, calls=event.count / epoch.steps)
            for event in longest
        ],
    )


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
