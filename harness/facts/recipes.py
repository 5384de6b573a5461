"""The hyperparameters of training, the recipes that set them, and the arithmetic of steps and learning rates.

Names, defaults and help texts are defined here only; flags, JSON keys and tables are derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from harness.errors import UserError, did_you_mean
from harness.facts.evaluation_steps import EvaluateEvery, EvaluationSteps
from harness.facts.family_recipes import find_family
from harness.facts.yaml_file import KeysOfFile
from harness.metrics.registry import METRICS

DEFAULT_MODEL = "distilbert/distilbert-base-uncased"
DEFAULT_SEED = 42

GROUPED_STEPS = 50
"""Steps whose rows are sorted by length together: enough to save most padding and to keep the order random."""

LARGEST_DEVICE_BATCH_SIZE = 64
"""Rows of one forward pass: 64 of 128 tokens fit a base-size encoder into 8 GB."""


INVERSE_SQRT_STEPS = 10_000
"""Steps after which the inverse square root without a warmup has fallen to 1 / sqrt(2), as in transformers."""

MAX_COUNT = 10**9
"""Largest number of rows, steps, epochs or tokens that is not a slip of the keyboard."""

SELECTIONS = ("last", "best", "best_main_score")
"""Values of `select` that fit every task; any other is the name of a metric."""

_Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


OptimizerName = Literal["adamw", "bertadam", "adafactor", "sgd", "muon"]
"""The names of the optimizers."""


class Recipe(KeysOfFile):
    """Everything that decides how a model is trained, independent of the devices.

    Raises UserError for an unknown name or an invalid value. The defaults are those of the published bert-base-cased
    table in transformers' text-classification README (3 epochs, 2e-5, batch 32, length 128), so that a run here can be
    compared with it. A field that is added later has the default None and behaves as before when it is None:
    `RunSpec.run_id` leaves None out, so that no existing run gets another ID.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate."""
    global_batch_size: _Count = 32
    """Rows per optimizer step, over all processes and accumulated batches."""
    epochs: _Count = 3
    """Passes over the training rows."""
    max_steps: _Count | None = None
    """Train for exactly this many optimizer steps, whatever --epochs says."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Steps over which the learning rate rises linearly from 0; a value below 1 is a share of all steps."""
    schedule: Literal["linear", "linear_from_start", "cosine", "constant", "polynomial", "inverse_sqrt"] = "linear"
    """Learning rate after the warmup: linear, cosine or polynomial decay to 0 after the last step, linear decay that
    counts from the first step as in BERT's code, constant, or decay with the inverse square root of the step."""
    schedule_power: Annotated[float, Field(gt=0)] | None = None
    """Exponent of the polynomial decay; 1 is linear."""
    min_learning_rate_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Learning rate at the end of a linear, cosine or polynomial decay, as a share of the peak; 0 by default."""
    optimizer: OptimizerName | None = None
    """adamw by default. bertadam is AdamW without bias correction, as in the code of BERT, ELECTRA and DeBERTa. Muon
    trains hidden matrices, and AdamW everything else."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of sgd (0.9 by default) or muon (0.95 by default)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, decoupled from the gradient but in sgd; biases and normalisation layers have none by default."""
    weight_decay_on: Literal["all"] | None = None
    """all: biases and normalisation layers decay, too, as in fairseq and Composer."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Clip gradients to this 2-norm; None turns clipping off."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay rate of AdamW's first moment; 0.9 by default."""
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay rate of AdamW's second moment."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Epsilon of AdamW."""
    encoder_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability of the encoder's embeddings, hidden states and attention; that of the model's configuration
    if omitted."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability of the head's last dropout layer; that of the model's configuration if omitted."""
    class_weights: Literal["balanced"] | None = None
    """balanced: weight each row's loss by n / (classes x rows of its class), so that rare classes count as much as
    frequent ones."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the training target that is spread evenly over all classes, for tasks of one label per row."""
    label_scaling: Literal["unit", "standard"] | None = None
    """Train a regression on labels from 0 to 1 (unit), or of mean 0 and variance 1 (standard); predictions keep the
    unit of the labels."""
    threshold: Literal["validation"] | None = None
    """Probability from which a multi-label task predicts a label: 0.5, or the one with the best main score on the
    validation split."""
    max_length: Annotated[int, Field(ge=4, le=MAX_COUNT)] = 128
    """Tokens per row; longer rows are truncated, the longer text of a pair first."""
    length_grouping: bool = True
    """Put rows of similar length into the same step, to save padding; groups and order are drawn again each epoch.
    --no-length-grouping cuts the steps from a plain random order."""
    select: str = "last"
    """Weights to report: those of the last step (last), or of the evaluation with the lowest validation loss (best),
    the best main score (best_main_score), or the best value of one metric, given by its name (accuracy)."""
    patience: _Count | None = None
    """Stop after this many evaluations without improvement; needs another --select than last."""
    evaluate_every: EvaluateEvery = None
    """Evaluate every 500 steps (500), or every tenth of an epoch (0.1), instead of after each epoch."""
    protocol: Literal["standard", "holdout", "tuned_on_reported"] = "standard"
    """holdout: split the validation split into one half to select on and one half to report. tuned_on_reported: train
    like standard, and mark that the hyperparameters were chosen by the reported score."""
    pair_order: Literal["both"] | None = None
    """both: train on each pair of texts in both orders, for tasks in which their order does not matter."""
    train_rows: _Count | None = None
    """Train on a random subset of this many rows, the same one for every seed. Groups of rows stay whole, so it may be
    smaller."""
    init_from: str | None = None
    """Start from the weights of the finished run of this task with the same model and seed, as published recipes start
    rte, mrpc and stsb from mnli."""
    freeze: Literal["embeddings"] | Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    """Do not train the embeddings, or the embeddings and this many of the lowest layers."""
    adapter: Literal["lora", "dora", "ia3", "bitfit"] | None = None
    """Freeze the encoder and train, next to the head, only an adapter of peft, or the biases (bitfit)."""
    adapter_rank: _Count | None = None
    """Rank of a lora or dora adapter; 8 by default."""
    adapter_alpha: Annotated[float, Field(gt=0)] | None = None
    """The update of a lora or dora adapter is scaled by alpha / rank; 8 by default."""
    adapter_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout of the inputs of a lora or dora adapter; 0 by default."""
    adapter_targets: Annotated[str, Field(pattern=r"^[^\s,]+( *, *[^\s,]+)*$")] | None = None
    """Names of the linear layers that a lora, dora or ia3 adapter changes, separated by commas; peft's default for the
    architecture if omitted."""

    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of the learning rate from each layer to the one below it, and to the embeddings; the head has the whole
    rate."""
    layer_decay_offset: Annotated[int, Field(ge=0, le=MAX_COUNT)] | None = None
    """Times that the rate of the highest layer is multiplied by --layer-decay: 1 by default, 2 in ELECTRA."""

    @field_validator("select")
    @classmethod
    def _check_selection(cls, select: str) -> str:
        if select not in SELECTIONS and select not in METRICS:
            known = f"{', '.join(SELECTIONS)} or a metric, such as accuracy"
            near = did_you_mean(select, (*SELECTIONS, *METRICS))
            raise ValueError(f"expected {known}" + (f".{near}" if near else ""))
        return select

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, build: ModelWrapValidatorHandler[Recipe]) -> Recipe:
        try:
            recipe = build(values)
        except ValidationError as error:
            raise UserError("; ".join(map(_message, error.errors()))) from None
        if recipe.warmup >= 1 and recipe.warmup != int(recipe.warmup):
            raise UserError(
                f"recipe: warmup (--warmup) is {recipe.warmup}: expected a share below 1 or a whole number of steps"
            )
        if recipe.patience is not None and recipe.select == "last":
            raise UserError(
                "recipe: patience (--patience) needs --select best, best_main_score or a metric; 'last' compares no "
                "evaluations"
            )
        if recipe.layer_decay_offset is not None and recipe.layer_decay is None:
            raise UserError("recipe: layer_decay_offset (--layer-decay-offset) needs --layer-decay")
        if recipe.weight_decay_on is not None and recipe.weight_decay == 0:
            raise UserError("recipe: weight_decay_on (--weight-decay-on) is 'all' and needs a --weight-decay above 0")
        if recipe.freeze is not None and recipe.adapter is not None:
            raise UserError(
                f"recipe: freeze (--freeze) is {recipe.freeze!r}, but --adapter {recipe.adapter} freezes the whole "
                "encoder: drop one of them"
            )
        if recipe.schedule == "polynomial" and recipe.schedule_power is None:
            raise UserError("recipe: schedule (--schedule) is 'polynomial' and needs --schedule-power")
        if recipe.optimizer == "muon" and recipe.adapter is not None:
            raise UserError(f"recipe: --optimizer muon excludes --adapter {recipe.adapter}: choose adamw")
        for name, (choice, values) in _SETTINGS.items():
            default = cls.model_fields[name].default
            chosen = getattr(recipe, choice) or {"optimizer": "adamw"}.get(choice, "none")
            if getattr(recipe, name) != default and chosen not in values:
                flag = f"--{name.replace('_', '-')}"
                advice = "Omit it" if default is None else f"The model's recipe may set it: add {flag} {default}"
                raise UserError(
                    f"recipe: {name} ({flag}) needs --{choice} {' or '.join(values)}; got --{choice} {chosen}. {advice}"
                )
        return recipe


