"""The loop of a textbook, which the self-check compares the harness with: one process, one batch a step."""

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
    """(loss, gradient norm, learning rate) of each step."""
    per_epoch = math.ceil(len(encoded) / recipe.global_batch_size)
    total, warmup = per_epoch * recipe.epochs, min(int(recipe.warmup), per_epoch * recipe.epochs)
    peak, done = recipe.learning_rate, 0
    every_label = torch.as_tensor(encoded.labels).to(model.device)
    model.train()
    for epoch in range(recipe.epochs):
        for rows in rows_of_steps(encoded.lengths, plan, 1, epoch):
            rate = peak * (done / warmup if done < warmup else (total - done) / max(1, total - warmup))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = cut_batch(encoded, rows).to(model.device)
            assert batch.labels is not None
            is_balanced = recipe.class_weights == "balanced"
            loss = _mean_loss(model(**batch.inputs).logits, batch.labels, every_label if is_balanced else None)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm or math.inf)
            optimizer.step()
            done += 1
            yield loss.item(), norm.item(), rate


def _mean_loss(logits: torch.Tensor, labels: torch.Tensor, every_label: torch.Tensor | None) -> torch.Tensor:
    """torch's own loss, with classes balanced over `every_label` where that is given."""
    weight: torch.Tensor | None
    if labels.ndim == 2:
        share = None if every_label is None else every_label.float().mean(dim=0)
        weight = None if share is None else 0.5 / torch.where(labels == 1, share, 1 - share)
        return nn.BCEWithLogitsLoss(weight)(logits, labels.float())
    if every_label is None:
        return nn.CrossEntropyLoss()(logits, labels)
    counts = torch.bincount(every_label)
    weight = len(every_label) / (len(counts) * counts)
    return nn.CrossEntropyLoss(weight, reduction="sum")(logits, labels) / len(labels)
