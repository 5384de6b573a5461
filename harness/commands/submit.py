"""`harness submit`: predictions of one model's runs as the zip that the server of GLUE or SuperGLUE takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError, boundary, did_you_mean
from harness.facts.records import RunRecord, read_records
from harness.inspection.output_files import check_output_file
from harness.inspection.server_files import SERVER_FILES, predictions_of, zip_bytes
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


def main(arguments: Sequence[str]) -> None:
    """Writes the zip and lists its files.

    Raises:
        UserError: a run of --run is not found, a prediction is missing without --allow-missing, or the zip cannot be
            written.
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
    run_ids = [run.run_id for run in runs.values() if isinstance(run, RunRecord)]
    if unknown := next((run_id for run_id in options.run if run_id not in run_ids), None):
        among = f"the runs of {options.model} with seed {options.seed} and predictions"
        raise UserError(f"--run {unknown}: not found among {among}.{did_you_mean(unknown, run_ids)}")
    files = [predictions_of(file, runs[file.task], options.results) for file in expected]
    incomplete = [each for each in files if each.missing]
    if incomplete and not options.allow_missing:
        raise UserError(
            f"{len(incomplete)} of {len(files)} files lack predictions of {options.model}, seed {options.seed}:\n"
            + "".join(f"  {each.file.name}: {each.problem}\n" for each in incomplete)
            + "Make these runs, or fill the rows with a constant prediction: --allow-missing."
        )
    if not any(each.by_row for each in files):
        near = did_you_mean(options.model, {record.spec.model for record in records} - {options.model})
        raise UserError(f"--allow-missing: no file has a prediction of {options.model}, seed {options.seed}.{near}")
    with boundary(f"--out {options.out}: cannot be written"):
        write_atomically(options.out, zip_bytes({each.file.name: each.text for each in files if not each.is_left_out}))
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
    model = options.model.rstrip("/")  # of earlier records, too
    matching = [r for r in usable if (r.spec.model.rstrip("/"), r.spec.seed) == (model, options.seed)]
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
