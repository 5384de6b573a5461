"""The options of a run, from flags or keyword arguments: defaults for the task and model, validation, help texts."""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tyro
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.engine import test_mode
from harness.errors import UserError, boundary, did_you_mean
from harness.facts.recipes import DEFAULT_MODEL, DEFAULT_SEED, MAX_COUNT, Recipe, resolve_recipe
from harness.facts.tasks import TaskSpec, load_task, trained_task
from harness.facts.yaml_file import validate_number
from harness.rows.own_data import OWN_DATA_FLAGS, OwnData
from harness.system.command_line import check_flags, parse_arguments
from harness.system.paths import user_path


@dataclass(frozen=True)
class RunOptions:
    """Fine-tune one model on one task, evaluate it, and write one record."""

    task: str
    """A registered task (`harness tasks` lists them) or the path of a task's YAML file; omit it for your own data."""
    model: str = DEFAULT_MODEL
    """Name on the Hub, or a folder with config.json, weights and tokenizer."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub; main by default."""
    trust_remote_code: bool = False
    """Run the code that comes with the model, such as a new architecture: read it first. On the Hub, --revision must be
    a commit."""
    seed: int = DEFAULT_SEED
    """Seed of the head's weights, the order of rows, and dropout."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=Recipe)
    """Everything that may change the numbers, on any devices."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """Data of your own, instead of --task."""
    parent: str | None = None
    """run_id of the run that --init-from starts from; by default the run with that task's own recipe."""
    device_batch_size: int | None = None
    """Rows per forward pass on one process; the rest of the global batch is accumulated. Changes rounding and dropout
    masks alone."""
    eval_batch_size: int | None = None
    """Rows per forward pass in evaluation, by default 64 on a CPU, and 256 on a GPU, which takes more if they are
    short. Changes rounding alone."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: the precision of accelerate launch unless it is no, else bf16 where the hardware has it, else fp32; never
    tf32."""
    compile: Literal["off", "auto", "on"] = "off"
    """torch.compile for the training steps; auto: on a GPU, for runs long enough to gain more than compiling costs."""
    cuda_graphs: Literal["off", "auto", "on"] = "auto"
    """Capture training steps as CUDA graphs, which saves the time of launching kernels one by one; auto: for runs of
    100 steps or more on one GPU."""
    predict: bool = True
    """Predict the splits with hidden labels, for the servers of GLUE and SuperGLUE; --no-predict saves their time.
    Changes no number."""
    data: Path | None = None
    """Read rows from DIR/<task>/<split>.csv or another format, from the task's files in DIR, or from one FILE, instead
    of the task's source."""
    results: Path = Path("results")
    """Folder of the records: DIR/runs/<task>/<run_id>.json."""
    overwrite: bool = False
    """Run again although a finished record exists, and replace it."""
    checkpoint_every: str = "10m"
    """Minutes (10m) or steps (500) between checkpoints; the end of an epoch always saves one."""
    deterministic: bool = False
    """Use only deterministic kernels of torch; slower on a GPU, and the record says so."""
    tracker: str | None = None
    """Also log to one of accelerate's trackers: tensorboard, wandb, mlflow, ..."""
    save_model: Path | None = None
    """Save the trained model in this folder: weights, tokenizer, task, record and model card. Changes no number."""
    push_to_hub: str | None = None
    """Also upload the folder of --save-model to this repository of the Hub; a new repository is private."""
    test_mode: bool = False
    """One CPU, no network, a tiny BERT and generated rows; records go to DIR/test-mode."""

    @property
    def checkpoint_steps(self) -> float:
        """Steps between checkpoints; infinite when they are counted in minutes."""
        return math.inf if self.checkpoint_every.endswith("m") else int(self.checkpoint_every)

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between checkpoints; infinite when they are counted in steps."""
        return 60 * float(self.checkpoint_every[:-1]) if self.checkpoint_every.endswith("m") else math.inf

    @property
    def folder(self) -> Path:
        """Folder of this run's record; test mode has one of its own, so that its records never mix with real ones."""
        return self.results / "test-mode" if self.test_mode else self.results


