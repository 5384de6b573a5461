"""Companion tasks: they are not trained, a model of another task predicts their rows within that task's run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.records import RunRecord, read_record, record_path, write_record
from harness.facts.tasks import TaskSpec, companion_tasks
from harness.requests.options import RunOptions
from harness.rows.files import find_files

if TYPE_CHECKING:
    from harness.rows.loading import Split


def companion_splits(task: TaskSpec, options: RunOptions) -> dict[str, Split]:
    """Loads the rows that models of `task` predict for companions, as `<companion>.<split>`; skips missing sources."""
    from harness.rows import loading

    splits: dict[str, Split] = {}
    for companion in companion_tasks(task.name):
        try:
            files = None if options.test_mode else find_files(companion, options.data)
            tables = test_mode.tables(companion) if options.test_mode else loading.read_tables(companion, files)
            rows = loading.load_splits(companion, tables, "standard", None)
        except UserError:
            continue
        splits |= {f"{companion.name}.{split}": rows[split] for split in companion.predict}
    return splits


def record_companion(task: TaskSpec, options: RunOptions, run: Callable[[RunOptions], RunRecord]) -> RunRecord:
    """Writes and returns the record of a companion task, a copy of the record of the run that predicts it.

    `run` trains that run or returns its finished record.

    Raises:
        UserError: that run has no predictions for the companion's rows.
    """
    from accelerate import PartialState

    parent = run(replace(options, task=str(task.predicted_by)))
    files = {split: parent.prediction_files.get(f"{task.name}.{split}") for split in task.predict}
    if missing := next((split for split, file in files.items() if file is None), None):
        raise UserError(
            f"--task {task.name}: the {task.predicted_by} run {parent.run_id} ({parent.status}) has no predictions for "
            f"{task.name}.{missing}: its rows were not available, or it ran with --no-predict. Provide them and run "
            "again with --overwrite."
        )
    identity = {"task": task.name, "task_version": task.version, "task_fingerprint": task.fingerprint}
    spec = parent.spec.model_copy(update=identity)
    record = parent.model_copy(
        update=dict(
            run_id=spec.run_id,
            spec=spec,
            task=task_facts(task),
            metrics={},
            baseline={},
            predictions={},
            gold={},
            notes=[],
            prediction_files={split: f"../{task.predicted_by}/{file}" for split, file in files.items()},
            trained_by=parent.run_id,
        )
    )
    path = record_path(options.folder, task.name, spec.run_id)
    if PartialState().is_main_process and not _is_copy(path, parent):
        write_record(
            record, options.folder, overwrite=True
        )  # overwrites no result: the record only copies the parent's
    return record


def _is_copy(path: Path, parent: RunRecord) -> bool:
    """Tells whether the file is a readable record made from this one; any other is replaced."""
    try:
        return path.exists() and read_record(path).finished == parent.finished
    except UserError:
        return False
