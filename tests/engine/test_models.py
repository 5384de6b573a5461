"""A model with the head that a task needs: its own if the labels agree, otherwise a new one; always in float32."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.own_code import write_own_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
)

from harness.engine.adaptations.last_layer import limit_last_layer
from harness.engine.models import BuiltModel, build_model, check_length, check_tokens, load_tokenizer, max_input_tokens
from harness.errors import UserError
from harness.facts.tasks import TaskSpec, load_task
from harness.rows.files import model_revision

RTE = load_task("rte")  # entailment, not_entailment
TOKENS = torch.tensor([[2, 5, 6, 7, 3], [2, 50, 60, 70, 3]])
TINY = dict(vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)


def built(folder: Path, task: TaskSpec = RTE, seed: int = 1) -> BuiltModel:
    return build_model(str(folder), model_revision(str(folder), None), task, seed)


def logits(model: PreTrainedModel) -> torch.Tensor:
    """Returns the logits of `TOKENS` without dropout."""
    with torch.inference_mode():
        return model.eval()(input_ids=TOKENS).logits


def with_tokenizer(model: PreTrainedModel, folder: Path, tiny_model: Path) -> Path:
    """Saves the model as a checkpoint folder with the tiny model's tokenizer."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def fine_tuned(tiny_model: Path, folder: Path, labels: list[str]) -> BertForSequenceClassification:
    """Saves a classifier of these labels, whose head is far from zero, and returns it as it computes when loaded."""
    names = dict(enumerate(labels))
    model = BertForSequenceClassification.from_pretrained(
        tiny_model, num_labels=len(labels), id2label=names, label2id={name: number for number, name in names.items()}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.nn.init.normal_(model.classifier.weight)
        torch.nn.init.normal_(model.classifier.bias)
    with_tokenizer(model, folder, tiny_model)
    limit_last_layer(model)
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
def test_head_with_the_tasks_labels_is_kept(tiny_model: Path, tmp_path: Path, labels: list[str]) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", labels)
    bundle = built(tmp_path / "tuned")
    assert bundle.facts.head == "kept"
    assert torch.equal(logits(bundle.model), logits(original))


def test_head_with_the_tasks_labels_in_another_order_is_reordered(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["contradiction", "entailment", "neutral"])
    bundle = built(tmp_path / "tuned", load_task("mnli"))  # entailment, neutral, contradiction
    assert bundle.facts.head == "reordered"
    assert torch.equal(logits(bundle.model), logits(original)[:, [1, 2, 0]])
    assert bundle.model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}


@pytest.mark.parametrize("first", [1, 5])
def test_head_whose_labels_are_not_numbered_from_0_is_new(tiny_model: Path, tmp_path: Path, first: int) -> None:
    model = fine_tuned(tiny_model, tmp_path, ["entailment", "not_entailment"])
    model.config.id2label = {first: "entailment", first + 1: "not_entailment"}
    model.save_pretrained(tmp_path)
    assert built(tmp_path).facts.head == "new"


def test_labels_match_in_any_case(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["pos", "Neg"])
    bundle = built(tmp_path / "tuned", load_task("imdb"))  # NEG, POS
    assert torch.equal(logits(bundle.model), logits(original)[:, [1, 0]])


def test_only_the_last_layer_of_a_deep_head_is_reordered(tiny_model: Path, tmp_path: Path) -> None:
    """RoBERTa's head has two layers; here the first has as many outputs as there are labels."""
    names = {0: "not_entailment", 1: "entailment"}
    config = RobertaConfig(**{**TINY, "hidden_size": 2}, id2label=names, pad_token_id=1)
    original = RobertaForSequenceClassification(config)
    bundle = built(with_tokenizer(original, tmp_path / "roberta", tiny_model))
    assert bundle.facts.head == "reordered"
    assert torch.equal(bundle.model.classifier.dense.weight, original.classifier.dense.weight)
    assert torch.equal(bundle.model.classifier.out_proj.weight, original.classifier.out_proj.weight[[1, 0]])


@pytest.mark.parametrize("labels", [["no", "yes"], ["LABEL_0", "LABEL_1"], ["entailment", "neutral"]])
def test_head_of_the_same_shape_for_other_labels_is_reset(tiny_model: Path, tmp_path: Path, labels: list[str]) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", labels)
    bundle = built(tmp_path / "tuned")
    assert bundle.facts.head == "new"
    assert not torch.isclose(bundle.model.classifier.weight, original.classifier.weight).any()
    assert bundle.model.classifier.weight.std() < 0.1, "the standard deviation of a new head"
    assert torch.equal(bundle.model.classifier.bias, torch.zeros(2))
    assert torch.equal(bundle.model.bert.pooler.dense.weight, original.bert.pooler.dense.weight)


