"""`harness submit`: predictions of one model's runs as the zip that the GLUE server takes.

The format is the one that the server's sample submission and its FAQ show (gluebenchmark.com/faq): at the top of a zip
one file for each test set, tab-separated, with the header `index prediction` and the rows numbered from 0.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import tyro

from harness.errors import UserError, first_line
from harness.facts.records import RunRecord, read_records, record_path
from harness.facts.tasks import load_task
from harness.system.atomic import write_atomically


class ServerFile(NamedTuple):
    """One file of the zip."""

    name: str
    task: str
    """Whose models predict it."""
    split: str
    """How a record of that task calls these predictions."""
    rows: int
    """Of the server's test set."""
    form: Literal["number", "name", "value"]
    """How the server wants an answer: a class number, a label's name, or a value from 0 to 5."""
    constant: str
    """The answer for a row without a prediction: the most frequent label of the training rows, the middle of the scale.
    """


FILES = (
    ServerFile("CoLA.tsv", "cola", "test", 1063, "number", "1"),
    ServerFile("SST-2.tsv", "sst2", "test", 1821, "number", "1"),
    ServerFile("MRPC.tsv", "mrpc", "test", 1725, "number", "1"),
    ServerFile("STS-B.tsv", "stsb", "test", 1379, "value", "2.5"),
    ServerFile("MNLI-m.tsv", "mnli", "test_matched", 9796, "name", "entailment"),
    ServerFile("MNLI-mm.tsv", "mnli", "test_mismatched", 9847, "name", "entailment"),
    ServerFile("QNLI.tsv", "qnli", "test", 5463, "name", "entailment"),
    ServerFile("QQP.tsv", "qqp", "test", 390_965, "number", "0"),
    ServerFile("RTE.tsv", "rte", "test", 3000, "name", "entailment"),
    ServerFile("WNLI.tsv", "wnli", "test", 146, "number", "0"),
    ServerFile("AX.tsv", "mnli", "ax.test", 1104, "name", "entailment"),
)
"""All that the server asks for; it takes no zip without one of them."""


@dataclass(frozen=True)
class SubmitOptions:
    """Make the zip for the GLUE server from the predictions that lie beside the records."""

    model: str
    """Whose runs, by the model's name in the records."""
    seed: int
    """Of these runs."""
    out: Path
    """The zip to write."""
    results: Path = Path("results")
    """The folder that holds runs/."""
    run: tuple[str, ...] = ()
    """run_ids to take where several runs of a task have this model and seed."""
    allow_missing: bool = False
    """Answer rows without a prediction with a constant, and say so; such a zip is no result of the model."""
    overwrite: bool = False
    """Replace the zip if it is there."""


class Answered(NamedTuple):
    """One file and where its answers come from."""

    file: ServerFile
    run_id: str | None
    answers: dict[int, str]
    """By row; those that lack are missing."""
    problem: str | None
    """Why there is none, or not all."""

    @property
    def missing(self) -> int:
        return self.file.rows - len(self.answers)


def main(arguments: Sequence[str]) -> None:
    """Writes the zip and says what is in it.

    Raises:
        UserError: a prediction is missing and --allow-missing was not given, or the zip cannot be written.
    """
    options = tyro.cli(
        SubmitOptions, args=list(arguments), prog="harness submit", config=(tyro.conf.FlagCreatePairsOff,)
    )
    _check_place(options.out, options.overwrite)
    if not options.results.is_dir():
        raise UserError(f"--results {options.results}: there is no such folder.")
    records, problems = read_records(options.results)
    for problem in problems:
        print(problem, file=sys.stderr)
    runs = {task: _run_of(task, records, options) for task in dict.fromkeys(file.task for file in FILES)}
    found = [_answered(file, runs[file.task], options) for file in FILES]
    lacking = [each for each in found if each.missing]
    if lacking and not options.allow_missing:
        lines = [f"  {each.file.name}: {each.problem}" for each in lacking]
        raise UserError(
            f"{len(lacking)} of {len(FILES)} files lack predictions of {options.model}, seed {options.seed}:\n"
            + "\n".join(lines)
            + "\nMake these runs, or give --allow-missing: it fills in a constant answer."
        )
    _write(options.out, {each.file.name: _content(each) for each in found})
    for each in found:
        filled = f"  {each.missing:,} rows are the constant {each.file.constant}" if each.missing else ""
        print(f"{each.file.name:<12} {each.file.rows:>7,} rows  {each.run_id or '–'}{filled}")
    if lacking:
        print(f"{len(lacking)} files hold constant answers: what the server says of them is no result of the model.")
    print(options.out)


