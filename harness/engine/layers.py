"""The layers of an encoder, found by structure in any architecture."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from harness.errors import UserError


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
