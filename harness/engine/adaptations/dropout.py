"""Dropout whose masks are cut from random numbers drawn in bulk: drawn one by one they are a third of a CPU's step.

torch draws masks on a CPU with a sequential generator, and its attention leaves the fast path for them. A GPU does both
well, so only models on a CPU are changed.
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
    """Lets the model's dropout, and that within its attention, take their masks from here.

    Modules derived from nn.Dropout, and attention that is not torch's own, stay as they are.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, BulkDropout(child.p).train(child.training))
    if model.config._attn_implementation == "sdpa":
        model.config._attn_implementation = ATTENTION


def restart(*key: int) -> None:
    """From here on masks follow from `key` alone, such as (seed, process, step); numbers from 0.

    A run restarts them at every step, so they have no state that a checkpoint must hold.
    """
    global _source
    _source = np.random.SFC64(list(key))


def share_of(p: float) -> float:
    """The share that is dropped when `p` is asked for: the nearest of 65,536 steps, at most 0.000008 away."""
    return _level(p) / _LEVELS


class BulkDropout(nn.Module):
    """As nn.Dropout."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return dropped_out(values, self.p) if self.training and self.p > 0 else values

    def extra_repr(self) -> str:
        return f"p={self.p}"


def dropped_out(values: torch.Tensor, p: float) -> torch.Tensor:
    """`values`, each of them 0 with probability `share_of(p)` or else scaled up so that its expectation stays."""
    count = values.numel()
    numbers = _source.random_raw(math.ceil(count / 4))  # 64 bits are enough for four
    bits = torch.from_numpy(numbers.view(np.int16)[:count]).view(values.shape)
    keeps = bits >= _level(p) - _LEVELS // 2
    return values * keeps.to(values.dtype).mul_(1 / (1 - share_of(p)))


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
    """softmax(q k' / sqrt(d)) v with dropout on the probabilities; q, k, v: [B, heads, T, d], result [B, T, heads, d].

    As transformers' eager attention computes it, under autocast too. Without dropout, or for attention that is more
    than this (causal, grouped heads, position biases), it is torch's own.
    """
    causes = getattr(module, "is_causal", False) if is_causal is None else is_causal
    is_special = causes or getattr(module, "num_key_value_groups", 1) > 1 or special.get("position_bias") is not None
    if dropout == 0 or is_special:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **special
        )
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(-1, -2))
    if attention_mask is not None:
        is_kept = attention_mask.dtype == torch.bool
        scores = scores.masked_fill(~attention_mask, -math.inf) if is_kept else scores + attention_mask
    shares = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(dropped_out(shares, dropout), value).transpose(1, 2).contiguous(), None


def _level(p: float) -> int:
    return min(round(p * _LEVELS), _LEVELS - 1)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
