"""The largest batch that fits into memory, found by a trial before the first step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from torch import nn

from harness.engine.batches import Encoded, cut_batch
from harness.engine.deployment import any_process
from harness.engine.losses import summed_loss
from harness.engine.optimizers import state_shapes
from harness.errors import UserError, boundary, is_out_of_memory
from harness.facts.recipes import StepPlan
from harness.system.devices import GPU_MEMORY_SHARE


def limit_memory(device: torch.device) -> None:
    """Limits this process to its share of the GPU's memory, where the environment has one: other runs have the rest.

    The peak of the memory counts from now on, and not from an earlier run of this process.

    Raises:
        UserError: the share is not a number from 0 to 1.
    """
    if device.type != "cuda":
        return
    torch.cuda.reset_peak_memory_stats(device)
    if share := os.environ.get(GPU_MEMORY_SHARE):
        with boundary(GPU_MEMORY_SHARE, ValueError, advice="A sweep sets this variable: unset it."):
            torch.cuda.set_per_process_memory_fraction(float(share))


@contextmanager
def explained_out_of_memory(device_batch_size: int, eval_batch_size: int | None = None) -> Iterator[None]:
    """Turns an allocation that fails in training or scoring into a UserError that names the sizes of the batches."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        in_evaluation = "" if eval_batch_size is None else f" and --eval-batch-size {eval_batch_size}"
        raise UserError(
            f"out of memory with --device-batch-size {device_batch_size}{in_evaluation}. Give a smaller number in the "
            "same command; a run resumes from its newest checkpoint, and its recipe stays the same."
        ) from error


def plan_that_fits(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, encoded: Encoded, plan: StepPlan
) -> StepPlan:
    """Halves the plan's device batch until the longest rows fit on every process; the global batch stays the same.

    Every process must call it, with the model on its device and not yet wrapped. Random states do not change.

    Raises:
        UserError: not even one row fits.
    """
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    while True:
        with torch.random.fork_rng(devices=devices):
            fits = _fits(accelerator, model, optimizer, encoded, plan)
        model.zero_grad(set_to_none=True)
        clear_device_cache(garbage_collection=True)
        if not any(any_process(accelerator, [not fits])):
            return plan
        if plan.device_batch_size == 1:
            raise UserError(
                f"out of memory: one row of {encoded.lengths.max()} tokens does not fit on {accelerator.device}. "
                "Lower --max-length, choose a smaller model, or use --precision bf16."
            )
        plan = plan.with_device_batch_size(-(-plan.device_batch_size // 2))
        accelerator.print(f"out of memory: retrying with\n{plan}")


def _fits(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, encoded: Encoded, plan: StepPlan
) -> bool:
    """Tries a forward and backward pass of the longest rows, next to memory for the optimizer's state."""
    longest = np.argsort(-encoded.widths, kind="stable")[: plan.device_batch_size]
    try:
        shapes = [shape for each in state_shapes(optimizer) for shape in each.values()]
        state = [torch.empty(shape, device=accelerator.device) for shape in shapes]
        batch = cut_batch(encoded, longest).to(accelerator.device)
        model.train()
        with accelerator.autocast():
            logits = batch.scores(model(**batch.inputs).logits)
        summed_loss(logits, batch.labels).backward()
        del state
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
