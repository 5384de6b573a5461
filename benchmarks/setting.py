"""The conditions of a measurement, the same for all variants, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from benchmarks.measuring import capture_output
from benchmarks.rows import TaskRows
from harness.engine.encoding import Encoded

LEARNING_RATE = 2e-5
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Setting:
    """Rows, model and recipe of one measurement, the same for all variants."""

    rows: TaskRows
    all_rows: int
    """Number of training rows of the task; `rows` are those of one round."""
    model: str
    revision: str | None
    tokenizer: Tokenizer
    global_batch_size: int
    max_length: int
    precision: Literal["fp32", "bf16", "fp16"]
    device: torch.device
    seed: int
    limit_batch_size: int | None = None
    """Rows of a forward pass of `limit`; None for all rows of a step."""
    untimed_epochs: int = 0
    """Epochs of the harness before the timed one."""
    flags: tuple[str, ...] = ()
    """More flags for the harness alone."""

    @property
    def mixed_precision(self) -> str:
        """The precision by accelerate's name."""
        return "no" if self.precision == "fp32" else self.precision

    @property
    def pads_to(self) -> int | None:
        """Batches in mixed precision on a GPU are padded to a multiple of this for tensor cores, as in the examples."""
        return 8 if self.device.type == "cuda" and self.precision != "fp32" else None

    @property
    def encoded_vocabulary(self) -> Encoded:
        """One row with every token of the task, in the place of all its rows: only the set of tokens matters."""
        tokens = self.rows.vocabulary.astype(np.int32)
        padding = {"input_ids": int(self.tokenizer.pad_token_id or 0)}
        return Encoded({"input_ids": tokens}, np.array([0, len(tokens)]), padding, None)


class Measurement(NamedTuple):
    """The cost of an epoch."""

    seconds: float
    steps: int
    rows: int
    tokens: int
    """Tokens without padding."""
    computed_tokens: int
    """Tokens with padding."""
    peak_bytes: int
    losses: list[float]
    """The loss of each step, where the variant reports it."""


def stock_model(setting: Setting) -> PreTrainedModel:
    """Loads the model with a head for the task, as transformers builds it."""
    task = setting.rows.task
    torch.manual_seed(setting.seed)
    with capture_output():
        return AutoModelForSequenceClassification.from_pretrained(
            setting.model,
            **({"revision": setting.revision} if setting.revision else {}),
            num_labels=task.classes,
            problem_type="regression" if task.is_regression else "single_label_classification",
            dtype=torch.float32,
        )
