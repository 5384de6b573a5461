"""Decoders compute no cache while they are trained, and the saved configuration has the checkpoint's setting."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BartConfig, GPT2Config

from harness.engine.adaptations import cache

TOKENS = torch.tensor([[5, 6, 7, 2]])
CONFIGS = [
    GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8, pad_token_id=0),
    BartConfig(
        vocab_size=20,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
    ),
]


@pytest.mark.parametrize("setting", [True, False])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_cache_is_computed_only_outside_and_its_setting_is_restored(config, setting):
    config.use_cache = setting
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert (model(TOKENS).past_key_values is not None) == setting
    cache.switch_off(model)
    assert model.train()(TOKENS).past_key_values is None
    cache.give_back(model)
    assert model.config.use_cache == setting


def test_model_whose_cache_was_never_off_keeps_its_setting():
    model = AutoModelForSequenceClassification.from_config(CONFIGS[0])
    model.config.use_cache = True
    cache.give_back(model)
    assert model.config.use_cache
