"""All adaptations together: the order in which they are applied, and what `restore` gives back."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from harness.engine.adaptations import adapt, restore
from harness.engine.adaptations.dropout import BulkDropout
from harness.engine.adaptations.vocabulary import NarrowedEmbedding
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps

ROWS = generated(40)
USED = np.unique(ROWS.tokens["input_ids"])
RECIPE = Recipe(learning_rate=1e-2, global_batch_size=16, epochs=1, weight_decay=0.1)
PLAN = plan_steps(len(ROWS), RECIPE, 1)
USUAL = dict(is_compiled=False, narrows_vocabulary=True)


def adapted(model, **conditions):
    adapt(model, {"train": ROWS}, torch.device("cpu"), **{**USUAL, **conditions})
    return model


def train(model):
    training = Training(Accelerator(cpu=True), model, create_optimizer(model, RECIPE, model.device), RECIPE, PLAN, ROWS)
    return list(training_steps(training, seed=3))


def test_adapted_and_restored_model_has_its_whole_vocabulary():
    model, before = adapted(tiny_model(dropout=0.1)), tiny_model().state_dict()
    assert model.get_input_embeddings().weight.shape[0] < len(before["bert.embeddings.word_embeddings.weight"])
    restore(model, RECIPE, PLAN, steps=0)
    assert type(model.get_input_embeddings()) is nn.Embedding
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_frozen_embedding_stays_frozen_when_it_is_narrowed_and_does_not_decay():
    model = tiny_model()
    model.get_input_embeddings().weight.requires_grad_(False)
    before = copy.deepcopy(model.get_input_embeddings().weight)
    adapted(model)
    assert isinstance(model.get_input_embeddings(), NarrowedEmbedding)
    assert not model.get_input_embeddings().weight.requires_grad
    restore(model, RECIPE, PLAN, len(train(model)))
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_unused_rows_of_a_trained_embedding_decay():
    model = tiny_model()
    before = copy.deepcopy(model.get_input_embeddings().weight)
    restore(adapted(model), RECIPE, PLAN, len(train(model)))
    after = model.get_input_embeddings().weight
    unused = np.setdiff1d(np.arange(len(after)), USED)
    factors = after[unused] / before[unused]
    factors = factors[torch.isfinite(factors)]
    assert 0.99 < factors.min() <= factors.max() < 1
    assert torch.allclose(factors, factors[0], rtol=1e-5)


@pytest.mark.parametrize("conditions", [dict(is_compiled=True), dict(narrows_vocabulary=False)], ids=str)
def test_conditions_decide_which_adaptations_are_applied(conditions):
    model = adapted(tiny_model(dropout=0.1), **conditions)
    has_bulk_dropout = any(isinstance(module, BulkDropout) for module in model.modules())
    assert has_bulk_dropout == ("is_compiled" not in conditions)
    is_narrowed = isinstance(model.get_input_embeddings(), NarrowedEmbedding)
    assert is_narrowed == ("narrows_vocabulary" not in conditions)
