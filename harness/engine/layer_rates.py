"""Learning rates by layer: the lower a layer, the smaller its share of the learning rate."""

from __future__ import annotations

from transformers import PreTrainedModel

from harness.engine.layers import find_layers, parameters_below
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
    layers = find_layers(model, "--layer-decay")
    offset = DEFAULT_OFFSET if recipe.layer_decay_offset is None else recipe.layer_decay_offset

    def factor(layer: int) -> float:
        return float(recipe.layer_decay or 1.0) ** (len(layers) - layer + offset)

    factors = {id(parameter): factor(0) for parameter in parameters_below(model, layers)}
    for number, layer in enumerate(layers, start=1):
        factors |= {id(parameter): factor(number) for parameter in layer.parameters()}
    return factors
