"""`harness describe`: a task's rows before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.recipes import DEFAULT_MODEL
from harness.facts.tasks import TaskSpec, load_task
from harness.inspection.description import described, values_of
from harness.inspection.description_report import show, write
from harness.inspection.report_files import check_folder
from harness.requests.options import default_recipe
from harness.rows.files import find_files, model_revision
from harness.rows.own_data import OwnData, infer_task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.rows.loading import Split


@dataclass(frozen=True)
class DescribeOptions:
    """Show what a task's rows are like: labels, lengths, duplicates, contradictions, examples."""

    task: str | None = None
    """A registered task (`harness tasks` lists them), or the path of a task's YAML file; none with data of your own."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """Data of your own, instead of --task."""
    data: Path | None = None
    """Rows from DIR/<task>/<split>.parquet|csv|tsv|json|jsonl instead of the task's source, or its one FILE."""
    model: str | None = None
    """Whose tokenizer counts tokens, on the Hub or in a folder; that of the task by default."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub; main by default."""
    max_length: int | None = None
    """Tokens from which on rows are cut; as a run of this task and model does by default."""
    out: Path | None = None
    """Also write tables (CSV, JSON) and pictures (SVG, PNG) into this folder."""
    overwrite: bool = False
    """Replace files in the folder of --out."""
    test_mode: bool = False
    """No network: generated rows and the tiny tokenizer of test mode."""


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes what --out asks for.

    Raises:
        UserError: there is no such task or model, its rows cannot be had, or the files cannot be written.
    """
    options = tyro.cli(
        DescribeOptions, args=list(arguments), prog="harness describe", config=(tyro.conf.FlagCreatePairsOff,)
    )
    _check(options)
    if options.out is not None:
        check_folder(options.out, options.overwrite)
    task = _task(options)
    model = test_mode.MODEL if options.test_mode else options.model or task.model or DEFAULT_MODEL
    max_length = options.max_length or default_recipe(task, model, options.test_mode).max_length

    from harness.rows import loading

    tables = test_mode.tables(task) if options.test_mode else loading.read_tables(task, find_files(task, options.data))
    splits = loading.load_splits(task, tables, "standard", None)
    tokens = _tokens(options, model, splits)
    seen = described(task, splits, loading.shared_texts(splits), tokens, model, max_length)
    show(seen)
    if options.out is not None:
        write(seen, tokens, values_of(splits) if task.is_regression else {}, options.out)
        print(options.out)


def _check(options: DescribeOptions) -> None:
    given = {"--task": options.task, "--data": options.data}
    if not options.own_data.is_requested and options.task is None:
        raise UserError("--task: name a task, or --train-file and the flags for data of your own.")
    if options.own_data.is_requested and (flag := next((flag for flag, value in given.items() if value), None)):
        raise UserError(f"{flag} {given[flag]}: the rows are told by --train-file or --dataset already; leave one out.")
    given = {"--model": options.model, "--revision": options.revision, "--data": options.data}
    if options.test_mode and (flag := next((flag for flag, value in given.items() if value), None)):
        raise UserError(f"{flag}: test mode brings its own model and rows; leave out {flag} or --test-mode.")
    if options.max_length is not None and options.max_length < 1:
        raise UserError(f"--max-length {options.max_length}: a row has at least 1 token.")


def _task(options: DescribeOptions) -> TaskSpec:
    if not options.own_data.is_requested:
        return load_task(str(options.task))
    task, told = infer_task(options.own_data)
    for sentence in told:
        print(sentence)
    print()
    return task


def _tokens(options: DescribeOptions, model: str, splits: Mapping[str, Split]) -> dict[str, NDArray[np.int64]]:
    """Tokens of each row by split; none, and a sentence why, where the model that nobody named cannot be had."""
    from tempfile import TemporaryDirectory

    from harness.engine.encoding import encode
    from harness.engine.models import load_tokenizer

    with TemporaryDirectory() as scratch:
        if options.test_mode:
            test_mode.write_model(Path(scratch))
        try:
            place, revision = (scratch, "sha256:") if options.test_mode else (model, None)
            tokenizer = load_tokenizer(place, revision or model_revision(model, options.revision))
        except UserError as error:
            if options.model is not None:
                raise
            print(f"note: tokens are not counted. {error}\n")
            return {}
        return {name: encode(split, tokenizer, _UNCUT).lengths for name, split in splits.items()}


_UNCUT = 1_000_000_000
"""Tokens; no row is as long."""
