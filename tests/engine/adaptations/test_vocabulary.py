"""A narrowed embedding trains as the whole one does and is restored to the whole one."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import BertModel, CanineConfig, CanineForSequenceClassification, T5Config, T5ForSequenceClassification

from harness.engine.adaptations import vocabulary
from harness.engine.batches import cut_batch
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps

ROWS = generated(40)


def train(model, recipe, rows=ROWS):
    plan = plan_steps(len(rows), recipe, 1)
    training = Training(Accelerator(cpu=True), model, create_optimizer(model, recipe, model.device), recipe, plan, rows)
    steps = [(step.loss, step.gradient_norm) for step in training_steps(training, seed=3)]
    return plan, steps


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "optimizer": "muon"},
        {"weight_decay": 0.1, "optimizer": "bertadam"},
        {"weight_decay": 0.1, "optimizer": "sgd", "learning_rate": 0.1},
        {"weight_decay": 0.1, "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1},
    ],
    ids=str,
)
def test_training_is_the_same_and_the_whole_embedding_is_restored(values):
    recipe = Recipe(**{"learning_rate": 1e-3, "global_batch_size": 16, "warmup": 2, **values})
    whole, narrowed = tiny_model(), tiny_model()
    assert vocabulary.narrow(narrowed, [ROWS, generated(5)])
    assert len(narrowed.get_input_embeddings().weight) < len(whole.get_input_embeddings().weight)
    _, expected = train(whole, recipe)
    plan, steps = train(narrowed, recipe)
    assert np.allclose(steps, expected, rtol=1e-6)
    vocabulary.widen(narrowed, recipe, plan, plan.total_steps)
    assert type(narrowed.get_input_embeddings()) is nn.Embedding
    ours, theirs = narrowed.state_dict(), whole.state_dict()
    assert list(ours) == list(theirs)
    name = "bert.embeddings.word_embeddings.weight"
    unused = sorted(set(range(len(theirs[name]))) - set(ROWS.tokens["input_ids"].tolist()))
    assert torch.allclose(ours[name][unused], theirs[name][unused], rtol=1e-6, atol=0)
    batch = cut_batch(ROWS, np.arange(40))
    with torch.inference_mode():
        logits = [model.eval()(**batch.inputs).logits for model in (narrowed, whole)]
    assert torch.allclose(*logits, atol=1e-5)


def test_embeddings_of_unused_tokens_do_not_change_without_decay():
    model = tiny_model()
    before = copy.deepcopy(model.get_input_embeddings().weight)
    vocabulary.narrow(model, [ROWS])
    recipe = Recipe(learning_rate=1e-2, global_batch_size=16, epochs=1)
    plan, _ = train(model, recipe)
    vocabulary.widen(model, recipe, plan, plan.total_steps)
    after = model.get_input_embeddings().weight
    used = np.unique(ROWS.tokens["input_ids"])
    unused = np.setdiff1d(np.arange(len(after)), used)
    assert torch.equal(after[unused], before[unused])
    assert (after[used] != before[used]).any(1).all()


def test_removed_token_is_an_error_and_not_the_embedding_of_another():
    model = tiny_model()
    vocabulary.narrow(model, [ROWS])
    missing = next(iter(set(range(5, 105)) - set(ROWS.tokens["input_ids"].tolist())))
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[missing]]))


def test_subclass_of_embedding_stays_whole():
    class Scaled(nn.Embedding):
        pass

    model = tiny_model()
    model.set_input_embeddings(Scaled(105, 32, padding_idx=0))
    assert not vocabulary.narrow(model, [ROWS])
    assert type(model.get_input_embeddings()) is Scaled
    vocabulary.widen(model, Recipe(), plan_steps(40, Recipe(), 1), 1)
    assert type(model.get_input_embeddings()) is Scaled


def test_padding_gets_no_gradient():
    model = tiny_model()
    vocabulary.narrow(model, [ROWS])
    embedding = model.get_input_embeddings()
    model(**cut_batch(ROWS, np.arange(8)).inputs).logits.sum().backward()
    assert (embedding.weight.grad[embedding.padding_idx] == 0).all()


def test_model_without_a_table_of_tokens_stays_whole():
    """CANINE hashes characters."""
    config = CanineConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_hash_buckets=8
    )
    model = CanineForSequenceClassification(config)
    assert not vocabulary.narrow(model, [ROWS])
    vocabulary.widen(model, Recipe(), plan_steps(len(ROWS), Recipe(), 1), 1)


def test_embedding_that_the_model_cannot_replace_stays_whole(monkeypatch):
    """A model with code of its own may have the getter without the setter."""
    model = tiny_model()
    whole = model.get_input_embeddings()
    monkeypatch.delattr(BertModel, "set_input_embeddings")
    assert not vocabulary.narrow(model, [ROWS])
    assert model.get_input_embeddings() is whole


def test_token_that_only_starts_a_decoder_stays():
    config = T5Config(
        vocab_size=99, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=98, eos_token_id=5
    )
    model = T5ForSequenceClassification(config)
    tokens = torch.tensor([[6, 7, 5]])
    expected = model.eval()(tokens).logits
    assert vocabulary.narrow(model, [ROWS])
    assert torch.allclose(model(tokens).logits, expected, atol=1e-6)
