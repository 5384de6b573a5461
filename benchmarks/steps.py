"""The time of one training step of the harness for batches of one width, eager, compiled and as CUDA graphs, the time
of evaluation, and what both make of the whole of GLUE."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.generated import LENGTHS
from harness.engine import models
from harness.engine.adaptations import adapt
from harness.engine.compiling import padded_length
from harness.engine.deployment import start
from harness.engine.encoding import Encoded
from harness.engine.inference import infer
from harness.engine.optimizers import create_optimizer
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.tasks import load_task

WIDTHS = (16, 32, 64, 128)
ROWS = 32
"""Rows of a step."""
MAX_LENGTH = 128
GLUE_EPOCHS = 3
UNTIMED_STEPS = 8
FLOP_PER_TOKEN_AND_WEIGHT = 6
"""A matrix product multiplies and adds once forward and twice backward."""


class Way(NamedTuple):
    """One way to compute a step."""

    precision: Literal["bf16", "fp16", "tf32", "fp32"] = "bf16"
    has_graphs: bool = False
    is_compiled: bool = False

    def __str__(self) -> str:
        kind = "CUDA graphs" if self.has_graphs else "eager"
        return f"{self.precision}, {kind}{', compiled' if self.is_compiled else ''}"


def time_steps(model: Path, way: Way, steps: int, widths: Sequence[int] = WIDTHS) -> dict[str, dict[str, float]]:
    """Trains on rows of random tokens, all as long as the batch is wide; returns the cost of a step by width.

    Raises:
        RuntimeError: the steps cannot be captured.
    """
    costs = {}
    for width in widths:
        training = _training(model, way, width, steps + UNTIMED_STEPS)
        device, began = training.accelerator.device, time.perf_counter()
        for step in training_steps(training, seed=0):
            if step.number == UNTIMED_STEPS:
                _wait(device)
                untimed, began = time.perf_counter() - began, time.perf_counter()
        _wait(device)
        seconds = (time.perf_counter() - began) / steps
        if training.graphs is not None and training.graphs.failure:
            raise RuntimeError(training.graphs.failure)
        flops = FLOP_PER_TOKEN_AND_WEIGHT * _weights_per_token(training.model) * ROWS * width
        costs[str(width)] = dict(milliseconds=1000 * seconds, teraflops=flops / seconds / 1e12, untimed_seconds=untimed)
        print(f"{way}, {width} tokens: {1000 * seconds:.2f} ms", flush=True)
        training.accelerator.free_memory()
    return costs


def profile_steps(model: Path, way: Way, listing: Path, width: int, steps: int = 16) -> dict[str, Any]:
    """Profiles steps of one width: time by kernel, or by operator on a CPU, and the share that the GPU is busy."""
    from torch.profiler import ProfilerActivity

    training = _training(model, way, width, steps + UNTIMED_STEPS)
    device = training.accelerator.device
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU, *on_gpu])
    for step in training_steps(training, seed=0):
        if step.number == UNTIMED_STEPS:
            _wait(device)
            profiler.start()
            began = time.perf_counter()
    _wait(device)
    seconds = time.perf_counter() - began
    profiler.stop()
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    averages = profiler.key_averages()
    listing.write_text(averages.table(sort_by=own, row_limit=60, max_name_column_width=90), encoding="utf-8")
    # operators also have the time of the kernels they start, so on a GPU only kernels count
    device_type = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [event for event in averages if event.device_type == device_type]
    total = sum(getattr(event, own) for event in events)
    longest = sorted(events, key=lambda event: -getattr(event, own))[:12]
    return dict(
        way=str(way),
        width=width,
        milliseconds=1000 * seconds / steps,
        busy_share=total / 1e6 / seconds if on_gpu else None,
        calls=sum(event.count for event in events) / steps,
        operators=[
            dict(name=event.key[:90], share=getattr(event, own) / total, calls=event.count / steps) for event in longest
        ],
    )


def time_evaluation(model: Path, rows: int, batch_size: int) -> dict[str, dict[str, float]]:
    """Scores rows of random tokens with the lengths of tasks; returns the cost by task."""
    accelerator = start("bf16", False, None, Path())
    network = accelerator.prepare(models.build_model(str(model), "sha256:", load_task("mrpc"), seed=0).model)
    costs = {}
    for task in ("cola", "mnli"):
        encoded = _random_rows(glue_lengths(task, rows), network.config.vocab_size)
        infer(accelerator, network, encoded, batch_size)
        began = time.perf_counter()
        infer(accelerator, network, encoded, batch_size)
        seconds = time.perf_counter() - began
        costs[task] = dict(rows_per_second=rows / seconds, tokens_per_second=int(encoded.lengths.sum()) / seconds)
    return costs


def glue_estimate(milliseconds: Mapping[str, float], evaluated_tokens_per_second: float) -> dict[str, dict[str, float]]:
    """Estimates the seconds of each GLUE task, 3 epochs at batch size 32, from the cost of steps by width.

    The widths are those of a real epoch of rows with the task's lengths; costs between measured widths are
    interpolated. Each epoch scores the validation split, and the last weights score the test split.
    """
    from harness.engine.batches import rows_of_steps

    widths, estimates = [int(width) for width in milliseconds], {}
    for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"):
        task = load_task(name)
        lengths = glue_lengths(name, task.rows["train"])
        plan = plan_steps(len(lengths), _recipe(MAX_LENGTH), 1)
        longest = [int(lengths[rows].max()) for rows in rows_of_steps(lengths, plan, seed=0, epoch=0)]
        step_widths = [min(padded_length(tokens), MAX_LENGTH) for tokens in longest]
        training = GLUE_EPOCHS * float(np.interp(step_widths, widths, list(milliseconds.values())).sum()) / 1000
        tokens_per_row = float(lengths.mean())
        scored_rows = sum(
            rows * (1 if split in task.predict else GLUE_EPOCHS)
            for split, rows in task.rows.items()
            if split != "train"
        )
        estimates[name] = dict(
            rows=task.rows["train"],
            steps=GLUE_EPOCHS * len(longest),
            training_seconds=training,
            scoring_seconds=scored_rows * tokens_per_row / evaluated_tokens_per_second,
        )
    return estimates


def glue_lengths(task: str, rows: int) -> NDArray[np.int64]:
    """Draws lengths in tokens, int64[rows], distributed as those of a GLUE task's training rows."""
    facts = json.loads(LENGTHS.read_text(encoding="utf-8"))
    drawn = np.interp(np.random.default_rng(0).random(rows), facts["shares"], facts["quantiles"][task])
    return np.minimum(np.round(drawn), MAX_LENGTH).astype(np.int64)


