"""Head dropout: the layer of the head that the configuration's key would set, and no other."""

from __future__ import annotations

import copy

import pytest
import torch
from support.architectures import CATALOGUE
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from harness.engine.adaptations.head_dropout import set_head_dropout
from harness.errors import UserError

KEYS = {
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


def _model(model_type: str, **changes: float) -> PreTrainedModel:
    sizes = dict(vocab_size=40, pad_token_id=1) | CATALOGUE[model_type][1]
    config = AutoConfig.for_model(model_type, **sizes, num_labels=2)
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


def _probabilities(model: PreTrainedModel) -> dict[str, float]:
    return {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize("model_type", KEYS)
def test_head_dropout_sets_what_the_key_of_the_configuration_sets(model_type: str) -> None:
    model, before = _model(model_type), _probabilities(_model(model_type))
    config = copy.deepcopy(model.config.to_dict())
    set_head_dropout(model, 0.37)
    assert _probabilities(model) == _probabilities(_model(model_type, **{KEYS[model_type]: 0.37})) != before
    assert model.config.to_dict() == config


def test_omitted_head_dropout_changes_nothing() -> None:
    model = _model("deberta-v2")
    set_head_dropout(model, None)
    assert _probabilities(model) == _probabilities(_model("deberta-v2"))


def test_head_without_dropout_is_refused_with_its_model_type() -> None:
    with pytest.raises(UserError, match=r"--head-dropout 0\.1: .* gpt2:"):
        set_head_dropout(_model("gpt2"), 0.1)
