"""`harness selfcheck`: whether numbers come out exact on these devices, under this launch, against a plain loop.

Each check computes the same thing twice: through the harness on all processes, and by the shortest honest code on one.
"""

from __future__ import annotations

import copy
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tyro

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from harness.engine.encoding import Encoded
    from harness.facts.recipes import Recipe, StepPlan

SIZES = (1, 7, 16, 17, 31, 32, 33, 100)
"""Numbers of rows around and between whole steps."""

GLOBAL_BATCH = 16
CLASSES = 3


@dataclass(frozen=True)
class SelfcheckOptions:
    """Check on this machine, under this launch, that training and evaluation are exact; about half a minute."""

    cpu: bool = False
    """On the CPU even where there is a GPU."""


class Check(NamedTuple):
    """One property and how it came out."""

    name: str
    passed: bool
    detail: str


def main(arguments: Sequence[str]) -> None:
    """Prints a table of properties; exit code 1 when one does not hold."""
    options = tyro.cli(
        SelfcheckOptions, args=list(arguments), prog="harness selfcheck", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from harness.engine.deployment import start, whereabouts

    accelerator = start("fp32", options.cpu, None, Path())
    accelerator.print(f"{accelerator.num_processes} process(es), fp32 on {whereabouts(accelerator)}")
    failed = 0
    for check in checks(accelerator):
        failed += not check.passed
        accelerator.print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    accelerator.end_training()
    sys.exit(1 if failed else 0)


def checks(accelerator: Accelerator) -> Iterator[Check]:
    """Every check in turn; all processes must iterate together."""
    every: tuple[Callable[[Accelerator], Check], ...] = (
        check_rows_drawn_once,
        check_updates_match_plain_loop,
        check_other_losses_match_plain_loop,
        check_weights_match_plain_sgd,
        check_predictions_after_adamw,
        check_scores_in_row_order,
        check_not_finite_seen_by_all,
        check_goes_on_to_the_bit,
        check_memory_is_agreed_on,
    )
    for check in every:
        yield check(accelerator)


def check_rows_drawn_once(accelerator: Accelerator) -> Check:
    """Over all processes, each epoch draws every row exactly once and every process the same number of batches."""
    from accelerate.utils import gather_object

    from harness.engine.batches import step_batches

    wrong = []
    for rows in SIZES:
        encoded = generated(rows)
        for plan in plans(accelerator, rows):
            mine = list(step_batches(encoded, plan, seed=1, epoch=0, process=accelerator.process_index))
            drawn = [int(row) for window in mine for batch in window.batches for row in batch.rows]
            counts = gather_object([[len(window.batches) for window in mine]])
            if sorted(gather_object(drawn)) != list(range(rows)) or any(count != counts[0] for count in counts):
                wrong.append(f"{rows} rows, device batch {plan.device_batch_size}")
    return Check("every row is drawn once an epoch", not wrong, "; ".join(wrong) or f"{len(SIZES)} training sizes")


def check_updates_match_plain_loop(accelerator: Accelerator) -> Check:
    """Loss, gradient norm and learning rate of each step are those of a plain loop over whole windows."""
    name = "loss, gradient norm and learning rate of each step are a plain loop's"
    return _compared(accelerator, name, [(generated(rows), recipe()) for rows in SIZES])


def check_other_losses_match_plain_loop(accelerator: Accelerator) -> Check:
    """The same for rows with any number of labels, and with class weights."""
    how = [(True, recipe()), (True, recipe(class_weights="balanced")), (False, recipe(class_weights="balanced"))]
    cases = [(generated(rows, is_multi_label), recipe) for rows in (17, 33) for is_multi_label, recipe in how]
    return _compared(accelerator, "so with several labels a row and with class weights", cases)


def _compared(accelerator: Accelerator, name: str, cases: Sequence[tuple[Encoded, Recipe]]) -> Check:
    from harness.engine.training import adamw

    differences = [
        abs(a - b) / max(abs(b), 1e-12)
        for encoded, how in cases
        for plan in plans(accelerator, len(encoded))
        for ours, plain in _both(accelerator, encoded, plan, lambda model: adamw(model, recipe(), model.device), how)
        for a, b in zip(ours, plain, strict=True)
    ]
    detail = f"{len(differences) // 3} steps, largest relative difference {max(differences):.1e} (at most 1e-05)"
    return Check(name, max(differences) <= 1e-5, detail)


def check_weights_match_plain_sgd(accelerator: Accelerator) -> Check:
    """Under plain SGD the weights at the end are those of the plain loop."""
    import torch

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    worst = 0.0
    for rows in (17, 33, 100):
        encoded = generated(rows)
        for plan in plans(accelerator, rows):
            ours, plain = _models_after(accelerator, encoded, plan, sgd)
            pairs = zip(ours.parameters(), plain.parameters(), strict=True)
            worst = max(worst, *((a - b).abs().max().item() for a, b in pairs))
    return Check("weights after SGD are a plain loop's", worst <= 1e-6, f"{worst:.1e} apart (at most 1e-06)")


def check_predictions_after_adamw(accelerator: Accelerator) -> Check:
    """After AdamW the scores are those of the plain loop (its weights are not comparable: see ARCHITECTURE.md)."""
    import torch

    from harness.engine.batches import cut_batch
    from harness.engine.training import adamw

    worst = 0.0
    for rows in (17, 33, 100):
        encoded = generated(rows)
        batch = cut_batch(encoded, np.arange(rows)).to(accelerator.device)
        for plan in plans(accelerator, rows):
            models = _models_after(accelerator, encoded, plan, lambda model: adamw(model, recipe(), model.device))
            with torch.inference_mode():
                ours, plain = (model.eval()(**batch.inputs).logits for model in models)
            worst = max(worst, (ours - plain).abs().max().item())
    return Check("scores after AdamW are a plain loop's", worst <= 1e-4, f"{worst:.1e} apart (at most 1e-04)")


def check_scores_in_row_order(accelerator: Accelerator) -> Check:
    """Evaluation gives every row once, in order, and to the bit what one process would give."""
    import torch

    from harness.engine.batches import cut_batch, scoring_batches
    from harness.engine.inference import infer

    model = tiny_model().to(accelerator.device).eval()
    wrong = []
    for rows in SIZES:
        encoded = generated(rows)
        for device_batch_size in (1, 4, 16, 64):
            alone = np.zeros((rows, CLASSES), np.float32)
            with torch.inference_mode():
                for chosen in scoring_batches(encoded, device_batch_size, 0, 1):
                    inputs = cut_batch(encoded, chosen).to(accelerator.device).inputs
                    alone[chosen] = model(**inputs).logits.cpu().numpy()
            together = infer(accelerator, model, encoded, device_batch_size)
            if not np.array_equal(together.values, alone) or not np.array_equal(together.rows, np.arange(rows)):
                wrong.append(f"{rows} rows, batch {device_batch_size}")
    return Check("scores are one process's to the bit, each row once", not wrong, "; ".join(wrong) or "4 batch sizes")


def check_not_finite_seen_by_all(accelerator: Accelerator) -> Check:
    """A loss that is not a number on one process stops all of them at the same step, before the weights move."""
    import torch
    from accelerate.utils import gather_object

    from harness.engine.training import Diverged, Training, adamw, training_steps

    rows, faulty = 64, 2
    encoded = generated(rows)
    plan = plans(accelerator, rows)[0]
    model = tiny_model().to(accelerator.device)
    training = Training(accelerator, model, adamw(model, recipe(), model.device), recipe(), plan, encoded)
    is_last = accelerator.process_index == accelerator.num_processes - 1
    stopped, before = 0, {}
    try:
        for step in training_steps(training, seed=1):
            before = training.weights()
            if step.number == faulty - 1 and is_last:  # a score of this process's next batch
                head = accelerator.unwrap_model(training.model).classifier
                head.register_forward_hook(lambda module, inputs, output: output * math.nan)
    except Diverged as fault:
        stopped = fault.step
    after = training.weights()
    unmoved = all(torch.equal(before[name], after[name]) for name in before)
    seen = gather_object([(stopped, unmoved)])
    passed = set(map(tuple, seen)) == {(faulty, True)}
    return Check("a loss that is not a number stops all processes", passed, f"stopped before step {stopped}")


def check_goes_on_to_the_bit(accelerator: Accelerator) -> Check:
    """With dropout on, training that goes on from a checkpoint ends with the weights of training that never stopped."""
    from accelerate.utils import gather_object, set_seed

    from harness.engine import checkpoints
    from harness.engine.deployment import by_main
    from harness.engine.progress import Progress
    from harness.engine.training import Training, adamw, training_steps

    encoded, wrong = generated(33), list[str]()
    plan = plans(accelerator, 33)[-1]

    def fresh() -> Training:
        model = tiny_model(dropout=0.5).to(accelerator.device)
        return Training(accelerator, model, adamw(model, recipe(), model.device), recipe(), plan, encoded)

    with TemporaryDirectory() as mine:
        shared = Path(by_main(accelerator, lambda: mine))
        set_seed(7, device_specific=True)
        straight, progress = fresh(), Progress(recipe())
        for step in training_steps(straight, seed=1):
            progress.add(step)
            checkpoint = checkpoints.Checkpoint(straight.state(), None, progress.to_json())
            checkpoints.save(accelerator, shared / str(step.number), checkpoint)
        for number in range(1, plan.total_steps):
            found = checkpoints.newest(shared / str(number), print)
            assert found is not None, f"no checkpoint after step {number}"
            saved, resumed = checkpoints.load(accelerator, found), fresh()
            resumed.set_state(saved.state)
            for _ in training_steps(resumed, seed=1, after=saved.progress["step"]):
                pass
            same = resumed.weights_sha256() == straight.weights_sha256()
            wrong += [] if all(gather_object([same])) else [str(number)]
        accelerator.wait_for_everyone()
    detail = f"not from step {', '.join(wrong)}" if wrong else f"from each of {plan.total_steps - 1} steps"
    return Check("a stopped run goes on to the bit, dropout on", not wrong, detail)


def check_memory_is_agreed_on(accelerator: Accelerator) -> Check:
    """When memory runs out on one process, all of them halve the device batch and keep the global one."""
    import torch
    from accelerate.utils import gather_object

    from harness.engine.memory import plan_that_fits

    plan, model = plans(accelerator, 100)[0], tiny_model().to(accelerator.device)
    largest = max(1, plan.device_batch_size // 2)

    def run_out(module: nn.Module, arguments: Any, inputs: dict[str, torch.Tensor]) -> None:
        if accelerator.process_index == accelerator.num_processes - 1 and len(inputs["input_ids"]) > largest:
            raise torch.OutOfMemoryError("injected")

    model.register_forward_pre_hook(run_out, with_kwargs=True)
    found = plan_that_fits(accelerator, model, generated(100), plan)
    agreed = gather_object([(found.device_batch_size, found.global_batch_size)])
    passed = set(map(tuple, agreed)) == {(largest, GLOBAL_BATCH)}
    return Check(
        "memory that runs out on one process is seen by all", passed, f"{plan.device_batch_size} to {largest} rows"
    )


def generated(rows: int, is_multi_label: bool = False) -> Encoded:
    """Rows of random tokens and lengths with labels, the same each time."""
    from harness.engine.encoding import Encoded

    rng = np.random.default_rng(rows)
    lengths = rng.integers(3, 24, size=rows)
    tokens = rng.integers(5, 60, size=lengths.sum()).astype(np.int32)
    return Encoded(
        tokens={"input_ids": tokens, "token_type_ids": np.zeros_like(tokens)},
        offsets=np.concatenate([[0], lengths.cumsum()]),
        padding={"input_ids": 0, "token_type_ids": 0},
        labels=rng.integers(0, 2, (rows, CLASSES), np.int8) if is_multi_label else rng.integers(0, CLASSES, size=rows),
    )


def recipe(**changes: Any) -> Recipe:
    """Short training with warmup, decay and clipping that acts."""
    from harness.facts.recipes import Recipe

    facts = dict(
        learning_rate=1e-3, global_batch_size=GLOBAL_BATCH, epochs=2, warmup=2, weight_decay=0.01, max_grad_norm=0.5
    )
    return Recipe(**{**facts, **changes})


def plans(accelerator: Accelerator, rows: int) -> list[StepPlan]:
    """One plan for each device batch that this number of processes allows."""
    from harness.facts.recipes import plan_steps

    share = math.ceil(GLOBAL_BATCH / accelerator.num_processes)
    sizes = [size for size in (16, 8, 4, 2, 1) if share % size == 0]
    return [plan_steps(rows, recipe(), accelerator.num_processes, size) for size in sizes]


def tiny_model(dropout: float = 0.0) -> Any:
    """The test mode's tiny BERT with a head; the same weights each time."""
    from torch import nn

    model = copy.deepcopy(_built_once())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return model


@functools.cache
def _built_once() -> Any:
    from harness.engine import models, test_mode
    from harness.facts.tasks import load_task

    with TemporaryDirectory() as folder:
        test_mode.write_model(Path(folder))
        return models.build(folder, "sha256:", load_task("mnli"), seed=0).model


def _both(
    accelerator: Accelerator,
    encoded: Encoded,
    plan: StepPlan,
    optimizer_of: Callable[[Any], torch.optim.Optimizer],
    recipe: Recipe,
) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """(loss, gradient norm, learning rate) of each step: the harness's and the plain loop's."""
    from harness.engine.plain_loop import plain_loop
    from harness.engine.training import Training, training_steps

    ours, plain = _twins(accelerator)
    training = Training(accelerator, ours, optimizer_of(ours), recipe, plan, encoded)
    for step, expected in zip(
        training_steps(training, seed=1), plain_loop(plain, optimizer_of(plain), encoded, plan, recipe), strict=True
    ):
        yield (step.loss, step.gradient_norm, step.learning_rate), expected


def _models_after(
    accelerator: Accelerator, encoded: Encoded, plan: StepPlan, optimizer_of: Callable[[Any], torch.optim.Optimizer]
) -> tuple[Any, Any]:
    """Both models after their last step."""
    from harness.engine.plain_loop import plain_loop
    from harness.engine.training import Training, training_steps

    ours, plain = _twins(accelerator)
    training = Training(accelerator, ours, optimizer_of(ours), recipe(), plan, encoded)
    for _ in training_steps(training, seed=1):
        pass
    for _ in plain_loop(plain, optimizer_of(plain), encoded, plan, recipe()):
        pass
    return accelerator.unwrap_model(training.model), plain


def _twins(accelerator: Accelerator) -> tuple[Any, Any]:
    model = tiny_model().to(accelerator.device)
    return model, copy.deepcopy(model)
