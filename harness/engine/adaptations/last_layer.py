"""The last layer computes only the first token, apart from keys and values: the head reads no other token.

Of the other tokens, a token needs only keys and values: its query and what follows its attention are its own. Without
dropout, logits and gradients stay the same up to rounding; with it, the last layer draws other masks. With six layers
this saves a seventh of the products with weight matrices, with twelve a fourteenth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

_AFTER_ATTENTION = {
    **dict.fromkeys(
        (
            "bert",
            "camembert",
            "convbert",
            "data2vec-text",
            "deberta",
            "deberta-v2",
            "electra",
            "ernie",
            "esm",
            "megatron-bert",
            "rembert",
            "roberta",
            "roberta-prelayernorm",
            "roformer",
            "xlm-roberta",
            "xlm-roberta-xl",
            "xmod",
        ),
        "attention.output",
    ),
    "distilbert": "sa_layer_norm",
    "mpnet": "attention.LayerNorm",
}
"""The module of a layer that follows attention, by model type, for models whose head reads the first token only."""

_QUERIES = ("attention.self.query", "attention.self.query_proj", "attention.q_lin", "attention.attn.q")
"""The names of the projection to queries in a layer of these models. DeBERTa's is one with those to keys and values."""


def limit_last_layer(model: PreTrainedModel) -> None:
    """Limits the last layer, apart from keys and values, to the first token; does nothing for unknown architectures.

    Models with code of their own stay whole, and those that compute the feed-forward part in chunks of several tokens.
    """
    name = _AFTER_ATTENTION.get(model.config.model_type)
    is_known = name is not None and type(model).__module__.startswith("transformers.")
    if not is_known or getattr(model.config, "chunk_size_feed_forward", 0) > 1:
        return
    modules = dict(model.base_model.named_modules())
    last = [path for path in modules if path.endswith(f".{name}")][-1].removesuffix(name)
    modules[last + name].register_forward_pre_hook(_keep_first_token)
    for query in filter(None, (modules.get(last + each) for each in _QUERIES)):
        query.__class__ = _FirstTokenLinear


class _FirstTokenLinear(nn.Linear):
    """A projection of the first token of [B, T, d]; its result is repeated for the others in a view, without memory."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens[:, :1].contiguous()).expand(-1, tokens.shape[1], -1)


def _keep_first_token(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the first token of each input, [B, 1, d] of [B, T, d], as contiguous tensors.

    Products with a strided view were rounded differently in a copy of the model.
    """
    return tuple(each[:, :1].contiguous() for each in inputs)
