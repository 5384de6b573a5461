"""Token arrays become the batches of steps: the same rows in the same steps for any number of processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engine.encoding import Encoded
from harness.facts.recipes import StepPlan


class Batch(NamedTuple):
    """Rows of one forward pass, padded to the longest of them."""

    rows: NDArray[np.int64]
    """Row numbers, int64[B]; empty for a filler, whose single row weighs nothing."""
    inputs: dict[str, torch.Tensor]
    """int64[B K, T] tensors by name, attention_mask included; K is the number of inputs of a row."""
    labels: torch.Tensor | None
    """int64[B] class numbers, float32[B] values, or int8[B, C] label sets."""
    choices: int = 1
    """K, above 1 in a task of multiple choice."""

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits as one line per row, [B, C]; those of candidates, [B K, 1], become [B, K]."""
        return logits.view(-1, self.choices) if self.choices > 1 else logits

    def to(self, device: torch.device) -> Batch:
        """Copies the batch to the device; the copy to a GPU overlaps with its computation."""

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            is_copied = device.type == "cuda" and not tensor.is_cuda
            return (tensor.pin_memory() if is_copied else tensor).to(device, non_blocking=True)

        inputs = {name: copy(tensor) for name, tensor in self.inputs.items()}
        return self._replace(inputs=inputs, labels=None if self.labels is None else copy(self.labels))


class StepBatches(NamedTuple):
    """The batches of one step on one process."""

    batches: list[Batch]
    rows: int
    """Rows of the step, over all processes."""
    tokens: int
    """Tokens without padding, over all processes."""
    computed_tokens: int
    """Tokens with padding but without fillers, over all processes."""


def cut_batch(encoded: Encoded, rows: NDArray[np.int64], width: Callable[[int], int] = int) -> Batch:
    """Cuts the batch of these rows, in this order; without rows, a filler: row 0, which counts for nothing.

    Its width is `width(tokens of the longest input)`. The candidates of a row are always in one batch.
    """
    chosen = rows if len(rows) else np.zeros(1, np.int64)
    inputs_of_rows = (chosen[:, None] * encoded.choices + np.arange(encoded.choices)).ravel()
    lengths = encoded.offsets[inputs_of_rows + 1] - encoded.offsets[inputs_of_rows]
    total = width(max(encoded.least_width, int(lengths.max())))  # a decoder's tokenizer gives an empty text no token
    columns = np.arange(total) - (total - lengths[:, None] if encoded.pads_left else 0)
    is_token = (columns >= 0) & (columns < lengths[:, None])
    indices = np.where(is_token, encoded.offsets[inputs_of_rows][:, None] + columns, 0)
    inputs = {
        name: torch.from_numpy(np.where(is_token, flat[indices], encoded.padding[name]).astype(np.int64))
        for name, flat in encoded.tokens.items()
    }
    inputs["attention_mask"] = torch.from_numpy(is_token.astype(np.int64))
    labels = None
    if encoded.labels is not None:
        labels = torch.from_numpy(encoded.labels[chosen])
        labels = labels.float() if labels.is_floating_point() else labels
    return Batch(rows, inputs, labels, encoded.choices)


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns a permutation of the rows, int64[rows], that depends only on seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def rows_of_steps(widths: NDArray[np.int64], plan: StepPlan, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Returns the rows of each step of the epoch, longest first; every row once, from seed, epoch and widths alone.

    The epoch's permutation is cut into groups of `plan.grouped_steps` whole steps. Each group is sorted by length
    before it is cut into steps, so that the rows of a step have similar lengths; then the steps are shuffled. The rest
    of the permutation, less than a whole step, is a step of its own with rows of any length.
    """
    order = epoch_order(len(widths), seed, epoch)
    whole = len(order) - len(order) % plan.global_batch_size
    steps = []
    for start in range(0, whole, plan.global_batch_size * plan.grouped_steps):
        group = order[start : min(start + plan.global_batch_size * plan.grouped_steps, whole)]
        steps += np.split(_longest_first(group, widths), len(group) // plan.global_batch_size)
    if whole < len(order):
        steps.append(_longest_first(order[whole:], widths))
    if plan.grouped_steps > 1:
        steps = [steps[position] for position in np.random.default_rng([seed, epoch, 1]).permutation(len(steps))]
    return steps


def _longest_first(rows: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.argsort(-widths[rows], kind="stable")]


def step_batches(
    encoded: Encoded,
    plan: StepPlan,
    seed: int,
    epoch: int,
    process: int,
    skip: int = 0,
    width: Callable[[int], int] = int,
) -> Iterator[StepBatches]:
    """Yields this process's batches of each step of the epoch after the first `skip`; `width` is that of `cut_batch`.

    Over all processes every row is drawn exactly once. All processes get the same number of batches in each step, with
    fillers where a last step has too few rows. The rows of a step are sorted by length, so that its batches need little
    padding and the processes' shares are similar; their order does not matter to the step.
    """
    lengths, widths = encoded.lengths, encoded.widths
    for step in rows_of_steps(widths, plan, seed, epoch)[skip:]:
        starts = range(0, math.ceil(len(step) / plan.processes), plan.device_batch_size)
        shares = [step[p :: plan.processes] for p in range(plan.processes)]
        dealt = [[share[start : start + plan.device_batch_size] for start in starts] for share in shares]
        computed = sum(len(rows) * width(int(widths[rows[0]])) for rows in itertools.chain(*dealt) if len(rows))
        yield StepBatches(
            [cut_batch(encoded, rows, width) for rows in dealt[process]],
            rows=len(step),
            tokens=int(lengths[step].sum()),
            computed_tokens=encoded.choices * computed,
        )


def scoring_batches(
    encoded: Encoded, device_batch_size: int, process: int, processes: int, fills_up: bool = False
) -> list[NDArray[np.int64]]:
    """Returns this process's batches for scoring, as row numbers, longest rows first: memory runs out at once or never.

    A batch has `device_batch_size` rows, or, with `fills_up`, as many as have no more tokens than the first batch. A
    GPU computes few short rows in the same time as many. Batches are cut before they are dealt to the processes, so
    that a row has the same neighbours, and bit-for-bit the same score, for any number of processes. All processes get
    the same number of batches; the last may be empty.
    """
    widths = encoded.widths
    order = np.argsort(-widths, kind="stable")
    dealt, start = [], 0
    most_tokens = device_batch_size * max(1, int(widths.max(initial=1)))
    while start < len(order):
        longest = max(1, int(widths[order[start]]))
        end = start + (most_tokens // longest if fills_up else device_batch_size)
        dealt.append(order[start:end])
        start = end
    dealt += [order[:0]] * (-len(dealt) % processes)
    return dealt[process::processes]
