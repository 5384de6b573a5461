"""What a run computes with, as it stands before the first step: rows, tokens, model, plan, optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.engine import test_mode
from harness.facts.metrics import check_metrics
from harness.facts.recipes import StepPlan, plan_steps
from harness.facts.records import Environment, RunSpec
from harness.facts.tasks import TaskSpec
from harness.requests.companions import splits_of_companions
from harness.requests.options import RunOptions
from harness.rows.files import Files
from harness.saved_models import bundles
from harness.system.importing import uncollected

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.engine import models
    from harness.engine.encoding import Encoded
    from harness.engine.training import Training
    from harness.rows.loading import Split


@dataclass(frozen=True)
class Prepared:
    """A run before its first step, the same on every process."""

    splits: dict[str, Split]
    encoded: dict[str, Encoded]
    """Of the splits that every process has."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    training: Training
    facts: dict[str, Any]
    """The fields of the record that tell on what and where it ran, however it ends."""
    notes: list[str]
    """What its record says of the rows, and of memory."""

    @property
    def plan(self) -> StepPlan:
        """The steps, as they fit into memory."""
        return self.training.plan

    @property
    def topology(self) -> str:
        """On what it runs, in words: where a resumed run finds another, numbers may differ by rounding and dropout."""
        batches = f"{self.plan.processes} process(es) with batches of {self.plan.device_batch_size}"
        return f"{batches} in {self.facts['environment'].precision} on {self.training.accelerator.device.type}"


def prepare(
    task: TaskSpec,
    spec: RunSpec,
    files: Files | None,
    parent: bundles.Bundle | None,
    options: RunOptions,
    accelerator: Accelerator,
) -> Prepared:
    """Reads and encodes the rows, builds the model, fits the batches to the device; every process must call it.

    Raises:
        UserError: rows, model or metrics are not what the task needs, or do not go together.
    """
    with uncollected():
        from accelerate.utils import set_seed

        from harness.engine import compiling, deployment, models, provenance, token_cache
        from harness.engine.adaptations import adapt
        from harness.engine.memory import plan_that_fits
        from harness.engine.training import Training, adamw
        from harness.rows import loading

    recipe = spec.recipe
    if accelerator.is_main_process:
        check_metrics(task.metrics)

    # Rows and model
    with accelerator.local_main_process_first(), TemporaryDirectory() as scratch:
        tables = test_mode.tables(task) if spec.test_mode else loading.read_tables(task, files)
        splits = loading.load_splits(task, tables, recipe.protocol, recipe.train_rows)
        splits |= splits_of_companions(task, options)
        model, tokenizer, model_facts = _build(task, spec, parent, Path(scratch))
        models.check_length(model, recipe.max_length)
        cache = None if spec.test_mode else token_cache.cache_folder()
        encoded = token_cache.encoded(splits, tokenizer, recipe.max_length, cache, accelerator.print)
    shared = deployment.common(accelerator, list(encoded))  # a split to predict may be missing on some machine
    encoded = {name: rows for name, rows in encoded.items() if name in shared}

    # Batches and optimizer
    plan = plan_steps(len(encoded["train"]), recipe, accelerator.num_processes, options.device_batch_size)
    precision, where = deployment.precision_of(accelerator), deployment.whereabouts(accelerator)
    accelerator.print(f"{task.name}, {spec.model}, seed {spec.seed}, {precision} on {where}\n{plan}")
    wished = plan.device_batch_size
    refusals = [deployment.may_refuse_memory(accelerator.device), options.device_batch_size is not None]
    is_tried = any(deployment.any_process(accelerator, refusals))
    is_compiled = compiling.is_wanted(options.compile, plan.total_steps, accelerator.device)
    if is_compiled and (obstacle := compiling.obstacle(accelerator.device)):
        accelerator.print(f"--compile {options.compile}: nothing can be compiled here ({obstacle}); going on without")
        is_compiled = False
    has_whole_weights = deployment.keeps_whole_weights(accelerator)
    adapt(
        model,
        encoded,
        accelerator.device,
        is_distributed=accelerator.num_processes > 1,
        is_compiled=is_compiled,
        has_whole_weights=has_whole_weights,
    )
    if is_tried and has_whole_weights:
        plan = plan_that_fits(accelerator, model.to(accelerator.device), encoded["train"], plan)
    optimizer = adamw(model, recipe, accelerator.device)
    training = Training(accelerator, model, optimizer, recipe, plan, encoded["train"], is_compiled)
    set_seed(spec.seed, device_specific=True)  # processes must not draw the same dropout

    # What the record tells of them
    described = loading.describe(task, tables, splits, spec.test_mode)
    notes = loading.remarks(splits, described.shared_texts)
    for note in notes:
        accelerator.print(note)
    if plan.device_batch_size < wished:
        notes.append(
            f"out of memory with --device-batch-size {wished}: used {plan.device_batch_size}; same global batch size"
        )
    environment = Environment(
        precision=precision,
        device_batch_size=plan.device_batch_size,
        accumulation=plan.accumulation,
        eval_batch_size=options.eval_batch_size,
        is_compiled=is_compiled,
        **provenance.surroundings(accelerator),
    )
    facts = dict(data=described, model=model_facts, environment=environment)
    return Prepared(splits, encoded, model, tokenizer, training, facts, notes)


def _build(task: TaskSpec, spec: RunSpec, parent: bundles.Bundle | None, test_model: Path) -> models.Built:
    """The model to start from: the parent's, the test mode's, or the one that was asked for."""
    from harness.engine import models

    if spec.test_mode:
        test_mode.write_model(test_model)
    if parent is None:
        return models.build(str(test_model) if spec.test_mode else spec.model, spec.revision, task, spec.seed)
    revision = f"sha256:{parent.record.weights_sha256}"
    model, tokenizer, facts = models.build(str(parent.folder), revision, task, spec.seed)
    if parent.record.model is not None:  # the commit that its parent, too, was made from
        facts = facts.model_copy(update={"commit": parent.record.model.commit})
    return models.Built(model, tokenizer, facts)
