"""Dropout of the encoder: as a configuration sets it, without the head's, and without changing the configuration."""

import copy

import pytest
import torch
from support.architectures import tiny_config
from torch import nn
from transformers import AutoModelForSequenceClassification

from harness.engine.adaptations.encoder_dropout import set_encoder_dropout
from harness.engine.adaptations.head import head_prefixes
from harness.errors import UserError

KEYS = {
    "albert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "deberta-v2": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert": ("dropout", "attention_dropout"),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "modernbert": ("attention_dropout", "embedding_dropout", "mlp_dropout"),
    "mpnet": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "t5": ("dropout_rate",),
    "xlnet": ("dropout",),
}
"""The keys of each configuration that set it."""


def untrained(model_type, **changes):
    return AutoModelForSequenceClassification.from_config(tiny_config(model_type, **changes))


def dropouts(model, in_head):
    """The probabilities in the head, or below it: of modules, and attributes of modules that compute it themselves."""
    heads, probabilities = head_prefixes(model), {}
    for name, module in model.named_modules():
        if f"{name}.".startswith(heads) == in_head:
            values = {key: value for key, value in vars(module).items() if "drop" in key and isinstance(value, float)}
            probabilities[name] = module.p if isinstance(module, nn.Dropout) else (type(module), values)
    return probabilities


@pytest.mark.parametrize("model_type", KEYS)
def test_encoder_is_that_of_a_configuration_with_the_probability_and_the_head_keeps_its_own(model_type):
    model = untrained(model_type)
    config, head = copy.deepcopy(model.config.to_dict()), dropouts(model, in_head=True)
    for probability in (0.37, 0.0):
        set_encoder_dropout(model, probability)
        expected = untrained(model_type, **dict.fromkeys(KEYS[model_type], probability))
        assert dropouts(model, in_head=False) == dropouts(expected, in_head=False)
    assert dropouts(model, in_head=True) == head
    assert model.config.to_dict() == config


def test_passes_without_dropout_are_equal_and_with_it_are_not():
    model, ids = untrained("bert").train(), torch.arange(4, 20).view(2, 8)
    for probability, are_equal in ((0.0, True), (0.5, False)):
        set_encoder_dropout(model, probability)
        assert torch.equal(*(model.base_model(input_ids=ids).last_hidden_state for _ in range(2))) == are_equal


def test_omitted_dropout_changes_nothing():
    model, untouched = untrained("bert"), untrained("bert")
    set_encoder_dropout(model, None)
    assert dropouts(model, in_head=False) == dropouts(untouched, in_head=False)


@pytest.mark.parametrize("model_type", ["diffllama", "falcon", "persimmon"])
def test_unsupported_model_type_is_refused(model_type):
    model = untrained(model_type)
    with pytest.raises(UserError, match=rf"--encoder-dropout 0\.1: .* {model_type}: "):
        set_encoder_dropout(model, 0.1)
