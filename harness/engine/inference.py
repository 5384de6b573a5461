"""Scores of a model for a split: every row exactly once, in row order, the same for any number of processes."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from harness.engine.batches import Encoded, cut_batch, scoring_batches
from harness.errors import UserError, first_line, is_of_the_outside_world

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


def check_scores(name: str, model: nn.Module, accelerator: Accelerator, encoded: Encoded, classes: int) -> None:
    """Checks on two rows that the code of a model takes the tokenizer's inputs and returns logits [rows, classes].

    Args:
        name: the model as the user named it, such as `--model org/name`.

    Raises:
        UserError: the code fails, or its output has no logits or another number of them.
    """
    rows = np.arange(min(2, len(encoded)))
    batch, expected = cut_batch(encoded, rows).to(accelerator.device), (len(rows), classes)
    try:
        with torch.no_grad(), accelerator.autocast():
            shape = tuple(batch.scores(model.to(accelerator.device)(**batch.inputs).logits).shape)
    except (Exception, SystemExit) as error:
        if is_of_the_outside_world(error):
            raise
        fault = first_line(error)
    else:
        fault = "" if shape == expected else f"expected logits of shape {expected} for {len(rows)} rows, got {shape}"
    model.to("cpu")  # it is adapted there
    if fault:
        raise UserError(
            f"{name}: unsupported code: {type(model).__name__}.forward({', '.join(batch.inputs)}): {fault}. Change it "
            "so that it takes these arguments and returns an output with logits, as transformers' models do."
        )


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
