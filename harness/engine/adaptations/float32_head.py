"""The head in float32: under bf16 or fp16, logits would be rounded to 8 or 11 bits and tie rows that differ."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel


def head_prefixes(model: PreTrainedModel) -> tuple[str, ...]:
    """Prefixes of the names of everything above the encoder, such as `("classifier.",)`."""
    return tuple(f"{name}." for name, _ in model.named_children() if name != model.base_model_prefix)


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 also under autocast; its parameters keep their names."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return functional.linear(values.float(), self.weight, self.bias)


def compute_head_in_float32(model: PreTrainedModel) -> None:
    """Lets every linear layer of the head compute in float32. Layers derived from nn.Linear stay as they are."""
    prefixes = head_prefixes(model)
    for name, module in model.named_modules():
        if type(module) is nn.Linear and f"{name}.".startswith(prefixes):
            module.__class__ = Float32Linear
