"""Scaled labels: training is that of a model on labels of that scale, and scores keep the unit of the labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from support.architectures import tiny_config
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from harness.engine.adaptations import label_scaling
from harness.engine.adaptations.head import Float32Linear, compute_head_in_float32
from harness.engine.batches import cut_batch
from harness.engine.encoding import Encoded
from harness.engine.models import build_model
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated
from harness.engine.training import Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.tasks import load_task

TOKENS = generated(40)
LABELS = np.random.default_rng(0).uniform(300, 700, size=40)


def rows(labels: Any) -> Encoded:
    return replace(TOKENS, labels=labels)


@pytest.fixture
def model(tiny_model: Any) -> Any:
    built = build_model(str(tiny_model), "sha256:0", load_task("stsb"), 3).model
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return built


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**cut_batch(TOKENS, np.arange(40)).inputs).logits


def train(model: Any, encoded: Encoded) -> list[tuple[float, float]]:
    recipe = Recipe(global_batch_size=16, epochs=2, learning_rate=1e-3, max_grad_norm=0.5, length_grouping=False)
    optimizer, plan = create_optimizer(model, recipe, torch.device("cpu")), plan_steps(40, recipe, 1)
    training = Training(Accelerator(cpu=True), model, optimizer, recipe, plan, encoded)
    return [(step.loss, step.gradient_norm) for step in training_steps(training, seed=0)]


@pytest.mark.parametrize("scaling", ["unit", "standard"])
def test_training_is_that_of_a_model_on_the_scaled_labels(model: Any, scaling: str) -> None:
    shift, scale = (LABELS.min(), np.ptp(LABELS)) if scaling == "unit" else (LABELS.mean(), LABELS.std())
    other = copy.deepcopy(model)
    label_scaling.scale_labels(model, scaling, LABELS)
    losses, expected = train(model, rows(LABELS)), train(other, rows((LABELS - shift) / scale))
    np.testing.assert_allclose([loss / scale**2 for loss, _ in losses], [loss for loss, _ in expected], rtol=1e-4)
    np.testing.assert_allclose([norm for _, norm in losses], [norm for _, norm in expected], rtol=1e-3)
    torch.testing.assert_close(logits(model), shift + scale * logits(other), rtol=1e-4, atol=1e-3)


def test_folded_model_is_an_ordinary_one_with_the_same_scores(model: Any) -> None:
    names = list(model.state_dict())
    label_scaling.scale_labels(model, "standard", LABELS)
    assert label_scaling.loss_unit(model) == pytest.approx(LABELS.var())
    before = logits(model)
    assert float(before.mean()) == pytest.approx(LABELS.mean(), abs=LABELS.std())
    label_scaling.fold(model)
    assert type(model.classifier) is Float32Linear
    assert list(model.state_dict()) == names
    assert label_scaling.loss_unit(model) == 1
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-4)


def test_labels_stay_as_they_are_without_a_scaling(model: Any) -> None:
    before = logits(model)
    label_scaling.scale_labels(model, None, None)
    label_scaling.fold(model)
    assert torch.equal(logits(model), before)


def test_equal_labels_have_no_scale(model: Any) -> None:
    with pytest.raises(UserError, match="--label-scaling unit: all training rows have the label 3"):
        label_scaling.scale_labels(model, "unit", np.full(5, 3.0))


def test_scaling_is_advised_for_labels_far_from_0() -> None:
    assert label_scaling.advice("unit", LABELS) == label_scaling.advice(None, np.array([-9.0, 5.0])) == ""
    assert "--label-scaling standard" in label_scaling.advice(None, np.array([-200.0, 5.0]))
    assert "from 1.5 to 12" in label_scaling.advice(None, np.array([1.5, 12.0]))


def _untrained(model_type: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(tiny_config(model_type, num_labels=1))
    compute_head_in_float32(model)
    return model.eval()


@pytest.mark.parametrize("model_type", ["distilbert", "electra", "roberta", "xlnet", "gpt2"])
def test_output_of_every_kind_of_head_is_scaled(model_type: str) -> None:
    """Labels from 0 on need no shift, which the heads of decoders could not have."""
    model, tokens = _untrained(model_type), torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    with torch.inference_mode():
        before = model(input_ids=tokens).logits
        label_scaling.scale_labels(model, "unit", np.array([0.0, 5.0]))
        torch.testing.assert_close(model(input_ids=tokens).logits, 5 * before)
        label_scaling.fold(model)
        torch.testing.assert_close(model(input_ids=tokens).logits, 5 * before)


def test_head_without_a_bias_cannot_be_shifted() -> None:
    with pytest.raises(UserError, match=r"--label-scaling unit: .* gpt2: the head of GPT2For.* bias"):
        label_scaling.scale_labels(_untrained("gpt2"), "unit", np.array([1.0, 5.0]))
