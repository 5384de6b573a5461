"""`harness predict`: predictions of a saved model for texts on the command line, in a file, or on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro
from tqdm import tqdm

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.facts.texts import TextSource
from harness.inspection.output_files import check_output_file
from harness.inspection.prediction_output import (
    FORMATS,
    PredictedRows,
    answers_from_scores,
    json_rows,
    prediction_columns,
    prediction_writer,
    rows_from_scores,
    screen_lines,
)
from harness.rows import stream
from harness.rows.columns import ReadOptions
from harness.rows.stream import TextColumns, TextRows
from harness.saved_models import bundles
from harness.system.command_line import parse_flags

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from harness.engine.encoding import Rows as EncodableRows


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
    """Rows in any format that tasks support; CSV, TSV, JSONL and Parquet are read in chunks."""
    delimiter: str | None = None
    """Delimiter of the CSV or TSV; a comma or a tab by default."""
    encoding: str | None = None
    """Encoding of --file, such as iso-8859-9; UTF-8 by default."""
    text_column: str | None = None
    """Text column of --file; the task's by default."""
    pair_column: str | None = None
    """Column of the second text of a pair; the task's by default."""
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


class Scorer(NamedTuple):
    """A saved model on this process's device."""

    bundle: bundles.Bundle
    accelerator: Accelerator
    model: PreTrainedModel
    tokenizer: Tokenizer
    device_batch_size: int

    def scores(self, rows: EncodableRows) -> NDArray[np.float32]:
        """Returns logits or values, float32[N, C] in row order, on every process; all of them must call it together.

        Raises:
            UserError: the model has no embedding for a token of the rows, or a score is not finite.
        """
        from harness.engine.encoding import encode
        from harness.engine.inference import NotFinite, infer
        from harness.engine.models import check_tokens

        encoded = encode(rows, self.tokenizer, self.bundle.record.spec.recipe.max_length)
        check_tokens(str(self.bundle.folder), self.model, [encoded.tokens["input_ids"]])
        try:
            return infer(self.accelerator, self.model, encoded, self.device_batch_size).values
        except NotFinite as error:
            raise UserError(f"{self.bundle.folder}: {error}. Try --precision fp32.") from None

    def predict(self, rows: EncodableRows, first: int = 0) -> PredictedRows:
        """Predicts rows, of which the first has the number `first`, with the run's threshold; see `scores`."""
        return rows_from_scores(self.bundle.task, self.scores(rows), first, self.bundle.record.threshold)

    def select(self, rows: TextRows, first: int) -> PredictedRows:
        """Predicts rows as `predict` does, or the answer to each question where they are candidates."""
        if rows.questions is None or rows.candidates is None:
            return self.predict(rows, first)
        return answers_from_scores(self.bundle.task, self.scores(rows), rows.questions, rows.candidates, first)


def open_model(
    folder: Path,
    precision: str = "auto",
    cpu: bool = False,
    device_batch_size: int = 32,
    trusts_code: bool = False,
) -> Scorer:
    """Loads a saved model for scoring; every process must call it.

    Raises:
        UserError: the folder has no saved model, its code is not trusted, or the device does not support the precision.
    """
    if device_batch_size < 1:
        raise UserError(f"--device-batch-size {device_batch_size}: expected at least 1 row.")
    bundle = bundles.read_bundle(folder)

    from harness.engine import deployment

    accelerator = deployment.start("fp32" if precision == "auto" else precision, cpu, None, Path())
    run = bundle.record.environment
    if precision == "auto" and run is not None and deployment.supports_precision(run.precision, accelerator.device):
        accelerator = deployment.start(run.precision, cpu, None, Path())
    model, tokenizer = bundles.load_model(bundle, trusts_code)
    model = accelerator.prepare_model(model, evaluation_mode=True)
    return Scorer(bundle, accelerator, model, tokenizer, device_batch_size)


