"""`harness predict`: a kept model answers texts from the command line, a file of any size, or standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro
from tqdm import tqdm

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.inspection import prediction_output
from harness.inspection.prediction_output import Replies
from harness.rows import stream
from harness.rows.columns import Reading
from harness.rows.stream import Columns, Rows
from harness.saved_models import bundles

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
    """Answer texts with a model that `harness run --save-model` kept. Without --text and --file: standard input."""

    model: Annotated[Path, tyro.conf.Positional]
    """The folder that --save-model wrote."""
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A text to answer; may be given several times."""
    pair: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The second text of a task on pairs, one for each --text."""
    file: Path | None = None
    """Rows in any format that tasks can have; CSV, TSV, JSONL and Parquet are read some rows at a time."""
    delimiter: str | None = None
    """What stands between the fields of a CSV or TSV; a comma or a tab by default."""
    encoding: str | None = None
    """Of --file, such as iso-8859-9; UTF-8 by default."""
    text_column: str | None = None
    """The column of --file that holds the text; that of the task by default."""
    pair_column: str | None = None
    """The same for the second text of a pair."""
    out: Path | None = None
    """Write the answers to this .csv, .tsv, .jsonl or .parquet; JSON lines on standard output by default."""
    overwrite: bool = False
    """Replace the file of --out if it is there."""
    device_batch_size: int = 32
    """Rows of one forward pass."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: what the run was scored in, where this device computes in it, else fp32."""
    cpu: bool = False
    """On the CPU even where there is a GPU."""


class Scorer(NamedTuple):
    """A kept model on this process's device."""

    bundle: bundles.Bundle
    accelerator: Accelerator
    model: PreTrainedModel
    tokenizer: Tokenizer
    device_batch_size: int

    def scores(self, rows: EncodableRows) -> NDArray[np.float32]:
        """Logits, or values, float32[N, C] in row order, on every process; all of them must call it together.

        Raises:
            UserError: a score is not finite.
        """
        from harness.engine.encoding import encode
        from harness.engine.inference import NotFinite, infer

        encoded = encode(rows, self.tokenizer, self.bundle.record.spec.recipe.max_length)
        try:
            return infer(self.accelerator, self.model, encoded, self.device_batch_size).values
        except NotFinite as error:
            raise UserError(f"{self.bundle.folder}: {error}. Try --precision fp32.") from None

    def replies(self, rows: EncodableRows, first: int = 0) -> Replies:
        """The answers to rows whose first has that number, sets of labels under the run's threshold; see `scores`."""
        return prediction_output.replies_of(self.bundle.task, self.scores(rows), first, self.bundle.record.threshold)


def open_model(folder: Path, precision: str = "auto", cpu: bool = False, device_batch_size: int = 32) -> Scorer:
    """A kept model, ready to score; every process must call it.

    Raises:
        UserError: the folder holds no such model, or the precision does not exist here.
    """
    if device_batch_size < 1:
        raise UserError(f"--device-batch-size {device_batch_size}: a batch has at least 1 row.")
    bundle = bundles.read(folder)

    from harness.engine import deployment

    accelerator = deployment.start("fp32" if precision == "auto" else precision, cpu, None, Path())
    ran = bundle.record.environment
    if precision == "auto" and ran is not None and deployment.computes_in(ran.precision, accelerator.device):
        accelerator = deployment.start(ran.precision, cpu, None, Path())
    model, tokenizer = bundles.load(bundle)
    model = accelerator.prepare_model(model, evaluation_mode=True)
    return Scorer(bundle, accelerator, model, tokenizer, device_batch_size)


def predict(
    folder: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    precision: str = "auto",
    cpu: bool = False,
) -> pd.DataFrame:
    """The table that `harness.commands.predict` documents, with the same arguments.

    Raises:
        UserError: the folder holds no such model, or texts and pairs do not fit it.
    """
    import pandas as pd

    rows = _given(bundles.read(Path(folder)), list(texts), list(pairs or ()))
    scorer = open_model(Path(folder), precision, cpu)
    return pd.DataFrame(prediction_output.table(scorer.replies(rows)))


