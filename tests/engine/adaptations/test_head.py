"""The head: under bf16 different rows keep different scores, and its dropout alone can be set."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.architectures import tiny_config
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from harness.engine.adaptations.head import Float32Linear, compute_head_in_float32, set_head_dropout
from harness.engine.batches import cut_batch
from harness.engine.models import build_model
from harness.engine.tiny_example import generated
from harness.errors import UserError
from harness.facts.tasks import load_task

ROWS = 300
BATCH = cut_batch(generated(ROWS), np.arange(ROWS))

DROPOUT_KEYS = {
    "albert": "classifier_dropout_prob",
    "bert": "classifier_dropout",
    "deberta": "cls_dropout",
    "deberta-v2": "cls_dropout",
    "distilbert": "seq_classif_dropout",
    "electra": "classifier_dropout",
    "flaubert": "summary_first_dropout",
    "modernbert": "classifier_dropout",
    "roberta": "classifier_dropout",
    "xlnet": "summary_last_dropout",
    "bart": "classifier_dropout",
    "t5": "classifier_dropout",
}
"""The key of each configuration that sets the dropout of the head."""


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


def _model(model_type: str, **changes: float) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(tiny_config(model_type, **changes))


def _probabilities(model: PreTrainedModel) -> dict[str, float]:
    return {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize("model_type", DROPOUT_KEYS)
def test_head_dropout_sets_what_the_key_of_the_configuration_sets(model_type: str) -> None:
    model, before = _model(model_type), _probabilities(_model(model_type))
    config = copy.deepcopy(model.config.to_dict())
    set_head_dropout(model, 0.37)
    assert _probabilities(model) == _probabilities(_model(model_type, **{DROPOUT_KEYS[model_type]: 0.37})) != before
    assert model.config.to_dict() == config


def test_omitted_head_dropout_changes_nothing() -> None:
    model = _model("deberta-v2")
    set_head_dropout(model, None)
    assert _probabilities(model) == _probabilities(_model("deberta-v2"))


def test_head_without_dropout_is_refused_with_its_model_type() -> None:
    with pytest.raises(UserError, match=r"--head-dropout 0\.1: .* gpt2:"):
        set_head_dropout(_model("gpt2"), 0.1)
