"""Everything a run needs before its first step: rows, tokens, model, step plan, optimizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.recipes import Recipe, StepPlan, plan_steps
from harness.facts.record_parts import Environment
from harness.facts.records import RunSpec
from harness.facts.tasks import TaskSpec
from harness.metrics.registry import check_metrics
from harness.requests.companions import companion_splits
from harness.requests.options import RunOptions
from harness.requests.run_request import RunRequest
from harness.saved_models import adapter_folder
from harness.saved_models.bundles import ADAPTER, Bundle

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.engine.encoding import Encoded
    from harness.engine.evaluation import Evaluator
    from harness.engine.models import BuiltModel
    from harness.engine.training import Training
    from harness.facts.record_parts import DataFacts, ModelFacts
    from harness.rows.loading import Tables
    from harness.rows.splits import Split
    from harness.system.energy import EnergyMeters


@dataclass(frozen=True)
class Prepared:
    """A run before its first step, the same on every process."""

    evaluator: Evaluator
    """The splits that every process has, and their gold labels."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    training: Training
    data: DataFacts
    model_facts: ModelFacts
    environment: Environment
    """The environment without its step graphs, which are known only after a step."""
    notes: list[str]
    """Notes for the record about rows and memory."""
    meters: EnergyMeters
    """The energy since the setup began."""

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of the record about data, model and environment so far, however the run ends."""
        environment = self.environment.model_copy(update={"has_step_graphs": self.training.has_step_graphs})
        return dict(data=self.data, model=self.model_facts, environment=environment)

    @property
    def plan(self) -> StepPlan:
        """The step plan, with batches that fit into memory."""
        return self.training.plan

    @property
    def topology(self) -> str:
        """Processes, batches, precision and device. On another topology rounding and dropout differ."""
        batches = f"{self.plan.processes} process(es) with batches of {self.plan.device_batch_size}"
        return f"{batches} in {self.environment.precision} on {self.training.accelerator.device.type}"


def prepare(request: RunRequest, parent: Bundle | None, accelerator: Accelerator) -> Prepared:
    """Reads and encodes the rows, builds the model, fits the batches to the device; every process must call it.

    Raises:
        UserError: rows, model or metrics do not suit the task or each other.
    """
    from accelerate.utils import set_seed

    from harness.engine import deployment, model_code, provenance
    from harness.engine.adaptations import adapters, freezing, label_scaling
    from harness.engine.evaluation import Evaluator
    from harness.engine.memory import limit_memory
    from harness.rows import loading

    task, spec, options = request.task, request.spec, request.options
    recipe, meters = spec.recipe, provenance.energy_meters(accelerator)
    if not deployment.keeps_whole_weights(accelerator):
        _check_sharding(recipe)
    limit_memory(accelerator.device)
    if accelerator.is_main_process:
        check_metrics(task.metrics, task.problem_type)
    start = _read_rows_and_model(request, parent, accelerator)
    model, encoded = start.built.model, start.encoded
    freezing.freeze_lowest(model, recipe.freeze, start.trained)
    label_scaling.scale_labels(model, recipe.label_scaling, start.trained.labels)
    if task.is_regression and (advice := label_scaling.advice(recipe.label_scaling, start.trained.labels)):
        accelerator.print(advice)
    trainable = adapters.trained_parameters(model)
    plan = plan_steps(len(start.trained), recipe, accelerator.num_processes, options.device_batch_size)
    devices = f"{deployment.precision_of(accelerator)} on {deployment.device_summary(accelerator)}"
    accelerator.print(f"{task.name}, {spec.model}, seed {spec.seed}, {devices}\n{plan}")
    is_compiled = _is_compiled(options, plan, accelerator)
    own = {name: rows for name, rows in encoded.items() if name not in start.companions} | {"train": start.trained}
    if spec.trust_remote_code and deployment.keeps_whole_weights(accelerator):
        model_code.check_scores(f"--model {spec.model}", model, accelerator, start.trained, task.classes)
    training = _make_training(recipe, options, accelerator, model, own, plan, is_compiled)
    set_seed(spec.seed, device_specific=True)  # processes must not draw the same dropout

    data = loading.data_facts(task, start.tables, start.splits, spec.test_mode)
    row_notes = loading.data_notes(start.splits, data.shared_texts)
    notes = [*start.built.notes, *row_notes, *filter(None, [training.plan.evaluations.note])]
    for note in notes:
        accelerator.print(note)
    planned, fitting = plan.device_batch_size, training.plan.device_batch_size
    if fitting < planned:
        notes.append(f"out of memory with --device-batch-size {planned}: used {fitting}, same global batch size")
    environment = _environment(options, accelerator, training.plan, is_compiled)
    model_facts = start.built.facts.model_copy(update={"trainable_parameters": trainable})
    evaluator = Evaluator(accelerator, task, recipe, encoded, start.splits, environment.eval_batch_size)
    return Prepared(evaluator, model, start.built.tokenizer, training, data, model_facts, environment, notes, meters)


class _RowsAndModel(NamedTuple):
    """The rows of a run, and the model to start from."""

    tables: Tables
    """The tables of the source."""
    splits: dict[str, Split]
    encoded: dict[str, Encoded]
    """The tokens of the splits that every process has."""
    trained: Encoded
    """The tokens of the training rows, twice where both orders of a pair are trained."""
    built: BuiltModel
    companions: Collection[str]
    """The splits of companions. Their rows may come or go until the run is resumed, so that training ignores them."""


def _read_rows_and_model(request: RunRequest, parent: Bundle | None, accelerator: Accelerator) -> _RowsAndModel:
    """Reads and encodes the rows and builds the model, on the main process of each machine first."""
    from harness.engine import deployment, encoding, models, token_cache
    from harness.rows import loading
    from harness.rows.splits import swapped_pairs

    task, spec, recipe = request.task, request.spec, request.spec.recipe
    with accelerator.local_main_process_first(), TemporaryDirectory() as scratch:
        tables = test_mode.tables(task) if spec.test_mode else loading.read_tables(task, request.files)
        splits = loading.load_splits(task, tables, recipe.protocol, recipe.train_rows)
        companions = companion_splits(request.options)
        splits |= companions
        built = _initial_model(task, spec, parent, Path(scratch))
        models.check_length(built.model, recipe.max_length)
        cache = None if spec.test_mode else token_cache.cache_folder()

        def encode(splits: Mapping[str, Split]) -> dict[str, Encoded]:
            return token_cache.encode_splits(splits, built.tokenizer, recipe.max_length, cache, accelerator.print)

        encoded = encode(splits)
        trained = encoded["train"]
        if recipe.pair_order == "both":
            trained = encoding.join_rows(trained, encode({"train": swapped_pairs(splits["train"])})["train"])
        tokens = [rows.tokens["input_ids"] for rows in encoded.values()]
        models.check_tokens(f"--model {spec.model}", built.model, tokens)
        for name, rows in encoded.items():
            encoding.check_ends(f"split {name!r}", rows, built.tokenizer, built.model)
    shared = deployment.names_on_all_processes(accelerator, list(encoded))  # a machine may lack rows to predict
    on_all = {name: rows for name, rows in encoded.items() if name in shared}
    return _RowsAndModel(tables, splits, on_all, trained, built, companions.keys())


def _make_training(
    recipe: Recipe,
    options: RunOptions,
    accelerator: Accelerator,
    model: PreTrainedModel,
    encoded: Mapping[str, Encoded],
    plan: StepPlan,
    is_compiled: bool,
) -> Training:
    """Adapts the model, creates its optimizer, and fits the batches of the plan into memory."""
    from harness.engine import deployment
    from harness.engine.adaptations import adapt
    from harness.engine.memory import plan_that_fits
    from harness.engine.optimizers import create_optimizer, is_row_wise
    from harness.engine.training import Training

    device, has_whole_weights = accelerator.device, deployment.keeps_whole_weights(accelerator)
    adapt(
        model,
        encoded,
        device,
        is_compiled=is_compiled,
        narrows_vocabulary=has_whole_weights and is_row_wise(recipe),
    )
    optimizer = create_optimizer(model, recipe, device)
    can_run_out = [deployment.reports_out_of_memory(device), options.device_batch_size is not None]
    if any(deployment.any_process(accelerator, can_run_out)) and has_whole_weights:
        plan = plan_that_fits(accelerator, model.to(device), optimizer, encoded["train"], plan)
    has_graphs = _has_step_graphs(options, plan, accelerator, model)
    return Training(accelerator, model, optimizer, recipe, plan, encoded["train"], is_compiled, has_graphs)


def _environment(options: RunOptions, accelerator: Accelerator, plan: StepPlan, is_compiled: bool) -> Environment:
    from harness.engine import deployment, provenance

    return Environment(
        precision=deployment.precision_of(accelerator),
        device_batch_size=plan.device_batch_size,
        accumulation=plan.accumulation,
        eval_batch_size=options.eval_batch_size or (256 if accelerator.device.type == "cuda" else 64),
        is_compiled=is_compiled,
        **provenance.environment_fields(accelerator),
    )


def _check_sharding(recipe: Recipe) -> None:
    """Raises UserError for a hyperparameter that needs whole weights on every process."""
    for name in ("adapter", "freeze", "label_scaling", "optimizer"):
        if (value := getattr(recipe, name)) not in (None, "adamw"):
            flag = name.replace("_", "-")
            raise UserError(
                f"--{flag} {value}: unsupported under FSDP and DeepSpeed. Launch with another config, or turn it off: "
                f"--{flag} None."
            )


def _is_compiled(options: RunOptions, plan: StepPlan, accelerator: Accelerator) -> bool:
    """Tells whether the steps are compiled; prints why they are not although --compile asks for it."""
    from harness.engine import compiling, step_graphs

    steps, device = plan.total_steps, accelerator.device
    is_captured = step_graphs.should_capture(options.cuda_graphs, steps, device)
    is_captured = is_captured and not step_graphs.capture_obstacle(accelerator, plan, options.recipe)
    if not compiling.should_compile(options.compile, steps, device, is_captured):
        return False
    obstacle = compiling.obstacle(device)
    if obstacle:
        accelerator.print(f"--compile {options.compile}: torch.compile fails here ({obstacle}); training without it")
    return not obstacle


def _has_step_graphs(options: RunOptions, plan: StepPlan, accelerator: Accelerator, model: PreTrainedModel) -> bool:
    """Tells whether steps are captured as CUDA graphs; prints why they are not although --cuda-graphs asks for it."""
    from harness.engine import layers, step_graphs

    if not step_graphs.should_capture(options.cuda_graphs, plan.total_steps, accelerator.device):
        return False
    obstacle = step_graphs.capture_obstacle(accelerator, plan, options.recipe)
    if layers.drops_layers(model):
        obstacle = obstacle or "the model leaves out layers at random, and a graph would always leave out the same"
    if obstacle and options.cuda_graphs == "on":
        accelerator.print(f"--cuda-graphs on: {obstacle}; training without")
    return not obstacle


def _initial_model(task: TaskSpec, spec: RunSpec, parent: Bundle | None, scratch: Path) -> BuiltModel:
    """Builds the model to start from: the parent's, the tiny one of test mode, or --model; with the recipe's adapter.

    A run with the adapter settings of its parent continues the parent's adapter on the same frozen weights; any other
    starts from the parent's whole weights.
    """
    from harness.engine import models
    from harness.engine.adaptations import adapters, encoder_dropout, head

    trusts_code = bool(spec.trust_remote_code)
    if spec.test_mode:
        test_mode.write_model(scratch)
    continued = parent and adapter_folder.continued_adapter(parent.folder / ADAPTER, parent.record, spec.recipe)
    base, revision = spec.model, spec.revision
    if parent is not None and continued is None:
        base, revision = str(parent.folder), f"sha256:{parent.record.weights_sha256}"
    name = str(scratch) if spec.test_mode and base == spec.model else base
    built = models.build_model(name, revision, task, spec.seed, trusts_code)
    encoder_dropout.set_encoder_dropout(built.model, spec.recipe.encoder_dropout)
    head.set_head_dropout(built.model, spec.recipe.head_dropout)
    adapters.attach(built.model, spec.recipe, spec.seed, built.new_modules, base, built.facts.commit)
    if continued is not None:
        adapters.load(built.model, continued, with_head=False)
    if parent is None or parent.record.model is None:
        return built
    commit = parent.record.model.commit  # the commit of the pretrained model is that of the parent's
    return built._replace(facts=built.facts.model_copy(update={"commit": commit}))
