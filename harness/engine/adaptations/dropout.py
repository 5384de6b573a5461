"""Dropout with masks from random numbers drawn in bulk: drawing them one by one takes a third of a step on a CPU.

torch draws masks on a CPU with a sequential generator, and its attention leaves the fast path for them. A GPU does both
fast, so only models on a CPU are changed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "sdpa_with_bulk_dropout"
"""Name of `attention` among transformers' implementations."""

_LEVELS = 1 << 16
_source = np.random.SFC64(0)


def draw_in_bulk(model: PreTrainedModel) -> None:
    """Makes the model's dropout layers and its attention draw their masks in bulk.

    Subclasses of nn.Dropout, and attention other than torch's own, remain unchanged. So does that of a model, such as
    Falcon, that does not look its attention up among transformers' implementations but compares its name.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, BulkDropout(child.p).train(child.training))
    if model.config._attn_implementation == "sdpa" and model._supports_attention_backend:
        model.config._attn_implementation = ATTENTION


def restart_masks(*key: int) -> None:
    """Makes the next masks depend on `key` alone, integers from 0 such as (seed, process, step).

    A run calls it at every step, so that a checkpoint needs no state of the masks.
    """
    global _source
    _source = np.random.SFC64(list(key))


def dropout_share(p: float) -> float:
    """Returns the share that is really dropped for `p`: the nearest of 65,536 levels, at most 0.000008 away."""
    return _level(p) / _LEVELS


class BulkDropout(nn.Module):
    """An nn.Dropout that draws its masks in bulk."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return drop_out(values, self.p) if self.training and self.p > 0 else values


def drop_out(values: torch.Tensor, p: float) -> torch.Tensor:
    """Sets each value to 0 with probability `dropout_share(p)`, and scales the others so that the expectation stays."""
    count = values.numel()
    numbers = _source.random_raw(math.ceil(count / 4))  # 16 bits per value
    bits = torch.from_numpy(numbers.view(np.int16)[:count]).view(values.shape)
    mask = bits.ge_(_level(p) - _LEVELS // 2)  # 1 or 0: int16 converts to a float twice as fast as bool
    return values * mask.to(values.dtype).mul_(1 / (1 - dropout_share(p)))


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **special: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Computes softmax(q k' / sqrt(d)) v with dropout on the probabilities.

    q, k, v: [B, heads, T, d], result: [B, T, heads, d]. The numbers are those of transformers' eager attention; in bf16
    gradients differ by rounding. Without dropout, and for causal attention, grouped heads or position biases, it calls
    torch's own.
    """
    masks_future = getattr(module, "is_causal", False) if is_causal is None else is_causal
    is_special = (
        masks_future or getattr(module, "num_key_value_groups", 1) > 1 or special.get("position_bias") is not None
    )
    if dropout == 0 or is_special:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **special
        )
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(-1, -2))
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            lowest = torch.finfo(scores.dtype).min  # -inf would be NaN where every key is masked
            attention_mask = torch.zeros((), dtype=scores.dtype).masked_fill(~attention_mask, lowest)
        scores = scores + attention_mask
    probabilities = scores.softmax(-1)  # computed in float32, also for bf16
    return torch.matmul(drop_out(probabilities, dropout), value).transpose(1, 2).contiguous(), None


def _level(p: float) -> int:
    return min(round(p * _LEVELS), _LEVELS - 1)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
