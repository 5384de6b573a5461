"""A head in float32: under bf16 different rows keep different scores, and nothing changes in a saved model."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from harness.engine.adaptations.float32_head import Float32Linear, compute_head_in_float32
from harness.engine.batches import cut_batch
from harness.engine.models import build_model
from harness.engine.tiny_example import generated
from harness.facts.tasks import load_task

ROWS = 300
BATCH = cut_batch(generated(ROWS), np.arange(ROWS))


def stock(model):
    """Returns a copy of the model with the head that transformers gives it."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) is Float32Linear:
            module.__class__ = nn.Linear
    return model


def logits_in_bf16(model):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return model.eval()(**BATCH.inputs).logits


@pytest.fixture(scope="module", params=["stsb", "mnli"])
def model(request, tiny_model):
    return build_model(str(tiny_model), "sha256:0", load_task(request.param), 3).model


def test_logits_under_bf16_are_float32_and_do_not_tie(model):
    logits = logits_in_bf16(model)
    assert logits.dtype == torch.float32
    for column in logits.T:
        assert len(column.unique()) == ROWS
    assert max(len(column.unique()) for column in logits_in_bf16(stock(model)).T) < ROWS, "a head in bf16 ties rows"


def test_logits_in_float32_do_not_change(model):
    with torch.inference_mode():
        assert torch.equal(model.eval()(**BATCH.inputs).logits, stock(model).eval()(**BATCH.inputs).logits)


def test_gradients_reach_head_and_encoder(model):
    model = copy.deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(**BATCH.inputs).logits.sum().backward()
    assert model.classifier.weight.grad.dtype == torch.float32
    assert model.bert.pooler.dense.weight.grad.abs().sum() > 0


def test_head_with_weights_in_bf16_computes_in_float32(model):
    """FSDP and DeepSpeed may store or gather weights in the mixed precision."""
    model = copy.deepcopy(model).bfloat16()
    with torch.inference_mode():
        assert model.eval()(**BATCH.inputs).logits.dtype == torch.float32


def test_only_plain_linear_layers_of_the_head_are_changed(tiny_model):
    class OwnLinear(nn.Linear):
        pass

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    names = list(model.state_dict())
    model.own_head = OwnLinear(2, 2)
    compute_head_in_float32(model)
    assert [name for name, module in model.named_modules() if type(module) is Float32Linear] == ["classifier"]
    assert [name for name in model.state_dict() if not name.startswith("own_head")] == names


def test_saved_and_loaded_model_gives_the_same_logits(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert list(loaded.state_dict()) == list(model.state_dict())
    compute_head_in_float32(loaded)
    assert torch.equal(logits_in_bf16(loaded), logits_in_bf16(model))
