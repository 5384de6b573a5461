"""`harness describe`: a task's rows before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import tyro

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.recipes import DEFAULT_MODEL
from harness.facts.tasks import load_task, trained_task
from harness.inspection.description import describe_rows
from harness.inspection.description_report import print_description, write_description
from harness.inspection.output_files import check_output_folder
from harness.requests.options import default_recipe, refuse_flags
from harness.rows.files import find_files, model_revision
from harness.rows.own_data import OwnData
from harness.rows.own_task import infer_task
from harness.system.command_line import parse_flags
from harness.system.offline import use_cache_unless_reachable
from harness.system.redaction import redact_secrets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.rows.splits import Split

_NO_LIMIT = 1_000_000_000
"""Tokens; no row is longer."""


@dataclass(frozen=True)
class DescribeOptions:
    """Show a task's rows: labels, lengths, duplicates, contradictory labels, examples."""

    task: str | None = None
    """A registered task (`harness tasks` lists them) or the path of a task's YAML file; omit it for your own data."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """Data of your own, instead of --task."""
    data: Path | None = None
    """Read rows from DIR/<task>/<split>.csv or another format, from the task's files in DIR, or from one FILE, instead
    of the task's source."""
    model: str | None = None
    """Model whose tokenizer counts tokens, on the Hub or in a folder; the task's model by default."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub; main by default."""
    trust_remote_code: bool = False
    """Run the code that comes with the model's tokenizer: read it first. On the Hub, --revision must be a commit."""
    max_length: int | None = None
    """Tokens at which rows are cut; by default as in a run of this task and model."""
    out: Path | None = None
    """Also write tables (CSV, JSON) and pictures (SVG, PNG) to this folder."""
    overwrite: bool = False
    """Replace files in the folder of --out."""
    test_mode: bool = False
    """No network: generated rows, and the tiny tokenizer of test mode."""


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes files if --out is given.

    Raises:
        UserError: flags exclude each other, the task, its rows or the model cannot be loaded, or the files cannot be
            written.
    """
    options = parse_flags(DescribeOptions, arguments, "describe")
    _check(options)
    if options.out is not None:
        check_output_folder(options.out, options.overwrite)
    if not options.test_mode and (message := use_cache_unless_reachable()) is not None:
        print(message)
    if options.own_data.is_requested:
        task, messages = infer_task(options.own_data)
        print(*messages, "", sep="\n")
        trained = task
    else:
        task, trained = load_task(str(options.task)), load_task(trained_task(str(options.task)))
    model = test_mode.MODEL if options.test_mode else options.model or trained.model or DEFAULT_MODEL
    max_length = options.max_length or default_recipe(trained, model, options.test_mode).max_length

    from harness.rows import loading

    tables = test_mode.tables(task) if options.test_mode else loading.read_tables(task, find_files(task, options.data))
    splits = loading.load_splits(task, tables, "standard", None)
    tokens = _tokens(options, model, splits)
    description = describe_rows(task, splits, loading.shared_texts(splits), tokens, model, max_length)
    print_description(description)
    if options.out is not None:
        write_description(description, options.out)
        print(options.out)


def _check(options: DescribeOptions) -> None:
    if options.own_data.is_requested:
        refuse_flags(vars(options), ("task", "data"), "--train-file or --dataset provides the rows: drop one.")
    elif options.task is None:
        raise UserError("--task: missing. Name a task, or your own data with --train-file and its flags.")
    if options.test_mode:
        if options.trust_remote_code:
            raise UserError("--trust-remote-code: --test-mode brings its own model: drop one.")
        refuse_flags(
            vars(options), ("model", "revision", "data"), "--test-mode brings its own model and rows: drop one."
        )
    if options.max_length is not None and not 1 <= options.max_length <= _NO_LIMIT:
        raise UserError(f"--max-length {options.max_length}: expected 1 to {_NO_LIMIT:,} tokens.")


def _tokens(options: DescribeOptions, model: str, splits: Mapping[str, Split]) -> dict[str, NDArray[np.int64]]:
    """Tokens per row by split; empty, with a printed note, if the default model cannot be loaded."""
    from harness.engine.encoding import encode
    from harness.engine.models import load_tokenizer

    with TemporaryDirectory() as scratch:
        if options.test_mode:
            test_mode.write_model(Path(scratch))
            model = scratch
        try:
            revision = model_revision(model, options.revision, options.trust_remote_code)
            tokenizer = load_tokenizer(model, revision, options.trust_remote_code)
        except UserError as error:
            if options.model is not None:
                raise
            print(f"note: tokens are not counted. {redact_secrets(str(error))}\n")
            return {}
        return {name: encode(split, tokenizer, _NO_LIMIT).widths for name, split in splits.items()}
