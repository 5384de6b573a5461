"""A pretrained encoder with the head that a task needs, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.engine.adaptations.float32_head import compute_head_in_float32, head_prefixes
from harness.errors import UserError
from harness.facts.records import ModelFacts
from harness.facts.tasks import TaskSpec
from harness.system.hub import persistently


class Built(NamedTuple):
    """A model, the tokenizer that belongs to it, and what the record says of them."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    facts: ModelFacts


def build(name: str, revision: str, task: TaskSpec, seed: int) -> Built:
    """The model with a head for the task, in float32, equal on every process that gives the same seed.

    A checkpoint that was fine-tuned on labels of the same names keeps its head, its rows put in the task's order; any
    other head is made anew, even where its shape would fit.

    Raises:
        UserError: the model does not exist, cannot be reached, or cannot classify sequences.
    """
    is_folder = revision.startswith("sha256:")
    on_hub = {} if is_folder else {"revision": revision}
    place = str(Path(name).expanduser()) if is_folder else name
    try:
        config = persistently(name, lambda: AutoConfig.from_pretrained(place, **on_hub))
        if commit := None if Path(place).is_dir() else _commit(name, revision):
            on_hub = {"revision": commit}  # all of it from one commit, also when a branch moves meanwhile
        tokenizer = _tokenizer(name, place, on_hub)
    except UserError:
        raise
    except Exception as error:  # each library has a kind of its own for a file that it cannot read
        raise UserError(_no_model(name, revision, error)) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    config.pad_token_id = tokenizer.pad_token_id
    order = _own_order(config, task)
    _label(config, task)
    set_seed(seed)
    try:
        model, loading = persistently(
            name,
            lambda: AutoModelForSequenceClassification.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **on_hub,
            ),
        )
    except Exception as error:  # as above
        raise UserError(_no_model(name, revision, error)) from None
    drawn = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    head_keys = {key for key in model.state_dict() if key.startswith(head_prefixes(model))}
    if order is not None and head_keys.isdisjoint(drawn):
        _reorder_head(model, order)
        head = "kept" if order == list(range(len(order))) else "reordered"
    else:
        if not head_keys <= drawn:  # also where only its last layer was of another shape
            _renew_head(model, config, seed)
        head = "new"
    compute_head_in_float32(model)
    return Built(model, tokenizer, facts_of(model, commit, head))


def tokenizer_of(name: str, revision: str) -> Tokenizer:
    """A model's tokenizer alone.

    Raises:
        UserError: the model does not exist, cannot be reached, or has none.
    """
    is_folder = revision.startswith("sha256:")
    try:
        return _tokenizer(
            name, str(Path(name).expanduser()) if is_folder else name, {} if is_folder else {"revision": revision}
        )
    except UserError:
        raise
    except Exception as error:  # as above
        raise UserError(_no_model(name, revision, error)) from None


def _tokenizer(name: str, place: str, on_hub: dict[str, str]) -> Tokenizer:
    tokenizer = persistently(name, lambda: AutoTokenizer.from_pretrained(place, **on_hub))
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # AutoTokenizer makes one up without files
        raise UserError(f"--model {name}: it has no tokenizer: neither a tokenizer.json nor a vocabulary is there.")
    return tokenizer


def facts_of(model: PreTrainedModel, commit: str | None, head: Any) -> ModelFacts:
    """What the record says of a model."""
    return ModelFacts(
        commit=commit,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        attention=getattr(model.config, "_attn_implementation", None) or "eager",
        head=head,
    )


def longest_input(model: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for, or None when its positions are not counted."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            used = 0 if module.padding_idx is None else module.padding_idx + 1  # as RoBERTa counts them
            limit = module.num_embeddings - used
    return limit if isinstance(limit, int) and limit > 0 else None


def check_length(model: PreTrainedModel, max_length: int) -> None:
    """Raises UserError when rows of `max_length` tokens are longer than the model can read."""
    limit = longest_input(model)
    if limit is not None and max_length > limit:
        raise UserError(f"--max-length {max_length}: this model reads {limit} tokens at most.")


def _commit(name: str, revision: str) -> str | None:
    """The commit that the revision of a model stood for when its configuration was downloaded."""
    found = try_to_load_from_cache(name, "config.json", revision=revision)  # .../snapshots/<commit>/config.json
    return Path(found).parent.name if isinstance(found, str) else None


def _label(config: Any, task: TaskSpec) -> None:
    names = list(task.labels or {"score": 0})
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.problem_type = task.problem_type


def _own_order(config: Any, task: TaskSpec) -> list[int] | None:
    """For each of the task's labels the checkpoint's number of it, or None when the names differ, or one of both gives
    each label a probability of its own: such a head and a softmax do not mean the same by a score.
    """
    if task.labels is None or (config.problem_type == "multi_label_classification") != task.is_multi_label:
        return None
    own = {str(name).casefold(): int(number) for number, name in (config.id2label or {}).items()}
    wanted = [name.casefold() for name in task.labels]
    return [own[name] for name in wanted] if set(own) == set(wanted) and len(own) == len(wanted) else None


def _reorder_head(model: PreTrainedModel, order: list[int]) -> None:
    """Puts the rows of the last linear layer in the task's order of labels."""
    heads = head_prefixes(model)
    last = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.".startswith(heads) and module.out_features == len(order)
    ][-1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order])
        if last.bias is not None:
            last.bias.copy_(last.bias[order])


def _renew_head(model: PreTrainedModel, config: Any, seed: int) -> None:
    """Replaces the checkpoint's head by one that was never trained."""
    set_seed(seed)
    untrained = AutoModelForSequenceClassification.from_config(config).state_dict()
    heads = head_prefixes(model)
    model.load_state_dict({key: value for key, value in untrained.items() if key.startswith(heads)}, strict=False)


def _no_model(name: str, revision: str, error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    if revision.startswith("sha256:"):
        return (
            f"--model {name}: cannot be loaded: {reason}\n"
            "The folder must hold config.json, weights and tokenizer of an encoder that can classify texts."
        )
    return (
        f"--model {name}: cannot be loaded{'' if revision == 'main' else f' at revision {revision}'}: {reason}\n"
        "Check the name; if the Hub cannot be reached, check the connection or HF_ENDPOINT, give a folder that holds "
        "the model, or try --test-mode, which needs no network."
    )
