"""A model gets only inputs that it can use: token types that it has embeddings for, padding on the side it ignores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from support.architectures import CONTENT, tokenizer_of, write_model
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    FunnelTokenizer,
    XLNetConfig,
)

from harness.engine.encoding import check_ends, encode
from harness.engine.inference import infer
from harness.engine.inputs import fit_tokenizer
from harness.engine.models import build_model
from harness.errors import UserError
from harness.facts.tasks import load_task
from harness.rows.files import model_revision
from harness.rows.splits import Split

TINY = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)


def model_of(model_type: str, **sizes: object) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(model_type, vocab_size=40, **sizes))


@pytest.mark.parametrize(
    "model_type, sizes, types",
    [
        ("gpt2", dict(n_embd=8, n_layer=1, n_head=2), "no embeddings"),
        ("gptj", dict(n_embd=8, n_layer=1, n_head=2, rotary_dim=4), "no embeddings"),
        ("ctrl", dict(n_embd=8, n_layer=1, n_head=2, dff=8), "no embeddings"),
        ("flaubert", dict(emb_dim=8, n_layers=1, n_heads=2), "no embeddings"),
        ("distilbert", dict(dim=8, n_layers=1, n_heads=2, hidden_dim=8), "no embeddings"),
        ("gte", TINY, "embeddings of 1 "),
        ("jina_embeddings_v3", TINY, "embeddings of 1 "),
        ("roberta", TINY | dict(type_vocab_size=1), "embeddings of 1 "),
    ],
)
def test_token_types_without_embeddings_are_left_out_and_noted(
    model_type: str, sizes: dict[str, object], types: str, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of("bert")
    assert tokenizer("w1", "w2")["token_type_ids"] == [0, 0, 0, 1, 1]
    (note,) = fit_tokenizer(tokenizer, model_of(model_type, **sizes))
    assert types in note
    assert "token_type_ids" in note
    assert "token_type_ids" not in tokenizer("w1", "w2")
    tokenizer.save_pretrained(tmp_path)
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(tmp_path)("w1", "w2"), "saved without them"


@pytest.mark.parametrize("style, model_type", [("bert", "bert"), ("xlnet", "xlnet"), ("bert", "funnel")])
def test_token_types_that_the_model_has_are_kept(style: str, model_type: str) -> None:
    sizes = TINY if model_type == "bert" else dict(d_model=8, n_head=2, n_layer=1, d_inner=8, d_head=4)
    tokenizer, sizes = tokenizer_of(style), sizes | (dict(block_sizes=[1]) if model_type == "funnel" else {})
    assert fit_tokenizer(tokenizer, model_of(model_type, **sizes)) == []
    assert "token_type_ids" in tokenizer("w1", "w2")


@pytest.mark.parametrize("types, is_kept", [(2, False), (3, True)])
def test_tokenizer_with_more_types_than_the_model_loses_them(types: int, is_kept: bool) -> None:
    model = AutoModelForSequenceClassification.from_config(BertConfig(**TINY, vocab_size=40, type_vocab_size=types))
    notes = fit_tokenizer(tokenizer := tokenizer_of("xlnet"), model)
    assert ("token_type_ids" in tokenizer.model_input_names) == is_kept == (not notes)


@pytest.mark.parametrize("summary, side", [("last", "left"), ("first", "right")])
def test_padding_is_in_front_only_for_a_model_that_reads_the_last_position(summary: str, side: str) -> None:
    config = XLNetConfig(vocab_size=40, d_model=8, n_layer=1, n_head=2, d_inner=8, summary_type=summary)
    fit_tokenizer(tokenizer := tokenizer_of("xlnet"), AutoModelForSequenceClassification.from_config(config))
    assert tokenizer.padding_side == side


TYPES = ["llama", "qwen2", "gpt2", "opt", "bloom", "xlnet"]


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("model_type", TYPES)
def test_score_of_a_row_does_not_depend_on_its_neighbours(model_type: str, padding_side: str, tmp_path: Path) -> None:
    """The tokenizer may pad on either side."""
    write_model(tmp_path, model_type)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.padding_side = padding_side
    tokenizer.save_pretrained(tmp_path)
    built = build_model(str(tmp_path), model_revision(str(tmp_path), None), load_task("sst2"), 1)
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)  # so that tokens matter
    texts = [" ".join(CONTENT[row : row + 1 + 4 * (row % 3)]) for row in range(9)]
    encoded = encode(Split(texts, None, None), built.tokenizer, 60)
    accelerator = Accelerator(cpu=True)
    scores = [infer(accelerator, built.model, encoded, size) for size in (1, 2, 9)]
    assert np.ptp(scores[0], axis=0).min() > 1e-3, "scores of different rows differ"
    assert np.allclose(scores[0], scores[1], rtol=0, atol=1e-5)
    assert np.allclose(scores[0], scores[2], rtol=0, atol=1e-5)
    plain = AutoTokenizer.from_pretrained(tmp_path, padding_side=built.tokenizer.padding_side)
    plain.pad_token = built.tokenizer.pad_token
    with torch.inference_mode():
        batch = plain(texts, padding=True, return_tensors="pt")
        logits = built.model.eval()(**batch).logits.numpy()
    assert np.allclose(logits, scores[0], rtol=0, atol=1e-5), "the scores of plain transformers"


def test_padding_token_of_a_decoder_is_saved(tmp_path: Path) -> None:
    from harness.saved_models import bundles

    write_model(tmp_path / "model", "gpt2")
    folder = tmp_path / "model"
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    built = build_model(str(folder), model_revision(str(folder), None), load_task("sst2"), 1)
    bundles.stage_model(tmp_path / "saved", "run", built.model, built.tokenizer, built.model.state_dict(), 32)
    saved = AutoTokenizer.from_pretrained(tmp_path / ".saved-run")
    assert saved.pad_token == "</s>"
    assert saved.padding_side == "right"
    assert AutoConfig.from_pretrained(tmp_path / ".saved-run").pad_token_id == saved.pad_token_id


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen2", "bloom"])
def test_text_without_a_token_has_the_same_score_alone_and_among_others(model_type: str, tmp_path: Path) -> None:
    write_model(tmp_path, model_type)
    built = build_model(str(tmp_path), model_revision(str(tmp_path), None), load_task("sst2"), 1)
    encoded = encode(Split(["w1 w2 w3", "", ""], None, None), built.tokenizer, 32)
    scores = [infer(Accelerator(cpu=True), built.model, encoded, size) for size in (1, 2, 3)]
    assert np.allclose(scores[0], scores[1], rtol=0, atol=1e-6)
    assert np.allclose(scores[0], scores[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_text_with_the_token_by_which_the_head_finds_the_end_is_named(model_type: str, tmp_path: Path) -> None:
    write_model(tmp_path, model_type)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    check_ends("train", encode(Split(["w1", "w2 w3"], ["", "w1"], None), tokenizer, 32), tokenizer, model)
    encoded = encode(Split(["w1", "w2 </s> w3", "w1"], ["w1"] * 3, None), tokenizer, 32)
    with pytest.raises(ValueError, match="eos"):
        infer(Accelerator(cpu=True), model, encoded, 8)
    with pytest.raises(UserError, match=r"train: row 2: .*'</s>'"):
        check_ends("train", encoded, tokenizer, model)
    with pytest.raises(UserError, match="file: row 12: "):
        check_ends("file", encoded, tokenizer, model, 10)


def test_text_with_the_end_of_text_of_another_kind_of_model_is_a_text(tmp_path: Path) -> None:
    write_model(tmp_path, "roberta")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    check_ends("train", encode(Split(["w1", "w2 </s> w3"], None, None), tokenizer, 32), tokenizer, model)


def test_canine_reads_batches_of_short_texts(tmp_path: Path) -> None:
    write_model(tmp_path, "canine")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    short = encode(Split(["a", ""], None, None), tokenizer, 32)
    assert short.lengths.tolist() == [3, 2]
    assert np.isfinite(infer(Accelerator(cpu=True), model, short, 2)).all()


def test_funnel_reads_batches_of_short_texts() -> None:
    sizes = dict(d_model=8, n_head=2, d_inner=8, d_head=4, block_sizes=[1, 1, 1])
    special = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"]
    tokenizer = FunnelTokenizer(vocab={token: number for number, token in enumerate([*special, *CONTENT])})
    short = encode(Split(["w1", ""], None, None), tokenizer, 32)
    assert short.lengths.tolist() == [3, 2]
    assert np.isfinite(infer(Accelerator(cpu=True), model_of("funnel", **sizes).eval(), short, 2)).all()
