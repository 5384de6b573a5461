"""`harness evaluate`: a kept model on every labelled split side by side, and one of them looked at closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from harness.commands.predict import open_model
from harness.engine import test_mode
from harness.errors import UserError, did_you_mean
from harness.facts.outcome import SplitOutcome, score_split
from harness.facts.tasks import TaskSpec, apply_protocol, load_task
from harness.inspection.error_analysis import worst_mistakes
from harness.inspection.evaluation_report import Evaluation, show, write
from harness.inspection.report_files import check_folder
from harness.metrics.scoring import predictions_from_scores
from harness.rows.columns import ReadOptions
from harness.rows.files import find_files, missing_files
from harness.saved_models import bundles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.rows.loading import Split, Tables

GOLD = "gold"
"""The split of the rows that --gold brings."""

DIAGNOSTIC = ("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge")
"""Columns of GLUE's diagnostic file, diagnostic-full.tsv: a row belongs to the category where its cell is not empty."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a model that `harness run --save-model` kept, and show where it is wrong."""

    model: Annotated[Path, tyro.conf.Positional]
    """The folder that --save-model wrote."""
    task: str | None = None
    """Another task with the same labels, by name or path; by default the one that the model was trained on."""
    split: str | None = None
    """The split to look at closely; the reported one by default."""
    only: bool = False
    """Score that split only, not all labelled ones."""
    data: Path | None = None
    """Rows from DIR/<task>/<split>.<format> instead of the task's source, or its FILE, or the DIR of its files."""
    gold: Path | None = None
    """Rows and labels of this file instead, such as GLUE's diagnostic-full.tsv for --task ax."""
    worst: int = 10
    """How many mistakes are shown, the worst first."""
    out: Path | None = None
    """Also write tables (CSV, JSON) and pictures (SVG, PNG) into this folder."""
    overwrite: bool = False
    """Replace files in the folder of --out."""
    device_batch_size: int = 64
    """Rows of one forward pass; as many as in a run's own evaluation, whose numbers then come out to the last digit."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: what the run was scored in, where this device computes in it, else fp32."""
    cpu: bool = False
    """On the CPU even where there is a GPU."""


def main(arguments: Sequence[str]) -> None:
    """Prints the tables, and writes what --out asks for.

    Raises:
        UserError: no model is there, the task does not fit it, its rows cannot be had, or a split has no labels.
    """
    options = tyro.cli(
        EvaluateOptions, args=list(arguments), prog="harness evaluate", config=(tyro.conf.FlagCreatePairsOff,)
    )
    if options.worst < 0:
        raise UserError(f"--worst {options.worst}: give 0 or more.")
    bundle = bundles.read_bundle(options.model)
    if options.out is not None:
        check_folder(options.out, options.overwrite)
    task = _task(bundle, options)
    tables = _tables(bundle, task, options)
    task, splits = _splits(bundle, task, tables, options)
    close = _close_split(task, splits, options.split)
    scorer = open_model(options.model, options.precision, options.cpu, options.device_batch_size)
    names = [close] if options.only else [name for name, split in splits.items() if split.label is not None]
    scores, threshold = {name: scorer.scores(splits[name]) for name in names}, bundle.record.threshold
    if scorer.accelerator.is_main_process:
        outcomes = {name: score_split(task, name, scores[name], splits[name].label, threshold) for name in names}
        rows, values = splits[close], scores[close]
        assert rows.label is not None
        categories = _by_category(task, tables, values, rows, threshold) if options.gold else {}
        mistakes = worst_mistakes(task, values, rows, options.worst, threshold)
        predicted = predictions_from_scores(values, threshold)
        seen = Evaluation(task, outcomes, categories, close, rows.label, predicted, mistakes, threshold)
        show(seen)
        if options.out is not None:
            write(seen, options.out)
            print(options.out)
    scorer.accelerator.end_training()


# -- rows --------------------------------------------------------------------------------------------------------------


