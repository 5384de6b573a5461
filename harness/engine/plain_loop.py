"""A textbook training loop, the reference of the self-check: one process, one batch per step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from harness.engine.batches import cut_batch, rows_of_steps
from harness.engine.encoding import Encoded
from harness.facts.recipes import Recipe, StepPlan


def plain_loop(
    model: Any, optimizer: torch.optim.Optimizer, encoded: Encoded, plan: StepPlan, recipe: Recipe
) -> Iterator[tuple[float, float, float]]:
    """Yields (loss, gradient norm, learning rate) of each step."""
    per_epoch = math.ceil(len(encoded) / recipe.global_batch_size)
    total, warmup = per_epoch * recipe.epochs, min(int(recipe.warmup), per_epoch * recipe.epochs)
    peak, step = recipe.learning_rate, 0
    all_labels = torch.as_tensor(encoded.labels).to(model.device)
    model.train()
    for epoch in range(recipe.epochs):
        for rows in rows_of_steps(encoded.widths, plan, 1, epoch):
            rate = peak * (step / warmup if step < warmup else (total - step) / max(1, total - warmup))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = cut_batch(encoded, rows).to(model.device)
            assert batch.labels is not None
            balanced = all_labels if recipe.class_weights == "balanced" else None
            loss = _mean_loss(
                batch.scores(model(**batch.inputs).logits), batch.labels, balanced, recipe.label_smoothing or 0.0
            )
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm or math.inf)
            optimizer.step()
            step += 1
            yield loss.item(), norm.item(), rate


def _mean_loss(
    logits: torch.Tensor, labels: torch.Tensor, all_labels: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Returns torch's own loss, smoothed or with weights that balance the classes of `all_labels` if there are any."""
    weight: torch.Tensor | None
    if labels.ndim == 2:
        share = None if all_labels is None else all_labels.float().mean(dim=0)
        weight = None if share is None else 0.5 / torch.where(labels == 1, share, 1 - share)
        return nn.BCEWithLogitsLoss(weight)(logits, labels.float())
    if all_labels is None:
        return nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels)
    counts = torch.bincount(all_labels)
    weight = len(all_labels) / (len(counts) * counts)
    return nn.CrossEntropyLoss(weight, reduction="sum")(logits, labels) / len(labels)
