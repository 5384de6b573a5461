"""A pretrained encoder with the head that a task needs, and its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import torch
from accelerate.utils import set_seed
from huggingface_hub import try_to_load_from_cache
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.engine.adaptations import adapt_loaded
from harness.engine.adaptations.head import head_modules, head_prefixes
from harness.engine.inputs import fit_tokenizer
from harness.engine.layers import word_embeddings
from harness.engine.model_code import (
    check_code,
    check_no_code,
    code_options,
    describe_fault,
    drop_listed_ties,
    fill_uninitialised,
    name_encoder,
    untrained_classifier,
)
from harness.errors import UserError, list_first
from harness.facts.record_parts import ModelFacts
from harness.facts.tasks import TaskSpec
from harness.system.hub import call_with_retries

MAX_LAYERS = 1_000
"""Layers of a model; their modules alone, without any weight, would fill the memory at a million."""


class BuiltModel(NamedTuple):
    """A model, its tokenizer, and the facts and notes about them for the record."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    facts: ModelFacts
    notes: tuple[str, ...] = ()
    new_modules: tuple[str, ...] = ()
    """Modules of the encoder that the checkpoint lacks: newly initialised, so that no adapter may freeze them."""


def build_model(name: str, revision: str, task: TaskSpec, seed: int, trusts_code: bool = False) -> BuiltModel:
    """Loads a model with a head for the task, in float32, equal on every process for the same seed.

    A checkpoint that was fine-tuned on labels of the same names keeps its head, with its rows in the task's order; any
    other head is newly initialised, even if its shape fits. Code that comes with the model runs only if `trusts_code`.

    Raises:
        UserError: the model is not found, cannot be reached, cannot classify sequences, lacks weights of its encoder,
            needs code that is not trusted, or does not fit into memory.
    """
    source, options = _location(name, revision, trusts_code)
    with _explained_errors(name, revision):
        _check_code(name, source, options)
        config = call_with_retries(name, lambda: AutoConfig.from_pretrained(source, **options))
        if commit := None if Path(source).is_dir() else _commit(name, revision):
            options["revision"] = commit  # all files from one commit, even if the branch moves meanwhile
        tokenizer = _tokenizer(name, source, options)
        if not trusts_code:
            check_no_code(f"--model {name}", config)
        config.pad_token_id = _set_padding_token(name, tokenizer)
        order = _label_order(config, task)
        _set_labels(config, task)
        _check_size(name, config, options)
        set_seed(seed)
        settings = options | dict(dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True)
        model, loading = call_with_retries(
            name, lambda: AutoModelForSequenceClassification.from_pretrained(source, config=config, **settings)
        )
    initialised = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    if trusts_code:
        name_encoder(f"--model {name}", model)
        set_seed(seed)
        fill_uninitialised(model, options, initialised)
        drop_listed_ties(model)
    poolers = _check_encoder(name, model, loading)
    head_keys = {key for key in model.state_dict() if key.startswith(head_prefixes(model))}
    head: Literal["new", "kept", "reordered"] = "new"
    if order is not None and head_keys.isdisjoint(initialised):
        _reorder_head(model, order)
        head = "kept" if order == list(range(len(order))) else "reordered"
    elif not head_keys <= initialised:  # also if only its last layer has another shape
        _reset_head(model, config, options, seed)
    adapt_loaded(model)
    facts = ModelFacts(
        commit=commit,
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        attention=getattr(model.config, "_attn_implementation", None) or "eager",
        head=head,
    )
    notes = [f"the checkpoint has no {pooler}: newly initialised from the seed" for pooler in poolers]
    notes += fit_tokenizer(tokenizer, model)
    return BuiltModel(model, tokenizer, facts, tuple(notes), tuple(poolers))


def load_tokenizer(name: str, revision: str, trusts_code: bool = False) -> Tokenizer:
    """Loads the tokenizer of a model without its weights; its code runs only if `trusts_code`.

    Raises:
        UserError: the model is not found, cannot be reached, or has no tokenizer.
    """
    with _explained_errors(name, revision):
        source, options = _location(name, revision, trusts_code)
        _check_code(name, source, options)
        return _tokenizer(name, source, options)


