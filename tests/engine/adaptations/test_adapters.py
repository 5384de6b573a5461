"""Adapters: what they train and freeze, merging and loading, and layers that a model does not have."""

import copy
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from harness.engine.adaptations import adapt, adapters, restore
from harness.engine.adaptations.dropout import BulkDropout
from harness.engine.batches import cut_batch
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps

ROWS = generated(40)
INPUTS = cut_batch(ROWS, np.arange(len(ROWS))).inputs
IN_PEFT = ("lora", "dora", "ia3")
CONDITIONS = dict(is_compiled=False, narrows_vocabulary=True)


def recipe_with(kind, **changes):
    if kind != "bitfit":
        pytest.importorskip("peft")
    return Recipe(adapter=kind, learning_rate=3e-2, global_batch_size=16, epochs=2, **changes)


def attached(recipe, seed=1, **settings):
    model = tiny_model()
    adapters.attach(model, recipe, seed, **settings)
    return model.eval()


def trained(model, recipe):
    """Trains the model, and returns its logits before and after it is restored, and its adapter."""
    plan = plan_steps(len(ROWS), recipe, 1)
    adapt(model, {"train": ROWS}, torch.device("cpu"), **CONDITIONS)
    training = Training(Accelerator(cpu=True), model, create_optimizer(model, recipe, model.device), recipe, plan, ROWS)
    steps = list(training_steps(training, seed=3))
    before = logits(model)
    files = restore(model, recipe, plan, len(steps))
    return before, logits(model), files


def logits(model):
    with torch.inference_mode():
        return model.eval()(**INPUTS).logits


@pytest.mark.parametrize("kind", [*IN_PEFT, "bitfit"])
def test_only_adapter_and_head_change_and_the_merged_model_gives_the_same_logits(kind):
    recipe = recipe_with(kind, weight_decay=0.1)
    model, start = attached(recipe), tiny_model()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert torch.equal(logits(model), logits(start))
    before, after, _ = trained(model, recipe)
    assert torch.allclose(before, after, atol=1e-6)
    assert (after - logits(start)).abs().max() > 1e-2
    state, old = model.state_dict(), start.state_dict()
    assert list(state) == list(old)
    plain = [name for name in old if name in frozen]
    assert "bert.embeddings.word_embeddings.weight" in plain
    assert all(torch.equal(state[name], old[name]) for name in plain)
    assert not torch.equal(state["classifier.weight"], old["classifier.weight"])
    changed = {name for name in old if not torch.equal(state[name], old[name])}
    value = "bert.encoder.layer.0.attention.self.value"
    assert (f"{value}.weight" in changed) == (kind != "bitfit")
    assert (f"{value}.bias" in changed) == (kind == "bitfit")


def test_bitfit_trains_the_biases_and_the_head():
    model = attached(recipe_with("bitfit"))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name, _ in model.named_parameters() if name.endswith("bias")} | {"classifier.weight"}
    assert names == expected
    assert adapters.trained_parameters(model) == sum(model.get_parameter(name).numel() for name in expected)


def test_new_modules_of_the_encoder_are_trained_in_full():
    model = attached(recipe_with("lora"), new_modules=["bert.pooler"])
    assert model.bert.pooler.dense.weight.requires_grad
    files = adapters.extract(model)
    assert "base_model.model.bert.pooler.dense.weight" in files.weights
    assert set(files.config["modules_to_save"]) == {"classifier", "bert.pooler"}


@pytest.mark.parametrize("kind", IN_PEFT)
def test_loaded_adapter_gives_the_logits_of_the_saved_one(kind):
    recipe = recipe_with(kind)
    before, _, files = trained(attached(recipe), recipe)
    model = attached(recipe, seed=2)
    adapters.load(model, files.weights, with_head=True)
    assert torch.allclose(logits(model), before, atol=1e-6)
    assert adapters.extract(model).base_sha256 == files.base_sha256
    other = attached(recipe)
    with torch.no_grad():
        other.bert.embeddings.LayerNorm.weight.add_(1e-3)
    assert adapters.extract(other).base_sha256 != files.base_sha256
    head = attached(recipe, seed=2)
    adapters.load(head, files.weights, with_head=False)
    assert torch.equal(head.classifier.weight, tiny_model().classifier.weight)
    assert not torch.allclose(logits(head), logits(tiny_model()), atol=1e-6)


def test_weights_of_another_adapter_are_refused():
    files = adapters.extract(attached(recipe_with("lora", adapter_rank=4)))
    for recipe in (recipe_with("lora"), recipe_with("ia3")):
        with pytest.raises(UserError):
            adapters.load(attached(recipe), files.weights, with_head=True)


def test_settings_reach_the_adapter():
    recipe = recipe_with(
        "lora", adapter_rank=2, adapter_alpha=32.0, adapter_dropout=0.25, adapter_targets="key, intermediate.dense"
    )
    model = attached(recipe)
    layer = model.bert.encoder.layer[0].intermediate.dense
    assert layer.lora_A["default"].weight.shape[0] == 2
    assert layer.scaling["default"] == 16
    assert type(model.bert.encoder.layer[0].attention.self.query) is nn.Linear
    assert type(model.bert.pooler.dense) is nn.Linear
    adapt(model, {"train": ROWS}, torch.device("cpu"), **CONDITIONS)
    dropout = layer.lora_dropout["default"]
    assert isinstance(dropout, BulkDropout)
    assert dropout.p == 0.25


def test_the_seed_decides_the_weights():
    def first(seed):
        return attached(recipe_with("lora"), seed).bert.encoder.layer[0].attention.self.query.lora_A["default"].weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_head_is_no_target():
    model = attached(recipe_with("lora", adapter_targets="query,pooler.dense"), new_modules=["bert.encoder.layer.1"])
    assert type(model.bert.encoder.layer[1].attention.self.query) is nn.Linear
    assert type(model.bert.encoder.layer[0].attention.self.query) is not nn.Linear


def test_unknown_target_gets_the_nearest_name():
    with pytest.raises(UserError, match=r"--adapter-targets quary.*Did you mean 'query'"):
        attached(recipe_with("lora", adapter_targets="quary"))
    with pytest.raises(UserError, match="--adapter-targets classifier"):
        attached(recipe_with("lora", adapter_targets="query,classifier"))


def test_architecture_without_defaults_in_peft_needs_targets():
    recipe, model = recipe_with("lora"), copy.deepcopy(tiny_model())
    model.config.model_type = "distilbert"
    with pytest.raises(UserError, match=r"distilbert.*--adapter-targets.*query"):
        adapters.attach(model, recipe, 1)
    adapters.attach(model, recipe_with("lora", adapter_targets="query"), 1)


def test_bitfit_needs_biases():
    model = tiny_model()
    for module in model.bert.modules():
        if getattr(module, "bias", None) is not None:
            module.bias = None
    with pytest.raises(UserError, match="--adapter bitfit"):
        adapters.attach(model, recipe_with("bitfit"), 1)


def test_missing_peft_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install glue-harness\[peft\]"):
        adapters.attach(tiny_model(), Recipe(adapter="lora"), 1)
