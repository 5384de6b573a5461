"""Layer-wise decay: each layer's rate by hand, in the optimizer, and for the embeddings that are set aside."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
)

from harness.engine.adaptations import vocabulary
from harness.engine.layers import rate_factors
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, plans, tiny_model
from harness.engine.training import Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe

CPU = torch.device("cpu")
HEADS = dict(encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
SMALL = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8, vocab_size=64)


def factors_of(model: PreTrainedModel, **recipe: object) -> dict[str, float]:
    factors = rate_factors(model, Recipe(layer_decay=0.5, **recipe))  # type: ignore[arg-type]
    return {name: factors.get(id(parameter), 1.0) for name, parameter in model.named_parameters()}


def test_factors_of_bert_by_hand() -> None:
    """Two layers: 0.5 for the upper, 0.25 for the lower, 0.125 for the embeddings; pooler and head have 1."""
    expected = {"bert.embeddings.": 0.125, "bert.encoder.layer.0.": 0.25, "bert.encoder.layer.1.": 0.5}
    for name, factor in factors_of(tiny_model()).items():
        assert factor == next((value for part, value in expected.items() if name.startswith(part)), 1.0), name


def test_factors_of_electra_are_those_of_its_code() -> None:
    """decay^(layers + 2 - depth), where the embeddings and their projection have depth 0 and layer l has l."""
    model = ElectraForSequenceClassification(ElectraConfig(num_hidden_layers=3, embedding_size=4, **SMALL))
    expected = {"embeddings": 5, "encoder.layer.0": 4, "encoder.layer.1": 3, "encoder.layer.2": 2, "classifier": 0}
    for name, factor in factors_of(model, layer_decay_offset=2).items():
        assert factor == 0.5 ** next(power for part, power in expected.items() if part in name), name


@pytest.mark.parametrize(
    "model",
    [
        AlbertForSequenceClassification(AlbertConfig(num_hidden_layers=3, **SMALL)),
        BartForSequenceClassification(
            BartConfig(d_model=8, encoder_layers=2, decoder_layers=2, vocab_size=64, **HEADS)
        ),
    ],
    ids=["shared layers", "two stacks"],
)
def test_model_without_one_stack_of_layers_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(UserError, match="--layer-decay"):
        factors_of(model)


def test_each_step_sets_the_rate_of_each_layer_and_decays_as_before() -> None:
    recipe, model = Recipe(layer_decay=0.5, weight_decay=0.1, global_batch_size=16, epochs=1), tiny_model()
    optimizer = create_optimizer(model, recipe, CPU)
    accelerator = Accelerator(cpu=True)
    plan = plans(accelerator, 33)[0]._replace(warmup_steps=0)
    training = Training(accelerator, model, optimizer, recipe, plan, generated(33))
    step = next(training_steps(training, seed=1))
    rates = {group["rate_factor"]: group["lr"] for group in training.optimizer.param_groups}
    assert sorted(rates) == [0.125, 0.25, 0.5, 1.0]
    assert step.learning_rate == recipe.learning_rate
    assert {factor: rate / rates[1.0] for factor, rate in rates.items()} == {factor: factor for factor in rates}
    assert {group["weight_decay"] for group in training.optimizer.param_groups} == {0.0, 0.1}


def test_training_resumes_bit_for_bit() -> None:
    recipe, accelerator = Recipe(layer_decay=0.5, global_batch_size=16, learning_rate=1e-3), Accelerator(cpu=True)
    plan = plans(accelerator, 33)[0]

    def fresh() -> Training:
        model = tiny_model()
        return Training(accelerator, model, create_optimizer(model, recipe, CPU), recipe, plan, generated(33))

    straight, resumed = fresh(), fresh()
    for step in training_steps(straight, seed=1):
        if step.number == 2:
            state = copy.deepcopy(straight.state())
    resumed.set_state(state)
    for _ in training_steps(resumed, seed=1, after=2):
        pass
    assert resumed.weights_sha256() == straight.weights_sha256()


def test_rows_that_were_set_aside_decay_at_the_rate_of_the_embeddings() -> None:
    recipe = Recipe(layer_decay=0.5, weight_decay=0.1, learning_rate=0.1, schedule="constant", max_steps=2)
    model, plan = tiny_model(), plans(Accelerator(cpu=True), 33)[0]._replace(warmup_steps=0)
    before = copy.deepcopy(model.get_input_embeddings().weight.detach())
    assert vocabulary.narrow(model, [generated(5)])
    vocabulary.widen(model, recipe, plan, steps=2)
    after = model.get_input_embeddings().weight.detach()
    unused = (after != before).any(dim=1)
    assert unused.any()
    assert torch.allclose(after[unused], before[unused] * (1 - 0.1 * 0.125 * 0.1) ** 2)


def test_recipe_without_layer_decay_has_one_rate() -> None:
    assert rate_factors(tiny_model(), Recipe()) == {}
    assert all("rate_factor" not in group for group in create_optimizer(tiny_model(), Recipe(), CPU).param_groups)


@pytest.mark.parametrize("values", [{"layer_decay": 0.0}, {"layer_decay": 1.1}, {"layer_decay_offset": 2}])
def test_invalid_decay_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="layer_decay"):
        Recipe(**values)