@pytest.mark.parametrize("task, outputs", [("mnli", 3), ("stsb", 1)])
def test_head_of_another_shape_is_reset(tiny_model: Path, tmp_path: Path, task: str, outputs: int) -> None:
    fine_tuned(tiny_model, tmp_path / "tuned", ["entailment", "not_entailment"])
    bundle = built(tmp_path / "tuned", load_task(task))
    assert bundle.facts.head == "new"
    assert logits(bundle.model).shape == (2, outputs)


def test_deep_head_of_another_shape_is_reset_as_a_whole(tiny_model: Path, tmp_path: Path) -> None:
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


def test_head_of_a_regression_is_reset(tiny_model: Path, tmp_path: Path) -> None:
    original = fine_tuned(tiny_model, tmp_path / "tuned", ["score"])
    bundle = built(tmp_path / "tuned", load_task("stsb"))
    assert bundle.facts.head == "new"
    assert not torch.equal(bundle.model.classifier.weight, original.classifier.weight)


@pytest.mark.parametrize("has_head", [False, True])
def test_new_head_depends_only_on_the_seed(tiny_model: Path, tmp_path: Path, has_head: bool) -> None:
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


# -- precision and configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_float32_for_any_checkpoint(tiny_model: Path, tmp_path: Path, dtype: torch.dtype) -> None:
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
def test_configuration_has_problem_type_and_labels(
    tiny_model: Path, task: str, problem: str, names: dict[int, str]
) -> None:
    config = built(tiny_model, load_task(task)).model.config
    assert config.problem_type == problem
    assert config.id2label == names
    assert config.label2id == {name: number for number, name in names.items()}
    assert config.num_labels == len(names)


