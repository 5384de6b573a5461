"""Bulk dropout: the shares, scales and independence of masks; attention as torch's own where nothing is dropped."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from harness.engine.adaptations import dropout


@pytest.fixture
def bert():
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config)


@pytest.fixture
def inputs():
    tokens = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[0, 5:] = mask[2, 7:] = 0
    return {"input_ids": tokens, "attention_mask": mask}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.0001])
def test_share_and_expectation_are_as_asked(p):
    dropout.restart(1)
    values = dropout.dropped_out(torch.ones(1000, 1000), p)
    dropped = (values == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / 1e6) ** 0.5 + 1e-5
    assert abs(dropout.share_of(p) - p) < 8e-6
    kept = values[values != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - dropout.share_of(p))))


def test_neighbours_and_masks_do_not_depend_on_each_other():
    dropout.restart(2)
    first, second = (dropout.dropped_out(torch.ones(1 << 20), 0.5).numpy() == 0 for _ in range(2))
    for shifted in (second, *(np.roll(first, by) for by in (1, 2, 3, 4, 64))):
        assert abs(np.corrcoef(first, shifted)[0, 1]) < 5 / 2**10


def test_masks_follow_from_the_key_alone():
    def drawn(*key):
        dropout.restart(*key)
        return dropout.dropped_out(torch.ones(64), 0.5)

    assert torch.equal(drawn(3, 0, 7), drawn(3, 0, 7))
    assert not torch.equal(drawn(3, 0, 7), drawn(3, 0, 8))
    assert not torch.equal(drawn(3, 0, 7), drawn(3, 1, 7))
    assert not torch.equal(drawn(3, 0, 7), drawn(4, 0, 7))


def test_gradient_passes_where_values_were_kept():
    dropout.restart(4)
    values = torch.full((50, 7), 2.0, requires_grad=True)
    out = dropout.dropped_out(values, 0.3)
    out.sum().backward()
    assert torch.allclose(values.grad, out.detach() / 2)


def test_every_dropout_of_a_model_is_replaced_and_keeps_its_share(bert):
    shares = [module.p for module in bert.modules() if isinstance(module, nn.Dropout)]
    dropout.draw_in_bulk(bert.train())
    replaced = [module for module in bert.modules() if isinstance(module, dropout.BulkDropout)]
    assert [module.p for module in replaced] == shares
    assert all(module.training for module in replaced)
    assert not any(isinstance(module, nn.Dropout) for module in bert.modules())


def test_scores_without_dropout_are_the_same_to_the_bit(bert, inputs):
    with torch.inference_mode():
        before = bert.eval()(**inputs).logits
        dropout.draw_in_bulk(bert)
        assert torch.equal(bert.eval()(**inputs).logits, before)


def test_attention_with_dropout_is_torchs_on_the_average(bert, inputs):
    """So its scale and its mask of padding are right; dropout of torch's own is off here."""
    with torch.inference_mode():
        expected = bert.eval()(**inputs).logits
        dropout.draw_in_bulk(bert)
        for module in bert.modules():
            if isinstance(module, dropout.BulkDropout):
                module.p = 1e-9  # nothing is dropped, yet attention takes the way of dropout
        dropout.restart(5)
        assert torch.allclose(bert.train()(**inputs).logits, expected, atol=1e-5)


def test_masked_tokens_get_no_attention(bert, inputs):
    dropout.draw_in_bulk(bert.train())
    with torch.inference_mode():
        dropout.restart(6)
        before = bert(**inputs).logits
        other = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 7)
        dropout.restart(6)
        assert torch.equal(bert(**inputs | {"input_ids": other}).logits, before)


def test_attention_that_is_causal_is_left_to_torch():
    module = nn.Module().train()
    query, key, value = torch.randn(3, 1, 2, 4, 8, generator=torch.Generator().manual_seed(1))
    causal, _ = dropout.attention(module, query, key, value, None, 1e-9, None, is_causal=True)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    assert torch.allclose(causal, expected, atol=1e-6)
