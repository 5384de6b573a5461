"""The last layer, computed for the first token alone once it has attended: the head reads no other token.

What follows attention in a layer works on each token by itself, so the logits and all gradients stay the same. With six
layers an eighth of a step's matrix products is left out, with twelve a sixteenth.
"""

from __future__ import annotations

from typing import Any

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


def compute_first_token(model: PreTrainedModel) -> None:
    """Makes the last layer compute its part after attention for the first token alone, where the architecture is known.

    It changes no weight. Code that comes with a model is unknown, whatever its model type.
    """
    name = _AFTER_ATTENTION.get(model.config.model_type)
    if name is None or not type(model).__module__.startswith("transformers."):
        return
    modules = [module for path, module in model.base_model.named_modules() if path.endswith(f".{name}")]
    modules[-1].register_forward_pre_hook(_keep_first_token)


def _keep_first_token(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the first token of each input, [B, 1, d] of [B, T, d], in memory of its own.

    In a view, a copy of the model gave logits that differed in their last bit.
    """
    return tuple(each[:, :1].contiguous() for each in inputs)
