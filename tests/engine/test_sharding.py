"""Sharding under FSDP without processes: the units of a model, and models that cannot be sharded."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from harness.engine.sharding import gather_state, shard_as, shard_by_layer
from harness.errors import UserError

SIZES = dict(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)


def launch(kind=DistributedType.FSDP, units=None):
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=units)
    is_fsdp2, state = kind == DistributedType.FSDP, SimpleNamespace(fsdp_plugin=plugin)
    return SimpleNamespace(distributed_type=kind, is_fsdp2=is_fsdp2, state=state)


def units_of(model, launch):
    shard_by_layer(launch, model)
    return launch.state.fsdp_plugin.transformer_cls_names_to_wrap


def test_layers_are_the_units_whether_transformers_lists_them_or_not():
    bert, distilbert = BertConfig(**SIZES), DistilBertConfig(vocab_size=20, dim=8, n_layers=2, n_heads=2, hidden_dim=8)
    assert units_of(BertForSequenceClassification(bert), launch()) == ["BertLayer"]
    assert units_of(DistilBertForSequenceClassification(distilbert), launch()) == ["TransformerBlock"]


def test_single_layer_leaves_one_unit_and_the_launch_decides_first():
    bert = BertForSequenceClassification(BertConfig(**SIZES | {"num_hidden_layers": 1}))
    assert units_of(bert, launch()) == []
    assert units_of(bert, launch(units=["BertAttention"])) == ["BertAttention"]
    assert units_of(bert, launch(DistributedType.MULTI_GPU)) is None


def test_model_with_shared_or_unknown_embeddings_is_refused_under_fsdp_only(monkeypatch):
    sizes = dict(d_model=8, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
    bart = BartForSequenceClassification(BartConfig(vocab_size=20, encoder_layers=1, decoder_layers=1, **sizes))
    shard_by_layer(launch(DistributedType.MULTI_GPU), bart)
    with pytest.raises(UserError, match=r"Bart.*3 modules.*multi_gpu"):
        shard_by_layer(launch(), bart)
    bert = BertForSequenceClassification(BertConfig(**SIZES))
    monkeypatch.setattr(bert, "get_input_embeddings", lambda: (_ for _ in ()).throw(NotImplementedError()))
    with pytest.raises(UserError, match=r"Bert.*does not find"):
        shard_by_layer(launch(), bert)


def test_state_that_is_whole_stays_as_it_is():
    state = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.999), "params": [0]}]}
    gathered = gather_state(state, on_this_process=False)
    assert gathered == state
    assert gathered["state"][0]["exp_avg"] is state["state"][0]["exp_avg"]
    assert shard_as(state["state"][0]["exp_avg"], nn.Parameter(torch.zeros(2))) is state["state"][0]["exp_avg"]
