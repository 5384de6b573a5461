"""`harness selfcheck`: a test, on these devices and under this launch, that training and evaluation are exact.

Each check computes the same numbers twice: with the harness on all processes, and with a short plain loop on one.
"""

from __future__ import annotations

import gc
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.engine.tiny_example import CLASSES, GLOBAL_BATCH_SIZE, generated, peft_model, plans, recipe, tiny_model
from harness.system.command_line import parse_flags

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import nn

    from harness.engine.encoding import Encoded
    from harness.engine.training import Step, Training
    from harness.facts.recipes import Recipe, StepPlan

    OptimizerOf = Callable[[Any], torch.optim.Optimizer]

SIZES = (1, 7, 16, 17, 34)
"""Numbers of rows: less than a step, a whole step, and whole steps before one of a single row or of two."""


@dataclass(frozen=True)
class SelfcheckOptions:
    """Check on this machine, under this launch, that training and evaluation are exact; about half a minute."""

    cpu: bool = False
    """Use the CPU even if there is a GPU."""


class Check(NamedTuple):
    """One property and the result of its check."""

    name: str
    passed: bool | None
    """None where it could not be checked."""
    detail: str


def main(arguments: Sequence[str]) -> None:
    """Prints one line per property; exits with 1 if one does not hold."""
    options = parse_flags(SelfcheckOptions, arguments, "selfcheck")
    from harness.engine.deployment import device_summary, start

    accelerator = start("fp32", options.cpu, None, Path())
    accelerator.print(f"{accelerator.num_processes} process(es), fp32 on {device_summary(accelerator)}")
    failed = 0
    for check in checks(accelerator):
        failed += check.passed is False
        result = "skip" if check.passed is None else "pass" if check.passed else "FAIL"
        accelerator.print(f"{result}  {check.name}: {check.detail}")
    accelerator.end_training()
    sys.exit(1 if failed else 0)


def checks(accelerator: Accelerator) -> Iterator[Check]:
    """Runs every check in order; all processes must iterate together."""
    functions: tuple[Callable[[Accelerator], Check], ...] = (
        check_rows_drawn_once,
        check_steps_match_plain_loop,
        check_other_losses_match_plain_loop,
        check_lora_matches_plain_loop,
        check_graphs_match_plain_loop,
        check_graphs_draw_dropout,
        check_weights_after_sgd,
        check_scores_in_row_order,
        check_divergence_stops_all_processes,
        check_resumes_bit_for_bit,
        check_processes_agree_on_memory,
    )
    for function in functions:
        accelerator.free_memory()
        gc.freeze()  # accelerate collects garbage before each training, in 0.2 s with the objects of the libraries
        yield function(accelerator)


def check_rows_drawn_once(accelerator: Accelerator) -> Check:
    """Each epoch draws every row exactly once over all processes, and every process gets the same number of batches."""
    from accelerate.utils import gather_object

    from harness.engine.batches import step_batches

    wrong = []
    for rows in SIZES:
        encoded = generated(rows)
        for plan in plans(accelerator, rows):
            steps = list(step_batches(encoded, plan, seed=1, epoch=0, process=accelerator.process_index))
            drawn = [int(row) for step in steps for batch in step.batches for row in batch.rows]
            counts = gather_object([[len(step.batches) for step in steps]])
            if sorted(gather_object(drawn)) != list(range(rows)) or any(count != counts[0] for count in counts):
                wrong.append(f"{rows} rows, device batch {plan.device_batch_size}")
    return Check("every row is drawn once per epoch", not wrong, "; ".join(wrong) or f"{len(SIZES)} training sizes")


def check_steps_match_plain_loop(accelerator: Accelerator) -> Check:
    """Loss, gradient norm and learning rate of each step, and the scores at the end, equal those of a plain loop."""
    return _compare_steps(
        accelerator, "steps and scores equal a plain loop's", [(generated(rows), recipe()) for rows in SIZES]
    )


