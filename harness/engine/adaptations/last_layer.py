"""The last layer computes only the first token after its self-attention: the head reads no other.

What follows attention in a layer works on each token by itself. Without dropout, logits and gradients stay the same up
to rounding; with it, the last layer draws other masks. With six layers this saves an eighth of the products with weight
matrices, with twelve a sixteenth.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

_AFTER_ATTENTION = {
    **dict.fromkeys(
        """
        bert camembert convbert data2vec-text deberta deberta-v2 electra ernie esm megatron-bert rembert roberta
        roberta-prelayernorm roformer xlm-roberta xlm-roberta-xl xmod
        """.split(),
        "attention.output",
    ),
    "distilbert": "sa_layer_norm",
    "mpnet": "attention.LayerNorm",
}
"""The module of a layer that follows attention, by model type, for models whose head reads the first token only."""


def limit_last_layer(model: PreTrainedModel) -> None:
    """Limits the last layer, after its self-attention, to the first token; does nothing for unknown architectures.

    Models with code of their own stay whole, and those that compute the feed-forward part in chunks of several tokens.
    """
    name = _AFTER_ATTENTION.get(model.config.model_type)
    is_known = name is not None and type(model).__module__.startswith("transformers.")
    if not is_known or getattr(model.config, "chunk_size_feed_forward", 0) > 1:
        return
    modules = [module for path, module in model.base_model.named_modules() if path.endswith(f".{name}")]
    modules[-1].register_forward_pre_hook(_keep_first_token)


def _keep_first_token(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the first token of each input, [B, 1, d] of [B, T, d], as contiguous tensors.

    Products with a strided view were rounded differently in a copy of the model.
    """
    return tuple(each[:, :1].contiguous() for each in inputs)
