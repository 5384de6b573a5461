"""Dropout of the classification head alone, whatever the architecture calls it in its configuration."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from harness.engine.adaptations.float32_head import head_prefixes
from harness.errors import UserError


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
    heads = head_prefixes(model)
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Dropout) and f"{name}.".startswith(heads)]
    if not layers:
        raise UserError(
            f"--head-dropout {probability}: unsupported for the model type {model.config.model_type}: the head of "
            f"{type(model).__name__} has no dropout layer. Drop the flag."
        )
    layers[-1].p = probability
