"""torch.compile for training: one graph for all lengths, or, where that cannot be had, plain PyTorch and a message.

Only the forward pass of training is compiled, as a function: the model stays as it is, with its weights' own names, and
is evaluated without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MIN_STEPS_TO_COMPILE = 6_000
"""`auto` compiles longer runs on a GPU. Compiling takes about a minute, and a step of a small model may gain some
10 ms, so a run of so many gains what it paid; nothing of this was measured on a GPU yet."""

Logits = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def is_wanted(asked: str, steps: int, device: torch.device) -> bool:
    """Whether to compile, for `asked` off, on or auto, which weighs the run's steps against the time it takes."""
    return asked == "on" or (asked == "auto" and device.type == "cuda" and steps >= MIN_STEPS_TO_COMPILE)


def obstacle(device: torch.device) -> str:
    """Why nothing can be compiled for this device, in a few words; empty where it can."""
    try:
        torch.compile(lambda values: torch.nn.functional.gelu(values) + 1)(torch.ones(8, device=device))
    except Exception as error:  # no compiler, no headers, no Triton, a device too old: each of a kind of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return ""


def plain(model: nn.Module) -> Logits:
    """The model as it is."""
    return lambda inputs: model(**inputs).logits  # type: ignore[no-any-return]


def compiled(model: nn.Module, device: torch.device) -> Logits:
    """The same compiled for rows of any length, on a GPU as CUDA graphs, which spare a small model the kernel launches.

    What cannot be compiled within the model runs as it is.
    """
    on_gpu = device.type == "cuda"
    torch._dynamo.config.suppress_errors = True
    options: dict[str, Any] = {"mode": "reduce-overhead"} if on_gpu else {}
    graph = torch.compile(plain(model), dynamic=True, **options)

    def logits(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        return graph(inputs).clone()  # the graph's own memory is overwritten by its next run

    return logits


def bucket(tokens: int) -> int:
    """The length to which a batch is padded for a compiled model: a CUDA graph is recorded for each there is.

    Steps of an eighth or less of the length: 8, 16, ..., 64, 80, ..., 128, 160, ..., 256, 320, ...
    """
    step = max(8, 1 << max(0, (tokens - 1).bit_length() - 3))
    return -(-tokens // step) * step
