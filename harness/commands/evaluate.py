"""`harness evaluate`: scores of a saved model on all labelled splits, and its errors on one of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from harness.engine import test_mode
from harness.errors import UserError, did_you_mean
from harness.facts.outcome import SplitOutcome, score_split
from harness.facts.tasks import TaskSpec, apply_protocol, holdout_split, load_task
from harness.inspection.error_analysis import worst_errors
from harness.inspection.evaluation_report import Evaluation, print_evaluation, write_evaluation
from harness.inspection.output_files import check_output_folder
from harness.inspection.scorer import open_model
from harness.metrics.calibration import Calibration, calibration, fit_temperature
from harness.metrics.registry import METRICS
from harness.metrics.scoring import predictions_from_scores
from harness.rows.columns import ReadOptions, check_header
from harness.rows.files import find_files, missing_files, split_sheet
from harness.saved_models import bundles
from harness.system.command_line import parse_flags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.rows.loading import Tables
    from harness.rows.splits import Split

GOLD = "gold"
"""Name of the split with the rows of --gold."""

CATEGORIES = ("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge")
"""Columns of GLUE's diagnostic-full.tsv: a row belongs to a category if its cell is not empty."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a model that `harness run --save-model` saved, and show its errors."""

    model: Annotated[Path, tyro.conf.Positional]
    """The folder that --save-model wrote."""
    task: str | None = None
    """Another task with the same labels, by name or path; by default the one that the model was trained on."""
    split: str | None = None
    """The split whose errors are shown; the reported one by default."""
    only: bool = False
    """Score only that split."""
    data: Path | None = None
    """Read rows from DIR/<task>/<split>.csv or another format, from the task's files in DIR, or from one FILE."""
    gold: Path | None = None
    """Score the rows and labels of this file instead, such as GLUE's diagnostic-full.tsv for --task ax."""
    worst: int = 10
    """Number of errors shown, the worst first."""
    out: Path | None = None
    """Also write tables (CSV, JSON) and pictures (SVG, PNG) to this folder."""
    overwrite: bool = False
    """Replace files in the folder of --out."""
    device_batch_size: int = 64
    """Rows per forward pass; with the same number as in the run, the scores are equal to the last digit."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: the precision of the run's scores if this device supports it, else fp32."""
    cpu: bool = False
    """Use the CPU even if there is a GPU."""
    trust_remote_code: bool = False
    """Run the code that was saved with the model, if its run needed --trust-remote-code: read it first."""


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes files if --out is given.

    Raises:
        UserError: no saved model, a task that does not suit it, rows that cannot be read, or a split without labels.
    """
    options = parse_flags(EvaluateOptions, arguments, "evaluate")
    if options.worst < 0:
        raise UserError(f"--worst {options.worst}: expected 0 or more.")
    bundle = bundles.read_bundle(options.model)
    if options.out is not None:
        check_output_folder(options.out, options.overwrite)
    task = _task(bundle, options)
    tables = _tables(bundle, task, options)
    task, splits = _splits(bundle, task, tables, options)
    split = _error_split(task, splits, options.split)
    scorer = open_model(
        options.model, options.precision, options.cpu, options.device_batch_size, options.trust_remote_code
    )
    names = [split] if options.only else [name for name, rows in splits.items() if rows.label is not None]
    scores, threshold = {name: scorer.scores(splits[name]) for name in names}, bundle.record.threshold
    if scorer.accelerator.is_main_process:
        outcomes = {
            name: score_split(task, name, scores[name], splits[name].gold, threshold, splits[name].row_groups)
            for name in names
        }
        if options.gold is not None:
            outcomes |= _outcomes_by_category(task, tables, scores[GOLD], splits[GOLD], threshold)
        gold = splits[split].label
        predicted = predictions_from_scores(scores[split], threshold, splits[split].questions)
        assert gold is not None
        errors = worst_errors(task, scores[split], splits[split], options.worst, threshold)
        by_split = _calibrations(task, scores, {name: splits[name].label for name in names})
        evaluation = Evaluation(task, outcomes, split, gold, predicted, errors, threshold, by_split)
        print_evaluation(evaluation)
        if options.out is not None:
            write_evaluation(evaluation, options.out)
            print(options.out)
    scorer.accelerator.end_training()


def _without_foreign_metrics(task: TaskSpec) -> TaskSpec:
    """The task of a saved model, which may be a stranger's, without metrics of `evaluate`, which are programs."""
    own, foreign = ([name for name in task.metrics if (name in METRICS) == is_own] for is_own in (True, False))
    if not foreign:
        return task
    message = f"{', '.join(foreign)}: a metric that is a program. To run it, name your own task file with --task."
    if not own:
        raise UserError(message)
    print(f"not computed: {message}", file=sys.stderr)
    main_metrics = [name for name in task.main_metrics if name in own] or own[:1]
    return task.model_copy(update={"metrics": tuple(own), "main_metrics": tuple(main_metrics)})


