"""A tiny training problem, the same each time: rows, recipe, step plans and model of the self-check."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.engine.encoding import Encoded
    from harness.facts.recipes import Recipe, StepPlan

GLOBAL_BATCH_SIZE = 16
CLASSES = 3


def generated(rows: int, is_multi_label: bool = False, choices: int = 1) -> Encoded:
    """Generates rows of random tokens and lengths with labels, the same each time; `choices` is the inputs of a row."""
    from harness.engine.encoding import Encoded

    rng = np.random.default_rng(rows)
    lengths = rng.integers(3, 24, size=rows * choices)
    tokens = rng.integers(5, 60, size=lengths.sum()).astype(np.int32)
    return Encoded(
        tokens={"input_ids": tokens, "token_type_ids": np.zeros_like(tokens)},
        offsets=np.concatenate([[0], lengths.cumsum()]),
        padding={"input_ids": 0, "token_type_ids": 0},
        labels=rng.integers(0, 2, (rows, CLASSES), np.int8) if is_multi_label else rng.integers(0, CLASSES, size=rows),
        choices=choices,
    )


def recipe(**changes: Any) -> Recipe:
    """Returns a recipe for short training with warmup, weight decay and clipping that takes effect."""
    from harness.facts.recipes import Recipe

    facts = dict(
        learning_rate=1e-3,
        global_batch_size=GLOBAL_BATCH_SIZE,
        epochs=2,
        warmup=2,
        weight_decay=0.01,
        max_grad_norm=0.5,
    )
    return Recipe(**{**facts, **changes})


def plans(accelerator: Accelerator, rows: int) -> list[StepPlan]:
    """Returns plans with one, a few and the most batches per step that this number of processes allows."""
    from harness.facts.recipes import plan_steps

    share = math.ceil(GLOBAL_BATCH_SIZE / accelerator.num_processes)
    sizes = [size for size in (16, 4, 1) if share % size == 0]
    return [plan_steps(rows, recipe(), accelerator.num_processes, size) for size in sizes]


def tiny_model(dropout: float = 0.0, scores_candidates: bool = False) -> Any:
    """Returns the test mode's tiny BERT with a head for classes or for candidates, with the same weights each time."""
    from torch import nn

    model = copy.deepcopy(_tiny_bert("copa" if scores_candidates else "mnli"))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return model


def peft_model() -> Any:
    """Returns the tiny BERT as peft itself adds LoRA to it, with the settings that the harness has by default."""
    from accelerate.utils import set_seed
    from peft import LoraConfig, get_peft_model

    set_seed(0)
    return get_peft_model(tiny_model(), LoraConfig(task_type="SEQ_CLS", modules_to_save=["classifier"]))


@functools.cache
def _tiny_bert(task: str) -> Any:
    from harness.engine import models, test_mode
    from harness.facts.tasks import load_task

    with TemporaryDirectory() as folder:
        test_mode.write_model(Path(folder))
        return models.build_model(folder, "sha256:", load_task(task), seed=0).model
