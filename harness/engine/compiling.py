"""torch.compile for training: one graph for all lengths, or plain PyTorch and a message if compiling fails.

Only the forward pass of training is compiled, as a function: the model itself and the names of its weights stay the
same, and evaluation runs without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness.errors import first_line

MIN_STEPS_TO_COMPILE = 6_000
"""Steps from which `auto` compiles on a GPU. An estimate: compiling takes a minute and saves 10 ms a step."""

MIN_CAPTURED_STEPS_TO_COMPILE = 60_000
"""The same for steps that are captured as CUDA graphs. Measured with BERT-base: compiling takes 80 s and saves 1.3 ms a
step (BENCHMARKS.md)."""

LogitsFunction = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def should_compile(mode: str, steps: int, device: torch.device, is_captured: bool) -> bool:
    """Decides for a mode, off, on or auto; auto compiles when the run has enough steps to make up for compiling."""
    enough = MIN_CAPTURED_STEPS_TO_COMPILE if is_captured else MIN_STEPS_TO_COMPILE
    return mode == "on" or (mode == "auto" and device.type == "cuda" and steps >= enough)


def obstacle(device: torch.device) -> str:
    """Returns the first line of the error that compiling raises on this device, empty when it works."""
    try:
        torch.compile(lambda values: torch.nn.functional.gelu(values) + 1)(torch.ones(8, device=device))
    except Exception as error:  # a missing compiler, headers or Triton, an old device: each raises its own kind
        return first_line(error)
    return ""


def eager_logits(model: nn.Module) -> LogitsFunction:
    """Returns the model's forward pass as a function of its inputs."""
    return lambda inputs: model(**inputs).logits  # type: ignore[no-any-return]


def compiled_logits(model: nn.Module, device: torch.device, has_step_graphs: bool = False) -> LogitsFunction:
    """Compiles the forward pass for rows of any length, on a GPU as CUDA graphs, which save a small model's launches.

    Parts of the model that cannot be compiled run eagerly. A step that is itself captured needs no graphs of its parts.
    """
    makes_graphs = device.type == "cuda" and not has_step_graphs
    torch._dynamo.config.suppress_errors = True
    options: dict[str, Any] = {"mode": "reduce-overhead"} if makes_graphs else {}
    graph = torch.compile(eager_logits(model), dynamic=True, **options)

    def logits(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if makes_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return graph(inputs).clone()  # its next run overwrites the graph's own memory

    return logits


def padded_length(tokens: int) -> int:
    """Returns the length to which a batch is padded for a compiled model, which records a CUDA graph for each length.

    Lengths differ by at most an eighth: 8, 16, ..., 64, 80, ..., 128, 160, ..., 256, 320, ...
    """
    step = max(8, 1 << max(0, (tokens - 1).bit_length() - 3))
    return -(-tokens // step) * step
