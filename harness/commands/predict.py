"""`harness predict`: predictions of a saved model for texts on the command line, in a file, or on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.facts.texts import TextSource
from harness.inspection.output_files import check_output_file
from harness.inspection.prediction_output import FORMATS, PredictedRows, json_rows, prediction_writer, screen_lines
from harness.inspection.scorer import Scorer, open_model
from harness.rows import stream
from harness.rows.columns import ReadOptions
from harness.rows.own_data import split_columns
from harness.rows.splits import Split
from harness.rows.stream import TextColumns
from harness.saved_models import bundles
from harness.system.command_line import parse_flags


@dataclass(frozen=True)
class PredictOptions:
    """Predict labels of texts with a model that `harness run --save-model` saved; reads standard input by default."""

    model: Annotated[Path, tyro.conf.Positional]
    """The folder that --save-model wrote."""
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A text to predict; repeat the flag for several texts."""
    pair: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The second text of a task on pairs, one for each --text."""
    choice: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A candidate of a multiple-choice task; repeat the flag for all candidates of the first --text, then the next."""
    file: Path | None = None
    """Rows in any format that tasks support, book.xlsx#sheet=Name for a sheet; CSV, TSV, JSONL and Parquet are read in
    chunks."""
    delimiter: str | None = None
    """Delimiter of the CSV or TSV; by default inferred from its header."""
    encoding: str | None = None
    """Encoding of --file, such as iso-8859-9; UTF-8 by default."""
    text_column: str | None = None
    """Text column of --file, or several such as title,body, joined as in training; the task's by default."""
    pair_column: str | None = None
    """Column or columns of the second text of a pair; the task's by default."""
    out: Path | None = None
    """Write the predictions to this .csv, .tsv, .jsonl or .parquet; JSON lines on standard output by default."""
    overwrite: bool = False
    """Replace the file of --out if it exists."""
    device_batch_size: int = 32
    """Rows per forward pass."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: the precision of the run's scores if this device supports it, else fp32."""
    cpu: bool = False
    """Use the CPU even if there is a GPU."""
    trust_remote_code: bool = False
    """Run the code that was saved with the model, if its run needed --trust-remote-code: read it first."""


def main(arguments: Sequence[str]) -> None:
    """Prints or writes the predictions in row order.

    Raises:
        UserError: no saved model, rows that do not suit its task, or an output file that cannot be written.
    """
    options = parse_flags(PredictOptions, arguments, "predict")
    bundle = bundles.read_bundle(options.model)
    if options.out is not None:
        check_output_file(options.out, FORMATS, options.overwrite)
    chunks = _chunks(bundle, options)
    first = next(chunks)  # reports invalid input before the model is loaded
    scorer = open_model(
        options.model, options.precision, options.cpu, options.device_batch_size, options.trust_remote_code
    )
    is_main = scorer.accelerator.is_main_process
    file_writer = prediction_writer(options.out) if is_main and options.out is not None else None
    lines = screen_lines if options.text else json_rows
    with file_writer or nullcontext(lambda rows: print(*lines(rows), sep="\n")) as write:
        for predictions in _predictions(scorer, chain([first], chunks)):
            if is_main:
                write(predictions)
    if is_main and options.out is not None:
        print(options.out)
    scorer.accelerator.end_training()


def _predictions(scorer: Scorer, chunks: Iterator[Split]) -> Iterator[PredictedRows]:
    """Yields the predictions of each chunk, in row order."""
    first = 0
    hidden = not (scorer.accelerator.is_main_process and sys.stderr.isatty())
    with tqdm(unit="row", unit_scale=True, dynamic_ncols=True, leave=False, disable=hidden) as bar:
        for rows in chunks:
            yield scorer.predict(rows, first)
            first += rows.predicted
            bar.update(rows.predicted)


def _chunks(bundle: bundles.Bundle, options: PredictOptions) -> Iterator[Split]:
    """Yields the rows to predict in chunks, at least one."""
    is_pair = len(bundle.task.text) == 2
    if options.pair_column is not None and not is_pair:
        raise UserError(
            f"--pair-column {options.pair_column}: the task {bundle.task.name} has single texts. Drop the flag."
        )
    if options.file is not None:
        if options.text or options.pair or options.choice:
            raise UserError("--file and --text exclude each other: drop one.")
        columns = _columns(bundle.task, options)
        return stream.stream_file(options.file, columns, ReadOptions(options.delimiter, options.encoding))
    if column := options.text_column or options.pair_column:
        raise UserError(f"--file is missing: it names the file with the column {column!r}.")
    if options.text or options.pair or options.choice:
        return iter([stream.rows_of_texts(bundle.task, options.text, options.pair, options.choice)])
    if sys.stdin.isatty():
        raise UserError("nothing to predict: give --text, --file, or texts on standard input, one per line.")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("standard input reaches one process only. Give the rows with --file.")
    return stream.stream_lines(sys.stdin, is_pair, choices=bundle.task.classes if bundle.task.choices else 0)


def _columns(task: TaskSpec, options: PredictOptions) -> TextColumns:
    flags = {"--text-column": options.text_column, "--pair-column": options.pair_column}
    if task.candidates is not None and (column := options.text_column or options.pair_column):
        raise UserError(
            f"--text-column, --pair-column: the task {task.name} composes its texts with candidates. Rename the column "
            f"{column!r} of the file to that of the task: {', '.join(task.text_columns)}."
        )
    sources = (
        task.text_source(name) if columns is None else TextSource(columns, split_columns(flag, columns))
        for name, (flag, columns) in zip(task.text, flags.items(), strict=False)
    )
    return TextColumns(tuple(sources), task.choice_source, task.candidates)
