"""How many rows fit into memory at once: the largest batch of a run is tried before the first step."""

from __future__ import annotations

import gc

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from harness.engine.batches import Encoded, cut_batch
from harness.engine.losses import summed_loss
from harness.errors import UserError
from harness.facts.recipes import StepPlan


def plan_that_fits(accelerator: Accelerator, model: nn.Module, encoded: Encoded, plan: StepPlan) -> StepPlan:
    """The plan, its device batch halved until the longest rows fit on every process; the global batch stays as it is.

    Every process must call it, with the model on its device and not yet wrapped. Random states are left as they were.

    Raises:
        UserError: not even one row fits.
    """
    while not _fits_everywhere(accelerator, model, encoded, plan):
        if plan.device_batch_size == 1:
            raise UserError(
                f"one row of {encoded.lengths.max()} tokens does not fit into the memory of {accelerator.device}: "
                "lower --max-length, choose a smaller model, or use --precision bf16."
            )
        plan = plan.with_device_batch_size(-(-plan.device_batch_size // 2))
        accelerator.print(f"out of memory: trying again with\n{plan}")
    return plan


def _fits_everywhere(accelerator: Accelerator, model: nn.Module, encoded: Encoded, plan: StepPlan) -> bool:
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        fits = _fits(accelerator, model, encoded, plan.device_batch_size)
    model.zero_grad(set_to_none=True)
    gc.collect()
    if devices:
        torch.cuda.empty_cache()
    return bool(accelerator.gather(torch.tensor([fits], device=accelerator.device)).all())


def _fits(accelerator: Accelerator, model: nn.Module, encoded: Encoded, device_batch_size: int) -> bool:
    """Whether the longest rows can go forward and back on this process, beside the state that AdamW will keep."""
    longest = np.argsort(-encoded.lengths, kind="stable")[:device_batch_size]
    try:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        state = [torch.empty_like(parameter) for parameter in trained for _ in range(2)]
        batch = cut_batch(encoded, longest).to(accelerator.device)
        model.train()
        with accelerator.autocast():
            logits = model(**batch.inputs).logits
        summed_loss(logits, batch.labels).backward()
        del state
    except torch.OutOfMemoryError:
        return False
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU's allocator has no error type of its own
            return False
        raise
    return True
