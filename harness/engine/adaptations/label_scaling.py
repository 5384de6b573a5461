"""Scaled labels of a regression: the head learns them, and its scores keep the unit of the labels.

A new head predicts about 0, and learns slowly to predict values that are far from it or far apart. So the output of its
last layer is multiplied by a scale and moved by a shift, from the training labels. Scores, predictions and losses keep
the unit of the labels; only the gradient is that of the scaled ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from harness.engine.adaptations.head import Float32Linear, head_modules
from harness.errors import UserError

LARGE_LABEL = 10.0
"""Absolute value of a label from which scaling is advised: a new head predicts about 0."""


class RescaledLinear(Float32Linear):
    """A linear layer whose output is `shift + scale * (W x + b)`."""

    scale: float
    shift: float

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.shift + self.scale * super().forward(values)


def scale_labels(model: PreTrainedModel, scaling: str | None, labels: NDArray[Any] | None) -> None:
    """Makes the head of a regression learn scaled labels, of the training rows, [N]; None changes nothing.

    unit: the lowest label becomes 0 and the highest 1. standard: the labels get the mean 0 and the variance 1.

    Raises:
        UserError: the labels are equal, or the head ends in no linear layer, or in one that lacks a bias for the shift.
    """
    if scaling is None:
        return
    assert labels is not None, "training rows need labels"
    shift, scale = (labels.min(), labels.max() - labels.min()) if scaling == "unit" else (labels.mean(), labels.std())
    if not scale:
        raise UserError(f"--label-scaling {scaling}: all training rows have the label {shift:g}. Drop the flag.")
    linear = [each for each in head_modules(model) if isinstance(each, nn.Linear) and each.out_features == 1]
    last = linear[-1] if linear else None
    if not isinstance(last, Float32Linear) or (getattr(last, "bias", None) is None and shift):
        raise UserError(
            f"--label-scaling {scaling}: unsupported for the model type {model.config.model_type}: the head of "
            f"{type(model).__name__} does not end in a linear layer with a bias. Drop the flag."
        )
    rescaled: Any = last  # its parameters keep their names
    rescaled.__class__ = RescaledLinear
    rescaled.scale, rescaled.shift = float(scale), float(shift)


def advice(scaling: str | None, labels: NDArray[Any] | None) -> str:
    """Returns advice to scale the labels of a regression, [N], empty where they are scaled or small."""
    if scaling is not None or labels is None or np.abs(labels).max() <= LARGE_LABEL:
        return ""
    return (
        f"labels from {labels.min():g} to {labels.max():g}: a new head predicts about 0 and learns them slowly; "
        "--label-scaling standard trains on labels of mean 0 and variance 1"
    )


def loss_unit(model: nn.Module) -> float:
    """Returns the squared error that is 1 on the scale of the learned labels; 1 if they are not scaled."""
    return float(next((last.scale**2 for last in _rescaled(model)), 1.0))


def fold(model: nn.Module) -> None:
    """Puts scale and shift into the weights of the last layer: the model is an ordinary one again.

    Its scores differ by the rounding of one product and one sum.
    """
    for last in _rescaled(model):
        with torch.no_grad():
            last.weight.mul_(last.scale)
            if last.bias is not None:
                last.bias.mul_(last.scale).add_(last.shift)
        last.__class__ = Float32Linear


def _rescaled(model: nn.Module) -> list[Any]:
    """Returns the rescaled layers of a model: the last one of its head, or none."""
    return [module for module in model.modules() if isinstance(module, RescaledLinear)]
