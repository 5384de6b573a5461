"""The classification head: its names, its computation in float32, and its dropout.

bf16 or fp16 would round logits to 8 or 11 bits, so that different rows tie.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from harness.errors import UserError


def head_prefixes(model: PreTrainedModel) -> tuple[str, ...]:
    """Returns the prefixes of all names above the encoder, such as `("classifier.",)`."""
    return tuple(f"{name}." for name, _ in model.named_children() if name != model.base_model_prefix)


def head_modules(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Yields the modules of the head in the model's order."""
    prefixes = head_prefixes(model)
    return (module for name, module in model.named_modules() if f"{name}.".startswith(prefixes))


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 even under autocast; its parameters keep their names."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()  # FSDP and DeepSpeed may shorten weights
            return functional.linear(values.float(), self.weight.float(), bias)


def compute_head_in_float32(model: PreTrainedModel) -> None:
    """Makes every nn.Linear of the head compute in float32. Subclasses of nn.Linear remain unchanged."""
    for module in head_modules(model):
        if type(module) is nn.Linear:
            module.__class__ = Float32Linear


def set_head_dropout(model: PreTrainedModel, probability: float | None) -> None:
    """Sets the probability of the head's last dropout layer, whose output the classifier reads; None leaves it.

    The layer is the one that `classifier_dropout`, `cls_dropout`, `seq_classif_dropout`, `summary_last_dropout` and
    other keys of configurations mean. The configuration stays that of the checkpoint, so that a saved model passes its
    recipe on to no other run.

    Raises:
        UserError: the head has no dropout layer.
    """
    if probability is None:
        return
    layers = [module for module in head_modules(model) if isinstance(module, nn.Dropout)]
    if not layers:
        raise UserError(
            f"--head-dropout {probability}: unsupported for the model type {model.config.model_type}: the head of "
            f"{type(model).__name__} has no dropout layer. Drop the flag."
        )
    layers[-1].p = probability
