"""Tasks that are not trained: a model trained on another task predicts them within that task's run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.records import RunRecord, read_record, record_path, write_record
from harness.facts.tasks import TaskSpec, companions
from harness.requests.options import RunOptions
from harness.rows.files import find_files

if TYPE_CHECKING:
    from harness.rows.loading import Split


def splits_of_companions(task: TaskSpec, options: RunOptions) -> dict[str, Split]:
    """Rows that models of `task` predict for other tasks, by `<task>.<split>`; those not to be had are left out."""
    from harness.rows import loading

    found: dict[str, Split] = {}
    for companion in companions(task.name):
        try:
            files = None if options.test_mode else find_files(companion, options.data)
            tables = test_mode.tables(companion) if options.test_mode else loading.read_tables(companion, files)
            rows = loading.load_splits(companion, tables, "standard", None)
        except UserError:
            continue
        found |= {f"{companion.name}.{split}": rows[split] for split in companion.predict}
    return found


def run_of_another(task: TaskSpec, options: RunOptions, run: Callable[[RunOptions], RunRecord]) -> RunRecord:
    """The record of a companion: the run of the task that predicts it, done by `run` if it is not there yet.

    Raises:
        UserError: that run could not get this task's rows.
    """
    from accelerate import PartialState

    parent = run(replace(options, task=str(task.predicted_by)))
    mine = {split: f"{task.name}.{split}" for split in task.predict}
    if lacking := [split for split in mine.values() if split not in parent.prediction_files]:
        raise UserError(
            f"--task {task.name}: the {task.predicted_by} run {parent.run_id} ({parent.status}) has no predictions for "
            f"{lacking[0]}. If it could not get the rows, provide them and run again with --overwrite."
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
            prediction_files={s: f"../{task.predicted_by}/{parent.prediction_files[name]}" for s, name in mine.items()},
            trained_by=parent.run_id,
        )
    )
    path = record_path(options.folder, task.name, spec.run_id)
    is_stale = not path.exists() or read_record(path).finished != parent.finished
    if PartialState().is_main_process and is_stale:
        write_record(record, options.folder, overwrite=True)  # nothing is lost: it only repeats the parent's
    return record
