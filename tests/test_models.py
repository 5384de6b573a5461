"""A model with the head that a task needs: its own where the labels agree, a new one otherwise; always in float32."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import new_commit, serving
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
)

from harness.engine.models import Built, build, check_length, longest_input
from harness.errors import UserError
from harness.facts.tasks import TaskSpec, load_task
from harness.rows.files import model_revision

RTE = load_task("rte")  # entailment, not_entailment
TOKENS = torch.tensor([[2, 5, 6, 7, 3], [2, 50, 60, 70, 3]])
TINY = dict(vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)


def built(folder: Path, task: TaskSpec = RTE, seed: int = 1) -> Built:
    return build(str(folder), model_revision(str(folder), None), task, seed)


def logits(model: PreTrainedModel) -> torch.Tensor:
    """Without dropout."""
    with torch.inference_mode():
        return model.eval()(input_ids=TOKENS).logits


def with_tokenizer(model: PreTrainedModel, folder: Path, tiny_model: Path) -> Path:
    """The model as a checkpoint folder, with the tiny model's tokenizer."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def fine_tuned(tiny_model: Path, folder: Path, labels: list[str]) -> BertForSequenceClassification:
    """A classifier of these labels, saved in the folder; its head is drawn far from zero."""
    names = dict(enumerate(labels))
    model = BertForSequenceClassification.from_pretrained(
        tiny_model, num_labels=len(labels), id2label=names, label2id={name: number for number, name in names.items()}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.nn.init.normal_(model.classifier.weight)
        torch.nn.init.normal_(model.classifier.bias)
    with_tokenizer(model, folder, tiny_model)
    return model


# -- the head ----------------------------------------------------------------------------------------------------------


def test_checkpoint_without_a_head_gets_a_new_one(tiny_model: Path) -> None:
    bundle = built(tiny_model)
    assert bundle.facts.head == "new"
    assert logits(bundle.model).shape == (2, 2)
    assert bundle.facts.architecture == "BertForSequenceClassification"
    assert bundle.facts.parameters == sum(parameter.numel() for parameter in bundle.model.parameters())
    assert bundle.facts.commit is None


@pytest.mark.parametrize("labels", [["entailment", "not_entailment"], ["ENTAILMENT", "Not_Entailment"]])
def test_head_of_the_tasks_labels_is_kept(tiny_model: Path, tmp_path: Path, labels: list[str]) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", labels)
    bundle = built(tmp_path / "tuned")
    assert bundle.facts.head == "kept"
    assert torch.equal(logits(bundle.model), logits(original))


def test_head_of_the_same_labels_in_another_order_is_put_in_the_tasks(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["contradiction", "entailment", "neutral"])
    bundle = built(tmp_path / "tuned", load_task("mnli"))  # entailment, neutral, contradiction
    assert bundle.facts.head == "reordered"
    assert torch.equal(logits(bundle.model), logits(original)[:, [1, 2, 0]])
    assert bundle.model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}


def test_labels_are_the_same_in_any_case(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["pos", "Neg"])
    bundle = built(tmp_path / "tuned", load_task("imdb"))  # NEG, POS
    assert torch.equal(logits(bundle.model), logits(original)[:, [1, 0]])


def test_last_layer_alone_of_a_deep_head_is_reordered(tiny_model: Path, tmp_path: Path) -> None:
    """RoBERTa's head has another before it, which in this one has as many outputs as there are labels."""
    names = {0: "not_entailment", 1: "entailment"}
    config = RobertaConfig(**{**TINY, "hidden_size": 2}, id2label=names, pad_token_id=1)
    original = RobertaForSequenceClassification(config)
    bundle = built(with_tokenizer(original, tmp_path / "roberta", tiny_model))
    assert bundle.facts.head == "reordered"
    assert torch.equal(bundle.model.classifier.dense.weight, original.classifier.dense.weight)
    assert torch.equal(bundle.model.classifier.out_proj.weight, original.classifier.out_proj.weight[[1, 0]])


