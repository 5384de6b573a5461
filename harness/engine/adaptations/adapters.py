"""Adapters: a few trained weights on a frozen encoder, and a head that is trained in full.

peft puts the weights of an adapter into the model's own layers, so the model keeps its type and its names of the head.
`bitfit` needs no further weights: it trains the encoder's biases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from harness.engine.adaptations.head import head_prefixes
from harness.engine.sharding import weights_hash
from harness.errors import UserError, boundary, did_you_mean
from harness.facts.recipes import Recipe

DEFAULT_RANK, DEFAULT_ALPHA = 8, 8.0

_NAME = "default"
"""peft's name of the only adapter of a model."""

_PREFIX = "base_model.model."
"""Prefix of every weight in a file of peft."""


class AdapterFiles(NamedTuple):
    """An adapter as peft saves it, and the hash of the frozen weights that it belongs to."""

    config: dict[str, Any]
    """The contents of adapter_config.json."""
    weights: dict[str, torch.Tensor]
    base_sha256: str


def attach(
    model: PreTrainedModel,
    recipe: Recipe,
    seed: int,
    new_modules: Sequence[str] = (),
    base_model: str | None = None,
    commit: str | None = None,
) -> None:
    """Adds the recipe's adapter to a loaded model and freezes everything else but the head and `new_modules`.

    The adapter's weights are equal on every process for the same seed. A recipe without an adapter changes nothing.
    `base_model` and `commit` are the name of the model and its revision in the adapter's files.

    Raises:
        UserError: peft is not installed or has no default targets for this model, or a target is not found.
    """
    if recipe.adapter is None:
        return
    in_full = _trained_in_full(model, new_modules)
    if recipe.adapter == "bitfit":
        trained = [name for name, _ in model.named_parameters() if name.endswith("bias")]
        if all(name.startswith(head_prefixes(model)) for name in trained):
            raise UserError(f"--adapter bitfit: {type(model).__name__} has no biases in its encoder. Choose lora.")
    else:
        config = _inject(model, recipe, seed, in_full)
        config.base_model_name_or_path, config.revision = base_model, commit
        config.modules_to_save = [prefix.rstrip(".") for prefix in in_full]  # for `extract`: peft need not wrap them
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or name.startswith(in_full))


def trained_parameters(model: nn.Module) -> int:
    """Returns the number of parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def extract(model: PreTrainedModel) -> AdapterFiles | None:
    """Returns the adapter of peft in the model, with everything that is trained in full; None where there is none."""
    if not _layers(model):
        return None
    from peft import get_peft_model_state_dict

    config: Any = model.peft_config[_NAME]
    in_full, state = tuple(f"{name}." for name in config.modules_to_save), model.state_dict()
    weights = get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    weights |= {name: tensor for name, tensor in state.items() if name.startswith(in_full)}
    values = config.to_dict() | dict(inference_mode=True)
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    copies = {f"{_PREFIX}{name}": tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    return AdapterFiles(plain, copies, weights_hash(_base_weights(model, in_full)))


def merge(model: PreTrainedModel) -> None:
    """Adds the adapter to the weights that it changes: the model is an ordinary one again, and gives the same logits.

    The difference is the rounding of one sum per weight.
    """
    for name, layer in _layers(model).items():
        parent, _, child = name.rpartition(".")
        with torch.no_grad():
            layer.merge()
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def load(model: PreTrainedModel, weights: Mapping[str, torch.Tensor], with_head: bool) -> None:
    """Sets the attached adapter to the weights of a file of peft, those of the head only on request.

    Raises:
        UserError: the weights are those of another kind of adapter, or of another model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    plain = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    heads = head_prefixes(model)
    own = get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    if any(name not in plain or plain[name].shape != tensor.shape for name, tensor in own.items()):
        raise UserError("the adapter's weights do not belong to this model")
    set_peft_model_state_dict(model, {name: plain[name] for name in plain if with_head or not name.startswith(heads)})


def _inject(model: PreTrainedModel, recipe: Recipe, seed: int, in_full: tuple[str, ...]) -> Any:
    """Lets peft wrap the target layers of the encoder, with weights drawn from the seed; returns its configuration."""
    try:
        import peft
        from peft.utils import constants
    except ImportError:
        raise UserError(
            f"--adapter {recipe.adapter}: peft is not installed. Install it: pip install glue-harness[peft]"
        ) from None
    is_ia3, kind = recipe.adapter == "ia3", model.config.model_type
    defaults = (
        constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
        if is_ia3
        else constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    )
    targets = _targets(model, recipe, in_full, defaults.get(kind))
    config: Any
    excluded = f"({'|'.join(re.escape(prefix.rstrip('.')) for prefix in in_full)})(\\..*)?"  # all modules below these
    settings: dict[str, Any] = dict(task_type="SEQ_CLS", target_modules=targets, exclude_modules=excluded)
    if is_ia3:
        outputs = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, ())
        config = peft.IA3Config(**settings, feedforward_modules=[name for name in targets if name in outputs])
    else:
        settings |= dict(r=recipe.adapter_rank or DEFAULT_RANK, lora_alpha=recipe.adapter_alpha or DEFAULT_ALPHA)
        settings |= dict(lora_dropout=recipe.adapter_dropout or 0.0, use_dora=recipe.adapter == "dora")
        config = peft.LoraConfig(**settings)
    set_seed(seed)
    with boundary(f"--adapter {recipe.adapter}", ValueError, advice="Name other layers with --adapter-targets."):
        peft.inject_adapter_in_model(config, model, _NAME)
    return config


def _targets(
    model: PreTrainedModel, recipe: Recipe, in_full: tuple[str, ...], defaults: Sequence[str] | None
) -> list[str]:
    """Returns the names of the layers to change, each of which ends the name of a linear layer of the encoder."""
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and not f"{name}.".startswith(in_full)
    ]
    names = sorted({name.rpartition(".")[2] for name in layers})
    if recipe.adapter_targets is None:
        if defaults is None:
            raise UserError(
                f"--adapter {recipe.adapter}: peft has no default layers for the model type {model.config.model_type}. "
                f"Name them with --adapter-targets; its linear layers: {', '.join(names)}."
            )
        return list(defaults)
    targets = [name.strip() for name in recipe.adapter_targets.split(",")]
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            raise UserError(
                f"--adapter-targets {target}: layer not found in {type(model).__name__}.{did_you_mean(target, names)} "
                f"Its linear layers: {', '.join(names)}."
            )
    return targets


def _trained_in_full(model: PreTrainedModel, new_modules: Sequence[str]) -> tuple[str, ...]:
    """Returns the prefixes of the weights that are trained themselves: those of the head and of new modules."""
    names = [name for name, _ in model.named_parameters()]
    prefixes = (*head_prefixes(model), *(f"{name}." for name in new_modules))
    return tuple(prefix for prefix in prefixes if any(name.startswith(prefix) for name in names))


def _layers(model: nn.Module) -> dict[str, Any]:
    """Returns the layers that peft has wrapped, by name; it does not load peft."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "get_base_layer")}


def _base_weights(model: PreTrainedModel, in_full: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the frozen weights, with their names as without an adapter."""
    adapted = tuple(f"{name}." for name in _layers(model))
    for name, tensor in model.state_dict().items():
        if (".base_layer." in name or not name.startswith(adapted)) and not name.startswith(in_full):
            yield name.replace(".base_layer.", "."), tensor