def _check_code(name: str, source: str, options: dict[str, Any]) -> None:
    """Checks the code of a model if it is trusted; see `check_code`."""
    if options["trust_remote_code"]:
        call_with_retries(name, lambda: check_code(f"--model {name}", source, options.get("revision")))


def _tokenizer(name: str, source: str, options: dict[str, Any]) -> Tokenizer:
    tokenizer = call_with_retries(name, lambda: AutoTokenizer.from_pretrained(source, **options))
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # AutoTokenizer invents one without files
        raise UserError(f"--model {name}: tokenizer not found, neither a tokenizer.json nor a vocabulary.")
    return tokenizer


def _set_padding_token(name: str, tokenizer: Tokenizer) -> int:
    """Returns the padding token's number; a tokenizer without one gets its end-of-text or unknown token as padding."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"--model {name}: padding token not found: the tokenizer has no padding, end-of-text or unknown token. Set "
            "pad_token in its tokenizer_config.json."
        )
    return int(tokenizer.pad_token_id)


def max_input_tokens(model: PreTrainedModel) -> int | None:
    """Returns the number of tokens that the model has positions for, or None if it has no limit."""
    limits = [
        # RoBERTa counts positions from the one after the padding
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    limit = getattr(model.config, "max_position_embeddings", None)
    return min(limits) if limits else limit if isinstance(limit, int) and limit > 0 else None


def check_length(model: PreTrainedModel, max_length: int) -> None:
    """Raises UserError when rows of `max_length` tokens are longer than the model can read."""
    limit = max_input_tokens(model)
    if limit is not None and max_length > limit:
        raise UserError(
            f"--max-length {max_length}: this model reads at most {limit} tokens. Set --max-length {limit}."
        )


def check_tokens(name: str, model: PreTrainedModel, tokens: Iterable[NDArray[np.int32]]) -> None:
    """Raises UserError, which begins with `name`, when the rows have a token that the model has no embedding for."""
    embedding = word_embeddings(model)
    largest = max(int(ids.max(initial=0)) for ids in tokens)
    if isinstance(embedding, nn.Embedding) and largest >= embedding.num_embeddings:
        raise UserError(
            f"{name}: the tokenizer gives token {largest}, but the model has embeddings of {embedding.num_embeddings} "
            "tokens only. Name a model with its own tokenizer."
        )


def _check_size(name: str, config: Any, options: dict[str, Any]) -> None:
    """Raises UserError when the weights of this configuration do not fit into free memory; allocates none of them."""
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MAX_LAYERS:
        raise UserError(f"--model {name}: num_hidden_layers {layers} in config.json: expected at most {MAX_LAYERS}.")
    with torch.device("meta"):
        model = untrained_classifier(config, options)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    needed, free = 4 * parameters / 2**30, psutil.virtual_memory().available / 2**30
    if needed > free:
        raise UserError(
            f"--model {name}: out of memory: {parameters:,} parameters need {needed:,.1f} GiB, {free:,.1f} GiB are "
            "free. Choose a smaller model."
        )


def _check_encoder(name: str, model: PreTrainedModel, loading: dict[str, Any]) -> list[str]:
    """Checks that the checkpoint has every weight of the encoder but a pooler; returns the poolers that it lacks.

    Everything outside the base model is the head, which may be new.

    Raises:
        UserError: a weight of the encoder is missing or has another shape, or the checkpoint has more layers.
    """
    encoder = {key for key, _ in model.named_parameters() if not key.startswith(head_prefixes(model))}
    names = encoder | {key.removeprefix(f"{model.base_model_prefix}.") for key in encoder}  # a checkpoint has either
    missing = encoder & loading["missing_keys"]
    poolers = {key for key in missing if "pooler" in key.split(".")}
    reshaped = encoder & {key for key, *_ in loading["mismatched_keys"]}
    extra = {key for key in loading["unexpected_keys"] if re.sub(r"\.\d+(?=\.)", ".0", key) in names}
    for fault, keys in (("missing", missing - poolers), ("of another shape", reshaped), ("of further layers", extra)):
        if keys:
            raise UserError(
                f"--model {name}: {len(keys)} weights of the encoder are {fault}: {list_first(sorted(keys), 3)}. "
                "Its config.json and its weights do not belong together, or the weights are incomplete: download the "
                "model again."
            )
    return sorted({key.rsplit(".", 1)[0] for key in poolers})


def _location(name: str, revision: str, trusts_code: bool) -> tuple[str, dict[str, Any]]:
    """Returns what `from_pretrained` needs: a folder, or a name with its revision on the Hub; and whether code runs."""
    if revision.startswith("sha256:"):
        return str(Path(name).expanduser()), code_options(trusts_code)
    return name, {"revision": revision, **code_options(trusts_code, revision)}


def _commit(name: str, revision: str) -> str | None:
    """Returns the commit of the revision, from the path of the downloaded configuration."""
    path = try_to_load_from_cache(name, "config.json", revision=revision)  # .../snapshots/<commit>/config.json
    return Path(path).parent.name if isinstance(path, str) else None


def _set_labels(config: Any, task: TaskSpec) -> None:
    names = list(task.labels or {"score": 0}) if not task.choices else ["score"]  # of one candidate
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    own_names = {"multiple_choice": "regression", "answer_selection": "single_label_classification"}
    config.problem_type = own_names.get(task.problem_type, task.problem_type)


def _label_order(config: Any, task: TaskSpec) -> list[int] | None:
    """Returns the checkpoint's number of each of the task's labels, or None if their names or kinds of head differ.

    Scores of a multi-label head and of a softmax head do not mean the same. Labels that are not numbered from 0 name no
    rows of a head.
    """
    has_label_sets = config.problem_type == "multi_label_classification"
    if task.labels is None or task.choices or has_label_sets != task.is_multi_label:
        return None
    numbers = {str(name).casefold(): int(number) for number, name in (config.id2label or {}).items()}
    names = [name.casefold() for name in task.labels]
    if numbers.keys() != set(names) or sorted(numbers.values()) != list(range(len(names))):
        return None
    return [numbers[name] for name in names]


def _reorder_head(model: PreTrainedModel, order: list[int]) -> None:
    """Sorts the rows of the last linear layer by the task's order of labels."""
    linear = [each for each in head_modules(model) if isinstance(each, nn.Linear)]
    last = [layer for layer in linear if layer.out_features == len(order)][-1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order])
        if last.bias is not None:
            last.bias.copy_(last.bias[order])


