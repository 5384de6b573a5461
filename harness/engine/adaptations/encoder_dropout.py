"""Another dropout probability of the encoder: of its embeddings, hidden states and attention."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from harness.engine.adaptations.head import head_prefixes
from harness.errors import UserError, boundary

_KEYS = (
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "dropout",
    "dropout_rate",
    "emb_pdrop",
    "embd_pdrop",
    "embed_dropout",
    "embedding_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "mlp_dropout",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
)
"""The keys of configurations for it. Dropout after an activation within a layer, which papers state apart, is not set."""

_NOT_COMPUTED = ("falcon", "mpt")
"""Model types whose code ignores the keys that their configuration has."""


def set_encoder_dropout(model: PreTrainedModel, probability: float | None) -> None:
    """Gives the encoder the dropout of a model whose configuration has this probability; None leaves it.

    The head keeps its own. The configuration stays that of the checkpoint, so that a saved model passes its recipe on to
    no other run.

    Raises:
        UserError: the encoder of this model type has no dropout, or supports none above 0.
    """
    if probability is None:
        return
    config = copy.deepcopy(model.config)
    unsupported = f"--encoder-dropout {probability}: unsupported for the model type {config.model_type}"
    keys = [key for key in _KEYS if isinstance(getattr(config, key, None), float | int)]
    if not keys or config.model_type in _NOT_COMPUTED:
        raise UserError(f"{unsupported}: it has no dropout of the encoder. Drop the flag.")
    for key in keys:
        setattr(config, key, probability)
    with torch.device("meta"), boundary(unsupported, ValueError, advice="Drop the flag."):
        changed = type(model)._from_config(config)
    heads = head_prefixes(model)
    for name, module in changed.named_modules():
        if f"{name}.".startswith(heads):
            continue
        if isinstance(module, nn.Dropout):  # some models have another module in its place where it is 0
            model.set_submodule(name, module)
        else:
            own = model.get_submodule(name)
            values = {key: value for key, value in vars(module).items() if "drop" in key and isinstance(value, float)}
            for key, value in values.items():
                setattr(own, key, value)
