"""Recipes that the authors of a model published, as defaults for models of that name.

They leave out what would make a run depend on another one or on the reported rows: a start from MNLI, and the choice of
the best checkpoint. They also leave out Adam without bias correction, which is slower and less stable. `harness
published` has the complete protocols, with their scores. BERT and DistilBERT have no entry: their published recipe is
that of the defaults and of the tasks.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """A published recipe for the models whose name matches a pattern."""

    pattern: str
    """A shell pattern for the lower-cased model name."""
    source: str
    recipe: Mapping[str, Any]
    by_task: Mapping[str, Mapping[str, Any]] = {}
    conflict: str = ""
    """The difference of the source from another source, or from what the harness can do."""


def _roberta(pattern: str) -> Family:
    return Family(
        pattern,
        "fairseq examples/roberta/README.glue.md@1ffc48f",
        dict(
            epochs=10,
            learning_rate=1e-5,
            warmup=0.06,
            weight_decay=0.1,
            adam_beta2=0.98,
            adam_epsilon=1e-6,
            max_length=512,
            max_grad_norm=None,
        ),
        {
            "cola": dict(global_batch_size=16),
            "mrpc": dict(global_batch_size=16, epochs=10),
            "qqp": dict(warmup=0.25),  # 28,318 of 113,272 steps
            "rte": dict(global_batch_size=16, learning_rate=2e-5),
            "stsb": dict(global_batch_size=16, learning_rate=2e-5, label_scaling="unit"),
        },
        "the commands are for roberta-large, and report the best checkpoint on the dev set",
    )


def _electra(pattern: str, **changes: Any) -> Family:
    recipe = dict(
        epochs=3,
        learning_rate=1e-4,
        warmup=0.1,
        weight_decay=0.01,
        adam_epsilon=1e-6,
        layer_decay=0.8,
        layer_decay_offset=2,
    )
    return Family(
        pattern,
        "google-research/electra configure_finetuning.py@ac8d487",
        {**recipe, **changes},
        {
            "rte": dict(epochs=10),
            "stsb": dict(epochs=10, pair_order="both", label_scaling="unit"),
            "mrpc": dict(epochs=3, pair_order="both"),
        },
        "AdamW without bias correction (bertadam), a decay from the first step and a head of one linear layer there",
    )


def _modernbert(pattern: str, by_task: Mapping[str, tuple[float, float, int]]) -> Family:
    """Returns the family whose `by_task` gives learning rate, weight decay and epochs of each task, as in the table.

    Its weight decay is that of Composer's DecoupledAdamW, which does not multiply it by the learning rate.
    """
    return Family(
        pattern,
        "ModernBERT's paper, table 6 (appendix E); warmup, length, beta2 and epsilon of MosaicBERT's jobs",
        dict(global_batch_size=64, warmup=0.06, max_length=256, adam_beta2=0.98, adam_epsilon=1e-6),
        {
            task: dict(learning_rate=rate, weight_decay=round(decay / rate, 4), epochs=epochs)
            for task, (rate, decay, epochs) in by_task.items()
        },
        "rte, mrpc and stsb start from its MNLI model there; the jobs in the repository have MosaicBERT's values",
    )


def _deberta_v3(size: str, **recipe: Any) -> Family:
    return Family(
        f"*/deberta-v3-{size}",
        "microsoft/DeBERTa experiments/glue/mnli.sh@9ec4a62, the one task that its authors publish for it",
        {},
        {"mnli": dict(global_batch_size=64, max_length=256, weight_decay=0.01, adam_epsilon=1e-6, **recipe)},
        "AdamW without bias correction (bertadam) and a decay from the first step there"
        + (", 2 epochs and 1,000 steps of warmup in an earlier commit (994f643)" if size == "small" else ""),
    )


MODEL_RECIPES: tuple[Family, ...] = (
    _roberta("*/roberta-base"),
    _roberta("*/roberta-large"),
    _electra("*electra-large-discriminator", learning_rate=5e-5, layer_decay=0.9),
    _electra("*electra-*-discriminator"),
    _modernbert(
        "*modernbert-base",
        {
            "cola": (8e-5, 1e-6, 5),
            "mnli": (5e-5, 5e-6, 1),
            "mrpc": (5e-5, 5e-6, 10),
            "qnli": (8e-5, 5e-6, 2),
            "qqp": (5e-5, 5e-6, 10),
            "rte": (5e-5, 1e-5, 3),
            "sst2": (8e-5, 1e-5, 2),
            "stsb": (8e-5, 5e-6, 10),
        },
    ),
    _modernbert(
        "*modernbert-large",
        {
            "cola": (3e-5, 8e-6, 5),
            "mnli": (3e-5, 1e-5, 1),
            "mrpc": (8e-5, 5e-6, 2),
            "qnli": (3e-5, 5e-6, 2),
            "qqp": (5e-5, 8e-6, 2),
            "rte": (5e-5, 8e-6, 3),
            "sst2": (1e-5, 1e-6, 3),
            "stsb": (8e-5, 1e-5, 10),
        },
    ),
    _deberta_v3("xsmall", learning_rate=4.5e-5, epochs=3, warmup=1000, head_dropout=0.1),
    _deberta_v3("small", learning_rate=4.5e-5, epochs=3, warmup=1500, head_dropout=0.2),
    _deberta_v3("base", learning_rate=1.5e-5, epochs=3, warmup=1000, head_dropout=0.1),
    _deberta_v3("large", learning_rate=7e-6, epochs=2, warmup=500, head_dropout=0.3),
)


def find_family(model: str) -> Family | None:
    """The published recipe for a model of this name, or None."""
    name = "/" + posixpath.normpath(model.lower())
    return next((family for family in MODEL_RECIPES if fnmatch.fnmatchcase(name, family.pattern)), None)
