"""Training of only the embeddings whose tokens occur in a run's rows: the others would get no gradient.

Half of a small encoder's weights, and most of a multilingual one's, are embeddings of tokens that occur in no row.
Without a gradient an optimizer only decays them, all by the same factor; yet zeroing, clipping, updating and exchanging
their gradients takes time and memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from harness.engine.encoding import Encoded
from harness.engine.layers import rate_factors, word_embeddings
from harness.engine.optimizers import decay_factor
from harness.facts.recipes import Recipe, StepPlan, learning_rate_factor


class NarrowedEmbedding(nn.Module):
    """The nn.Embedding `whole`, reduced to some of its tokens. Token numbers stay the same."""

    index: torch.Tensor
    """int64[vocabulary], the row of each token in `weight`, or -1."""

    def __init__(self, whole: nn.Embedding, tokens: torch.Tensor) -> None:
        super().__init__()
        self.whole = [whole]  # in a list, so that its weights are not parameters of this module
        self.tokens = tokens
        self.weight = nn.Parameter(whole.weight.detach()[tokens].clone(), whole.weight.requires_grad)
        index = torch.full((whole.num_embeddings,), -1)
        index[tokens] = torch.arange(len(tokens))
        self.register_buffer("index", index, persistent=False)
        self.padding_idx = None if whole.padding_idx is None else int(index[whole.padding_idx])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.embedding(self.index[tokens], self.weight, self.padding_idx)


def narrow(model: PreTrainedModel, splits: Iterable[Encoded]) -> bool:
    """Removes from the model's embedding all tokens that occur in no row of `splits`; returns whether it removed any.

    `widen` puts them back, before other rows are scored. Scores, losses and gradients stay the same, and so do the
    weights after an optimizer that `is_row_wise`. Embeddings other than torch's own stay whole, and so do those that
    the model's code can return but not replace.
    """
    whole = word_embeddings(model)
    if type(whole) is not nn.Embedding or whole.max_norm is not None or whole.sparse or whole.scale_grad_by_freq:
        return False
    occurs = np.zeros(whole.num_embeddings, bool)
    for encoded in splits:
        occurs[encoded.tokens["input_ids"]] = True
        occurs[encoded.padding["input_ids"]] = True
    for token in (whole.padding_idx, getattr(model.config, "decoder_start_token_id", None)):
        if token is not None:
            occurs[token] = True
    if occurs.all():
        return False
    try:
        model.set_input_embeddings(NarrowedEmbedding(whole, torch.from_numpy(np.flatnonzero(occurs))))
    except NotImplementedError:
        return False
    return True


def widen(model: PreTrainedModel, recipe: Recipe, plan: StepPlan, steps: int) -> None:
    """Puts back the tokens that `narrow` removed, decayed as by the first `steps` steps of the optimizer."""
    narrowed = word_embeddings(model)
    if not isinstance(narrowed, NarrowedEmbedding):
        return
    (whole,) = narrowed.whole
    rate = recipe.learning_rate * rate_factors(model, recipe).get(id(narrowed.weight), 1.0)
    rates = (rate * learning_rate_factor(number, plan, recipe) for number in range(steps))
    with torch.no_grad():
        whole.to(narrowed.weight.device)
        if narrowed.weight.requires_grad:
            whole.weight.mul_(decay_factor(recipe, rates))
        whole.weight[narrowed.tokens] = narrowed.weight
    model.set_input_embeddings(whole)
