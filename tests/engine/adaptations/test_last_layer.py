"""The last layer for the first token alone: the same logits and gradients, in every architecture that has it."""

import copy

import pytest
import torch
from support.architectures import tiny_config
from torch import nn
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from harness.engine.adaptations import last_layer


def untrained(model_type, **changes):
    torch.manual_seed(0)
    config = tiny_config(model_type, **dict(pad_token_id=0, num_labels=3) | changes)
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


OTHER_SIZES = [
    ("deberta-v2", dict(conv_kernel_size=3, num_hidden_layers=1)),
    ("bert", dict(chunk_size_feed_forward=1)),
]


@pytest.mark.parametrize(
    "model_type, changes", [*((name, {}) for name in last_layer._AFTER_ATTENTION), *OTHER_SIZES], ids=str
)
def test_logits_and_gradients_are_those_of_the_whole_layer(model_type, changes):
    model = untrained(model_type, **changes)
    whole = copy.deepcopy(model)
    last_layer.limit_last_layer(model)
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


def test_unknown_architectures_custom_code_and_chunks_stay_whole():
    class Custom(BertForSequenceClassification):
        """A class that no release of transformers has."""

    own, modernbert = untrained("bert"), untrained("modernbert")
    own.__class__ = Custom
    for model in (own, modernbert, untrained("bert", chunk_size_feed_forward=4)):
        last_layer.limit_last_layer(model)
        assert not any(module._forward_pre_hooks for module in model.modules())
