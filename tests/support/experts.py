"""Training of a model whose parameters are not all used by every row, on any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.engine.adaptations import adapt
from harness.engine.checkpoints import Checkpoint, check_fit, load_checkpoint, newest_checkpoint, save_checkpoint
from harness.engine.deployment import start
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import CLASSES, generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps


class Experts(nn.Module):
    """A head with an expert for each sign of a feature, and one that no row is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.experts = nn.ModuleList(nn.Linear(width, CLASSES) for _ in range(3))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        logits = values.new_zeros(len(values), CLASSES)
        for number, expert in enumerate(self.experts[:2]):
            rows = ((values[:, 0] > 0) == bool(number)).nonzero()[:, 0]
            if len(rows):
                logits = logits.index_add(0, rows, expert(values[rows]))
        return logits


def experts_model() -> Any:
    """The tiny BERT with a head of experts."""
    model = tiny_model()
    model.classifier = Experts(model.config.hidden_size)
    return model


def main(arguments: list[str]) -> None:
    """Trains after the newest checkpoint in the folder that the first argument names, and saves one at the end.

    The other arguments are the steps that are taken in all, and the optimizer.
    """
    folder, steps, optimizer = Path(arguments[0]), int(arguments[1]), arguments[2]
    recipe = Recipe(learning_rate=0.01, global_batch_size=6, max_steps=8, weight_decay=0.1, optimizer=optimizer)
    accelerator, model, rows = start("fp32", True, None, folder), experts_model(), generated(20)
    adapt(model, {"train": rows}, model.device, is_compiled=False, narrows_vocabulary=True)
    plan = plan_steps(len(rows), recipe, accelerator.num_processes, 1)
    training = Training(accelerator, model, create_optimizer(model, recipe, model.device), recipe, plan, rows)
    after = 0
    if (path := newest_checkpoint(folder, print)) is not None:
        saved = load_checkpoint(accelerator, path)
        check_fit(saved, training)
        training.set_state(saved.state)
        after = saved.progress["step"]
    for step in training_steps(training, 1, after):
        if step.number == steps:
            break
    save_checkpoint(accelerator, folder, Checkpoint(training.state(), None, {"step": steps}))
