"""Seconds per step of adapters and of full fine-tuning, in alternation, on a random BERT with the shape of MiniLM-L6.

`python benchmarks/adapters.py` prints the table; it needs peft, but no network.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np
import torch
from accelerate import Accelerator
from transformers import BertConfig, BertForSequenceClassification

from harness.engine.adaptations import adapt, adapters
from harness.engine.encoding import Encoded
from harness.engine.optimizers import create_optimizer
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps

VARIANTS = (None, "lora", "dora", "ia3", "bitfit")
ROUNDS, STEPS, WARMUP, BATCH, TOKENS = 2, 5, 1, 16, 64


def main() -> None:
    """Prints the median seconds of a step and the trained parameters of each variant."""
    accelerator = Accelerator()
    seconds: dict[str | None, list[float]] = {variant: [] for variant in VARIANTS}
    counts: dict[str | None, int] = {}
    for number in range(ROUNDS):
        for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            counts[variant], measured = _measure(accelerator, variant)
            seconds[variant] += measured
    full = statistics.median(seconds[None])
    print(f"{accelerator.device}, {torch.get_num_threads()} threads, fp32, {BATCH} rows of {TOKENS} tokens")
    for variant in VARIANTS:
        step = statistics.median(seconds[variant])
        print(f"{variant or 'full':<8}{counts[variant]:>12,} trained{step:>9.3f} s per step{full / step:>7.2f} x")


def _measure(accelerator: Accelerator, variant: str | None) -> tuple[int, list[float]]:
    """Returns the trained parameters of a new model, and the seconds of its steps after the first ones."""
    recipe = Recipe(adapter=variant, global_batch_size=BATCH, max_steps=STEPS)
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model = BertForSequenceClassification(config)
    adapters.attach(model, recipe, seed=0)
    count = adapters.trained_parameters(model)
    encoded = _rows()
    model.to(accelerator.device)
    conditions = dict(is_compiled=False, narrows_vocabulary=True)
    adapt(model, {"train": encoded}, accelerator.device, **conditions)
    plan = plan_steps(len(encoded), recipe, 1)
    training = Training(accelerator, model, create_optimizer(model, recipe, accelerator.device), recipe, plan, encoded)
    measured, began = [], time.perf_counter()
    for _ in training_steps(training, seed=0):
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        measured.append(time.perf_counter() - began)
        began = time.perf_counter()
    accelerator.free_memory()
    return count, measured[WARMUP:]


def _rows() -> Encoded:
    rng = np.random.default_rng(0)
    rows = BATCH * STEPS
    tokens = rng.integers(1000, 9000, rows * TOKENS).astype(np.int32)
    offsets = np.arange(rows + 1) * TOKENS
    return Encoded({"input_ids": tokens}, offsets, {"input_ids": 0}, rng.integers(0, 2, rows))


if __name__ == "__main__":
    main()