def _reset_head(model: PreTrainedModel, config: Any, options: dict[str, Any], seed: int) -> None:
    """Replaces the checkpoint's head by a newly initialised one."""
    set_seed(seed)
    untrained = untrained_classifier(config, options).state_dict()
    heads = head_prefixes(model)
    model.load_state_dict({key: value for key, value in untrained.items() if key.startswith(heads)}, strict=False)


@contextmanager
def explained_load_errors(name: str, advice: str = "") -> Iterator[None]:
    """Turns an error of the libraries that load a model into a UserError."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # each library has its own kinds; code of a model may call sys.exit
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own, which runs only with --trust-remote-code."
            advice = "Read its .py files first. A model of the Hub also needs --revision with the commit that you read."
        elif "for this kind of AutoModel: AutoModelForSequenceClassification" in str(error):
            reason = f"it cannot classify sequences: {describe_fault(error)}"
            advice = "Choose another model, or add AutoModelForSequenceClassification to its code and its auto_map."
        elif isinstance(error, SystemExit):
            reason = f"its code ended the process ({describe_fault(error)})."
            advice = "Remove that call from its .py files."
        else:
            reason = describe_fault(error)
        raise UserError(f"{name}: cannot load the model: {reason}\n{advice}".rstrip()) from None


def _explained_errors(name: str, revision: str) -> AbstractContextManager[None]:
    """Turns an error about a folder, or about a model of the Hub, into a UserError that says what to do."""
    advice = "The folder must contain config.json, weights and tokenizer of an encoder that can classify texts."
    if not revision.startswith("sha256:"):
        advice = (
            f"Check the name and the revision {revision}. If the Hub cannot be reached, check the connection or "
            "HF_ENDPOINT, name a folder with the model, or try --test-mode, which needs no network."
        )
    return explained_load_errors(f"--model {name}", advice)
