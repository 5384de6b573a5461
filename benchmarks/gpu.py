"""The cost of BERT-base on a GPU: steps eager and as CUDA graphs, a profile, evaluation, other loops, all of GLUE.

`benchmarks/gpu.sh` calls it. The most telling stages come first; each writes its results when it ends, one that fails
is reported and leaves the others alone, and those for which no time is left are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from benchmarks import report
from benchmarks.throughput import Options as Throughput
from benchmarks.throughput import measure_throughput
from harness.errors import UserError, first_line
from harness.system.exit_codes import exit_code_on_error


@dataclass(frozen=True)
class Options:
    """Measure BERT-base on a GPU."""

    smoke: bool = False
    """Try the script on any device: a tiny model, few steps; results go to a temporary folder."""
    minutes: float = 8.0
    """Minutes after which no stage begins."""
    stages: tuple[str, ...] = ()
    """Stages to run, by default all."""
    compiled: bool = False
    """Also measure compiled steps; compiling takes minutes."""
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

    from benchmarks import steps
    from benchmarks.generated import SHAPES, Shape, write_bert
    from benchmarks.measuring import machine_facts
    from benchmarks.steps import Way

    began = time.perf_counter()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    shape = Shape(layers=1, hidden=32, heads=2) if options.smoke else SHAPES["base"]
    model = write_bert(scratch / ("tiny" if options.smoke else "bert-base"), shape)
    count, widths = (2, (16,)) if options.smoke else (60, steps.WIDTHS)
    ways = [Way(), *([Way(has_graphs=True)] if on_gpu else [])]
    more = [Way(precision, has_graphs=True) for precision in ("fp16", "tf32", "fp32")] if on_gpu else [Way("fp32")]
    compiled = [way._replace(is_compiled=True) for way in ways] if options.compiled else []
    common = Throughput(
        model=str(model),
        generated=True,
        tasks=("mrpc",) if options.smoke else ("cola", "mrpc"),
        rounds=1,
        steps=count,
        variants=("plain", "plain-mixed", "trainer", "ours"),
        untimed_epochs=1,
        flags=("--cuda-graphs=on",) if on_gpu else (),
    )

    def time_ways(ways: Sequence[Way]) -> dict[str, Any]:
        return {str(way): steps.time_steps(model, way, count, widths) for way in ways}

    def estimate() -> dict[str, Any]:
        by_width = values["stages"]["steps"][str(ways[-1])]
        milliseconds = {width: cost["milliseconds"] for width, cost in by_width.items()}
        speed = values["stages"]["evaluation"][str(evaluated[-1])]["mnli"]["tokens_per_second"]
        return steps.glue_estimate(milliseconds, speed)

    evaluated = (8,) if options.smoke else (64, 256)
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "steps": lambda: time_ways(ways),
        "evaluation": lambda: {str(size): steps.time_evaluation(model, 40 * size, size) for size in evaluated},
        "glue": estimate,
        "profile": lambda: steps.profile_steps(model, ways[-1], folder / "gpu_profile.txt", width=32),
        "tasks": lambda: measure_throughput(common),
        "precisions": lambda: time_ways(more),
        **({"compiled": lambda: time_ways(compiled)} if compiled else {}),
    }
    if unknown := set(options.stages) - set(stages):
        raise UserError(f"--stages {' '.join(sorted(unknown))}: unknown stage; stages: {', '.join(stages)}.")
    values: dict[str, Any] = dict(machine=machine_facts(device, torch.get_num_threads()), left_out=[], stages={})
    for name in options.stages or stages:
        seconds = time.perf_counter() - began
        print(f"\n{name}, after {seconds:.0f} s", flush=True)
        if seconds > 60 * options.minutes:
            values["left_out"].append(f"{name}: no time left")
            continue
        try:
            values["stages"][name] = stages[name]()
        except Exception as error:  # whatever it is, the other stages are worth their time
            traceback.print_exc()
            values["left_out"].append(f"{name}: {first_line(error)}")
        report.write_json(folder / "gpu.json", values)
    values["seconds"] = time.perf_counter() - began
    report.write_json(folder / "gpu.json", values)
    report.show(report.gpu_tables(values))
    for reason in values["left_out"]:
        print(f"left out: {reason}")
    return values


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