def _task(bundle: bundles.Bundle, options: EvaluateOptions) -> TaskSpec:
    if options.task is None:
        return _without_foreign_metrics(bundle.task)
    task, own = load_task(options.task), bundle.task
    for noun, expected, actual in (
        ("labels", list(own.labels or []), list(task.labels or [])),
        ("texts per row", len(own.text), len(task.text)),
        ("problem type", own.problem_type, task.problem_type),
    ):
        if actual != expected:
            raise UserError(
                f"--task {options.task}: the model was trained on {own.name}: expected {noun} {expected or 'none'}, "
                f"got {actual or 'none'}."
            )
    return task


# -- rows --------------------------------------------------------------------------------------------------------------


def _tables(bundle: bundles.Bundle, task: TaskSpec, options: EvaluateOptions) -> Tables:
    from harness.rows import loading

    if options.gold is not None:
        return _gold_table(task, options.gold)
    if bundle.record.spec.test_mode and options.data is None:
        return test_mode.tables(task)
    if options.task is None and options.data is None and (missing := missing_files(task.source)):
        # a saved model names the user's own files without their folder
        raise UserError(
            f"{bundle.folder}: file not found: {Path(missing[0]).name}, which the model was trained on. Name this file "
            "or its folder with --data."
        )
    return loading.read_tables(task, find_files(task, options.data))


def _gold_table(task: TaskSpec, path: Path) -> Tables:
    """Every column of the file; the task's columns, which may differ in case, get the task's names."""
    import datasets

    from harness.rows.formats import read_table
    from harness.rows.loading import Tables

    path, sheet = split_sheet(path)
    if not path.is_file():
        raise UserError(f"--gold {path}: file not found.")
    table = read_table(path, str(path), ReadOptions(), sheet)
    names = {name.casefold(): name for name in task.columns}
    header = [names.get(name.casefold(), name) for name in table.column_names]
    check_header(header, f"--gold {path}")
    table = table.rename_columns(header)
    return Tables({GOLD: datasets.Dataset(table)}, str(path), None)


def _splits(
    bundle: bundles.Bundle, task: TaskSpec, tables: Tables, options: EvaluateOptions
) -> tuple[TaskSpec, dict[str, Split]]:
    """The rows, and the task with their splits; those of the model's own task as its run cut them."""
    from harness.rows import loading

    recipe = bundle.record.spec.recipe
    if options.gold is not None:
        task = task.model_copy(update=dict(splits={GOLD: GOLD}, evaluate=(GOLD,), report=(GOLD,), predict=()))
    elif task.name == bundle.task.name:
        task = apply_protocol(task, recipe.protocol)
        return task, loading.load_splits(task, tables, recipe.protocol, recipe.train_rows)
    return task, loading.load_splits(task, tables, "standard", None)


def _error_split(task: TaskSpec, splits: Mapping[str, Split], requested: str | None) -> str:
    """Name of the split whose errors are shown."""
    labelled = [name for name, split in splits.items() if split.label is not None]
    if not labelled:
        raise UserError(f"task {task.name}: no split has labels. Name a file with labels with --gold.")
    name = requested or next((name for name in task.report if name in labelled), labelled[0])
    if name not in labelled:
        problem = "the labels of this split are hidden" if name in splits else f"split not found in task {task.name}"
        suggestion = "" if name in splits else did_you_mean(name, splits)
        raise UserError(
            f"--split {name}: {problem}.{suggestion} Splits with labels: {', '.join(labelled)}; or name a file with "
            "labels with --gold."
        )
    return name


def _calibrations(
    task: TaskSpec, scores: Mapping[str, NDArray[np.float32]], gold: Mapping[str, NDArray[Any] | None]
) -> dict[str, list[Calibration]]:
    """The calibration of each split with class probabilities; empty for values and label sets.

    Under the holdout protocol the reported half has a second one, at the temperature fitted on the other half.
    """
    if task.problem_type not in ("single_label_classification", "multiple_choice"):
        return {}
    by_split = {name: [calibration(scores[name], labels)] for name, labels in gold.items() if labels is not None}
    fitted_on = gold.get(task.select_on)
    if fitted_on is not None and holdout_split(task.select_on) in task.report:
        temperature = fit_temperature(scores[task.select_on], fitted_on)
        for name in task.report:
            labels = gold.get(name)
            if labels is not None:
                by_split[name].append(calibration(scores[name], labels, temperature))
    return by_split


def _outcomes_by_category(
    task: TaskSpec, tables: Tables, scores: NDArray[np.float32], split: Split, threshold: float | None
) -> dict[str, SplitOutcome]:
    """Outcomes of the rows of each category that has rows."""
    table, outcomes = tables.by_split[GOLD], {}
    for category in CATEGORIES:
        if category in table.column_names:
            rows = np.flatnonzero([bool(str(cell or "").strip()) for cell in table[category]])
            if len(rows):
                part = split.take(rows)
                outcomes[category] = score_split(task, category, scores[rows], part.gold, threshold, part.row_groups)
    return outcomes
