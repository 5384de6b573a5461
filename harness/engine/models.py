"""A pretrained encoder with the head that a task needs, and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.engine.adaptations.float32_head import compute_head_in_float32, head_prefixes
from harness.errors import UserError, first_line
from harness.facts.records import ModelFacts
from harness.facts.tasks import TaskSpec
from harness.system.hub import call_with_retries


class BuiltModel(NamedTuple):
    """A model, its tokenizer, and the facts about them for the record."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    facts: ModelFacts


def build_model(name: str, revision: str, task: TaskSpec, seed: int) -> BuiltModel:
    """Loads a model with a head for the task, in float32, equal on every process for the same seed.

    A checkpoint that was fine-tuned on labels of the same names keeps its head, with its rows in the task's order; any
    other head is newly initialised, even if its shape fits.

    Raises:
        UserError: the model is not found, cannot be reached, or cannot classify sequences.
    """
    source, on_hub = _location(name, revision)
    with _explained_errors(name, revision):
        config = call_with_retries(name, lambda: AutoConfig.from_pretrained(source, **on_hub))
        if commit := None if Path(source).is_dir() else _commit(name, revision):
            on_hub = {"revision": commit}  # all files from one commit, even if the branch moves meanwhile
        tokenizer = _tokenizer(name, source, on_hub)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    config.pad_token_id = tokenizer.pad_token_id
    order = _label_order(config, task)
    _set_labels(config, task)
    set_seed(seed)
    options = dict(dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True, **on_hub)
    with _explained_errors(name, revision):
        model, loading = call_with_retries(
            name, lambda: AutoModelForSequenceClassification.from_pretrained(source, config=config, **options)
        )
    initialised = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    head_keys = {key for key in model.state_dict() if key.startswith(head_prefixes(model))}
    if order is not None and head_keys.isdisjoint(initialised):
        _reorder_head(model, order)
        head = "kept" if order == list(range(len(order))) else "reordered"
    else:
        if not head_keys <= initialised:  # also if only its last layer has another shape
            _reset_head(model, config, seed)
        head = "new"
    compute_head_in_float32(model)
    facts = ModelFacts(
        commit=commit,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        attention=getattr(model.config, "_attn_implementation", None) or "eager",
        head=head,
    )
    return BuiltModel(model, tokenizer, facts)


def load_tokenizer(name: str, revision: str) -> Tokenizer:
    """Loads the tokenizer of a model without its weights.

    Raises:
        UserError: the model is not found, cannot be reached, or has no tokenizer.
    """
    with _explained_errors(name, revision):
        return _tokenizer(name, *_location(name, revision))


def _tokenizer(name: str, source: str, on_hub: dict[str, str]) -> Tokenizer:
    tokenizer = call_with_retries(name, lambda: AutoTokenizer.from_pretrained(source, **on_hub))
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # AutoTokenizer invents one without files
        raise UserError(f"--model {name}: tokenizer not found, neither a tokenizer.json nor a vocabulary.")
    return tokenizer


def max_input_tokens(model: PreTrainedModel) -> int | None:
    """Returns the number of tokens that the model has positions for, or None if it has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa counts from there
            limit = module.num_embeddings - first
    return limit if isinstance(limit, int) and limit > 0 else None


def check_length(model: PreTrainedModel, max_length: int) -> None:
    """Raises UserError when rows of `max_length` tokens are longer than the model can read."""
    limit = max_input_tokens(model)
    if limit is not None and max_length > limit:
        raise UserError(f"--max-length {max_length}: this model reads at most {limit} tokens.")


def _location(name: str, revision: str) -> tuple[str, dict[str, str]]:
    """Returns what `from_pretrained` needs: a folder, or a name with its revision on the Hub."""
    if revision.startswith("sha256:"):
        return str(Path(name).expanduser()), {}
    return name, {"revision": revision}


def _commit(name: str, revision: str) -> str | None:
    """Returns the commit of the revision, from the path of the downloaded configuration."""
    path = try_to_load_from_cache(name, "config.json", revision=revision)  # .../snapshots/<commit>/config.json
    return Path(path).parent.name if isinstance(path, str) else None


def _set_labels(config: Any, task: TaskSpec) -> None:
    names = list(task.labels or {"score": 0})
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.problem_type = task.problem_type


def _label_order(config: Any, task: TaskSpec) -> list[int] | None:
    """Returns the checkpoint's number of each of the task's labels, or None if their names or kinds of head differ.

    Scores of a multi-label head and of a softmax head do not mean the same.
    """
    if task.labels is None or (config.problem_type == "multi_label_classification") != task.is_multi_label:
        return None
    numbers = {str(name).casefold(): int(number) for number, name in (config.id2label or {}).items()}
    names = [name.casefold() for name in task.labels]
    return [numbers[name] for name in names] if set(numbers) == set(names) and len(numbers) == len(names) else None


def _reorder_head(model: PreTrainedModel, order: list[int]) -> None:
    """Sorts the rows of the last linear layer by the task's order of labels."""
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


def _reset_head(model: PreTrainedModel, config: Any, seed: int) -> None:
    """Replaces the checkpoint's head by a newly initialised one."""
    set_seed(seed)
    untrained = AutoModelForSequenceClassification.from_config(config).state_dict()
    heads = head_prefixes(model)
    model.load_state_dict({key: value for key, value in untrained.items() if key.startswith(heads)}, strict=False)


@contextmanager
def _explained_errors(name: str, revision: str) -> Iterator[None]:
    """Turns an error of the libraries into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each library raises its own kind for a file that it cannot read
        if revision.startswith("sha256:"):
            at, advice = (
                "",
                "The folder must contain config.json, weights and tokenizer of an encoder that can classify texts.",
            )
        else:
            at = "" if revision == "main" else f" at revision {revision}"
            advice = (
                "Check the name. If the Hub cannot be reached, check the connection or HF_ENDPOINT, name a folder with "
                "the model, or try --test-mode, which needs no network."
            )
        raise UserError(f"--model {name}: cannot load the model{at}: {first_line(error)}\n{advice}") from None