def check_other_losses_match_plain_loop(accelerator: Accelerator) -> Check:
    """The same holds for multi-label rows, multiple choice, with class weights and with label smoothing."""
    settings = [(True, recipe()), (True, recipe(class_weights="balanced")), (False, recipe(class_weights="balanced"))]
    settings += [(False, recipe(label_smoothing=0.1))]
    cases = [(generated(17, is_multi_label), recipe) for is_multi_label, recipe in settings]
    cases += [(generated(17, choices=CLASSES), recipe())]
    name = "the same for multi-label rows, multiple choice, class weights and label smoothing"
    return _compare_steps(accelerator, name, cases)


def check_lora_matches_plain_loop(accelerator: Accelerator) -> Check:
    """The same holds for LoRA, whose plain loop trains peft's own model."""
    from harness.engine.deployment import keeps_whole_weights

    name = "the same for LoRA and a plain loop of peft"
    if find_spec("peft") is None:
        return Check(name, None, "peft is not installed")
    if not keeps_whole_weights(accelerator):
        return Check(name, None, "adapters are unsupported under FSDP and DeepSpeed")
    return _compare_steps(accelerator, name, [(generated(rows), recipe(adapter="lora")) for rows in (7, 17)])


def check_graphs_match_plain_loop(accelerator: Accelerator) -> Check:
    """The same holds for steps that are captured as CUDA graphs."""
    from harness.engine.step_graphs import capture_obstacle

    name = "the same for steps as CUDA graphs"
    if reason := capture_obstacle(accelerator, plans(accelerator, max(SIZES))[0], recipe()):
        return Check(name, None, reason)
    return _compare_steps(accelerator, name, [(generated(rows), recipe()) for rows in SIZES], has_graphs=True)


def check_graphs_draw_dropout(accelerator: Accelerator) -> Check:
    """Replays of a captured step draw new dropout masks: with the same rows and weights, their losses differ."""
    from harness.engine.step_graphs import capture_obstacle
    from harness.engine.training import training_steps
    from harness.facts.recipes import plan_steps

    name, model = "CUDA graphs draw new dropout masks", tiny_model(dropout=0.5)
    constant = recipe(learning_rate=1e-12, weight_decay=0, global_batch_size=1, epochs=8)
    plan = plan_steps(1, constant, accelerator.num_processes)
    if reason := capture_obstacle(accelerator, plan, constant):
        return Check(name, None, reason)
    training = _training(accelerator, model, generated(1), plan, constant, has_graphs=True)
    losses = sorted(step.loss for step in training_steps(training, seed=1) if step.number > 1)
    difference = min(after - before for before, after in itertools.pairwise(losses))
    return Check(name, difference > 1e-5, f"smallest difference of two losses {difference:.1e} (more than 1e-05)")


def _compare_steps(
    accelerator: Accelerator, name: str, cases: Sequence[tuple[Encoded, Recipe]], has_graphs: bool = False
) -> Check:
    """After AdamW the scores are compared: the weights are not comparable, see ARCHITECTURE.md."""
    import torch

    from harness.engine.batches import cut_batch
    from harness.engine.plain_loop import plain_loop

    of_steps, of_scores = [0.0], [0.0]
    for encoded, own_recipe in cases:
        step_plans, batch = plans(accelerator, len(encoded)), cut_batch(encoded, np.arange(len(encoded)))
        batch = batch.to(accelerator.device)
        plain = peft_model() if own_recipe.adapter else tiny_model(scores_candidates=encoded.choices > 1)
        plain = plain.to(accelerator.device)
        reference = list(plain_loop(plain, _adamw(plain), encoded, step_plans[0], own_recipe))
        for plan in step_plans[:1] if has_graphs else step_plans:
            model = tiny_model(scores_candidates=encoded.choices > 1)
            ours, steps = _train(_training(accelerator, model, encoded, plan, own_recipe, has_graphs=has_graphs))
            for step, expected in zip(steps, reference, strict=True):
                numbers = (step.loss, step.gradient_norm, step.learning_rate)
                of_steps += [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(numbers, expected, strict=True)]
            with torch.inference_mode():
                logits = (batch.scores(model.eval()(**batch.inputs).logits) for model in (ours, plain))
                # what all candidates of a row have in common has no gradient and does not matter
                scores = [each - each.mean(dim=1, keepdim=True) if batch.choices > 1 else each for each in logits]
                of_scores.append((scores[0] - scores[1]).abs().max().item())
    of_step, of_score = np.max(of_steps), np.max(of_scores)  # NaN if one is NaN: the check fails
    detail = f"largest relative difference of a step {of_step:.1e} (at most 1e-05), of a score {of_score:.1e}"
    return Check(name, bool(of_step <= 1e-5 and of_score <= 1e-4), f"{detail} (at most 1e-04)")


