"""Classification without the cache of keys and values that a decoder keeps for the tokens that it would generate next.

No token is generated here. The cache only takes memory, and some models cannot be trained with it.
"""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

_SAVED = "use_cache_of_the_checkpoint"
"""Attribute of a model whose cache is off: the setting of each configuration before."""


def switch_off(model: PreTrainedModel) -> None:
    """Makes the model compute no cache, until `give_back`."""
    configurations = _configurations(model)
    setattr(model, _SAVED, [config.use_cache for config in configurations])
    for config in configurations:
        config.use_cache = False


def give_back(model: PreTrainedModel) -> None:
    """Gives the configuration the setting of the checkpoint again, so that a saved model has it."""
    for config, value in zip(_configurations(model), getattr(model, _SAVED, ()), strict=False):
        config.use_cache = value


def _configurations(model: PreTrainedModel) -> list[PreTrainedConfig]:
    """Returns the model's configuration and that of its text model, as far as they have the setting."""
    both = {id(config): config for config in (model.config, model.config.get_text_config())}
    return [config for config in both.values() if hasattr(config, "use_cache")]