def predict(
    folder: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    choices: Sequence[Sequence[str]] | None = None,
    precision: str = "auto",
    cpu: bool = False,
    trust_remote_code: bool = False,
) -> pd.DataFrame:
    """Returns the table that `harness.api.predict` documents, for the same arguments.

    Raises:
        UserError: the folder has no saved model, or texts, pairs and choices do not suit its task.
    """
    import pandas as pd

    bundle = bundles.read_bundle(Path(folder))
    if uneven := next((each for each in choices or () if len(each) != bundle.task.classes), None):
        raise UserError(f"choices: expected {bundle.task.classes} candidates of each text, got {len(uneven)}.")
    rows = _text_rows(bundle, list(texts), list(pairs or ()), list(chain.from_iterable(choices or ())))
    scorer = open_model(Path(folder), precision, cpu, trusts_code=trust_remote_code)
    return pd.DataFrame(prediction_columns(scorer.predict(rows)))


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
    in_file = prediction_writer(options.out) if is_main and options.out is not None else None
    with in_file or nullcontext(partial(_print_rows, bool(options.text))) as write:
        for predictions in _predictions(scorer, chain([first], chunks)):
            if is_main:
                write(predictions)
    if is_main and options.out is not None:
        print(options.out)
    scorer.accelerator.end_training()


def _print_rows(is_for_people: bool, predictions: PredictedRows) -> None:
    print(*(screen_lines if is_for_people else json_rows)(predictions), sep="\n")


def _predictions(scorer: Scorer, chunks: Iterator[TextRows]) -> Iterator[PredictedRows]:
    """Yields the predictions of each chunk, in row order."""
    first = 0
    hidden = not (scorer.accelerator.is_main_process and sys.stderr.isatty())
    with tqdm(unit="row", unit_scale=True, dynamic_ncols=True, leave=False, disable=hidden) as bar:
        for rows in chunks:
            yield scorer.select(rows, first)
            first += rows.predicted
            bar.update(rows.predicted)


def _chunks(bundle: bundles.Bundle, options: PredictOptions) -> Iterator[TextRows]:
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
        return iter([_text_rows(bundle, list(options.text), list(options.pair), list(options.choice))])
    if sys.stdin.isatty():
        raise UserError("nothing to predict: give --text, --file, or texts on standard input, one per line.")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("standard input reaches one process only. Give the rows with --file.")
    return stream.stream_lines(sys.stdin, is_pair, choices=bundle.task.classes if bundle.task.choices else 0)


def _columns(task: TaskSpec, options: PredictOptions) -> TextColumns:
    flags = [options.text_column, options.pair_column]
    if task.candidates is not None and (flag := options.text_column or options.pair_column):
        raise UserError(
            f"--text-column, --pair-column: the task {task.name} composes its texts with candidates. Rename the column "
            f"{flag!r} of the file to that of the task: {', '.join(task.text_columns)}."
        )
    sources = [
        TextSource(flag, (flag,)) if flag else task.text_source(name)
        for name, flag in zip(task.text, flags, strict=False)
    ]
    return TextColumns(sources[0], sources[1] if len(sources) > 1 else None, task.choice_source, task.candidates)


def _text_rows(bundle: bundles.Bundle, texts: list[str], pairs: list[str], choices: list[str]) -> TextRows:
    """Checks texts from the command line or Python against the task, and returns them as rows."""
    is_pair, name = len(bundle.task.text) == 2, bundle.task.name
    number = bundle.task.classes if bundle.task.choices else 0
    invalid: list[Any] = [text for text in (*texts, *pairs, *choices) if not isinstance(text, str)]
    if invalid:
        raise UserError(f"expected texts, got {invalid[0]!r}.")
    for flag, values in (("--text", texts), ("--pair", pairs), ("--choice", choices)):
        for text in values:
            stream.check_characters(text, flag)
    if not texts:
        raise UserError("--text is missing: there is no text to predict.")
    if pairs and not is_pair:
        raise UserError(f"--pair: the task {name} has single texts. Drop the flag.")
    if is_pair and len(pairs) != len(texts):
        raise UserError(
            f"--pair: the task {name} has pairs ({', '.join(bundle.task.text)}): expected one --pair for each of "
            f"{len(texts)} --text, got {len(pairs)}."
        )
    if len(choices) != number * len(texts):
        raise UserError(
            f"--choice: the task {name} has {number or 'no'} candidates: expected {number * len(texts)} --choice for "
            f"{len(texts)} --text, got {len(choices)}."
        )
    rows = [tuple(choices[start : start + number]) for start in range(0, len(choices), number)] if number else None
    return TextRows(texts, pairs if is_pair else None, None, rows)
