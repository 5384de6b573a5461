"""`harness submit`: predictions of one model's runs as the zip that the GLUE server takes.

The format is that of the server's sample submission and its FAQ (gluebenchmark.com/faq): at the top of a zip one file
per test set, tab-separated, with the header `index prediction` and rows numbered from 0.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import UserError, boundary
from harness.facts.records import RunRecord, read_records, record_path
from harness.facts.tasks import load_task
from harness.inspection.output_files import check_output_file
from harness.system.atomic import write_atomically
from harness.system.command_line import parse_flags


class ServerFile(NamedTuple):
    """One file of the zip."""

    name: str
    task: str
    """The task whose models predict it."""
    split: str
    """The split that these predictions have in a record of the task."""
    rows: int
    """Rows of the server's test set."""
    form: Literal["number", "name", "value"]
    """The server's form of a prediction: a class number, a label's name, or a value from 0 to 5."""
    constant: str
    """Prediction for a row that has none: the most frequent training label, or the middle of the scale."""


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
"""All files of the zip; the server refuses a zip without one of them."""


@dataclass(frozen=True)
class SubmitOptions:
    """Make the zip for the GLUE server from the predictions next to the records."""

    model: str
    """Name of the model in the records."""
    seed: int
    """Seed of the runs."""
    out: Path
    """The zip to write."""
    results: Path = Path("results")
    """Folder of the records: DIR/runs/<task>/<run_id>.json."""
    run: tuple[str, ...] = ()
    """run_ids to choose when several runs of a task have this model and seed."""
    allow_missing: bool = False
    """Fill rows without a prediction with a constant, and say so; such a zip is no result of the model."""
    overwrite: bool = False
    """Replace the zip if it exists."""


class FilePredictions(NamedTuple):
    """The predictions for one file of the zip."""

    file: ServerFile
    run_id: str | None
    by_row: dict[int, str]
    """Predictions in the server's form, by row number."""
    problem: str | None
    """The reason why predictions are missing."""

    @property
    def missing(self) -> int:
        """Number of rows without a prediction."""
        return self.file.rows - len(self.by_row)

    @property
    def text(self) -> str:
        """The content of the file; missing predictions are its constant."""
        lines = [f"{row}\t{self.by_row.get(row, self.file.constant)}" for row in range(self.file.rows)]
        return "\n".join(["index\tprediction", *lines, ""])


def main(arguments: Sequence[str]) -> None:
    """Writes the zip and lists its files.

    Raises:
        UserError: a prediction is missing without --allow-missing, or the zip cannot be written.
    """
    options = parse_flags(SubmitOptions, arguments, "submit")
    check_output_file(options.out, ["zip"], options.overwrite)
    if not options.results.is_dir():
        raise UserError(f"--results {options.results}: folder not found.")
    records, messages = read_records(options.results)
    for message in messages:
        print(message, file=sys.stderr)
    runs = {task: _find_run(task, records, options) for task in dict.fromkeys(file.task for file in FILES)}
    files = [_file_predictions(file, runs[file.task], options.results) for file in FILES]
    incomplete = [each for each in files if each.missing]
    if incomplete and not options.allow_missing:
        raise UserError(
            f"{len(incomplete)} of {len(FILES)} files lack predictions of {options.model}, seed {options.seed}:\n"
            + "".join(f"  {each.file.name}: {each.problem}\n" for each in incomplete)
            + "Make these runs, or fill the rows with a constant prediction: --allow-missing."
        )
    _write_zip(options.out, {each.file.name: each.text for each in files})
    for each in files:
        filled = f"  {each.missing:,} rows are the constant {each.file.constant}" if each.missing else ""
        print(f"{each.file.name:<12} {each.file.rows:>7,} rows  {each.run_id or '–'}{filled}")
    if incomplete:
        print(
            f"{len(incomplete)} files have constant predictions: their scores on the server are no result of the model."
        )
    print(options.out)


def _find_run(task: str, records: Sequence[RunRecord], options: SubmitOptions) -> RunRecord | str:
    """The run that predicts for a task, or the reason why there is none.

    Raises:
        UserError: several runs match.
    """
    usable = [r for r in records if r.spec.task == task and r.prediction_files and not r.spec.test_mode]
    matching = [r for r in usable if (r.spec.model, r.spec.seed) == (options.model, options.seed)]
    chosen = [record for record in matching if record.run_id in options.run] or matching
    if len(chosen) > 1:
        listed = "\n".join(f"  {record.run_id}: {record.recipe_changes or 'the default recipe'}" for record in matching)
        raise UserError(
            f"{len(matching)} runs of {task} have the model {options.model} and the seed {options.seed}:\n{listed}\n"
            "Choose one with --run."
        )
    if chosen:
        return chosen[0]
    others = sorted({f"{r.spec.model} (seed {r.spec.seed})" for r in usable})
    return f"run of {task} not found" + (f"; there are {', '.join(others[:3])}" if others else "")


def _file_predictions(file: ServerFile, run: RunRecord | str, results: Path) -> FilePredictions:
    if isinstance(run, str):
        return FilePredictions(file, None, {}, run)
    if file.split not in run.prediction_files:
        return FilePredictions(file, run.run_id, {}, f"the run {run.run_id} has no predictions for {file.split!r}")
    path = record_path(results, file.task, run.run_id).with_name(run.prediction_files[file.split])
    if not path.is_file():
        return FilePredictions(file, run.run_id, {}, f"file not found: {path}; run it again with --overwrite")
    by_row = _read_predictions(file, run, path)
    problem = f"{path} has {len(by_row):,} of {file.rows:,} rows" if len(by_row) < file.rows else None
    return FilePredictions(file, run.run_id, by_row, problem)


def _read_predictions(file: ServerFile, run: RunRecord, path: Path) -> dict[int, str]:
    """Predictions in the server's form, by row number.

    Raises:
        UserError: the file cannot be read, or has rows or labels that the server does not have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with boundary(f"{path}: cannot be read", pa.ArrowException):
        table = pq.read_table(path, columns=["row", "prediction"])
    rows, predicted = table["row"].to_pylist(), table["prediction"].to_pylist()
    if len(set(rows)) != len(rows) or not set(rows) <= set(range(file.rows)):
        raise UserError(
            f"{path}: expected {file.rows:,} different rows for the server's {file.name}, got {len(rows):,}, numbered "
            f"up to {max(rows)}. The run {run.run_id} did not predict GLUE's test set."
        )
    if file.form == "value":
        return {row: f"{min(5.0, max(0.0, value)):.4f}" for row, value in zip(rows, predicted, strict=True)}
    labels = list(load_task(file.task).labels or {})
    if unknown := set(predicted) - set(labels):
        raise UserError(f"{path}: unknown label {sorted(unknown)[0]!r}; the server's labels: {', '.join(labels)}.")
    texts = {label: str(number) if file.form == "number" else label for number, label in enumerate(labels)}
    return {row: texts[label] for row, label in zip(rows, predicted, strict=True)}


def _write_zip(path: Path, texts: Mapping[str, str]) -> None:
    """Writes the same bytes for the same predictions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, text)
    with boundary(f"--out {path}: cannot be written"):
        write_atomically(path, buffer.getvalue())
