"""The layers of an encoder, found by structure in any architecture, and their learning rates."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.facts.recipes import Recipe

DEFAULT_OFFSET = 1


def find_layers(model: PreTrainedModel, flag: str) -> nn.ModuleList:
    """Returns the longest list of blocks of one type, each with parameters of its own; the lowest block is the first.

    Raises:
        UserError: the model has no single stack of layers; the message begins with `flag`, which needs one.
    """
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    stacks = [one for one in lists if len({type(block) for block in one}) == 1 and any(True for _ in one.parameters())]
    longest = max(map(len, stacks), default=0)
    tallest = [stack for stack in stacks if len(stack) == longest]
    if len(tallest) != 1:
        reason = f"{len(tallest)} stacks of {longest} layers" if tallest else "no stack of layers"
        raise UserError(f"{flag}: unsupported for {type(model).__name__}: {reason} found. Drop the flag.")
    return tallest[0]


def drops_layers(model: nn.Module) -> bool:
    """Tells whether the model leaves out layers at random in training (LayerDrop)."""
    return any(getattr(module, "layerdrop", 0) for module in model.modules())


def word_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """Returns the module that embeds the tokens; None if there is no single one: CANINE hashes characters."""
    try:
        return model.get_input_embeddings()
    except NotImplementedError:
        return None


def parameters_below(model: PreTrainedModel, layers: nn.ModuleList) -> list[nn.Parameter]:
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


def rate_factors(model: PreTrainedModel, recipe: Recipe) -> dict[int, float]:
    """Returns the factor of the learning rate of each parameter, by its `id`; empty without layer-wise decay.

    Layer l of L has decay^(L - l + offset), what is below the layers that of layer 0, and all above them 1, as in
    ELECTRA (Clark et al. 2020), where the offset is 2.

    Raises:
        UserError: the model has no single stack of layers.
    """
    if recipe.layer_decay is None:
        return {}
    layers = find_layers(model, "--layer-decay")
    offset = DEFAULT_OFFSET if recipe.layer_decay_offset is None else recipe.layer_decay_offset
    factors: dict[int, float] = {}
    for depth, parameters in enumerate([parameters_below(model, layers), *(each.parameters() for each in layers)]):
        factor = recipe.layer_decay ** (len(layers) - depth + offset)
        factors |= {id(parameter): factor for parameter in parameters}
    return factors
