"""Training as a generator of steps: the caller decides when to evaluate, save or stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from harness.engine.adaptations import dropout, freezing, label_scaling
from harness.engine.batches import Batch, Encoded, StepBatches, cut_batch, step_batches
from harness.engine.compiling import compiled_logits, eager_logits, padded_length
from harness.engine.losses import balanced_weights, summed_loss
from harness.engine.sharding import shard_as, shard_by_layer, weights_hash, whole_tensor
from harness.engine.step_graphs import StepGraphs
from harness.facts.recipes import Recipe, StepPlan, learning_rate_factor

FINITE_CHECK_EVERY = 16
"""Steps that are queued on a GPU between two checks that losses and gradient norms are finite."""

MAX_OVERFLOWS = 40
"""Overflows of one fp16 step that count as divergence: by then the loss scale has fallen from 2^16 to 2^-24."""


class Diverged(ArithmeticError):
    """A loss or gradient norm is not finite; the weights are unchanged. Every process raises it at the same step."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"the {what} of step {step} is not finite")
        self.step = step


class Step(NamedTuple):
    """One completed optimizer step."""

    number: int
    """Number of the step, from 1 over the whole run."""
    epoch: int
    """Number of the epoch, from 1."""
    measured: torch.Tensor
    """float32[2], summed loss and gradient norm; a GPU may still be computing them."""
    learning_rate: float
    rows: int
    """Rows of the step, over all processes."""
    tokens: int
    """Tokens without padding, over all processes."""
    computed_tokens: int
    """Tokens with padding, over all processes."""
    seconds: float
    ends_epoch: bool
    is_evaluated: bool
    """The plan evaluates the run after this step."""
    is_checked: bool
    """All steps so far are known to be finite; only then may the caller evaluate, save or stop."""

    @property
    def loss(self) -> float:
        """Mean loss over the rows of the step, on all processes. Reading it waits for the device."""
        return float(self.measured[0]) / self.rows

    @property
    def gradient_norm(self) -> float:
        """2-norm of the mean loss's gradient, before clipping. Reading it waits for the device."""
        return float(self.measured[1])


class TrainingState(NamedTuple):
    """The state of training between two steps."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    """State of the gradient scaler, in fp16."""
    randomness: list[torch.Tensor] | None
    """States of this process's random generators, for dropout; None if another number of processes saved them."""