def _training(model: Path, way: Way, width: int, steps: int) -> Training:
    accelerator = start(way.precision, False, None, Path())
    network = models.build_model(str(model), "sha256:", load_task("mrpc"), seed=0).model.to(accelerator.device)
    encoded = _random_rows(np.full(ROWS * steps, width), network.config.vocab_size)
    recipe, device = _recipe(width), accelerator.device
    plan = plan_steps(len(encoded), recipe, 1)
    adapt(
        network,
        {"train": encoded},
        device,
        is_compiled=way.is_compiled,
        narrows_vocabulary=True,
    )
    return Training(
        accelerator,
        network,
        create_optimizer(network, recipe, device),
        recipe,
        plan,
        encoded,
        is_compiled=way.is_compiled,
        has_graphs=way.has_graphs,
    )


def _recipe(max_length: int) -> Recipe:
    return Recipe(global_batch_size=ROWS, epochs=1, learning_rate=2e-5, max_length=max_length)


def _random_rows(lengths: NDArray[np.int64], vocabulary: int) -> Encoded:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, vocabulary, size=int(lengths.sum())).astype(np.int32)
    return Encoded(
        tokens={"input_ids": tokens, "token_type_ids": np.zeros_like(tokens)},
        offsets=np.concatenate([[0], lengths.cumsum()]),
        padding={"input_ids": 0, "token_type_ids": 0},
        labels=rng.integers(0, 2, size=len(lengths)),
    )


def _weights_per_token(model: torch.nn.Module) -> int:
    return sum(weight.numel() for name, weight in model.named_parameters() if "embedding" not in name)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