def main(arguments: Sequence[str]) -> None:
    """Prints or writes the answers in the order of the rows.

    Raises:
        UserError: no model is there, or rows and model do not fit each other, or the answers cannot be written.
    """
    options = tyro.cli(
        PredictOptions, args=list(arguments), prog="harness predict", config=(tyro.conf.FlagCreatePairsOff,)
    )
    bundle = bundles.read(options.model)
    form = None if options.out is None else prediction_output.check_place(options.out, options.overwrite)
    chunks = _chunks(bundle, options)
    first = next(chunks)  # what is wrong with the input is told before a model is loaded
    scorer = open_model(options.model, options.precision, options.cpu, options.device_batch_size)
    is_main = scorer.accelerator.is_main_process
    sink = (
        prediction_output.writing(options.out, form)
        if is_main and options.out is not None and form
        else nullcontext(None)
    )
    with sink as write:
        for told in _answered(scorer, chain([first], chunks)):
            if write is not None:
                write(told)
            elif is_main:
                for line in prediction_output.lines(told) if options.text else prediction_output.json_lines(told):
                    print(line)
    if is_main and options.out is not None:
        print(options.out)
    scorer.accelerator.end_training()


def _answered(scorer: Scorer, chunks: Iterator[Rows]) -> Iterator[Replies]:
    """The answers in order; within a chunk the rows are computed by length."""
    done = 0
    hidden = not (scorer.accelerator.is_main_process and sys.stderr.isatty())
    with tqdm(unit="row", unit_scale=True, dynamic_ncols=True, leave=False, disable=hidden) as bar:
        for rows in chunks:
            yield scorer.replies(rows, done)
            done += len(rows.text)
            bar.update(len(rows.text))


def _chunks(bundle: bundles.Bundle, options: PredictOptions) -> Iterator[Rows]:
    """The rows that were asked for, some at a time; at least one."""
    is_pair = len(bundle.task.text) == 2
    if options.pair_column is not None and not is_pair:
        raise UserError(f"--pair-column {options.pair_column}: the task {bundle.task.name} is on single texts.")
    if options.file is not None:
        if options.text or options.pair:
            raise UserError("--file: give texts on the command line or a file, not both.")
        columns = _columns(bundle.task, options)
        return stream.from_file(options.file, columns, Reading(options.delimiter, options.encoding))
    if column := options.text_column or options.pair_column:
        raise UserError(f"{column!r} is a column: name the file that has it with --file.")
    if options.text or options.pair:
        return iter([_given(bundle, list(options.text), list(options.pair))])
    if sys.stdin.isatty():
        raise UserError("there is nothing to answer: give --text, --file, or texts on standard input, one a line.")
    if _launched() > 1:
        raise UserError("standard input reaches one process only: give the rows with --file.")
    return stream.from_lines(sys.stdin, is_pair)


def _columns(task: TaskSpec, options: PredictOptions) -> Columns:
    named = [options.text_column, options.pair_column]
    found = [(own,) if own else task.join.get(name, (name,)) for name, own in zip(task.text, named, strict=False)]
    return Columns(found[0], found[1] if len(found) > 1 else None)


def _launched() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _given(bundle: bundles.Bundle, texts: list[str], pairs: list[str]) -> Rows:
    """Texts given one by one, checked against what the task reads."""
    is_pair, name = len(bundle.task.text) == 2, bundle.task.name
    odd: list[Any] = [text for text in (*texts, *pairs) if not isinstance(text, str)]
    if odd:
        raise UserError(f"{odd[0]!r} is not a text.")
    if not texts:
        raise UserError("there is no text to answer.")
    if pairs and not is_pair:
        raise UserError(f"--pair: the task {name} is on single texts; leave it out.")
    if is_pair and len(pairs) != len(texts):
        raise UserError(
            f"--pair: the task {name} is on pairs, {' and '.join(bundle.task.text)}; there are {len(texts)} text(s) "
            f"and {len(pairs)} second text(s)."
        )
    return Rows(texts, pairs if is_pair else None)
