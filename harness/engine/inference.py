"""Scores of a model for a split: every row exactly once, in row order, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from harness.engine.batches import Encoded, cut_batch, scoring_batches

Scores = NDArray[np.float32]
"""Logits, or the value of a regression, for each row of a split in row order, float32[N, C]."""


class NotFinite(ArithmeticError):
    """A score is infinite or not a number. Every process raises it."""


def infer(accelerator: Accelerator, model: nn.Module, encoded: Encoded, device_batch_size: int) -> Scores:
    """Computes the scores of every row, in row order, on every process; all of them must call it together.

    A forward pass has `device_batch_size` rows; on a GPU it has more where the rows are shorter than the longest.

    Raises:
        NotFinite: a score is infinite or not a number.
    """
    model = accelerator.unwrap_model(model, keep_torch_compile=True)
    was_training, device = model.training, accelerator.device
    model.eval()
    values, numbers = [], []
    with torch.inference_mode():
        on_gpu, process, processes = device.type == "cuda", accelerator.process_index, accelerator.num_processes
        for rows in scoring_batches(encoded, device_batch_size, process, processes, fills_up=on_gpu):
            batch = cut_batch(encoded, rows).to(device)
            values.append(batch.scores(model(**batch.inputs).logits.float())[: len(rows)])
            numbers.append(torch.from_numpy(rows).to(device))
    model.train(was_training)
    scores = _in_row_order(accelerator, torch.cat(numbers), torch.cat(values), len(encoded))
    not_finite = int((~np.isfinite(scores)).any(axis=1).sum())
    if not_finite:
        raise NotFinite(f"{not_finite} of {len(encoded)} rows have no finite score")
    return scores


def _in_row_order(accelerator: Accelerator, rows: torch.Tensor, values: torch.Tensor, total: int) -> Scores:
    """Gathers the rows of all processes; rows numbered -1 only fill up the shares and are dropped."""
    rows = accelerator.gather(accelerator.pad_across_processes(rows, pad_index=-1))
    values = accelerator.gather(accelerator.pad_across_processes(values))
    numbers, table = rows.cpu().numpy(), values.cpu().numpy()
    is_real = numbers >= 0
    numbers, table = numbers[is_real], table[is_real]
    order = np.argsort(numbers, kind="stable")
    assert np.array_equal(numbers[order], np.arange(total)), f"scored {len(numbers)} rows of {total}"
    return table[order]
