"""The inputs that a model can use: token types that it has embeddings for, padding on the side that it ignores."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

TOKEN_TYPES = "token_type_ids"
"""The input that tells the two texts of a pair apart."""


def fit_tokenizer(tokenizer: Tokenizer, model: PreTrainedModel) -> list[str]:
    """Makes the tokenizer return only what the model can use, padded on the right side; returns notes about it.

    Decoders find the last token of a row themselves, and some count positions from the first one, padding or not. So
    every model pads on the right, except those that classify by the last position, whatever is there, as XLNet does.
    """
    tokenizer.padding_side = "left" if _reads_last_position(model) else "right"
    if TOKEN_TYPES not in tokenizer.model_input_names:
        return []
    known, largest = _known_types(model), _largest_type(tokenizer)
    if known is None or largest < known:
        return []
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != TOKEN_TYPES]
    embeddings = f"embeddings of {known} token types" if known else "no embeddings of token types"
    return [f"{TOKEN_TYPES} left out: the tokenizer counts them up to {largest}, but the model has {embeddings}"]


def _reads_last_position(model: PreTrainedModel) -> bool:
    """Tells whether the head reads the last position of a batch."""
    summaries = [module for name, module in model.named_modules() if name.endswith("sequence_summary")]
    return any(getattr(summary, "summary_type", None) == "last" for summary in summaries)


def _known_types(model: PreTrainedModel) -> int | None:
    """Returns the number of token types that the model has embeddings for; None if it only compares them.

    GPT-2 and its relatives have none: they would look token types up among the words.
    """
    if any(name.endswith("seg_embed") for name, _ in model.named_parameters()):  # XLNet and Funnel
        return None
    sizes = [
        module.num_embeddings
        for name, module in model.named_modules()
        if name.endswith("token_type_embeddings") and isinstance(module, nn.Embedding)
    ]
    return min(sizes, default=0)


def _largest_type(tokenizer: Tokenizer) -> int:
    """Returns the largest token type of a pair of texts or of padding."""
    return max(tokenizer.pad_token_type_id, *tokenizer("a", "a").get(TOKEN_TYPES, ()))
