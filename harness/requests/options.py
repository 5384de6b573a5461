"""What a run can be told on the command line: flags, their values for the chosen task and model, and their help."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.recipes import DEFAULT_MODEL, DEFAULT_SEED, Recipe, resolve
from harness.facts.tasks import TaskSpec, load_task
from harness.rows.own_data import FLAGS as OWN_FLAGS
from harness.rows.own_data import OwnData


@dataclass(frozen=True)
class RunOptions:
    """Fine-tune one model on one task, evaluate it, and write one record."""

    task: str
    """A registered task (`harness tasks` lists them), or the path of a task's YAML file; none with data of your own."""
    model: str = DEFAULT_MODEL
    """Name on the Hub, or a folder with config.json, weights and tokenizer."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub; main by default."""
    seed: int = DEFAULT_SEED
    """Seed of the head's weights, the order of rows, and dropout."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=Recipe)
    """What may change the numbers, whatever devices compute them."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """Data of your own, instead of --task."""
    parent: str | None = None
    """With --init-from: the run_id to start from, where it is not the run with that task's own recipe."""
    device_batch_size: int | None = None
    """Rows of one forward pass on one process; the rest of the global batch is accumulated. Changes no number."""
    eval_batch_size: int = 64
    """Rows of one forward pass in evaluation. Changes no number."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: what accelerate launch was given, else bf16 where the hardware has it, else fp32; tf32 is never chosen."""
    compile: Literal["off", "auto", "on"] = "off"
    """torch.compile for the steps; auto: on a GPU, for runs long enough to gain what compiling takes."""
    data: Path | None = None
    """Rows from DIR/<task>/<split>.parquet|csv|tsv|json|jsonl instead of the task's source, or its one FILE."""
    results: Path = Path("results")
    """Where records are written: DIR/runs/<task>/<run_id>.json."""
    overwrite: bool = False
    """Run again although a finished record is there, and replace it."""
    checkpoint_every: str = "10m"
    """A checkpoint after so many minutes (10m) or steps (500), and always at the end of an epoch."""
    deterministic: bool = False
    """Ask torch for deterministic kernels only; slower on a GPU, and the record says so."""
    tracker: str | None = None
    """Also log to one of accelerate's trackers: tensorboard, wandb, mlflow, ..."""
    save_model: Path | None = None
    """Keep the trained model in this folder: weights, tokenizer, task, record and model card. Changes no number."""
    push_to_hub: str | None = None
    """Also upload what --save-model keeps to this repository of the Hub, private if it is new."""
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
        """Where this run's record goes: those of test mode never lie among real ones."""
        return self.results / "test-mode" if self.test_mode else self.results


def parse(arguments: Sequence[str]) -> RunOptions:
    """The options that `arguments` ask for; --help shows the recipe that holds for the --task and --model named there.

    Raises:
        UserError: no such task, a value out of range, or flags that do not go together.
        SystemExit: after --help (0), or for an unknown flag or a value of the wrong type (2).
    """
    asked = _peek(arguments)
    default = RunOptions(task=tyro.MISSING)
    has_own = any(word.split("=")[0].replace("_", "-") in OWN_FLAGS for word in arguments)
    if has_own:
        default = _for_own_data(asked)
    elif asked.task is not None:
        task = load_task(asked.task)
        model = test_mode.MODEL if asked.test_mode else asked.model or task.model or DEFAULT_MODEL
        given = {"--model": asked.model, "--revision": asked.revision, "--data": asked.data}
        if asked.test_mode and (flag := next((flag for flag, value in given.items() if value), None)):
            raise UserError(f"{flag}: test mode brings its own model and rows; leave out {flag} or --test-mode.")
        default = RunOptions(task=asked.task, model=model, recipe=default_recipe(task, model, asked.test_mode))
    options = tyro.cli(
        RunOptions,
        args=list(arguments),
        default=default,
        prog="harness run",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if has_own:
        options = replace(options, task=options.own_data.task_name)
    for flag, size in (
        ("--device-batch-size", options.device_batch_size),
        ("--eval-batch-size", options.eval_batch_size),
    ):
        if size is not None and size < 1:
            raise UserError(f"{flag} {size}: a batch has at least 1 row.")
    if not re.fullmatch(r"[1-9]\d*|\d*\.?\d+m", options.checkpoint_every):
        raise UserError(f"--checkpoint-every {options.checkpoint_every}: give minutes as 10m or steps as 500.")
    if options.parent is not None and options.recipe.init_from is None:
        raise UserError(f"--parent {options.parent}: say with --init-from which task it is a run of.")
    if options.push_to_hub is not None and options.save_model is None:
        raise UserError(f"--push-to-hub {options.push_to_hub}: name the folder to upload with --save-model.")
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed {options.seed}: seeds go from 0 to {2**32 - 1}.")
    return options


def _for_own_data(asked: argparse.Namespace) -> RunOptions:
    """The defaults of a run on the user's own rows: those of its model."""
    given = {"--task": asked.task, "--data": asked.data}
    if flag := next((flag for flag, value in given.items() if value), None):
        raise UserError(f"{flag} {given[flag]}: the rows are told by --train-file or --dataset already; leave one out.")
    model = test_mode.MODEL if asked.test_mode else asked.model or DEFAULT_MODEL
    recipe = resolve(model, "", {}, test_mode.RECIPE if asked.test_mode else None)
    return RunOptions(task="", model=model, recipe=recipe)


def default_recipe(task: TaskSpec, model: str, is_test_mode: bool) -> Recipe:
    """The recipe of this task and model when the command line says nothing of it."""
    trained = load_task(task.predicted_by) if task.predicted_by else task
    return resolve(model, trained.name, trained.recipe, test_mode.RECIPE if is_test_mode else None)


def _peek(arguments: Sequence[str]) -> argparse.Namespace:
    """The few flags on which the defaults of all others depend."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--task", "--model", "--revision", "--data"):
        parser.add_argument(flag, nargs="?")
    parser.add_argument("--test-mode", "--test_mode", action="store_true")
    try:
        return parser.parse_known_args(list(arguments))[0]
    except (argparse.ArgumentError, SystemExit):
        sys.exit(2)
