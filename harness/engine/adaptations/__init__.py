"""Changes to a model for training, in the one order in which they are applied and undone.

1. `head`, when the model is loaded: logits are computed in float32 in any precision. `last_layer`: after its
   self-attention the last layer computes only the first token. They change no weight and apply to prediction too, so
   they are never undone.
2. `encoder_dropout` and `head`, if the recipe sets their dropout, when the model is loaded. They change no weight and
   are never undone.
3. `adapters`, if the recipe has one, when the model is loaded: all but the adapter and the head is frozen.
4. `freezing` of the lowest layers, if the recipe has it, once the rows are encoded.
5. `label_scaling`, if the recipe has it, once the rows are encoded: the head learns scaled labels.
6. `vocabulary`: embeddings of tokens that occur in no row of the task are set aside. Frozen embeddings stay frozen.
7. `dropout`, on a CPU: masks come from random numbers drawn in bulk, those of an adapter too. It has no weights, so it
   is not undone.
8. `cache`: decoders compute no cache of keys and values.

After the last step `restore` undoes 6, 5 (it puts the scale into the weights), 3 (it adds the adapter to them) and 8.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from harness.engine.adaptations import adapters, cache, dropout, head, label_scaling, last_layer, vocabulary
from harness.engine.encoding import Encoded
from harness.facts.recipes import Recipe, StepPlan


def adapt_loaded(model: PreTrainedModel) -> None:
    """Applies change 1 to a model that was just loaded, for training or prediction."""
    head.compute_head_in_float32(model)
    last_layer.limit_last_layer(model)


def adapt(
    model: PreTrainedModel,
    encoded: Mapping[str, Encoded],
    device: torch.device,
    *,
    is_compiled: bool,
    narrows_vocabulary: bool,
) -> None:
    """Applies changes 6 to 8 to a loaded model, before its optimizer is created; every process must call it.

    `encoded` has every split that is computed before `vocabulary.widen`, "train" among them. The vocabulary must stay
    whole where a process has only part of the weights, or the optimizer is not row-wise. Dropout remains torch's own
    in a compiled model.
    """
    if narrows_vocabulary:
        vocabulary.narrow(model, encoded.values())
    if device.type == "cpu" and not is_compiled:
        dropout.draw_in_bulk(model)
    cache.switch_off(model)


def restore(model: PreTrainedModel, recipe: Recipe, plan: StepPlan, steps: int) -> adapters.AdapterFiles | None:
    """Undoes changes 6, 5, 3 and 8: the model has its whole vocabulary again, with the weights it would have after
    `steps` steps, and scale and adapter are in its weights. Returns the adapter of peft as it was, if there is one.
    """
    vocabulary.widen(model, recipe, plan, steps)
    label_scaling.fold(model)
    adapter = adapters.extract(model)
    adapters.merge(model)
    cache.give_back(model)
    return adapter
