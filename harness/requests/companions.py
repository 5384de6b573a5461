"""Companion tasks: they are not trained, a model of another task predicts their rows within that task's run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine import test_mode
from harness.errors import UserError, boundary
from harness.facts.outcome import score_split, split_fields, task_facts
from harness.facts.prediction_files import TEXTS
from harness.facts.record_parts import DataFacts
from harness.facts.records import RunRecord, read_record, record_path, write_record
from harness.facts.tasks import TaskSpec, companion_tasks, trained_task
from harness.requests.identity import companion_spec
from harness.requests.options import RunOptions
from harness.rows.files import Files, find_files
from harness.system.offline import use_cache_unless_reachable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.rows.splits import Split


def companion_splits(options: RunOptions) -> dict[str, Split]:
    """Loads the rows that the run's model predicts for companions, as `<companion>.<split>`; skips missing sources.

    They have no labels, so that they are no part of the run's own data: `record_companion` scores them.
    """
    splits: dict[str, Split] = {}
    for companion in companion_tasks(options.task):
        try:
            rows, *_ = _load(companion, options)
        except UserError:
            continue
        splits |= {f"{companion.name}.{split}": rows[split]._replace(label=None) for split in _predicted(companion)}
    return splits


def _predicted(companion: TaskSpec) -> tuple[str, ...]:
    return (*companion.predict, *companion.evaluate)


def _load(companion: TaskSpec, options: RunOptions) -> tuple[dict[str, Split], DataFacts, Files | None]:
    if not options.test_mode and (message := use_cache_unless_reachable()) is not None:
        print(message)

    from harness.rows import loading

    files = None if options.test_mode else find_files(companion, options.data)
    tables = test_mode.tables(companion) if options.test_mode else loading.read_tables(companion, files)
    rows = loading.load_splits(companion, tables, "standard", None)
    if missing := next((split for split in _predicted(companion) if split not in rows), None):
        raise UserError(
            f"task {companion.name}: split {missing!r} not found. Provide its rows, as the task names them."
        )
    return rows, loading.data_facts(companion, tables, rows, options.test_mode), files


def record_companion(task: TaskSpec, options: RunOptions, run: Callable[[RunOptions], RunRecord]) -> RunRecord:
    """Writes and returns the record of a companion task: that of the run that predicts it, with the companion's scores.

    `run` trains that run or returns its finished record. Splits to evaluate are scored from the prediction files.

    Raises:
        UserError: the companion's rows cannot be loaded, or that run has no predictions for them.
    """
    from accelerate import PartialState

    rows, facts, sources = _load(task, options)  # first: training may take hours
    parent = run(replace(options, task=trained_task(options.task)))
    files = {split: parent.prediction_files.get(f"{task.name}.{split}") for split in _predicted(task)}
    if missing := next((split for split, file in files.items() if file is None), None):
        raise UserError(
            f"--task {task.name}: the {task.predicted_by} run {parent.run_id} ({parent.status}) has no predictions for "
            f"{task.name}.{missing}: its rows were not available, or it ran with --no-predict. Provide them and run "
            "again with --overwrite."
        )
    spec = companion_spec(task, parent.spec, sources)
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
    folder = record_path(options.folder, str(task.predicted_by), parent.run_id).parent
    scores = {split: _read_scores(task, split, rows[split], folder / str(file)) for split, file in files.items()}
    if task.evaluate:
        record = record.model_copy(update=_scored_fields(task, rows, facts, record, scores))
    path = record_path(options.folder, task.name, spec.run_id)
    if PartialState().is_main_process and not _has_record(path, record):
        # overwrites no result: the record only copies the parent's
        write_record(record, options.folder, overwrite=True)
    return record


def _read_scores(task: TaskSpec, split: str, rows: Split, path: Path) -> NDArray[np.float32]:
    """The stored scores of a split, float32[N, C].

    Raises:
        UserError: the file cannot be read, or the split has other rows now.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.rows import loading

    with boundary(f"{path}: cannot be read", pa.ArrowException, advice="Run again with --overwrite."):
        table = pq.read_table(path, columns=["scores"])
        scores = table["scores"].to_pylist()
    if len(scores) != (now := len(rows.text)):
        raise UserError(
            f"--task {task.name}: {path.name} has predictions for {len(scores):,} rows of {split!r}, but it has "
            f"{now:,} now: its rows changed after that run. Run again with --overwrite."
        )
    predicted = (table.schema.metadata or {}).get(TEXTS.encode())
    if predicted is not None and predicted.decode() != loading.texts_fingerprint(rows):
        raise UserError(
            f"--task {task.name}: {path.name} has predictions for other texts of {split!r} than it has now: its "
            "rows changed after that run. Run again with --overwrite."
        )
    return np.array(scores, np.float32)


def _scored_fields(
    task: TaskSpec,
    rows: Mapping[str, Split],
    facts: DataFacts,
    record: RunRecord,
    scores: Mapping[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """The fields of the record that follow from the labels and the stored scores of the splits to evaluate."""
    outcomes = {
        split: score_split(task, split, scores[split], rows[split].gold, row_groups=rows[split].row_groups)
        for split in task.evaluate
    }
    assert record.data is not None
    trained = record.data
    data = trained.model_copy(
        update={
            "rows": {**trained.rows, **facts.rows},
            "full_rows": {name: rows for name, rows in trained.full_rows.items() if name not in facts.rows}
            | facts.full_rows,
            "is_partial": trained.is_partial or facts.is_partial,
            "fingerprint": hashlib.sha256(f"{trained.fingerprint} {facts.fingerprint}".encode()).hexdigest(),
        }
    )
    notes = [note for outcome in outcomes.values() for note in outcome.notes]
    return {**split_fields(task, outcomes), "notes": notes, "data": data}


def _has_record(path: Path, record: RunRecord) -> bool:
    """Tells whether the file has this record already; it has another if labels on the Hub have changed since."""
    try:
        return path.exists() and read_record(path) == record
    except UserError:
        return False