def check_weights_after_sgd(accelerator: Accelerator) -> Check:
    """After training with plain SGD the weights equal those of the plain loop."""
    import torch

    from harness.engine.plain_loop import plain_loop
    from harness.engine.sharding import whole_tensor

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    differences, without_decay = list[float](), recipe(weight_decay=0)
    for rows in (17, 34):
        encoded, plain = generated(rows), tiny_model().to(accelerator.device)
        list(plain_loop(plain, sgd(plain), encoded, plans(accelerator, rows)[0], without_decay))
        for plan in plans(accelerator, rows):
            ours, _ = _train(_training(accelerator, tiny_model(), encoded, plan, without_decay, sgd))
            pairs = zip(ours.parameters(), plain.parameters(), strict=True)
            differences += [(whole_tensor(a.detach()) - b).abs().max().item() for a, b in pairs]
    largest = float(np.max(differences))
    detail = f"largest difference {largest:.1e} (at most 1e-06)"
    return Check("weights after SGD equal a plain loop's", largest <= 1e-6, detail)


def check_scores_in_row_order(accelerator: Accelerator) -> Check:
    """Evaluation scores every row once, in order, bit-for-bit as one process does."""
    from harness.engine.inference import infer

    wrong = []
    for rows, choices in [*((rows, 1) for rows in SIZES), (17, CLASSES), (33, CLASSES)]:
        encoded = generated(rows, choices=choices)
        model = tiny_model(scores_candidates=choices > 1).to(accelerator.device).eval()
        for device_batch_size in (1, 4, 16, 64):
            expected = _scores_of_one_process(model, encoded, device_batch_size)
            scores = infer(accelerator, model, encoded, device_batch_size)
            if not np.array_equal(scores, expected):
                wrong.append(f"{rows} rows of {choices} inputs, batch {device_batch_size}")
    return Check(
        "scores equal one process's bit-for-bit, each row once", not wrong, "; ".join(wrong) or "4 batch sizes"
    )


def _scores_of_one_process(model: Any, encoded: Encoded, device_batch_size: int) -> NDArray[np.float32]:
    """Scores, float32[N, C] in row order, batch by batch as `infer` cuts the rows for a single process."""
    import torch

    from harness.engine.batches import cut_batch, scoring_batches

    scores = np.zeros((len(encoded), CLASSES), np.float32)
    with torch.inference_mode():
        for batch in scoring_batches(encoded, device_batch_size, 0, 1, fills_up=model.device.type == "cuda"):
            cut = cut_batch(encoded, batch).to(model.device)
            scores[batch] = cut.scores(model(**cut.inputs).logits).cpu().numpy()
    return scores


def check_divergence_stops_all_processes(accelerator: Accelerator) -> Check:
    """A loss that is not a number on one process stops all of them at the same step, with the weights unchanged."""
    import torch
    from accelerate.utils import gather_object

    from harness.engine.training import Diverged, training_steps

    rows, faulty = 64, 2
    encoded = generated(rows)
    plan = plans(accelerator, rows)[0]
    training = _training(accelerator, tiny_model(), encoded, plan, recipe())
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
    is_unchanged = all(torch.equal(before[name], after[name]) for name in before)
    outcomes = gather_object([(stopped, is_unchanged)])
    passed = set(map(tuple, outcomes)) == {(faulty, True)}
    return Check("a loss that is not a number stops all processes", passed, f"stopped before step {stopped}")


