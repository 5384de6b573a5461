"""The limit: the arithmetic of training alone, in a bare loop over ready batches without padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.measuring import Meter, keep_freed_memory
from benchmarks.setting import LEARNING_RATE, MAX_GRAD_NORM, Measurement, Setting, stock_model


def limit(setting: Setting) -> Measurement:
    """Trains with the arithmetic alone: forward, backward, clipping and fused AdamW in a bare loop over ready batches.

    The batches are on the device and their rows have equal lengths, so there is no padding and no mask. A step's rows
    are cut from the tokens of the real rows, sorted by length: as many rows, as many tokens up to rounding. The model
    is as the harness trains it.
    """
    return _bare_loop(setting, is_stock=False)


def limit_stock(setting: Setting) -> Measurement:
    """Trains with the same loop and the model as transformers builds it: all embeddings, torch's dropout."""
    return _bare_loop(setting, is_stock=True)


def fastest_limit_batch(setting: Setting) -> int:
    """Returns the rows per forward pass with which `limit` is fastest: a whole step, or 8 where caches are small."""
    if setting.device.type == "cuda":
        return setting.global_batch_size
    sizes = (setting.global_batch_size, 8)
    seconds = {size: limit(replace(setting, limit_batch_size=size)).seconds for size in sizes}
    return min(sizes, key=lambda size: seconds[size])


def _adapt(model: PreTrainedModel, setting: Setting) -> None:
    """Changes the model as the harness does before it trains on one process."""
    from harness.engine.adaptations import adapt, adapt_loaded

    adapt_loaded(model)
    rows = {"train": setting.encoded_vocabulary}
    adapt(model, rows, setting.device, is_compiled=False, narrows_vocabulary=True)


def _bare_loop(setting: Setting, is_stock: bool) -> Measurement:
    keep_freed_memory(True)
    meter = Meter(setting.device)
    steps = list(_equal_length_steps(setting))
    np.random.default_rng(setting.seed).shuffle(steps)  # type: ignore[arg-type]
    model = stock_model(setting)
    if not is_stock:
        _adapt(model, setting)
    model = model.to(setting.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    autocast = torch.autocast(
        setting.device.type,
        torch.float16 if setting.precision == "fp16" else torch.bfloat16,
        enabled=setting.precision != "fp32",
    )
    scaler = torch.amp.GradScaler(setting.device.type, enabled=setting.precision == "fp16")
    loss_of = functional.mse_loss if setting.rows.task.is_regression else functional.cross_entropy
    meter.start()
    for step in steps:
        rows = sum(len(labels) for _, labels in step)
        for inputs, labels in step:
            with autocast:
                logits = model(**inputs).logits.float()
            loss = loss_of(logits.squeeze(-1) if logits.shape[1] == 1 else logits, labels, reduction="sum")
            scaler.scale(loss / rows).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    meter.stop()
    tokens = sum(inputs["input_ids"].numel() for step in steps for inputs, _ in step)
    rows = sum(len(labels) for step in steps for _, labels in step)
    return Measurement(meter.seconds, len(steps), rows, tokens, tokens, meter.peak_bytes, [])


ReadyBatch = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Inputs and labels on the device."""


def _equal_length_steps(setting: Setting) -> Iterator[list[ReadyBatch]]:
    """Yields the batches of each step of `limit`; the rows of a batch have equal lengths."""
    lengths, columns = setting.rows.lengths, setting.rows.tokenised.to_dict()
    order = np.argsort(lengths, kind="stable")
    names = [name for name in ("input_ids", "token_type_ids") if name in columns]
    labels = torch.tensor(columns["labels"])
    labels = labels.float() if labels.is_floating_point() else labels

    def batch(rows: NDArray[np.int64]) -> ReadyBatch:
        length = max(1, round(float(lengths[rows].mean())))
        inputs = {}
        for name in names:
            flat = np.concatenate([columns[name][row] for row in rows])
            inputs[name] = torch.from_numpy(np.resize(flat, (len(rows), length)).astype(np.int64)).to(setting.device)
        return inputs, labels[torch.from_numpy(rows)].to(setting.device)

    batch_size = setting.limit_batch_size or setting.global_batch_size
    for start in range(0, len(order), setting.global_batch_size):
        rows = order[start : start + setting.global_batch_size]
        yield [batch(rows[at : at + batch_size]) for at in range(0, len(rows), batch_size)]
