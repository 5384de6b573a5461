"""Training as a generator of steps: whoever iterates decides when to look, evaluate, save or stop."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from harness.engine.adaptations import dropout
from harness.engine.batches import Encoded, StepBatches, cut_batch, step_batches
from harness.engine.compiling import bucket, compiled, plain
from harness.engine.losses import balanced_weights, summed_loss
from harness.facts.recipes import Recipe, StepPlan, learning_rate_factor

FINITE_CHECK_EVERY = 16
"""Steps that a GPU is given before somebody waits for what they measured."""

MOST_OVERFLOWS = 40
"""fp16 steps skipped in a row that count as diverged: by then the loss scale has fallen from 2^16 to 2^-24."""


class Diverged(ArithmeticError):
    """A loss or gradient norm is not finite; the weights have not moved. Raised on every process at the same step."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"the {what} of step {step} is not finite")
        self.step = step


class Step(NamedTuple):
    """One optimizer step that was taken."""

    number: int
    """Counted from 1 over the whole run."""
    epoch: int
    """Counted from 1."""
    measured: torch.Tensor
    """float32[2], still on its way on a GPU: the summed loss, and the gradient norm."""
    learning_rate: float
    rows: int
    """Over all processes."""
    tokens: int
    """Real tokens, over all processes."""
    computed_tokens: int
    """Those and their padding."""
    seconds: float
    ends_epoch: bool
    is_checked: bool
    """All steps so far were seen to be finite; only then may a run be stopped, saved or looked at."""

    @property
    def loss(self) -> float:
        """Mean over the rows of the step, on all processes. Reading it waits for the device."""
        return float(self.measured[0]) / self.rows

    @property
    def gradient_norm(self) -> float:
        """2-norm of the gradient of that mean, before clipping. Reading it waits for the device."""
        return float(self.measured[1])


class TrainingState(NamedTuple):
    """Where training stands between two steps."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    """fp16's loss scale."""
    randomness: list[torch.Tensor] | None
    """States of this process's generators, from which dropout is drawn; None when another number of processes saved."""