def check_resumes_bit_for_bit(accelerator: Accelerator) -> Check:
    """Training with dropout that resumes from a checkpoint ends with the weights of uninterrupted training."""
    from accelerate.utils import gather_object, set_seed

    from harness.engine import checkpoints
    from harness.engine.deployment import can_gather_weights, compute_on_main
    from harness.engine.progress import Progress
    from harness.engine.training import training_steps

    name = "an interrupted run resumes bit-for-bit, with dropout"
    if not can_gather_weights(accelerator):
        return Check(name, None, "no checkpoints are saved under DeepSpeed and FSDP version 1")
    encoded, wrong = generated(33), list[str]()
    plan = plans(accelerator, 33)[-1]

    def fresh() -> Training:
        return _training(accelerator, tiny_model(dropout=0.5), encoded, plan, recipe())

    with TemporaryDirectory() as scratch:
        shared = Path(compute_on_main(accelerator, lambda: scratch))
        set_seed(7, device_specific=True)
        straight, progress = fresh(), Progress(recipe())
        for step in training_steps(straight, seed=1):
            progress.add(step)
            checkpoint = checkpoints.Checkpoint(straight.state(), None, progress.to_json())
            checkpoints.save_checkpoint(accelerator, shared / str(step.number), checkpoint)
        for number in range(1, plan.total_steps):
            path = checkpoints.newest_checkpoint(shared / str(number), print)
            assert path is not None, f"no checkpoint after step {number}"
            checkpoint, resumed = checkpoints.load_checkpoint(accelerator, path), fresh()
            resumed.set_state(checkpoint.state)
            for _ in training_steps(resumed, seed=1, after=checkpoint.progress["step"]):
                pass
            is_equal = resumed.weights_sha256() == straight.weights_sha256()
            wrong += [] if all(gather_object([is_equal])) else [str(number)]
        accelerator.wait_for_everyone()
    detail = f"not from step {', '.join(wrong)}" if wrong else f"from each of {plan.total_steps - 1} steps"
    return Check(name, not wrong, detail)


def check_processes_agree_on_memory(accelerator: Accelerator) -> Check:
    """All processes halve the device batch and keep the global batch when memory runs out on one of them."""
    import torch
    from accelerate.utils import gather_object

    from harness.engine.memory import plan_that_fits

    plan, model = plans(accelerator, 100)[0], tiny_model().to(accelerator.device)
    largest = max(1, plan.device_batch_size // 2)

    def run_out(module: nn.Module, arguments: Any, inputs: dict[str, torch.Tensor]) -> None:
        if accelerator.process_index == accelerator.num_processes - 1 and len(inputs["input_ids"]) > largest:
            raise torch.OutOfMemoryError("injected")

    model.register_forward_pre_hook(run_out, with_kwargs=True)
    fitted = plan_that_fits(accelerator, model, _adamw(model), generated(100), plan)
    outcomes = gather_object([(fitted.device_batch_size, fitted.global_batch_size)])
    passed = set(map(tuple, outcomes)) == {(largest, GLOBAL_BATCH_SIZE)}
    detail = f"{plan.device_batch_size} to {largest} rows"
    return Check("all processes shrink their batches when one runs out of memory", passed, detail)


def _adamw(model: Any) -> torch.optim.Optimizer:
    from harness.engine.optimizers import create_optimizer

    return create_optimizer(model, recipe(), model.device)


def _training(
    accelerator: Accelerator,
    model: Any,
    encoded: Encoded,
    plan: StepPlan,
    recipe: Recipe,
    optimizer_of: OptimizerOf = _adamw,
    has_graphs: bool = False,
) -> Training:
    """Returns training of the model, adapted as a run adapts it."""
    from harness.engine.adaptations import adapt, adapters
    from harness.engine.deployment import keeps_whole_weights
    from harness.engine.training import Training

    device = accelerator.device
    accelerator.free_memory()  # FSDP would take the models of earlier checks for this one
    adapters.attach(model, recipe, seed=0)
    has_whole_weights = keeps_whole_weights(accelerator)
    adapt(model.to(device), {"train": encoded}, device, is_compiled=False, narrows_vocabulary=has_whole_weights)
    return Training(accelerator, model, optimizer_of(model), recipe, plan, encoded, has_graphs=has_graphs)


def _train(training: Training) -> tuple[Any, list[Step]]:
    """Returns the model as the harness trained it, and the steps."""
    from harness.engine.adaptations import restore
    from harness.engine.training import training_steps

    steps = list(training_steps(training, seed=1))
    assert training.graphs is None or not training.graphs.failure, training.graphs.failure
    model = training.accelerator.unwrap_model(training.model)
    restore(model, training.recipe, training.plan, training.plan.total_steps)
    return model, steps
