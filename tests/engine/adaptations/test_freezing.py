"""Freezing of the lowest layers, and of nothing else; models with parameters that a batch may not use."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from support.architectures import tiny_config
from torch import nn
from transformers import AutoModelForSequenceClassification

from harness.engine.adaptations import adapt, restore
from harness.engine.adaptations.freezing import freeze_lowest, has_unused
from harness.engine.batches import cut_batch
from harness.engine.encoding import Encoded
from harness.engine.memory import plan_that_fits
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps

ROWS = generated(3)


def frozen_in(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def model_of(model_type, **settings):
    """A tiny model that reads the generated rows."""
    config = tiny_config(model_type, **dict(vocab_size=64, pad_token_id=0, num_labels=3) | settings)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize(
    "freeze, prefixes",
    [
        (None, ()),
        ("embeddings", ("bert.embeddings.",)),
        (1, ("bert.embeddings.", "bert.encoder.layer.0.")),
        (2, ("bert.embeddings.", "bert.encoder.")),
    ],
)
def test_embeddings_and_lowest_layers_are_frozen(freeze, prefixes):
    model = tiny_model()
    freeze_lowest(model, freeze, ROWS)
    assert frozen_in(model) == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize(
    "model_type, settings",
    [("deberta-v2", {"norm_rel_ebd": "layer_norm"}), ("mpnet", {}), ("xlnet", {}), ("gpt2", {}), ("modernbert", {})],
)
def test_nothing_below_the_lowest_trained_layer_computes_a_gradient(model_type, settings):
    """DeBERTa v3 normalises the relative positions of all its layers in a module that is in none of them."""
    model, hidden = model_of(model_type, **settings), []
    rows = Encoded({"input_ids": ROWS.tokens["input_ids"]}, ROWS.offsets, {"input_ids": 0}, ROWS.labels)
    freeze_lowest(model, 1, rows)
    (stack,) = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == 2]
    hook = stack[0].register_forward_hook(lambda module, inputs, output: hidden.append(output))
    model.train()
    model(**cut_batch(rows, np.arange(2)).inputs).logits.sum().backward()
    hook.remove()
    first = hidden[0][0] if isinstance(hidden[0], tuple) else hidden[0]
    assert not first.requires_grad
    assert all(parameter.grad is None for parameter in stack[0].parameters())
    assert all(parameter.requires_grad for parameter in stack[1].parameters())
    assert any(parameter.grad is not None for parameter in stack[1].parameters())


def test_more_layers_than_the_model_has_and_shared_layers_are_refused():
    with pytest.raises(UserError, match=r"--freeze 3: .* 2 layers"):
        freeze_lowest(tiny_model(), 3, ROWS)
    with pytest.raises(UserError, match="--freeze 1: unsupported for AlbertForSequenceClassification"):
        freeze_lowest(model_of("albert"), 1, ROWS)


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_frozen_weights_have_no_state_in_the_optimizer_and_do_not_change(layer_decay):
    """Neither by weight decay, nor by the narrowed vocabulary, nor by the trial of memory."""
    recipe = Recipe(global_batch_size=8, epochs=1, weight_decay=0.1, learning_rate=0.01, layer_decay=layer_decay)
    model, rows, accelerator = tiny_model(), generated(20), Accelerator(cpu=True)
    before, plan = copy.deepcopy(model.state_dict()), plan_steps(20, recipe, 1)
    freeze_lowest(model, 1, rows)
    frozen = frozen_in(model)
    adapt(model, {"train": rows}, model.device, is_compiled=False, narrows_vocabulary=True)
    optimizer = create_optimizer(model, recipe, model.device)
    assert plan_that_fits(accelerator, model, optimizer, rows, plan) == plan
    assert frozen_in(model) == frozen
    training = Training(accelerator, model, optimizer, recipe, plan, rows)
    steps = list(training_steps(training, seed=0))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert training.optimizer.state.keys() == set(trained)
    assert training.weights().keys().isdisjoint(frozen)
    restore(model, recipe, plan, len(steps))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == before.keys() - frozen - {name for name in before if name.endswith("position_ids")}


def test_parameters_that_the_logits_do_not_depend_on_are_unused_unless_they_are_frozen():
    model = tiny_model()
    model.get_input_embeddings().weight.requires_grad_(False)
    assert not has_unused(model, ROWS)
    model.unused = nn.Linear(3, 3)
    assert has_unused(model, ROWS)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.unused.requires_grad_(False)
    assert not has_unused(model, ROWS)


@pytest.mark.parametrize("probability", [0.0, 0.2])
def test_layers_that_are_left_out_at_random_may_be_unused(probability):
    rows = Encoded({"input_ids": ROWS.tokens["input_ids"]}, ROWS.offsets, {"input_ids": 0}, ROWS.labels)
    assert has_unused(model_of("flaubert", layerdrop=probability), rows) == bool(probability)


@pytest.mark.parametrize("function", [has_unused, lambda model, rows: freeze_lowest(model, 1, rows)])
def test_mode_and_random_state_do_not_change(function):
    model, before = tiny_model(dropout=0.5).train(), torch.get_rng_state()
    function(model, ROWS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