_SETTINGS = {
    "adapter_rank": ("adapter", ("lora", "dora")),
    "adapter_alpha": ("adapter", ("lora", "dora")),
    "adapter_dropout": ("adapter", ("lora", "dora")),
    "adapter_targets": ("adapter", ("lora", "dora", "ia3")),
    "adam_beta1": ("optimizer", ("adamw", "bertadam", "muon")),
    "adam_beta2": ("optimizer", ("adamw", "bertadam", "muon")),
    "adam_epsilon": ("optimizer", ("adamw", "bertadam", "muon")),
    "momentum": ("optimizer", ("sgd", "muon")),
    "schedule_power": ("schedule", ("polynomial",)),
    "min_learning_rate_ratio": ("schedule", ("linear", "linear_from_start", "cosine", "polynomial")),
}
"""Fields that only some values of another field have a use for."""


def resolve_recipe(
    model: str, task: str, task_recipe: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a run; later values win: defaults, model family, task, family for this task, `overrides`.

    Raises:
        UserError: a name is unknown, or a value has the wrong type or is out of range.
    """
    family = find_family(model)
    layers = [task_recipe, overrides or {}]
    if family:
        layers = [family.recipe, task_recipe, family.by_task.get(task, {}), overrides or {}]
    return Recipe(**{name: value for layer in layers for name, value in layer.items()})


def _message(fault: Any) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return str(message)
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"recipe: unknown key {name!r}.{did_you_mean(name, Recipe.model_fields)}"
    return f"recipe: {name} (--{name.replace('_', '-')}) is {fault['input']!r}: {message}"


def recipe_difference(recipe: Recipe, default: Recipe) -> dict[str, Any]:
    """The fields of `recipe` whose values are not those of `default`; they name a variant in the leaderboard."""
    default_values = default.model_dump()
    return {name: value for name, value in recipe.model_dump().items() if value != default_values[name]}


class StepPlan(NamedTuple):
    """The batches of a step and the steps of a run."""

    rows: int
    global_batch_size: int
    processes: int
    device_batch_size: int
    """Rows of one forward pass on one process."""
    accumulation: int
    """Batches of a full step on one process."""
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    grouped_steps: int = 1
    """Steps of an epoch whose rows are sorted by length together; 1: no sorting."""
    evaluate_every: int | float | None = None

    @property
    def evaluations(self) -> EvaluationSteps:
        """The steps after which the run is evaluated."""
        return EvaluationSteps(self.evaluate_every, self.steps_per_epoch, self.total_steps)

    @property
    def epochs(self) -> int:
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def with_device_batch_size(self, device_batch_size: int) -> StepPlan:
        """The same steps in batches of another size."""
        share = math.ceil(self.global_batch_size / self.processes)
        return self._replace(device_batch_size=device_batch_size, accumulation=math.ceil(share / device_batch_size))

    def __str__(self) -> str:
        def count(n: int, noun: str) -> str:
            return f"{n:,} {noun}" + ("" if n == 1 else "es" if noun.endswith(("s", "ch")) else "s")

        capacity = self.processes * self.device_batch_size * self.accumulation
        relation = "=" if capacity == self.global_batch_size else "<="
        return (
            f"global batch size {self.global_batch_size} {relation} {count(self.processes, 'process')} x "
            f"{count(self.device_batch_size, 'row')} x {count(self.accumulation, 'batch')}; "
            f"{count(self.rows, 'row')} = {count(self.steps_per_epoch, 'step')} per epoch, "
            f"{count(self.total_steps, 'step')}, {self.warmup_steps:,} warmup"
            + (
                ""
                if self.evaluate_every is None
                else f", {count(self.evaluations.until(self.total_steps), 'evaluation')}"
            )
        )


def plan_steps(rows: int, recipe: Recipe, processes: int, device_batch_size: int | None = None) -> StepPlan:
    """The batches and steps of a run.

    Without `device_batch_size`, the share of a process is cut into the fewest batches of at most
    `LARGEST_DEVICE_BATCH_SIZE` rows, all of one size where that divides the share.

    Raises:
        UserError: `device_batch_size` does not divide a process's share of the global batch size.
    """
    share = math.ceil(recipe.global_batch_size / processes)
    if device_batch_size is None:
        device_batch_size = math.ceil(share / math.ceil(share / LARGEST_DEVICE_BATCH_SIZE))
    elif device_batch_size < 1 or share % device_batch_size:
        low = [size for size in range(1, math.isqrt(share) + 1) if share % size == 0]
        divisors = {*low, *(share // size for size in low)}
        below = max((size for size in divisors if size < device_batch_size), default=None)
        above = min((size for size in divisors if size > device_batch_size), default=None)
        nearest = " or ".join(str(size) for size in (below, above) if size is not None)
        raise UserError(
            f"--device-batch-size {device_batch_size}: expected a divisor of {share}, the rows per step of each of "
            f"{processes} process(es) at global batch size {recipe.global_batch_size}. Nearest: {nearest}."
        )
    steps_per_epoch = math.ceil(rows / recipe.global_batch_size)
    total = recipe.max_steps or recipe.epochs * steps_per_epoch
    warmup = math.ceil(total * recipe.warmup) if recipe.warmup < 1 else int(recipe.warmup)
    return StepPlan(
        rows=rows,
        global_batch_size=recipe.global_batch_size,
        processes=processes,
        device_batch_size=device_batch_size,
        accumulation=math.ceil(share / device_batch_size),
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=min(warmup, total),
        grouped_steps=GROUPED_STEPS if recipe.length_grouping else 1,
        evaluate_every=recipe.evaluate_every,
    )


def learning_rate_factor(step: int, plan: StepPlan, recipe: Recipe) -> float:
    """The learning rate of step number `step`, from 0, as a share of the peak.

    Equals transformers' get_*_schedule_with_warmup: the first of W warmup steps has 0/W, the first step after them the
    peak, and a decaying schedule reaches its floor one step after the last. `linear_from_start` is that of BERT's
    optimization.py: the decay counts from step 0, so that it never has the peak after a warmup.
    """
    if step < plan.warmup_steps:
        return step / plan.warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "inverse_sqrt":
        scale = plan.warmup_steps or INVERSE_SQRT_STEPS
        return math.sqrt(scale / (step - plan.warmup_steps + scale))
    start = 0 if recipe.schedule == "linear_from_start" else plan.warmup_steps
    progress = min(1.0, (step - start) / max(1, plan.total_steps - start))
    if recipe.schedule == "cosine":
        decay = 0.5 * (1.0 + math.cos(math.pi * progress))
    else:
        decay = 1.0 - progress if recipe.schedule_power is None else (1.0 - progress) ** recipe.schedule_power
    floor = recipe.min_learning_rate_ratio or 0.0
    return floor + (1.0 - floor) * decay
