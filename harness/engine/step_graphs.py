"""CUDA graphs of whole training steps, which a GPU replays without waiting for Python to launch its kernels.

A step of a small model launches more than a thousand kernels, each of which takes Python longer than the GPU. Forward
and backward pass, clipping and optimizer are captured once for each width of a batch and replayed from then on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from harness.engine.batches import Batch, StepBatches
from harness.errors import first_line
from harness.facts.recipes import Recipe, StepPlan

MIN_STEPS_TO_CAPTURE = 100
"""Steps from which `auto` captures: up to 20 widths are captured, each of which costs as much as some steps."""

Replay = Callable[[], torch.Tensor]
Capture = Callable[[Callable[[], torch.Tensor]], Replay]


def should_capture(mode: str, steps: int, device: torch.device) -> bool:
    """Decides for a mode, off, on or auto; auto captures the steps of all but very short runs on a GPU."""
    return mode == "on" or (mode == "auto" and device.type == "cuda" and steps >= MIN_STEPS_TO_CAPTURE)


def capture_obstacle(accelerator: Accelerator, plan: StepPlan, recipe: Recipe) -> str:
    """Returns why the steps of this plan and recipe cannot be captured here, empty when they can."""
    if accelerator.device.type != "cuda":
        return "it needs an NVIDIA GPU"
    if accelerator.distributed_type != DistributedType.NO:
        return "it needs a run on one GPU"
    if recipe.optimizer not in (None, "adamw"):
        return f"it needs AdamW, whose steps do not wait for the host, not {recipe.optimizer}"
    if plan.accumulation > 1:
        return f"a step has {plan.accumulation} batches, it needs one"
    return ""


@dataclass(eq=False, repr=False)
class StepGraphs:
    """The training step for each width of a batch, captured when the width first occurs.

    Only full steps of one batch are replayed, and not the first step of a run, which creates the optimizer's state. So
    the number of a step and its rows decide how it is computed, also after a resume: a replayed step is rounded
    differently than an eager one.
    """

    compute_gradients: Callable[[Batch], torch.Tensor]
    """Returns the measured values of a step."""
    update_weights: Callable[[torch.Tensor], None]
    """Ends the step with these values."""
    discard_gradients: Callable[[], None]
    """Undoes `compute_gradients`: after both, the model is as before."""
    optimizer: torch.optim.Optimizer
    rows: int
    """Rows of a full step."""
    device: torch.device
    failure: str = field(default="", init=False)
    """The error of a step that could not be captured; from then on none is replayed."""

    def __post_init__(self) -> None:
        self._capture = gpu_capture()
        self._learning_rates = torch.zeros(len(self.optimizer.param_groups), device=self.device)
        self._graphs: dict[int, tuple[Batch, Replay]] = {}

    @property
    def has_captured(self) -> bool:
        """A step has been captured."""
        return bool(self._graphs)

    def replays(self, step: StepBatches, number: int) -> bool:
        """Tells whether step `number` is replayed."""
        return not self.failure and number > 1 and [len(batch.rows) for batch in step.batches] == [self.rows]

    def run(self, batch: Batch) -> torch.Tensor | None:
        """Runs the step of this batch with the learning rates of the optimizer's groups.

        Returns:
            float32[2], summed loss and gradient norm, or None if the step cannot be captured; nothing has changed then.
        """
        width = batch.inputs["attention_mask"].shape[1]
        if width not in self._graphs:
            try:
                self._graphs[width] = self._captured(batch)
            except RuntimeError as error:
                self.failure = first_line(error.__context__ or error)
                self.discard_gradients()
                return None
        static, replay = self._graphs[width]
        for name, tensor in static.inputs.items():
            _copy(batch.inputs[name], tensor)
        if static.labels is not None and batch.labels is not None:
            _copy(batch.labels, static.labels)
        _copy(torch.tensor([group["lr"] for group in self.optimizer.param_groups]), self._learning_rates)
        return replay()

    def _captured(self, batch: Batch) -> tuple[Batch, Replay]:
        static = batch.to(self.device)
        on_gpu = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=on_gpu):  # loads kernels, which must not happen during a capture
            self.compute_gradients(static)
        self.discard_gradients()

        def run() -> torch.Tensor:
            with self._rates_on_device():
                measured = self.compute_gradients(static)
                self.update_weights(measured)
                return measured

        return static, self._capture(run)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Makes the optimizer read its learning rates from the device, where they can change between replays."""
        groups = self.optimizer.param_groups
        original = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
        for group, rate in zip(groups, self._learning_rates, strict=True):
            group.update(lr=rate, capturable=True)
        try:
            yield
        finally:
            for group, values in zip(groups, original, strict=True):
                group.update(values)


def gpu_capture() -> Capture:
    """Returns a function that captures CUDA work and returns its replay; all graphs share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def capture(run: Callable[[], torch.Tensor]) -> Replay:
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        state = generator.clone_state()
        graph = torch.cuda.CUDAGraph()
        collects_garbage = gc.isenabled()
        gc.disable()  # the end of another graph would end this capture
        try:
            with (
                torch.cuda.stream(torch.cuda.current_stream()),  # restored, even if ending the capture fails
                torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
            ):
                measured = run()
        except RuntimeError:
            generator.graphsafe_set_state(state)  # the generator believes that it is still being captured
            raise
        finally:
            if collects_garbage:
                gc.enable()

        def replay() -> torch.Tensor:
            graph.replay()
            return measured.clone()  # the next replay overwrites the graph's own memory

        return replay

    return capture


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copies to the device without waiting for the steps that are queued there."""
    target.copy_(source.pin_memory() if target.is_cuda else source, non_blocking=True)