def _run_of(task: str, records: Sequence[RunRecord], options: SubmitOptions) -> RunRecord | str:
    """The one run that predicts for a task, or why there is none.

    Raises:
        UserError: several fit.
    """
    fitting = [
        record
        for record in records
        if (record.spec.task, record.spec.model, record.spec.seed) == (task, options.model, options.seed)
        and record.prediction_files
        and not record.spec.test_mode
    ]
    named = [record for record in fitting if record.run_id in options.run]
    if len(named or fitting) > 1:
        shown = "\n".join(f"  {record.run_id}: {record.recipe_changes or 'the default recipe'}" for record in fitting)
        raise UserError(
            f"{len(fitting)} runs of {task} have the model {options.model} and the seed {options.seed}:\n{shown}\n"
            "Name the one to take with --run."
        )
    if fitting:
        return (named or fitting)[0]
    others = sorted({f"{r.spec.model} (seed {r.spec.seed})" for r in records if r.spec.task == task})
    return f"no run of {task}" + (f"; there is {', '.join(others[:3])}" if others else "")


def _answered(file: ServerFile, run: RunRecord | str, options: SubmitOptions) -> Answered:
    if isinstance(run, str):
        return Answered(file, None, {}, run)
    if file.split not in run.prediction_files:
        return Answered(file, run.run_id, {}, f"the run {run.run_id} did not predict {file.split!r}")
    path = record_path(options.results, file.task, run.run_id).parent / run.prediction_files[file.split]
    if not path.is_file():
        return Answered(file, run.run_id, {}, f"{path} is gone; --overwrite makes the run again")
    answers = _answers(file, run, path)
    problem = f"{path} has {len(answers):,} of {file.rows:,} rows" if len(answers) < file.rows else None
    return Answered(file, run.run_id, answers, problem)


def _answers(file: ServerFile, run: RunRecord, path: Path) -> dict[int, str]:
    """By row number, in the server's words.

    Raises:
        UserError: the file cannot be read, or holds rows or labels that the server does not know.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["row", "prediction"])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from None
    rows, predicted = table["row"].to_pylist(), table["prediction"].to_pylist()
    if len(set(rows)) != len(rows) or not set(rows) <= set(range(file.rows)):
        raise UserError(
            f"{path}: {len(rows):,} rows, numbered up to {max(rows)}; the server's {file.name} has {file.rows:,}. "
            f"These are not the rows of GLUE's test set (run {run.run_id})."
        )
    if file.form == "value":
        return {row: f"{min(5.0, max(0.0, value)):.4f}" for row, value in zip(rows, predicted, strict=True)}
    labels = list(load_task(file.task).labels or {})
    if unknown := set(predicted) - set(labels):
        raise UserError(f"{path}: {sorted(unknown)[0]!r} is none of the server's labels {', '.join(labels)}.")
    word = {label: str(number) if file.form == "number" else label for number, label in enumerate(labels)}
    return {row: word[label] for row, label in zip(rows, predicted, strict=True)}


def _content(answered: Answered) -> str:
    file = answered.file
    lines = [f"{row}\t{answered.answers.get(row, file.constant)}" for row in range(file.rows)]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def _check_place(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() != ".zip":
        raise UserError(f"--out {path}: its name must end in .zip.")
    if path.exists() and not (overwrite and path.is_file()):
        raise UserError(f"--out {path}: is there already; --overwrite replaces a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}).") from None


def _write(path: Path, contents: Mapping[str, str]) -> None:
    """The same bytes for the same answers, whole or not at all."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in contents.items():
            facts = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            facts.compress_type, facts.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(facts, text)
    try:
        write_atomically(path, packed.getvalue())
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}).") from None