@pytest.mark.parametrize("labels", [["no", "yes"], ["LABEL_0", "LABEL_1"], ["entailment", "neutral"]])
def test_head_of_the_same_shape_for_other_labels_is_made_anew(
    tiny_model: Path, tmp_path: Path, labels: list[str]
) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", labels)
    bundle = built(tmp_path / "tuned")
    assert bundle.facts.head == "new"
    assert not torch.isclose(bundle.model.classifier.weight, original.classifier.weight).any()
    assert bundle.model.classifier.weight.std() < 0.1, "as the library draws heads"
    assert torch.equal(bundle.model.classifier.bias, torch.zeros(2))
    assert torch.equal(bundle.model.bert.pooler.dense.weight, original.bert.pooler.dense.weight)


@pytest.mark.parametrize("task, outputs", [("mnli", 3), ("stsb", 1)])
def test_head_of_another_shape_is_made_anew(tiny_model: Path, tmp_path: Path, task: str, outputs: int) -> None:
    fine_tuned(tiny_model, tmp_path / "tuned", ["entailment", "not_entailment"])
    bundle = built(tmp_path / "tuned", load_task(task))
    assert bundle.facts.head == "new"
    assert logits(bundle.model).shape == (2, outputs)


def test_deep_head_of_another_shape_is_made_anew_as_a_whole(tiny_model: Path, tmp_path: Path) -> None:
    """Its first layer has the same shape for any labels."""
    names = dict(enumerate(["entailment", "neutral", "contradiction"]))
    original = RobertaForSequenceClassification(RobertaConfig(**TINY, id2label=names, pad_token_id=1))
    bundle = built(with_tokenizer(original, tmp_path / "roberta", tiny_model))
    assert bundle.facts.head == "new"
    assert not torch.equal(bundle.model.classifier.dense.weight, original.classifier.dense.weight)
    again = built(tmp_path / "roberta")
    assert torch.equal(again.model.classifier.dense.weight, bundle.model.classifier.dense.weight)
    assert torch.equal(
        bundle.model.roberta.embeddings.word_embeddings.weight, original.roberta.embeddings.word_embeddings.weight
    )


def test_head_of_a_regression_is_made_anew(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["score"])
    bundle = built(tmp_path / "tuned", load_task("stsb"))
    assert bundle.facts.head == "new"
    assert not torch.equal(bundle.model.classifier.weight, original.classifier.weight)


@pytest.mark.parametrize("has_head", [False, True])
def test_new_head_depends_on_the_seed_alone(tiny_model: Path, tmp_path: Path, has_head: bool) -> None:
    folder = tiny_model
    if has_head:
        folder = tmp_path / "tuned"
        fine_tuned(tiny_model, folder, ["no", "yes"])
    heads = []
    for seed in (1, 2, 1):
        torch.rand(3), np.random.rand(3), random.random()
        heads.append(built(folder, seed=seed).model.classifier.weight.detach())
    assert torch.equal(heads[0], heads[2])
    assert not torch.isclose(heads[0], heads[1]).any()


# -- what it computes in and is told -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_float32_whatever_the_checkpoint_holds(
    tiny_model: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    fine_tuned(tiny_model, tmp_path / "half", ["entailment", "not_entailment"]).to(dtype).save_pretrained(
        tmp_path / "half"
    )
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    model = built(tmp_path / "half").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert logits(model).dtype == torch.float32


@pytest.mark.parametrize(
    "task, problem, names",
    [
        ("rte", "single_label_classification", {0: "entailment", 1: "not_entailment"}),
        ("stsb", "regression", {0: "score"}),
    ],
)
def test_configuration_says_what_the_head_is_for(
    tiny_model: Path, task: str, problem: str, names: dict[int, str]
) -> None:
    config = built(tiny_model, load_task(task)).model.config
    assert config.problem_type == problem
    assert config.id2label == names
    assert config.label2id == {name: number for number, name in names.items()}
    assert config.num_labels == len(names)


