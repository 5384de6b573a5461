"""The last layer for the first token alone: the same logits and gradients, in every architecture that has it."""

import copy

import pytest
import torch
from support.architectures import CATALOGUE
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForSequenceClassification

from harness.engine.adaptations import first_token


def untrained(model_type):
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, pad_token_id=0) | CATALOGUE[model_type][1]
    config = AutoConfig.for_model(model_type, **sizes, num_labels=3)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no layer is the identity
    return model


def logits_and_gradients(model):
    ids = torch.randint(4, 40, (3, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    logits = model(input_ids=ids.where(mask == 1, 0), attention_mask=mask).logits
    logits.square().sum().backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def last_feed_forward(model):
    matrices = [module for module in model.base_model.modules() if isinstance(module, nn.Linear)]
    return [module for module in matrices if module.out_features > module.in_features][-1]


@pytest.mark.parametrize("model_type", first_token._AFTER_ATTENTION)
def test_logits_and_gradients_are_those_of_the_whole_layer(model_type):
    model = untrained(model_type)
    whole = copy.deepcopy(model)
    first_token.compute_first_token(model)
    tokens = []
    last_feed_forward(model).register_forward_hook(lambda _module, inputs, _output: tokens.append(inputs[0].shape[1]))
    expected, expected_gradients = logits_and_gradients(whole)
    logits, gradients = logits_and_gradients(model)
    assert tokens == [1]
    assert (logits - expected).abs().max() < 1e-5
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        reference = expected_gradients[name]
        assert (gradient is None) == (reference is None), name
        if reference is not None:
            assert (gradient - reference).norm() <= 1e-4 * reference.norm() + 1e-6, name


def test_unknown_architecture_and_code_of_its_own_remain_whole():
    class Custom(BertForSequenceClassification):
        """A class that no release of transformers has."""

    own, modernbert = untrained("bert"), untrained("modernbert")
    own.__class__ = Custom
    for model in (own, modernbert):
        first_token.compute_first_token(model)
        assert not any(module._forward_pre_hooks for module in model.modules())
