"""Code that comes with a model: it runs only if the user trusts it, and only from the model's own pinned files.

A `config.json` or `tokenizer_config.json` names the classes of its model, configuration and tokenizer in `auto_map`:
`modeling_own.OwnModel` is a class in the file `modeling_own.py` next to it, `org/other--modeling_own.OwnModel` one in
another repository.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from harness.engine.batches import Encoded, cut_batch
from harness.errors import UserError, first_line, is_of_the_outside_world

_CLASSIFIER = AutoModelForSequenceClassification.__name__

_PACKAGE = "transformers_modules"
"""The package in which transformers imports code that comes with models."""


def code_options(trusts_code: bool, commit: str | None = None) -> dict[str, Any]:
    """Returns options for every `from_pretrained`, with which transformers asks no question on standard input.

    `commit` is that of the model on the Hub; code in files of the same repository is read from it.
    """
    return {"trust_remote_code": True, "code_revision": commit} if trusts_code else {"trust_remote_code": False}


def check_code(name: str, source: str, revision: str | None = None) -> None:
    """Checks that a model comes with code, all of it among its own files; runs none of it.

    Raises:
        UserError: there is no code, or some of it is in another repository, whose commit is not pinned.
    """
    config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    tokenizer = get_tokenizer_config(source, revision=revision)
    references = [*_references(config.get("auto_map")), *_references(tokenizer.get("auto_map"))]
    if not references:
        raise UserError(f"{name}: --trust-remote-code: no code found, auto_map is missing in config.json: drop it.")
    for reference in references:
        repository, dashes, _ = reference.rpartition("--")
        if dashes and repository != source:
            raise UserError(
                f"{name}: --trust-remote-code: auto_map names {reference}, code in another repository, {repository}, "
                "whose commit is not pinned. Download the model and that repository's .py files into one folder, "
                f"remove '{repository}--' from its JSON files, and name the folder."
            )


def check_no_code(name: str, config: PreTrainedConfig) -> None:
    """Raises UserError for a configuration of code that an earlier run in this process has registered."""
    if type(config).__module__.startswith(f"{_PACKAGE}."):
        raise UserError(f"{name}: it needs code of its own ({type(config).__name__}): add --trust-remote-code.")


def untrained_classifier(config: Any, options: dict[str, Any]) -> PreTrainedModel:
    """Returns a newly initialised model; its code, if trusted, is that of the commit in the options.

    `from_config` of transformers would take the code of the newest commit.
    """
    reference = (getattr(config, "auto_map", None) or {}).get(_CLASSIFIER)
    if options["trust_remote_code"] and reference is not None:
        kind: Any = get_class_from_dynamic_module(
            reference, config.name_or_path, code_revision=options["code_revision"]
        )
        model: PreTrainedModel = kind._from_config(config)
    else:
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    return model


def fill_uninitialised(model: PreTrainedModel, options: dict[str, Any], missing: Iterable[str] = ()) -> None:
    """Fills what no checkpoint has, from a newly initialised model: `missing` weights and non-persistent buffers.

    transformers 5 creates both as uninitialised memory and leaves their values to `_init_weights`, in which the code of
    many models has neither biases nor buffers such as the frequencies of rotary positions.
    """
    names = [*missing, *(name for name, _ in model.named_non_persistent_buffers())]
    if not names:
        return
    untrained = untrained_classifier(model.config, options)
    with torch.no_grad():
        for name in names:
            model.get_parameter_or_buffer(name).copy_(untrained.get_parameter_or_buffer(name))


def name_encoder(name: str, model: PreTrainedModel) -> None:
    """Sets `base_model_prefix` of a model whose code names no submodule by it: everything would count as the head.

    Raises:
        UserError: several submodules, or none, can be the encoder.
    """
    children = dict(model.named_children())
    if model.base_model_prefix in children:
        return
    encoders = [child for child, module in children.items() if isinstance(module, PreTrainedModel)]
    if len(encoders) != 1:
        raise UserError(
            f"{name}: unsupported code: base_model_prefix {model.base_model_prefix!r} of {type(model).__name__} is no "
            f"submodule (it has {', '.join(children)}), so its head cannot be told from its encoder."
        )
    model.base_model_prefix = encoders[0]


def drop_listed_ties(model: PreTrainedModel) -> None:
    """Removes each `_tied_weights_keys` that is a list, as in code for transformers 4.

    transformers 5 ignores a list when it loads a model, but fails on it when it saves the trained one.
    """
    for module in model.modules():
        if isinstance(getattr(module, "_tied_weights_keys", None), (list, tuple)):
            module._tied_weights_keys = None  # type: ignore[assignment]


def check_scores(name: str, model: nn.Module, accelerator: Accelerator, encoded: Encoded, classes: int) -> None:
    """Checks on two rows that the code of a model takes the tokenizer's inputs and returns logits [rows, classes].

    The logits must have a gradient, without which nothing can be trained.

    Args:
        name: the model as the user named it, such as `--model org/name`.

    Raises:
        UserError: the code fails, or its output has no logits, another number of them, or logits without a gradient.
    """
    rows = np.arange(min(2, len(encoded)))
    batch, expected = cut_batch(encoded, rows).to(accelerator.device), (len(rows), classes)
    try:
        with accelerator.autocast():
            logits = batch.scores(model.to(accelerator.device)(**batch.inputs).logits)
        shape, has_gradient = tuple(logits.shape), logits.requires_grad
    except (Exception, SystemExit) as error:
        if is_of_the_outside_world(error):
            raise
        fault = describe_fault(error)
    else:
        fault = "" if has_gradient else "the logits have no gradient, perhaps after detach() or under no_grad()"
        if shape != expected:
            fault = f"expected logits of shape {expected} for {len(rows)} rows, got {shape}"
    model.to("cpu")  # it is adapted there
    if fault:
        raise UserError(
            f"{name}: unsupported code: {type(model).__name__}.forward({', '.join(batch.inputs)}): {fault}. Change it "
            "so that it takes these arguments and returns an output with logits that have a gradient, as transformers' "
            "models do."
        )


def describe_fault(error: BaseException) -> str:
    """The first line of an error, with file and line where code that comes with a model raised it."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        if _PACKAGE in file.parts:
            return f"{first_line(error)} ({file.name}, line {line})"
        if frame.f_code.co_name in ("get_imports", "check_imports") and "filename" in frame.f_locals:
            file = Path(frame.f_locals["filename"])  # which transformers reads before it is imported
            if isinstance(error, SyntaxError):
                return f"{type(error).__name__}: {error.msg} ({file.name}, line {error.lineno})"
            return f"{first_line(error)} ({file.name})"
    return first_line(error)


def own_references(auto_map: Any, folder: Path) -> Any:
    """Returns an `auto_map` that names only code in files of the folder, where a saved model has a copy of it."""
    if isinstance(auto_map, dict):
        kept_entries = {key: own_references(value, folder) for key, value in auto_map.items()}
        return {key: value for key, value in kept_entries.items() if any(_references(value))}
    if isinstance(auto_map, (list, tuple)):
        return [own_references(value, folder) for value in auto_map]
    reference = str(auto_map or "").rpartition("--")[2]
    return reference if (folder / f"{reference.partition('.')[0]}.py").is_file() else None


def _references(auto_map: Any) -> Iterator[str]:
    """Yields every class that an `auto_map` names: it has texts, pairs for slow and fast tokenizers, and None."""
    if isinstance(auto_map, str):
        yield auto_map
    elif isinstance(auto_map, (dict, list, tuple)):
        for value in auto_map.values() if isinstance(auto_map, dict) else auto_map:
            yield from _references(value)