def parse_options(arguments: Sequence[str]) -> RunOptions:
    """Parses the command line; --help shows the defaults of the --task and --model that it names.

    Raises:
        UserError: an unknown task, a value out of range, or flags that exclude each other.
        SystemExit: after --help (0), or for an unknown flag or a value of the wrong type (2).
    """
    _check_text(arguments)
    check_flags(RunOptions, arguments)
    named = _peek(arguments)
    has_own_data = any(arg.split("=")[0].replace("_", "-") in OWN_DATA_FLAGS for arg in arguments)
    is_known = has_own_data or named["task"] is not None
    default = _defaults(named, has_own_data) if is_known else RunOptions(task=tyro.MISSING)
    options = (_parse_named(arguments, default) if is_known else None) or parse_arguments(
        RunOptions, arguments, "run", default
    )
    return _validated(options, has_own_data)


def resolve_options(values: Mapping[str, Any]) -> RunOptions:
    """Builds the options from keyword arguments named as the flags, with underscores; the rest has its defaults.

    An option that takes several files or columns accepts a list of them as well as one text.

    Raises:
        UserError: an unknown name, a value of the wrong type or out of range, or options that exclude each other.
    """
    run_names, own_names = ({each.name for each in fields(kind)} for kind in (RunOptions, OwnData))
    run_names -= {"recipe", "own_data"}
    known = run_names | own_names | Recipe.model_fields.keys()
    _check_text(
        str(each) for value in values.values() for each in (value if isinstance(value, (list, tuple)) else [value])
    )
    if unknown := sorted(values.keys() - known):
        advice = did_you_mean(unknown[0], known) or " `harness run --help` lists the options, as flags."
        raise UserError(f"unknown option {unknown[0]!r}.{advice}")
    own = {name: value for name, value in values.items() if name in own_names and value is not None}
    run = {name: value for name, value in values.items() if name in run_names and (name != "task" or value is not None)}
    if "task" not in run and not own:
        raise UserError("--task is missing: name a registered task, or give your own rows with --train-file.")
    run, own_data = _typed(RunOptions, run), OwnData(**_typed(OwnData, own))
    default = _defaults(run, bool(own))
    recipe = default.recipe.model_dump() | {name: values[name] for name in Recipe.model_fields if name in values}
    return _validated(replace(default, **run, recipe=Recipe(**recipe), own_data=own_data), bool(own))


def default_recipe(task: TaskSpec, model: str, is_test_mode: bool) -> Recipe:
    """Returns the recipe of this task, which is trained itself, and model before any flag changes it."""
    return resolve_recipe(model, task.name, task.recipe, test_mode.RECIPE if is_test_mode else None)


def _check_text(arguments: Iterable[str]) -> None:
    """Raises UserError for a path that is not UTF-8: the record, which has the command, could not be written."""
    for arg in arguments:
        with boundary(ascii(arg), advice="Give the file or folder a name in UTF-8."):
            arg.encode()


