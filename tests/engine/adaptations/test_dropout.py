"""Bulk dropout: share, scale and independence of masks; attention equals torch's own where nothing is dropped."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import FalconConfig, FalconForSequenceClassification

from harness.engine.adaptations import dropout
from harness.engine.tiny_example import tiny_model


@pytest.fixture
def bert():
    return tiny_model(dropout=0.1)


@pytest.fixture
def inputs():
    tokens = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[0, 5:] = mask[2, 7:] = 0
    return {"input_ids": tokens, "attention_mask": mask}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.0001])
def test_share_and_expectation_are_those_of_p(p):
    dropout.restart_masks(1)
    values = dropout.drop_out(torch.ones(1000, 1000), p)
    dropped = (values == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / 1e6) ** 0.5 + 1e-5
    assert abs(dropout.dropout_share(p) - p) < 8e-6
    rest = values[values != 0]
    assert torch.allclose(rest, torch.full_like(rest, 1 / (1 - dropout.dropout_share(p))))


def test_neighbours_and_masks_are_independent():
    dropout.restart_masks(2)
    first, second = (dropout.drop_out(torch.ones(1 << 20), 0.5).numpy() == 0 for _ in range(2))
    for shifted in (second, *(np.roll(first, by) for by in (1, 2, 3, 4, 64))):
        assert abs(np.corrcoef(first, shifted)[0, 1]) < 5 / 2**10


def test_masks_depend_only_on_the_key():
    def draw(*key):
        dropout.restart_masks(*key)
        return dropout.drop_out(torch.ones(64), 0.5)

    assert torch.equal(draw(3, 0, 7), draw(3, 0, 7))
    assert not torch.equal(draw(3, 0, 7), draw(3, 0, 8))
    assert not torch.equal(draw(3, 0, 7), draw(3, 1, 7))
    assert not torch.equal(draw(3, 0, 7), draw(4, 0, 7))


def test_gradient_passes_where_values_are_not_dropped():
    dropout.restart_masks(4)
    values = torch.full((50, 7), 2.0, requires_grad=True)
    out = dropout.drop_out(values, 0.3)
    out.sum().backward()
    assert torch.allclose(values.grad, out.detach() / 2)


def test_every_dropout_of_a_model_is_replaced_and_keeps_its_share(bert):
    shares = [module.p for module in bert.modules() if isinstance(module, nn.Dropout)]
    dropout.draw_in_bulk(bert.train())
    replaced = [module for module in bert.modules() if isinstance(module, dropout.BulkDropout)]
    assert [module.p for module in replaced] == shares
    assert all(module.training for module in replaced)
    assert not any(isinstance(module, nn.Dropout) for module in bert.modules())


def test_scores_without_dropout_are_bit_for_bit_the_same(bert, inputs):
    with torch.inference_mode():
        before = bert.eval()(**inputs).logits
        dropout.draw_in_bulk(bert)
        assert torch.equal(bert.eval()(**inputs).logits, before)


def test_attention_on_the_path_of_dropout_equals_torchs(bert, inputs):
    """Tests scale and padding mask: with the tiniest p nothing is dropped."""
    with torch.inference_mode():
        expected = bert.eval()(**inputs).logits
        dropout.draw_in_bulk(bert)
        for module in bert.modules():
            if isinstance(module, dropout.BulkDropout):
                module.p = 1e-9  # drops nothing, but is not the path without dropout
        dropout.restart_masks(5)
        assert torch.allclose(bert.train()(**inputs).logits, expected, atol=1e-5)


def test_masked_tokens_get_no_attention(bert, inputs):
    dropout.draw_in_bulk(bert.train())
    with torch.inference_mode():
        dropout.restart_masks(6)
        before = bert(**inputs).logits
        other = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 7)
        dropout.restart_masks(6)
        assert torch.equal(bert(**inputs | {"input_ids": other}).logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_that_sees_no_token_gives_finite_gradients(dtype):
    """In a local window of ModernBERT, padding far from the last token sees padding only."""
    query, key, value = torch.randn(3, 1, 2, 4, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    query.requires_grad_(True)
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    mask[0, 0, 3] = False
    out, _ = dropout.attention(nn.Module(), query, key, value, mask, 1e-9, None, is_causal=False)
    out.sum().backward()
    assert out.isfinite().all()
    assert query.grad.isfinite().all()
    expected = nn.functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    assert torch.allclose(out[:, :3], expected[:, :3], atol=1e-6 if dtype == torch.float32 else 0.02)


def test_causal_attention_is_torchs_own():
    module = nn.Module().train()
    query, key, value = torch.randn(3, 1, 2, 4, 8, generator=torch.Generator().manual_seed(1))
    causal, _ = dropout.attention(module, query, key, value, None, 1e-9, None, is_causal=True)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    assert torch.allclose(causal, expected, atol=1e-6)


def test_model_that_compares_the_name_of_its_attention_keeps_its_own(inputs):
    """Falcon would add a boolean mask to its attention scores."""
    model = FalconForSequenceClassification(
        FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0)
    ).eval()
    expected = model(**inputs).logits
    dropout.draw_in_bulk(model)
    assert torch.equal(model(**inputs).logits, expected)
