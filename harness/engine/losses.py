"""The loss that training minimises: its sum over rows, and class weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def summed_loss(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Returns the sum over rows, in float32, of the loss of logits [B, C]; the caller divides by the rows of the step.

    A row's loss is its cross-entropy for class numbers [B], its squared error for logits [B, 1], and the mean over
    labels of the binary cross-entropies for label sets, 0 or 1 [B, C]. So the mean over rows is that of torch's
    CrossEntropyLoss, MSELoss and BCEWithLogitsLoss.

    `class_weights`, from `balanced_weights`, multiply a row's loss, or the loss of each of its labels. The caller still
    divides by rows, not by weights as CrossEntropyLoss(weight) does: a row then weighs the same in any step.

    `label_smoothing` E makes the target of class numbers 1 - E for the row's class plus E / C for every class, as in
    torch's cross_entropy. Class weights multiply the smoothed loss of the row.
    """
    assert labels is not None, "training rows need labels"
    logits = logits.float()
    if labels.ndim == 2:
        weights = None if class_weights is None else torch.where(labels > 0, class_weights[1], class_weights[0])
        total = functional.binary_cross_entropy_with_logits(logits, labels.float(), weights, reduction="sum")
        return total / labels.shape[1]
    if logits.shape[1] == 1:
        return functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")
    if class_weights is None:
        return functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
    losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (losses * class_weights[labels]).sum()


def balanced_weights(labels: NDArray[Any]) -> torch.Tensor:
    """Returns weights that give every class the same total weight over the training rows, and a row 1 on average.

    Class numbers [N] -> float32[highest class + 1]: n / (k n_c) for the n_c rows of class c among n rows of k classes,
    scikit-learn's class_weight="balanced". Label sets of 0 and 1 [N, C] -> float32[2, C]: the same for each label
    separately, with the classes off (row 0) and on (row 1). A class without rows weighs 0.
    """
    if labels.ndim == 1:
        return _weights(np.bincount(labels)[:, None])[:, 0]
    on = np.count_nonzero(labels, axis=0)
    return _weights(np.stack([len(labels) - on, on]))


def _weights(counts: NDArray[np.int64]) -> torch.Tensor:
    """Rows of each of K classes, for C separate labels [K, C] -> float32[K, C]."""
    occurring = np.count_nonzero(counts, axis=0)
    weights = counts.sum(axis=0) / (occurring * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 0.0).astype(np.float32))
