"""The dropout of the encoder: embeddings, hidden states and attention."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from harness.engine.adaptations.head import head_prefixes
from harness.errors import UserError, boundary

_KEYS = """
    attention_dropout attention_probs_dropout_prob attn_pdrop dropout dropout_rate emb_pdrop embd_pdrop embed_dropout
    embedding_dropout hidden_dropout hidden_dropout_prob mlp_dropout resid_dropout resid_pdrop residual_dropout
""".split()
"""Configuration keys of the encoder's dropout, without those for activations alone."""

_UNREACHABLE = ("falcon", "mpt", "persimmon")
"""Model types that read their dropout elsewhere: at each step from the configuration, or from a nested one."""


def set_encoder_dropout(model: PreTrainedModel, probability: float | None) -> None:
    """Sets the encoder's dropout probabilities, as those keys would; None leaves them. The head keeps its own.

    The configuration stays unchanged, so that a run that starts from the saved model does not inherit the value.

    Raises:
        UserError: the model type has no encoder dropout that this flag can set.
    """
    if probability is None:
        return
    config = copy.deepcopy(model.config)
    unsupported = f"--encoder-dropout {probability}: unsupported for the model type {config.model_type}"
    for key in _KEYS:
        if isinstance(getattr(config, key, None), float | int):
            setattr(config, key, probability)
    with torch.device("meta"), boundary(unsupported, ValueError, advice="Drop the flag."):
        changed = type(model)._from_config(config)
    heads, probabilities = head_prefixes(model), set()
    for name, module in changed.named_modules():
        if f"{name}.".startswith(heads):
            continue
        own = model.get_submodule(name)
        if isinstance(module, nn.Dropout) or isinstance(own, nn.Dropout):  # some models have another module for 0
            model.set_submodule(name, module.train(own.training))
            probabilities.add(getattr(module, "p", None))
        else:
            values = {key: value for key, value in vars(module).items() if "drop" in key and isinstance(value, float)}
            vars(own).update(values)
            probabilities.update(values.values())
    if probability not in probabilities or config.model_type in _UNREACHABLE:
        raise UserError(f"{unsupported}: it has no dropout that this flag can set. Drop the flag.")