class Training:
    """A model, its optimizer and the plan of steps. The caller has adapted the model (`adaptations.adapt`) before."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        plan: StepPlan,
        encoded: Encoded,
        is_compiled: bool = False,
        has_graphs: bool = False,
    ) -> None:
        self.accelerator, self.recipe, self.plan, self.encoded = accelerator, recipe, plan, encoded
        self.class_weights: torch.Tensor | None = None
        if recipe.class_weights is not None:
            assert encoded.labels is not None, "training rows need labels"
            self.class_weights = balanced_weights(encoded.labels).to(accelerator.device)
        self.loss_unit = label_scaling.loss_unit(model)
        if (deepspeed := accelerator.state.deepspeed_plugin) is not None:
            rows = plan.device_batch_size
            sizes = {"train_micro_batch_size_per_gpu": rows, "train_batch_size": rows * accelerator.num_processes}
            limit = recipe.max_grad_norm or 0.0  # DeepSpeed clips instead of the harness; 0 is no limit
            deepspeed.deepspeed_config |= {**sizes, "gradient_clipping": limit}
        if accelerator.num_processes > 1:  # by default DistributedDataParallel waits for every gradient
            finds_unused = freezing.has_unused(model, encoded)
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=finds_unused)
        shard_by_layer(accelerator, model)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        device, has_few_widths = accelerator.device, is_compiled or has_graphs
        self.logits = compiled_logits(self.model, device, has_graphs) if is_compiled else eager_logits(self.model)
        self.width = (lambda tokens: min(padded_length(tokens), recipe.max_length)) if has_few_widths else int
        is_fused = self._is_fused()
        self.defers_finite_check = is_fused and device.type == "cuda"
        self.clips_in_update = is_fused and recipe.max_grad_norm is not None
        self._pending: list[tuple[int, torch.Tensor]] = []
        self._found_not_finite = torch.zeros((), device=device)
        self.graphs = self._step_graphs() if has_graphs else None
        if isinstance(self.model, DistributedDataParallel):
            self._order_buckets()

    @property
    def has_step_graphs(self) -> bool:
        """Steps were captured as CUDA graphs."""
        return self.graphs is not None and self.graphs.has_captured

    def _order_buckets(self) -> None:
        """Makes DistributedDataParallel order its buckets before the first step, by a backward pass of weight zero.

        Otherwise it does so after the first step, and with three or more processes the sums of gradients in the first
        step after a resume would be rounded differently than in a run without interruption.
        """
        device = self.accelerator.device
        filler = cut_batch(self.encoded, np.zeros(0, np.int64)).to(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.model(**filler.inputs).logits.sum().mul(0.0).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def _is_fused(self) -> bool:
        """Tells whether one kernel updates all weights, which can also skip the step or divide the gradients."""
        plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        is_plain = self.accelerator.distributed_type in plain and self.accelerator.scaler is None
        return is_plain and bool(self.optimizer.defaults.get("fused"))

    def check_finite(self) -> None:
        """Waits for the pending steps and checks their losses and gradient norms.

        Raises:
            Diverged: one of them is not finite; the weights are those before the first such step.
        """
        if not self._pending:
            return
        numbers = [number for number, _ in self._pending]
        values = torch.stack([measured for _, measured in self._pending]).tolist()
        self._pending.clear()
        for number, (loss, norm) in zip(numbers, values, strict=True):
            if not math.isfinite(loss):
                raise Diverged(number, "loss")
            if not math.isfinite(norm):
                raise Diverged(number, "gradient norm")

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns a copy of this process's current weights and buffers, without the parameters that are frozen."""
        return {name: tensor.detach().clone() for name, tensor in self._own_weights().items()}

    def _own_weights(self) -> dict[str, torch.Tensor]:
        """The tensors themselves of which `weights` returns copies."""
        model = self.accelerator.unwrap_model(self.model)
        named = model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in named if not parameter.requires_grad}
        return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}

    def weights_sha256(self) -> str:
        """Returns the hash of all current weights, frozen ones too."""
        return weights_hash(self.accelerator.unwrap_model(self.model).state_dict().items())

    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Restores what `weights` returned."""
        own = self._own_weights()
        if missing := own.keys() ^ weights.keys():
            raise ValueError(f"weights: other names than in this model: {sorted(missing)[:3]}")
        sharded = {name: shard_as(tensor, own[name]) for name, tensor in weights.items()}
        self.accelerator.unwrap_model(self.model).load_state_dict(sharded, strict=False)

    def state(self) -> TrainingState:
        """Returns everything that training needs to resume bit-for-bit."""
        scaler, on_gpu = self.accelerator.scaler, self.accelerator.device.type == "cuda"
        return TrainingState(
            weights=self.weights(),
            optimizer=self.optimizer.state_dict(),
            scaler=None if scaler is None else scaler.state_dict(),
            randomness=[torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])],
        )

    def set_state(self, state: TrainingState) -> None:
        """Restores what `state` returned; random generators stay as they are where it has none."""
        self.set_weights(state.weights)
        self.optimizer.load_state_dict(self._shard_optimizer_state(state.optimizer))
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        if state.randomness is not None:
            torch.set_rng_state(state.randomness[0])
            for on_gpu in state.randomness[1:]:
                torch.cuda.set_rng_state(on_gpu)

    def _shard_optimizer_state(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Shards each tensor of an optimizer's state as its parameter."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        by_number = {
            number: {name: shard_as(tensor, parameters[number]) for name, tensor in of_parameter.items()}
            for number, of_parameter in optimizer["state"].items()
        }
        return {**optimizer, "state": by_number}

    def train_step(self, step: StepBatches, learning_rate: float, number: int) -> torch.Tensor | None:
        """Runs one optimizer step on all of its batches.

        The loss is the sum over the step's rows on all processes, divided by their number, for any split into batches;
        fillers weigh nothing. On a GPU the check for finite values is deferred to `check_finite`: a step that is not
        finite leaves the weights unchanged, and so do all steps after it.

        Returns:
            float32[2], summed loss and gradient norm, or None if fp16 overflowed and the weights are unchanged.

        Raises:
            Diverged: the loss or the gradient norm is not finite.
        """
        scaler = self.accelerator.scaler
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("rate_factor", 1.0)
        scale = None if scaler is None else scaler.get_scale()
        measured = None
        if self.graphs is not None and self.graphs.replays(step, number):
            measured = self.graphs.run(step.batches[0])
            if measured is None:
                self.accelerator.print(f"CUDA graphs: this model's steps cannot be captured ({self.graphs.failure})")
        is_replayed = measured is not None
        if measured is None:
            measured = self._gradients(step.batches, step.rows)
        if scale is None:
            self._pending.append((number, measured))
        if not self.defers_finite_check:
            self.check_finite()
        if not is_replayed:
            self._update_weights(measured)
        # a fused optimizer skips the step by itself, which accelerate does not notice; then the scale has fallen
        overflowed = scale is not None and scaler.get_scale() < scale
        return None if overflowed or self.accelerator.optimizer_step_was_skipped else measured

    def _gradients(self, batches: list[Batch], rows: int) -> torch.Tensor:
        """Computes and clips the gradients of a step's batches; returns float32[2], summed loss and gradient norm."""
        accelerator = self.accelerator
        loss_sum = torch.zeros((), device=accelerator.device)
        for position, batch in enumerate(batches):
            is_last = position == len(batches) - 1
            batch = batch.to(accelerator.device)
            accelerator.sync_gradients = is_last
            with nullcontext() if is_last else accelerator.no_sync(self.model):  # gradients are exchanged once
                logits = batch.scores(self.logits(batch.inputs))
                loss = summed_loss(logits, batch.labels, self.class_weights, self.recipe.label_smoothing or 0.0)
                loss = loss * (1.0 if len(batch.rows) else 0.0)
                # gradients are averaged over processes: times their number gives the sum over all rows
                accelerator.backward(loss * (accelerator.num_processes / rows / self.loss_unit))
            loss_sum += loss.detach()
        norm = whole_tensor(torch.as_tensor(self._clip(), device=loss_sum.device)).to(loss_sum.dtype)
        if accelerator.num_processes > 1:
            loss_sum = accelerator.reduce(loss_sum, reduction="sum")  # type: ignore[assignment]
        return torch.stack([loss_sum, norm])

    def _clip(self) -> Any:
        """Clips the gradients, or leaves that to the fused update; returns their norm before clipping.

        A fused update divides each gradient as it reads it: one pass over all gradients fewer.
        """
        limit = math.inf if self.recipe.max_grad_norm is None else self.recipe.max_grad_norm
        if not self.clips_in_update:
            return self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.optimizer.optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # as torch's clip_grad_norm_
        return norm

    def _update_weights(self, measured: torch.Tensor) -> None:
        """Takes the optimizer's step; on a GPU, weights stay as they are from the first step that is not finite."""
        if self.defers_finite_check:
            is_not_finite = 1.0 - measured.isfinite().all().float()
            torch.maximum(self._found_not_finite, is_not_finite, out=self._found_not_finite)
            self.optimizer.optimizer.found_inf = self._found_not_finite
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _step_graphs(self) -> StepGraphs:
        """Returns the graphs of this training's steps; gradients and update of a batch are one graph."""
        return StepGraphs(
            lambda batch: self._gradients([batch], self.plan.global_batch_size),
            self._update_weights,
            self._discard_gradients,
            self.optimizer.optimizer,
            self.plan.global_batch_size,
            self.accelerator.device,
        )

    def _discard_gradients(self) -> None:
        """Discards gradients that are not applied, and what the gradient scaler noted about them."""
        self.optimizer.zero_grad(set_to_none=True)
        if (scaler := self.accelerator.scaler) is not None:
            scaler.update(scaler.get_scale())