def _task(bundle: bundles.Bundle, options: EvaluateOptions) -> TaskSpec:
    if options.task is None:
        return bundle.task
    task, own = load_task(options.task), bundle.task
    for what, theirs, ours in (
        ("labels", list(task.labels or []), list(own.labels or [])),
        ("texts in a row", len(task.text), len(own.text)),
        ("answers", task.problem_type, own.problem_type),
    ):
        if theirs != ours:
            raise UserError(
                f"--task {options.task}: the model was trained on {own.name}, which has other {what}: "
                f"{ours or 'values'}, not {theirs or 'values'}."
            )
    return task


def _tables(bundle: bundles.Bundle, task: TaskSpec, options: EvaluateOptions) -> Tables:
    from harness.rows import loading

    if options.gold is not None:
        return _gold_table(task, options.gold)
    if bundle.record.spec.test_mode and options.data is None:
        return test_mode.tables(task)
    if options.task is None and options.data is None:
        _rows_must_lie_beside(bundle)
    return loading.read_tables(task, find_files(task, options.data))


def _rows_must_lie_beside(bundle: bundles.Bundle) -> None:
    """Raises UserError for a task of the user's own, whose files are named without the folder that they lie in."""
    if lacking := missing_files(bundle.task.source):
        raise UserError(
            f"{bundle.folder}: was trained on the user's own {Path(lacking[0]).name}, which does not lie there. Give "
            "that file, or the folder that holds it, with --data."
        )


def _gold_table(task: TaskSpec, path: Path) -> Tables:
    """Every column of a file, those of the task under the task's names, whose case may differ in the file."""
    import datasets

    from harness.rows.formats import read_table
    from harness.rows.loading import Tables

    if not path.is_file():
        raise UserError(f"--gold {path}: there is no such file.")
    table = read_table(path, str(path), ReadOptions())
    wanted = {name.casefold(): name for name in (*task.text_columns, *task.label_columns)}
    renamed = [wanted.get(name.casefold(), name) for name in table.column_names]
    return Tables({GOLD: datasets.Dataset(table.rename_columns(renamed))}, str(path), None)


def _splits(
    bundle: bundles.Bundle, task: TaskSpec, tables: Tables, options: EvaluateOptions
) -> tuple[TaskSpec, dict[str, Split]]:
    """The task as its rows are cut, and the rows; the model's own task as its run cut it."""
    from harness.rows import loading

    recipe = bundle.record.spec.recipe
    if options.gold is not None:
        task = task.model_copy(update=dict(splits={GOLD: GOLD}, evaluate=(GOLD,), report=(GOLD,), predict=()))
        return task, loading.load_splits(task, tables, "standard", None)
    if task.name != bundle.task.name:
        return task, loading.load_splits(task, tables, "standard", None)
    task = apply_protocol(task, recipe.protocol)
    return task, loading.load_splits(task, tables, recipe.protocol, recipe.train_rows)


def _close_split(task: TaskSpec, splits: Mapping[str, Split], wanted: str | None) -> str:
    labelled = [name for name, split in splits.items() if split.label is not None]
    if not labelled:
        raise UserError(f"task {task.name}: no split has labels. --gold names a file that has them.")
    name = wanted or next((name for name in task.report if name in labelled), labelled[0])
    if name not in splits:
        raise UserError(
            f"--split {name}: the task {task.name} has no such split.{did_you_mean(name, splits)} Labelled: "
            f"{', '.join(labelled)}."
        )
    if name not in labelled:
        raise UserError(
            f"--split {name}: the labels of this split are hidden. Labelled: {', '.join(labelled)}; --gold names a "
            "file that has labels."
        )
    return name


def _by_category(
    task: TaskSpec, tables: Tables, scores: NDArray[np.float32], split: Split, threshold: float | None
) -> dict[str, SplitOutcome]:
    """By category of GLUE's diagnostic set, the scores of its rows."""
    table, found = tables.by_split[GOLD], {}
    for category in DIAGNOSTIC:
        if category in table.column_names:
            rows = np.flatnonzero([bool(str(cell or "").strip()) for cell in table[category]])
            if len(rows):
                found[category] = score_split(task, category, scores[rows], split.take(rows).label, threshold)
    return found
