"""Freezing: parameters without a gradient from the logits are not trained, and nothing else about the model changes."""

import torch
from torch import nn

from harness.commands.selfcheck import generated, tiny_model
from harness.engine.adaptations.freezing import freeze_unused

ROWS = generated(3)


def test_parameters_that_the_logits_do_not_depend_on_are_frozen():
    model = tiny_model()
    model.unused = nn.Linear(3, 3)
    freeze_unused(model, ROWS)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"unused.weight", "unused.bias"}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parameters_stay_frozen():
    model = tiny_model()
    model.get_input_embeddings().weight.requires_grad_(False)
    freeze_unused(model, ROWS)
    assert not model.get_input_embeddings().weight.requires_grad
    assert model.classifier.weight.requires_grad


def test_mode_and_random_state_do_not_change():
    model, before = tiny_model(dropout=0.5).train(), torch.get_rng_state()
    freeze_unused(model, ROWS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