@pytest.mark.parametrize("problem", [None, "single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_head_is_kept_only_by_a_task_that_asks_for_the_same(
    tiny_model: Path, tmp_path: Path, problem: str | None, kind: str
) -> None:
    model = fine_tuned(tiny_model, tmp_path, ["not_entailment", "entailment"])
    model.config.problem_type = problem
    model.save_pretrained(tmp_path)
    task = load_task("rte").model_copy(update={"kind": kind})
    is_same = (problem == "multi_label_classification") == (kind == "multi_label_classification")
    assert built(tmp_path, task).facts.head == ("reordered" if is_same else "new")


def test_tokenizer_without_padding_pads_with_the_token_that_ends_a_text(tiny_model: Path, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=110, n_embd=16, n_layer=1, n_head=2, n_positions=40)
    folder = with_tokenizer(AutoModelForSequenceClassification.from_config(config), tmp_path / "gpt", tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    bundle = built(folder)
    assert bundle.tokenizer.pad_token == "[SEP]"
    assert bundle.model.config.pad_token_id == bundle.tokenizer.pad_token_id == 3
    batch = bundle.tokenizer(["w1", "w1 w2 w3"], padding=True, return_tensors="pt")
    assert bundle.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.shape == (2, 2)


# -- how much it reads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, limit",
    [
        (RobertaConfig(**TINY, max_position_embeddings=66, pad_token_id=1), 64),  # it counts from padding_idx + 1
        (MPNetConfig(**TINY, max_position_embeddings=66), 64),
        (GPT2Config(vocab_size=80, n_embd=16, n_layer=1, n_head=2, n_positions=40), 40),
        (
            ModernBertConfig(
                **TINY,
                max_position_embeddings=48,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                cls_token_id=1,
                sep_token_id=2,
            ),
            48,
        ),
        (XLNetConfig(vocab_size=80, d_model=16, n_layer=1, n_head=2, d_inner=16), None),
    ],
    ids=lambda value: type(value).__name__ if value is not None and not isinstance(value, int) else str(value),
)
def test_longest_input_is_what_the_positions_allow(config: RobertaConfig, limit: int | None) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    assert longest_input(model) == limit
    if limit is not None:
        check_length(model, limit)
        assert model(input_ids=torch.full((1, limit), 5)).logits.shape == (1, 2)
        with pytest.raises(UserError, match=f"--max-length {limit + 1}: this model reads {limit} tokens at most"):
            check_length(model, limit + 1)
    else:
        check_length(model, 10**6)


def test_longest_input_of_the_tiny_model(tiny_model: Path) -> None:
    assert longest_input(built(tiny_model).model) == 64


# -- mistakes ----------------------------------------------------------------------------------------------------------


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _no_text_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vit"}')


def _unknown_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "ours"}')


def _impossible_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))


@pytest.mark.parametrize(
    "spoil, told",
    [
        (_without_weights, "no file named model.safetensors"),
        (_cut_off, "header"),
        (_without_tokenizer, "it has no tokenizer"),
        (_no_text_model, "ViTConfig.*AutoModelForSequenceClassification"),
        (_unknown_kind, "model type `ours`"),
        (_impossible_size, "hidden_size"),
    ],
)
def test_spoilt_folder_is_named_with_what_is_wrong(
    tiny_model: Path, tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(UserError, match=f"--model {folder}: .*{told}") as error:
        built(folder)
    assert "sha256" not in str(error.value)


def test_folder_under_the_home_folder_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert built(Path("~/tiny")).facts.head == "new"


def test_model_that_cannot_be_had_offline_says_what_helps() -> None:
    with pytest.raises(UserError, match=r"--model org/none: cannot be loaded: .*\n.*HF_ENDPOINT.*folder.*--test-mode"):
        build("org/none", "main", RTE, 1)


PROGRAM = """
import sys
from harness.errors import UserError
from harness.engine.models import build
from harness.facts.tasks import load_task
for name, revision in (("org/none", "main"), ("org/tiny", "v9"), ("org/tiny", "main")):
    try:
        print(build(name, revision, load_task("rte"), 1).facts.commit)
    except UserError as error:
        print(str(error).replace("\\n", " "))
"""


def test_model_that_the_hub_does_not_have_is_told_from_one_that_it_has(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, new_commit(tmp_path / "hub", "models", "org/tiny"), dirs_exist_ok=True)
    with serving(tmp_path / "hub") as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
    no_model, no_revision, found = done.stdout.splitlines()
    assert no_model.startswith("--model org/none: cannot be loaded: ")
    assert "not a valid model identifier" in no_model
    assert "Check the name" in no_model
    assert no_revision.startswith("--model org/tiny: cannot be loaded at revision v9: ")
    assert found == "c0ffee" + "0" * 34
