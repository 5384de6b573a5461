"""Only the vocabulary that a run's rows use is trained: the other rows of the embedding would get no gradient.

Half of a small encoder's weights, and most of a multilingual one's, are embeddings of tokens that no row has. Without
gradient AdamW leaves them as they are but for weight decay, which is the same factor for all of them; yet clearing,
clipping, updating and exchanging their zeros takes time and memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from harness.engine.encoding import Encoded
from harness.facts.recipes import Recipe, StepPlan, learning_rate_factor


class UsedEmbedding(nn.Module):
    """As the nn.Embedding `whole`, for the tokens `used` alone."""

    place: torch.Tensor

    def __init__(self, whole: nn.Embedding, used: torch.Tensor) -> None:
        super().__init__()
        self.whole = [whole]  # in a list: its weights are not among this module's
        self.used = used
        self.weight = nn.Parameter(whole.weight.detach()[used].clone(), whole.weight.requires_grad)
        place = torch.full((whole.num_embeddings,), -1)
        place[used] = torch.arange(len(used))
        self.register_buffer("place", place, persistent=False)
        self.padding_idx = None if whole.padding_idx is None else int(place[whole.padding_idx])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.embedding(self.place[tokens], self.weight, self.padding_idx)


def narrow(model: PreTrainedModel, splits: Iterable[Encoded]) -> bool:
    """Takes from the model's embedding all tokens that no row of `splits` has; whether there were any.

    `widen` gives them back. Scores, losses and gradients are what they were. Embeddings of a kind that is not torch's
    own stay whole.
    """
    whole = model.get_input_embeddings()
    if type(whole) is not nn.Embedding or whole.max_norm is not None or whole.sparse or whole.scale_grad_by_freq:
        return False
    occurs = np.zeros(whole.num_embeddings, bool)
    for encoded in splits:
        occurs[encoded.tokens["input_ids"]] = True
        occurs[encoded.padding["input_ids"]] = True
    if whole.padding_idx is not None:
        occurs[whole.padding_idx] = True
    if occurs.all():
        return False
    model.set_input_embeddings(UsedEmbedding(whole, torch.from_numpy(np.flatnonzero(occurs))))
    return True


def widen(model: PreTrainedModel, recipe: Recipe, plan: StepPlan, steps: int) -> None:
    """Gives back what `narrow` took, decayed as AdamW would have in so many steps from the first."""
    used = model.get_input_embeddings()
    if not isinstance(used, UsedEmbedding):
        return
    (whole,) = used.whole
    rates = (recipe.learning_rate * learning_rate_factor(number, plan, recipe.schedule) for number in range(steps))
    with torch.no_grad():
        whole.to(used.weight.device)
        if used.weight.requires_grad:
            whole.weight.mul_(math.prod(1 - rate * recipe.weight_decay for rate in rates))
        whole.weight[used.used] = used.weight
    model.set_input_embeddings(whole)