def _peek(arguments: Sequence[str]) -> dict[str, Any]:
    """Reads the few flags on which the defaults of all others depend."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--task", "--model", "--revision", "--data"):
        parser.add_argument(flag, nargs="?")
    parser.add_argument("--test-mode", "--test_mode", action="store_true")
    try:
        return vars(parser.parse_known_args(list(arguments))[0])
    except argparse.ArgumentError:  # of the switch: every other flag here takes any value, or none
        raise UserError("--test-mode: expected no value. Give the flag alone.") from None


def _parse_named(arguments: Sequence[str], default: RunOptions) -> RunOptions | None:
    """Parses the command line with a parser of only the flags in it: one of all flags takes ten times as long.

    Returns None for a mistake or --help, whose output needs the parser of all flags.
    """
    parts = {RunOptions: default, Recipe: default.recipe, OwnData: default.own_data}
    types = {name: (kind, each) for kind in parts for name, each in _types(kind).items()}
    flags = dict.fromkeys(arg[2:].partition("=")[0].replace("-", "_") for arg in arguments if arg.startswith("--"))
    names = dict.fromkeys(flag if flag in types else flag.removeprefix("no_") for flag in flags)
    if not names.keys() <= types.keys():
        return None
    columns = [(name, types[name][1], field(default=getattr(parts[types[name][0]], name))) for name in names]
    try:
        parsed = parse_arguments(make_dataclass("Named", columns), arguments, "run", is_silent=True)
        values = {kind: {name: getattr(parsed, name) for name in names if types[name][0] is kind} for kind in parts}
        return replace(
            default,
            **values[RunOptions],
            recipe=Recipe(**{**default.recipe.model_dump(), **values[Recipe]}),
            own_data=replace(default.own_data, **values[OwnData]),
        )
    except (SystemExit, ValidationError):
        return None


@functools.cache
def _types(kind: type) -> Mapping[str, Any]:
    """The types of the flags of a dataclass or model."""
    types = get_type_hints(kind, include_extras=True)
    names = Recipe.model_fields if kind is Recipe else [each.name for each in fields(kind)]
    return {name: types[name] for name in names if name not in ("recipe", "own_data")}


def _defaults(named: Mapping[str, Any], has_own_data: bool) -> RunOptions:
    """Returns the defaults for the task, model and mode in `named`, after a check that they go together."""
    is_test_mode = bool(named.get("test_mode"))
    if is_test_mode:
        refuse_flags(
            named, ("model", "revision", "data"), "test mode has its own model and rows: drop it or --test-mode."
        )
    if has_own_data:
        refuse_flags(named, ("task", "data"), "--train-file or --dataset provides the rows already: drop one.")
        model = test_mode.MODEL if is_test_mode else named.get("model") or DEFAULT_MODEL
        recipe = resolve_recipe(model, "", {}, test_mode.RECIPE if is_test_mode else None)
        return RunOptions(task="", model=model, recipe=recipe)
    task = load_task(trained_task(named["task"]))
    model = test_mode.MODEL if is_test_mode else named.get("model") or task.model or DEFAULT_MODEL
    return RunOptions(task=named["task"], model=model, recipe=default_recipe(task, model, is_test_mode))


def refuse_flags(named: Mapping[str, Any], names: Sequence[str], reason: str) -> None:
    """Raises UserError with the reason when one of these flags has a value."""
    if name := next((name for name in names if named.get(name) is not None), None):
        raise UserError(f"--{name} {named[name]}: {reason}")


def _typed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts keyword arguments to the types of the fields of a dataclass."""
    types, typed = get_type_hints(kind, include_extras=True), {}
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if hasattr(value, "to_parquet"):
            raise UserError(
                f"{flag}: expected a text or a path, got a {type(value).__name__}. Save the rows with to_parquet and "
                "name the file."
            )
        if isinstance(value, str) and not value:
            raise UserError(f"{flag}: empty, perhaps an unset variable. Give it a value, or drop it for the default.")
        if isinstance(value, (list, tuple)):
            value = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
            value = value if types[name] == tuple[str, ...] else ",".join(map(str, value))
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)
        if types[name] == tuple[str, ...] and isinstance(value, str):
            value = (value,)
        adapter = TypeAdapter(types[name], config=ConfigDict(coerce_numbers_to_str=True))
        try:
            typed[name] = validate_number(value, adapter.validate_python)
        except ValueError as error:
            message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"{flag} {value!r}: {message}.") from None
    return typed


def _validated(options: RunOptions, has_own_data: bool) -> RunOptions:
    """Checks the values that types cannot, and names the task of the user's own data."""
    if has_own_data:
        options = replace(options, task=options.own_data.task_name)
    for flag, size in (
        ("--device-batch-size", options.device_batch_size),
        ("--eval-batch-size", options.eval_batch_size),
    ):
        if size is not None and not 1 <= size <= MAX_COUNT:
            raise UserError(f"{flag} {size}: expected 1 to {MAX_COUNT} rows.")
    if options.test_mode and options.precision not in ("auto", "fp32"):
        raise UserError(f"--precision {options.precision}: test mode computes in fp32: drop it or --test-mode.")
    if options.test_mode and options.trust_remote_code:
        raise UserError("--trust-remote-code: test mode has its own model: drop it or --test-mode.")
    if not re.fullmatch(r"[1-9][0-9]{0,8}|[0-9]{0,8}\.?[0-9]{1,8}m", options.checkpoint_every):
        raise UserError(f"--checkpoint-every {options.checkpoint_every}: expected minutes as 10m or steps as 500.")
    options = replace(options, results=user_path("--results", options.results))
    options = replace(options, model=re.sub(r"(/\.?)+$", "", options.model) or options.model)
    if options.save_model is not None:
        options = replace(options, save_model=user_path("--save-model", options.save_model))
    if options.parent is not None and options.recipe.init_from is None:
        raise UserError(f"--parent {options.parent}: --init-from is missing; name the task that this is a run of.")
    if options.parent is not None and not re.fullmatch(r"\w[\w.-]*", options.parent):
        raise UserError(f"--parent {options.parent}: invalid run_id: expected one from a record.")
    if options.push_to_hub is not None and options.save_model is None:
        raise UserError(f"--push-to-hub {options.push_to_hub}: --save-model is missing; name the folder to upload.")
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed {options.seed}: expected 0 to {2**32 - 1}.")
    return options