class Training:
    """A model and its optimizer, on their way through a plan."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        plan: StepPlan,
        encoded: Encoded,
        is_compiled: bool = False,
    ) -> None:
        self.accelerator = accelerator
        self.recipe = recipe
        self.plan = plan
        self.encoded = encoded
        self.class_weights = _class_weights(recipe, encoded, accelerator.device)
        if (deepspeed := accelerator.state.deepspeed_plugin) is not None:  # it asks, though it never uses the number
            deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = plan.device_batch_size
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.logits = compiled(self.model, accelerator.device) if is_compiled else plain(self.model)
        self.width = (lambda tokens: min(bucket(tokens), recipe.max_length)) if is_compiled else int
        self.defers_finite_check = accelerator.device.type == "cuda" and self._can_defer_finite_check()
        self._pending: list[tuple[int, torch.Tensor]] = []
        self._found_not_finite = torch.zeros((), device=accelerator.device)
        if isinstance(self.model, DistributedDataParallel):
            self._order_buckets()

    def _order_buckets(self) -> None:
        """Lets DistributedDataParallel order its buckets before the first step, by a pass that weighs nothing.

        It would do so after the first: of three processes or more, sums of gradients would then be rounded otherwise
        in the first step after a start than in the same step of a run that was not interrupted.
        """
        on_gpu = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        filler = cut_batch(self.encoded, np.zeros(0, np.int64)).to(self.accelerator.device)
        with torch.random.fork_rng(devices=on_gpu):
            self.model(**filler.inputs).logits.sum().mul(0.0).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def _can_defer_finite_check(self) -> bool:
        """Whether the optimizer can be told, on the device, to leave the weights as they are."""
        is_plain = self.accelerator.distributed_type in (DistributedType.NO, DistributedType.MULTI_GPU)
        return is_plain and self.accelerator.scaler is None and bool(self.optimizer.defaults.get("fused"))

    def check_finite(self) -> None:
        """Waits for the steps that were not looked at yet.

        Raises:
            Diverged: one of them was not finite; from the first of those on the weights have not moved.
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
        """A copy of this process's weights as they are now."""
        state = self.accelerator.unwrap_model(self.model).state_dict()
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def weights_sha256(self) -> str:
        """Hash of the weights as they are now, by name, in the bytes of their type."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.weights().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Puts back what `weights` gave."""
        self.accelerator.unwrap_model(self.model).load_state_dict(weights)

    def state(self) -> TrainingState:
        """All that training needs to go on to the bit, as it is now."""
        scaler, on_gpu = self.accelerator.scaler, self.accelerator.device.type == "cuda"
        return TrainingState(
            weights=self.weights(),
            optimizer=self.optimizer.state_dict(),
            scaler=None if scaler is None else scaler.state_dict(),
            randomness=[torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])],
        )

    def set_state(self, state: TrainingState) -> None:
        """Goes on from what `state` gave; dropout goes on as it is where the state has no randomness."""
        self.set_weights(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        if state.randomness is not None:
            torch.set_rng_state(state.randomness[0])
            for on_gpu in state.randomness[1:]:
                torch.cuda.set_rng_state(on_gpu)

    def train_step(self, window: StepBatches, learning_rate: float, number: int) -> torch.Tensor | None:
        """One step from all of its batches: what it measured, or None when fp16 overflowed and nothing moved.

        The loss is the sum over the window's rows on all processes, divided by their number, however they are split
        into batches; fillers weigh nothing. A GPU is not waited for: a step that is not finite leaves the weights as
        they are, as do all after it, until `settle` finds out.

        Raises:
            Diverged: the loss or the gradient norm is not finite.
        """
        accelerator = self.accelerator
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss_sum = torch.zeros((), device=accelerator.device)
        for position, batch in enumerate(window.batches):
            closes = position == len(window.batches) - 1
            batch = batch.to(accelerator.device)
            accelerator.sync_gradients = closes
            with _synchronising(accelerator, self.model, closes):
                logits = self.logits(batch.inputs)
                loss = summed_loss(logits, batch.labels, self.class_weights) * (1.0 if len(batch.rows) else 0.0)
                # gradients are averaged over processes: times their number gives the sum over all rows
                accelerator.backward(loss * (accelerator.num_processes / window.rows))
            loss_sum += loss.detach()
        limit = math.inf if self.recipe.max_grad_norm is None else self.recipe.max_grad_norm
        norm = torch.as_tensor(accelerator.clip_grad_norm_(self.model.parameters(), limit), device=loss_sum.device)
        if accelerator.num_processes > 1:
            loss_sum = accelerator.reduce(loss_sum, reduction="sum")  # type: ignore[assignment]
        measured = torch.stack([loss_sum, norm.to(loss_sum.dtype)])
        scale = None if accelerator.scaler is None else accelerator.scaler.get_scale()
        if scale is None:
            self._pending.append((number, measured))
        if self.defers_finite_check:
            self._found_not_finite = torch.maximum(self._found_not_finite, 1.0 - measured.isfinite().all().float())
            self.optimizer.optimizer.found_inf = self._found_not_finite
        else:
            self.check_finite()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # a fused optimizer is called and skips by itself, which accelerate does not notice: the scale has fallen then
        overflowed = scale is not None and accelerator.scaler.get_scale() < scale
        return None if overflowed or accelerator.optimizer_step_was_skipped else measured


def training_steps(training: Training, seed: int, after: int = 0) -> Iterator[Step]:
    """Every step of the plan in order, from the one after step `after`; all processes must iterate together.

    An step that fp16 skipped for overflow is taken again from the same rows: neither the count nor the schedule
    notices.

    Raises:
        Diverged: a loss or gradient norm is not finite, before the weights move.
    """
    plan, recipe, accelerator = training.plan, training.recipe, training.accelerator
    if after >= plan.total_steps:
        return
    number = after
    for epoch in range(1 + after // plan.steps_per_epoch, plan.epochs + 1):
        done = number % plan.steps_per_epoch
        cut = step_batches(training.encoded, plan, seed, epoch - 1, accelerator.process_index, done, training.width)
        started = time.perf_counter()
        for position, window in enumerate(cut, start=done + 1):
            number += 1
            learning_rate = recipe.learning_rate * learning_rate_factor(number - 1, plan, recipe.schedule)
            dropout.restart(seed, accelerator.process_index, number)
            for _ in range(MOST_OVERFLOWS):
                taken = training.train_step(window, learning_rate, number)
                if taken is not None:
                    break
            else:
                raise Diverged(number, "gradient, at any loss scale,")
            ends_epoch = position == plan.steps_per_epoch or number == plan.total_steps
            is_checked = ends_epoch or not training.defers_finite_check or number % FINITE_CHECK_EVERY == 0
            if is_checked:
                training.check_finite()
            yield Step(
                number=number,
                epoch=epoch,
                measured=taken,
                learning_rate=learning_rate,
                rows=window.rows,
                tokens=window.tokens,
                computed_tokens=window.computed_tokens,
                seconds=time.perf_counter() - started,
                ends_epoch=ends_epoch,
                is_checked=is_checked,
            )
            if number == plan.total_steps:
                return
            started = time.perf_counter()  # whoever iterates has had its time; cutting the next batches is ours


def adamw(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    """The recipe's optimizer, fused where the device can."""
    return torch.optim.AdamW(
        decay_groups(model, recipe.weight_decay),
        lr=recipe.learning_rate,
        betas=(0.9, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        fused=device.type in ("cpu", "cuda"),
    )


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: biases and every parameter of a normalisation layer do not decay.

    Layers are told by their type, not by their name, which differs between models (transformers #16908).
    """
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("bias") or "norm" in type(module).__name__.lower()
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]


def _class_weights(recipe: Recipe, encoded: Encoded, device: torch.device) -> torch.Tensor | None:
    """From the labels of all training rows, which every process has: nothing needs to be exchanged."""
    if recipe.class_weights is None:
        return None
    assert encoded.labels is not None, "training rows need labels"
    return balanced_weights(encoded.labels).to(device)


def _synchronising(accelerator: Accelerator, model: nn.Module, closes: bool) -> Any:
    """Gradients are exchanged in the last batch of a window only."""
    return contextlib.nullcontext() if closes else accelerator.no_sync(model)
