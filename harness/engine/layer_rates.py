"""Learning rates by layer: the lower a layer, the smaller its share of the learning rate."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.facts.recipes import Recipe

DEFAULT_OFFSET = 1


def rate_factors(model: PreTrainedModel, recipe: Recipe) -> dict[int, float]:
    """Returns the factor of the learning rate of each parameter, by its `id`; empty without layer-wise decay.

    Layer l of L has decay^(L - l + offset), what is below the layers that of layer 0, and all above them 1, as in
    ELECTRA (Clark et al. 2020), where the offset is 2.

    Raises:
        UserError: the model has no single stack of layers.
    """
    if recipe.layer_decay is None:
        return {}
    layers = _layers(model)
    offset = DEFAULT_OFFSET if recipe.layer_decay_offset is None else recipe.layer_decay_offset

    def factor(layer: int) -> float:
        return float(recipe.layer_decay or 1.0) ** (len(layers) - layer + offset)

    factors = {id(parameter): factor(0) for parameter in _below(model, layers)}
    for number, layer in enumerate(layers, start=1):
        factors |= {id(parameter): factor(number) for parameter in layer.parameters()}
    return factors


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    """Returns the longest list of blocks of one type, each with parameters of its own."""
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    stacks = [one for one in lists if len({type(block) for block in one}) == 1 and any(True for _ in one.parameters())]
    longest = max(map(len, stacks), default=0)
    tallest = [stack for stack in stacks if len(stack) == longest]
    if len(tallest) != 1:
        reason = f"{len(tallest)} stacks of {longest} layers" if tallest else "no stack of layers"
        raise UserError(f"--layer-decay: unsupported for {type(model).__name__}: {reason} found. Drop the flag.")
    return tallest[0]


def _below(model: PreTrainedModel, layers: nn.ModuleList) -> list[nn.Parameter]:
    """Returns the parameters that the base model has before its layers, and the weights of all embeddings."""
    in_layers = {id(parameter) for parameter in layers.parameters()}
    below = []
    for parameter in model.base_model.parameters():
        if id(parameter) in in_layers:
            break
        below.append(parameter)
    embeddings = (module for module in model.base_model.modules() if "Embedding" in type(module).__name__)
    of_embeddings = (parameter for module in embeddings for parameter in module.parameters(recurse=False))
    return [*below, *(parameter for parameter in of_embeddings if id(parameter) not in in_layers)]
