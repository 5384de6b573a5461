"""Dropout of the encoder: set in any architecture that has it, without the head's and without the configuration."""

import copy

import pytest
import torch
from support.architectures import CATALOGUE
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness.engine.adaptations.encoder_dropout import set_encoder_dropout
from harness.engine.adaptations.head import head_prefixes
from harness.errors import UserError

def untrained(model_type):
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, pad_token_id=1) | CATALOGUE[model_type][1]
    config = AutoConfig.for_model(model_type, **sizes, num_labels=2)
    return AutoModelForSequenceClassification.from_config(config).train()


def head_dropouts(model):
    heads = head_prefixes(model)
    return [m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout) and f"{name}.".startswith(heads)]


def encoder_outputs(model):
    """The hidden states of two passes in training."""
    ids = torch.randint(4, 40, (2, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [model.base_model(input_ids=ids)[0] for _ in range(2)]


@pytest.mark.parametrize("model_type", ["albert", "bert", "deberta-v2", "distilbert", "gpt2", "modernbert", "mpnet", "xlnet"])
def test_encoder_has_the_probability_and_the_head_keeps_its_own(model_type):
    model = untrained(model_type)
    config, head = copy.deepcopy(model.config.to_dict()), head_dropouts(model)
    set_encoder_dropout(model, 0.0)
    first, second = encoder_outputs(model)
    assert torch.equal(first, second)
    set_encoder_dropout(model, 0.5)
    first, second = encoder_outputs(model)
    assert not torch.equal(first, second)
    assert head_dropouts(model) == head
    assert model.config.to_dict() == config


def test_omitted_dropout_changes_nothing():
    model = untrained("bert")
    before = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    set_encoder_dropout(model, None)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == before


@pytest.mark.parametrize("model_type", ["falcon", "diffllama"])
def test_model_without_dropout_is_refused_with_its_model_type(model_type):
    model = untrained(model_type)
    with pytest.raises(UserError, match=rf"--encoder-dropout 0\.1: .* {model_type}: "):
        set_encoder_dropout(model, 0.1)