@pytest.mark.parametrize("problem", [None, "single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_head_is_kept_only_for_the_same_problem_type(
    tiny_model: Path, tmp_path: Path, problem: str | None, problem_type: str
) -> None:
    model = fine_tuned(tiny_model, tmp_path, ["not_entailment", "entailment"])
    model.config.problem_type = problem
    model.save_pretrained(tmp_path)
    task = load_task("rte").model_copy(update={"problem_type": problem_type})
    is_same = (problem == "multi_label_classification") == (problem_type == "multi_label_classification")
    assert built(tmp_path, task).facts.head == ("reordered" if is_same else "new")


def test_tokenizer_without_padding_token_pads_with_the_end_of_text(tiny_model: Path, tmp_path: Path) -> None:
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


# -- maximum input length ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, limit",
    [
        (RobertaConfig(**TINY, max_position_embeddings=66, pad_token_id=1), 64),  # positions start at padding_idx + 1
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
def test_maximum_input_follows_from_the_positions(config: RobertaConfig, limit: int | None) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    assert max_input_tokens(model) == limit
    if limit is not None:
        check_length(model, limit)
        assert model(input_ids=torch.full((1, limit), 5)).logits.shape == (1, 2)
        with pytest.raises(UserError, match=f"--max-length {limit + 1}: .* {limit} "):
            check_length(model, limit + 1)
    else:
        check_length(model, 10**6)


def test_maximum_input_of_the_tiny_model(tiny_model: Path) -> None:
    assert max_input_tokens(built(tiny_model).model) == 64


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


def _configure(**changes: object) -> Callable[[Path], None]:
    """Returns the damage of other values in config.json."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


def _rewrite(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Returns the damage of other weights in the file of weights."""

    def damage(folder: Path) -> None:
        weights = change(load_file(folder / "model.safetensors"))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def _without_padding(folder: Path) -> None:
    """Leaves a tokenizer without padding, end-of-text and unknown token."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {key: value for key, value in settings.items() if not key.endswith("_token")}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "damage, message",
    [
        (_without_weights, "no file named model.safetensors"),
        (_cut_off, "header"),
        (_without_tokenizer, "tokenizer not found"),
        (_no_text_model, "ViTConfig.*AutoModelForSequenceClassification"),
        (_unknown_kind, "model type `ours`"),
        (_configure(hidden_size="wide"), "hidden_size"),
        # weights that would be drawn at random, or left out
        (_rewrite(lambda weights: {}), r"37 weights .*missing: bert\.embeddings"),
        (_rewrite(lambda weights: {f"old.{key}": value for key, value in weights.items()}), r"missing: .*bert\."),
        (
            _rewrite(lambda weights: {**weights, "pooler.dense.bias": torch.zeros(7)}),
            r"shape: bert\.pooler\.dense\.bias",
        ),
        (
            _rewrite(lambda weights: {k: v for k, v in weights.items() if ".1." not in k}),
            r"missing: bert\.encoder\.layer\.1",
        ),
        (_configure(num_hidden_layers=3), r"16 weights .*missing: bert\.encoder\.layer\.2"),
        (_configure(num_hidden_layers=1), r"16 weights .*: encoder\.layer\.1"),
        (_configure(intermediate_size=32), r"shape: bert\.encoder"),
        (_configure(model_type="gpt2", architectures=["GPT2Model"]), r"missing: transformer\.h\.0"),
        # sizes that would use up memory
        (_configure(num_hidden_layers=10**6), "num_hidden_layers 1000000"),
        (_configure(vocab_size=10**12), r"out of memory: 32,\d+,\d+,\d+,\d+ parameters"),
        (_configure(max_position_embeddings=10**12), "out of memory: "),
        (_without_padding, "padding token not found"),
    ],
)
def test_damaged_folder_is_an_error_with_its_reason(
    tiny_model: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(UserError, match=f"--model {folder}: .*{message}") as error:
        built(folder)
    assert "sha256" not in str(error.value)


def test_pooler_that_the_checkpoint_never_had_is_new_and_noted(tiny_model: Path, tmp_path: Path) -> None:
    config = BertConfig(**TINY, tie_word_embeddings=False)
    bundle = built(with_tokenizer(BertForMaskedLM(config), tmp_path / "masked", tiny_model))
    assert bundle.facts.head == "new"
    assert [note for note in bundle.notes if "bert.pooler.dense" in note] == list(bundle.notes) != []
    assert built(tiny_model).notes == ()


def test_model_that_fits_into_memory_barely_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 4 * built(tiny_model).facts.parameters
    free = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free._replace(available=needed))
    built(tiny_model)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free._replace(available=needed - 1))
    with pytest.raises(UserError, match="out of memory"):
        built(tiny_model)


@pytest.mark.parametrize("limit", [0, 3])
def test_model_without_enough_positions_is_refused(tiny_model: Path, tmp_path: Path, limit: int) -> None:
    config = BertConfig(**TINY, max_position_embeddings=limit)
    with pytest.raises(UserError, match=f"--max-length 4: .* {limit} tokens"):
        check_length(AutoModelForSequenceClassification.from_config(config), 4)


def test_token_without_an_embedding_is_refused(tiny_model: Path) -> None:
    model = AutoModelForSequenceClassification.from_config(BertConfig(**TINY))
    check_tokens("--model m", model, [np.array([0, 79], np.int32), np.array([], np.int32)])
    with pytest.raises(UserError, match=r"token 80, .* 80 tokens"):
        check_tokens("--model m", model, [np.array([0, 79], np.int32), np.array([80], np.int32)])


# -- code that comes with a model --------------------------------------------------------------------------------------


def test_code_that_comes_with_a_model_is_never_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A "y" on standard input is the answer to no question."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    marker = tmp_path / "marker"
    folder = write_own_model(tmp_path / "own", tiny_model, marker)
    for load in (lambda: built(folder), lambda: load_tokenizer(str(folder), "sha256:0")):
        with pytest.raises(UserError, match=f"--model {folder}: .*code of its own"):
            load()
    assert not marker.exists()


def test_model_of_a_known_type_is_loaded_without_its_own_code(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    marker, folder = tmp_path / "marker", shutil.copytree(tiny_model, tmp_path / "own")
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()")
    _configure(auto_map={"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"})(folder)
    assert built(folder).facts.architecture == "BertForSequenceClassification"
    assert not marker.exists()


def test_folder_under_the_home_folder_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert built(Path("~/tiny")).facts.head == "new"


def test_unavailable_model_is_an_error_that_names_the_alternatives() -> None:
    with pytest.raises(UserError, match=r"--model org/none: .*\n.*HF_ENDPOINT.*folder.*--test-mode"):
        build_model("org/none", "main", RTE, 1)
