"""Freezing of parameters: the embeddings and the lowest layers, on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from harness.engine.batches import cut_batch
from harness.engine.encoding import Encoded
from harness.engine.layers import drops_layers, find_layers, parameters_below
from harness.errors import UserError


def freeze_lowest(model: PreTrainedModel, freeze: Literal["embeddings"] | int | None, encoded: Encoded) -> None:
    """Freezes the embeddings, and below layer `freeze`, counted from 1, also everything that its output depends on.

    So the backward pass ends at the lowest layer that is trained. The first row of `encoded` shows the dependencies:
    DeBERTa normalises its relative positions in a module of their own, for example.

    Raises:
        UserError: the model has no single stack of layers, or fewer than `freeze`.
    """
    if freeze is None:
        return
    layers, count = find_layers(model, f"--freeze {freeze}"), 0 if freeze == "embeddings" else freeze
    if count > len(layers):
        raise UserError(
            f"--freeze {freeze}: {type(model).__name__} has {len(layers)} layers: expected at most that many."
        )
    for parameter in (*parameters_below(model, layers), *layers[:count].parameters()):
        parameter.requires_grad_(False)
    if count:
        for parameter in _trained_inputs(model, layers[count - 1], encoded):
            parameter.requires_grad_(False)


def has_unused(model: nn.Module, encoded: Encoded) -> bool:
    """Tells whether a batch may leave a trained parameter without a gradient.

    Some are used by no row, others by some rows only, as those of experts, or are left out at random.
    """
    if drops_layers(model):
        return True
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with _first_row(model, encoded) as inputs:
        gradients = torch.autograd.grad(model(**inputs).logits.sum(), trained, allow_unused=True)
    return any(gradient is None for gradient in gradients)


def _trained_inputs(model: nn.Module, layer: nn.Module, encoded: Encoded) -> list[nn.Parameter]:
    """Returns the parameters that are trained although the layer's output depends on them."""
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        values = output if isinstance(output, tuple) else (output,)
        outputs[:] = [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]

    hooks = [module.register_forward_hook(keep) for module in layer.modules()]  # the layer itself is called last
    with _first_row(model, encoded) as inputs:
        model(**inputs)
    for hook in hooks:
        hook.remove()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not outputs:
        return []
    gradients = torch.autograd.grad([output.sum() for output in outputs], trained, allow_unused=True)
    return [parameter for parameter, gradient in zip(trained, gradients, strict=True) if gradient is not None]


@contextmanager
def _first_row(model: nn.Module, encoded: Encoded) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the first row's inputs, while the model is in evaluation mode."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    yield cut_batch(encoded, np.zeros(1, np.int64)).to(device).inputs
    model.train(was_training)
