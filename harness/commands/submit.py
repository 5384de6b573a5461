"""`harness submit`: predictions of one model's runs as the zip that the server of GLUE or SuperGLUE takes."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.errors import UserError, boundary
from harness.facts.prediction_files import prediction_path
from harness.facts.records import RunRecord, read_records
from harness.facts.tasks import load_task
from harness.inspection.output_files import check_output_file
from harness.inspection.server_files import SERVER_FILES, ServerFile, answers_by_query, file_text, nesting_fault
from harness.system.atomic import write_atomically
from harness.system.command_line import parse_flags


@dataclass(frozen=True)
class SubmitOptions:
    """Make the zip for the server of GLUE or SuperGLUE from the predictions next to the records."""

    model: str
    """Name of the model in the records."""
    seed: int
    """Seed of the runs."""
    out: Path
    """The zip to write."""
    suite: Literal["glue", "superglue"] = "glue"
    """The benchmark whose server takes the zip."""
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
    by_row: dict[int, str | int]
    """Predictions in the server's form, by row number."""
    ids: dict[int, Any]
    """The server's name of a row where that is no number, by row number."""
    problem: str | None
    """The reason why predictions are missing."""

    @property
    def missing(self) -> int:
        """Number of rows without a prediction."""
        return self.file.rows - len(self.by_row)

    @property
    def is_left_out(self) -> bool:
        """True when there is no constant for the missing rows."""
        return self.missing > 0 and self.file.constant is None

    @property
    def text(self) -> str:
        """The content of the file; missing predictions are its constant."""
        predictions = [self.by_row.get(row, self.file.constant) for row in range(self.file.rows)]
        return file_text(self.file, predictions, [self.ids.get(row) for row in range(self.file.rows)])


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
    expected = SERVER_FILES[options.suite]
    runs = {task: _find_run(task, records, options) for task in dict.fromkeys(file.task for file in expected)}
    files = [_file_predictions(file, runs[file.task], options.results) for file in expected]
    incomplete = [each for each in files if each.missing]
    if incomplete and not options.allow_missing:
        raise UserError(
            f"{len(incomplete)} of {len(files)} files lack predictions of {options.model}, seed {options.seed}:\n"
            + "".join(f"  {each.file.name}: {each.problem}\n" for each in incomplete)
            + "Make these runs, or fill the rows with a constant prediction: --allow-missing."
        )
    _write_zip(options.out, {each.file.name: each.text for each in files if not each.is_left_out})
    for each in files:
        filled = f"  {each.missing:,} rows are the constant {each.file.constant}" if each.missing else ""
        filled = "  left out: there is no constant for its rows" if each.is_left_out else filled
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
    import pyarrow as pa

    if isinstance(run, str):
        return FilePredictions(file, None, {}, {}, run)
    if file.split not in run.prediction_files:
        return FilePredictions(file, run.run_id, {}, {}, f"the run {run.run_id} has no predictions for {file.split!r}")
    path = prediction_path(run, results, file.split)
    if not path.is_file():
        return FilePredictions(file, run.run_id, {}, {}, f"file not found: {path}; run it again with --overwrite")
    with boundary(f"{path}: not a readable file of predictions", pa.ArrowException, LookupError, TypeError, ValueError):
        by_row, ids = _read_predictions(file, run, path)
    problem = f"{path} has {len(by_row):,} of {file.rows:,} rows" if len(by_row) < file.rows else None
    return FilePredictions(file, run.run_id, by_row, ids, problem)


def _read_predictions(
    file: ServerFile, run: RunRecord, path: Path
) -> tuple[dict[int, str | int], dict[int, dict[str, int]]]:
    """Predictions in the server's form, and names of rows that are no numbers, by row number.

    Raises:
        UserError: the file cannot be read, or has rows or labels that the server does not have.
    """
    import pyarrow.parquet as pq

    names = {"row", "prediction", "candidate", "id_idx"}.intersection(pq.read_schema(path).names)
    columns = pq.read_table(path, columns=list(names)).to_pydict()
    rows, predicted, ids = columns["row"], columns["prediction"], columns.get("id_idx", [])
    if file.form == "answer":
        try:
            answers = answers_by_query(predicted, columns.get("candidate", []), ids)
        except ValueError as error:
            raise UserError(f"{path}: {error}. Train with the registered task {file.task}.") from None
        rows, predicted = list(answers), list(answers.values())
    elif ids and not file.is_nested:
        rows = ids  # the server's own number
    if len(set(rows)) != len(rows) or not set(rows) <= set(range(file.rows)):
        raise UserError(
            f"{path}: expected {file.rows:,} different rows for the server's {file.name}, got {len(rows):,}, numbered "
            f"up to {max(rows)}. The run {run.run_id} did not predict the server's test set."
        )
    if file.is_nested and (fault := nesting_fault(ids, len(rows))):
        raise UserError(f"{path}: {fault}. Train with the registered task {file.task}, whose predictions have it.")
    if file.form == "answer":
        return dict(zip(rows, predicted, strict=True)), {}
    if file.form == "value":
        return {row: f"{min(5.0, max(0.0, value)):.4f}" for row, value in zip(rows, predicted, strict=True)}, {}
    texts: dict[str, str | int] = dict(file.labels)
    if not texts:
        labels = list(load_task(file.task).labels or {})
        texts = {label: str(number) if file.form == "number" else label for number, label in enumerate(labels)}
    if unknown := set(predicted) - set(texts):
        raise UserError(f"{path}: unknown label {sorted(unknown)[0]!r}; the server's labels: {', '.join(texts)}.")
    by_row = {row: texts[label] for row, label in zip(rows, predicted, strict=True)}
    return by_row, dict(zip(rows, ids, strict=True)) if file.is_nested else {}


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
