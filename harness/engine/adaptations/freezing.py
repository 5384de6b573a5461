"""Freezing of parameters that the logits do not depend on: DistributedDataParallel would wait for their gradients."""

from __future__ import annotations

import numpy as np
from torch import nn

from harness.engine.batches import cut_batch
from harness.engine.encoding import Encoded


def freeze_unused(model: nn.Module, encoded: Encoded) -> None:
    """Freezes every parameter without a gradient from the first row's logits."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    model(**cut_batch(encoded, np.zeros(1, np.int64)).to(device).inputs).logits.sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
