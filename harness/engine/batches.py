"""Token arrays become windows of batches: the same rows in the same steps for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.engine.encoding import Encoded
from harness.facts.recipes import StepPlan


class Batch(NamedTuple):
    """Rows for one forward pass, padded to the longest of them."""

    rows: NDArray[np.int64]
    """Row numbers, int64[B]; empty for a filler, whose single row weighs nothing."""
    inputs: dict[str, torch.Tensor]
    """int64[B, T] each, attention_mask included."""
    labels: torch.Tensor | None
    """int64[B] class numbers, float32[B] values, or int8[B, C] label sets."""

    def to(self, device: torch.device) -> Batch:
        """On the device; a GPU copies them while it computes, and nobody waits."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

        inputs = {name: moved(tensor) for name, tensor in self.inputs.items()}
        return self._replace(inputs=inputs, labels=None if self.labels is None else moved(self.labels))


class StepBatches(NamedTuple):
    """The batches of one step on one process."""

    batches: list[Batch]
    rows: int
    """Rows of the step over all processes; so the following."""
    tokens: int
    computed_tokens: int
    """Those and their padding, fillers not counted."""


def cut_batch(encoded: Encoded, rows: NDArray[np.int64], width: Callable[[int], int] = int) -> Batch:
    """The batch of these rows, in this order; no rows give a filler of one row that stands for none.

    It is `width(tokens of the longest row)` tokens wide.
    """
    taken = rows if len(rows) else np.zeros(1, np.int64)
    lengths = encoded.offsets[taken + 1] - encoded.offsets[taken]
    columns = np.arange(width(int(lengths.max())))
    is_token = columns < lengths[:, None]
    places = np.where(is_token, encoded.offsets[taken][:, None] + columns, 0)
    inputs = {
        name: torch.from_numpy(np.where(is_token, flat[places], encoded.padding[name]).astype(np.int64))
        for name, flat in encoded.tokens.items()
    }
    inputs["attention_mask"] = torch.from_numpy(is_token.astype(np.int64))
    labels = None
    if encoded.labels is not None:
        labels = torch.from_numpy(encoded.labels[taken])
        labels = labels.float() if labels.is_floating_point() else labels
    return Batch(rows, inputs, labels)


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of the rows that depends on seed and epoch alone, int64[rows]."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def rows_of_steps(lengths: NDArray[np.int64], plan: StepPlan, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The rows of each step of the epoch, longest first: every row once, from seed, epoch and lengths alone.

    The epoch's permutation is cut into groups of `plan.grouped_steps` whole steps. Within a group rows go by length
    before they are cut into steps, so that the rows of a step are of like length; then the steps are shuffled.
    What is left of the permutation after the last whole step is a step of its own, of whatever lengths it has.
    """
    order = epoch_order(len(lengths), seed, epoch)
    whole = len(order) - len(order) % plan.global_batch_size
    cut = []
    for start in range(0, whole, plan.global_batch_size * plan.grouped_steps):
        group = order[start : min(start + plan.global_batch_size * plan.grouped_steps, whole)]
        cut += np.split(_longest_first(group, lengths), len(group) // plan.global_batch_size)
    if whole < len(order):
        cut.append(_longest_first(order[whole:], lengths))
    if plan.grouped_steps > 1:
        cut = [cut[position] for position in np.random.default_rng([seed, epoch, 1]).permutation(len(cut))]
    return cut


def _longest_first(rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.argsort(-lengths[rows], kind="stable")]


def step_batches(
    encoded: Encoded,
    plan: StepPlan,
    seed: int,
    epoch: int,
    process: int,
    skip: int = 0,
    width: Callable[[int], int] = int,
) -> Iterator[StepBatches]:
    """This process's share of each step of the epoch, without the first `skip`; `width` as of `cut_batch`.

    Over all processes every row is drawn exactly once; all processes get the same number of batches in each window,
    with fillers where a ragged window has no row left for one of them. Within a window rows go by length, so that
    its batches need little padding and the processes' shares are alike; to the step their order is all the same.
    """
    lengths = encoded.lengths
    for window in rows_of_steps(lengths, plan, seed, epoch)[skip:]:
        share = math.ceil(len(window) / plan.processes)
        starts = range(0, share, plan.device_batch_size)
        shares = [window[p :: plan.processes] for p in range(plan.processes)]
        dealt = [part[at : at + plan.device_batch_size] for part in shares for at in starts]
        yield StepBatches(
            [cut_batch(encoded, shares[process][at : at + plan.device_batch_size], width) for at in starts],
            rows=len(window),
            tokens=int(lengths[window].sum()),
            computed_tokens=sum(len(batch) * width(int(lengths[batch[0]])) for batch in dealt if len(batch)),
        )


def scoring_batches(encoded: Encoded, device_batch_size: int, process: int, processes: int) -> list[NDArray[np.int64]]:
    """This process's batches for scoring, as row numbers: longest rows first, so that memory runs out at once or never.

    Batches are cut before they are dealt to the processes: a row has the same neighbours, and so the same score to the
    bit, for any number of processes. All processes get the same number of batches, the last ones possibly empty.
    """
    order = np.argsort(-encoded.lengths, kind="stable")
    dealt = [order[at : at + device_batch_size] for at in range(0, len(order), device_batch_size)]
    dealt += [order[:0]] * (-len(dealt) % processes)
    return dealt[process::processes]