def training_steps(training: Training, seed: int, after: int = 0) -> Iterator[Step]:
    """Yields every step of the plan in order, from the one after step `after`; all processes must iterate together.

    A step that fp16 skipped for overflow is repeated with the same rows and counts once, in the schedule too.

    Raises:
        Diverged: a loss or gradient norm is not finite; the weights are unchanged.
    """
    plan, recipe, process = training.plan, training.recipe, training.accelerator.process_index
    evaluations, started = plan.evaluations, time.perf_counter()
    for number, epoch, batches in _planned_batches(training, seed, after):
        learning_rate = recipe.learning_rate * learning_rate_factor(number - 1, plan, recipe)
        dropout.restart_masks(seed, process, number)
        measured = _take_step(training, batches, learning_rate, number)
        ends_epoch = number % plan.steps_per_epoch == 0 or number == plan.total_steps
        is_evaluated = number in evaluations
        is_due = ends_epoch or is_evaluated or number % FINITE_CHECK_EVERY == 0
        is_checked = is_due or not training.defers_finite_check
        if is_checked:
            training.check_finite()
        yield Step(
            number=number,
            epoch=epoch,
            measured=measured,
            learning_rate=learning_rate,
            rows=batches.rows,
            tokens=batches.tokens,
            computed_tokens=batches.computed_tokens,
            seconds=time.perf_counter() - started,
            ends_epoch=ends_epoch,
            is_evaluated=is_evaluated,
            is_checked=is_checked,
        )
        started = time.perf_counter()  # excludes the caller's time, includes cutting the next batches


def _planned_batches(training: Training, seed: int, after: int) -> Iterator[tuple[int, int, StepBatches]]:
    """Yields the number, the epoch and this process's batches of each step of the plan after step `after`."""
    plan, process, number = training.plan, training.accelerator.process_index, after
    if after >= plan.total_steps:
        return
    for epoch in range(1 + after // plan.steps_per_epoch, plan.epochs + 1):
        skip = number % plan.steps_per_epoch
        for batches in step_batches(training.encoded, plan, seed, epoch - 1, process, skip, training.width):
            number += 1
            yield number, epoch, batches
            if number == plan.total_steps:
                return


def _take_step(training: Training, batches: StepBatches, learning_rate: float, number: int) -> torch.Tensor:
    """Takes a step, again after an overflow of fp16, and returns what `train_step` has measured."""
    for _ in range(MAX_OVERFLOWS):
        if (measured := training.train_step(batches, learning_rate, number)) is not None:
            return measured
    raise Diverged(number, "gradient, at any loss scale,")
