"""The checks of a record against what is next to it: its task, its predictions, the pinned data and its saved model."""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.engine import test_mode
from harness.errors import UserError, boundary, first_line
from harness.facts.outcome import task_facts
from harness.facts.packing import unpack_array
from harness.facts.prediction_files import prediction_path, read_prediction_file
from harness.facts.records import RunRecord, record_path
from harness.facts.run_files import model_folder
from harness.facts.tasks import TaskSpec, apply_protocol, load_task
from harness.metrics.scoring import mean_loss, predictions_from_scores
from harness.saved_models import bundles
from harness.stats.verification import Finding

if TYPE_CHECKING:
    from harness.rows.splits import Split

_LOSS_TOLERANCE = 1e-6
"""Two losses of the same float32 scores are equal up to this."""

_MAX_HEADER = 1 << 27
"""Bytes of the largest header of a file of weights."""


class FileChecks(NamedTuple):
    """The outcome of the checks of a record against the files around it."""

    findings: list[Finding]
    unchecked: list[str]
    """Parts that could not be checked, with the reason."""


def check_files(record: RunRecord, results: Path) -> FileChecks:
    """Checks the record against its task, its files of predictions, the data in the local cache and its saved model."""
    checks = FileChecks([], [])
    if not record.metrics and not record.prediction_files:
        return checks
    task = _check_task(record, checks)
    _check_predictions(record, results, checks)
    if task is not None:
        _check_data(record, task, checks)
    _check_weights(record, model_folder(results, record.spec.task, record.run_id), checks)
    return checks


def gold_conflicts(records: Sequence[RunRecord]) -> dict[str, Finding]:
    """Findings by run_id: runs on the same data whose gold labels are not those of most of these runs."""
    by_data: dict[tuple[str, str, str], dict[str, list[RunRecord]]] = {}
    for record in records:
        for split, packed in record.gold.items():
            if record.data is not None:
                key = record.spec.task, record.data.fingerprint, split
                by_data.setdefault(key, {}).setdefault(packed, []).append(record)
    findings = {}
    for (_, _, split), by_gold in by_data.items():
        most = max(by_gold.values(), key=len)
        for record in (one for runs in by_gold.values() if runs is not most for one in runs):
            message = f"other gold labels than {len(most)} run(s) on the same data, such as {most[0].run_id}"
            findings[record.run_id] = Finding(f"gold.{split}", message)
    return findings


_KEPT = ("runs/*/*", "*/runs/*/*", "reruns/*/runs/*/*", "grids/*", "*/grids/*")
"""The records, predictions and grids of a results folder, of a folder in it, and of its re-runs, without test mode."""


def removed_files(results: Path, base: Path) -> list[str]:
    """The records, predictions and grids of `base` that a results folder lacks: their paths in it, sorted.

    Raises:
        UserError: a folder cannot be read.
    """
    with boundary(f"{base}: cannot be read"):
        names = {path.relative_to(base) for pattern in _KEPT for path in base.glob(pattern) if path.is_file()}
        files = [name for name in names if name.suffix in (".json", ".parquet") and name.parts[0] != "test-mode"]
    with boundary(f"{results}: cannot be read"):
        return sorted(name.as_posix() for name in files if not (results / name).is_file())


def replaced_predictions(record: RunRecord, results: Path, base: Path) -> list[Finding]:
    """A finding for each file of predictions that differs from that of the same record in `base`."""
    findings = []
    for split in record.prediction_files:
        try:
            with boundary("cannot be compared with the base"):
                path, original = (prediction_path(record, folder, split) for folder in (results, base))
                both = path.is_file() and original.is_file()
                fault = "other content than in the base" if both and not filecmp.cmp(path, original, False) else ""
        except UserError as error:
            fault = first_line(error)
        if fault:
            findings.append(Finding(f"prediction_files.{split}", fault))
    return findings


# -- the task ----------------------------------------------------------------------------------------------------------


def _check_task(record: RunRecord, checks: FileChecks) -> TaskSpec | None:
    """The task under the run's protocol; None if this harness has no such task, or another version of it."""
    spec = record.spec
    try:
        task = apply_protocol(load_task(spec.task), spec.recipe.protocol)
    except UserError:
        checks.unchecked.append(f"task {spec.task}: not registered here")
        return None
    if task.version != spec.task_version:
        checks.unchecked.append(f"task {spec.task}: version {spec.task_version}, here it is {task.version}")
        return None
    if task.fingerprint != spec.task_fingerprint:
        message = f"expected {task.fingerprint}, that of version {task.version}, got {spec.task_fingerprint}"
        checks.findings.append(Finding("spec.task_fingerprint", message))
        return None
    expected = task_facts(task).model_dump()
    for name in ("labels", "problem_type", "metrics", "main_metrics", "report", "select_on"):
        if (actual := getattr(record.task, name)) != expected[name]:
            checks.findings.append(Finding(f"task.{name}", f"expected {expected[name]!r}, got {actual!r}"))
    return task


# -- predictions -------------------------------------------------------------------------------------------------------


def _check_predictions(record: RunRecord, results: Path, checks: FileChecks) -> None:
    if not record.prediction_files:
        checks.unchecked.append("predictions: the record names no files of predictions")
        return
    folder = record_path(results, record.spec.task, record.run_id).parent
    if not any((folder / name).is_file() for name in record.prediction_files.values()):
        checks.unchecked.append("files of predictions: none is here; the scores follow from the record alone")
        return
    for split in record.prediction_files:
        try:
            checks.findings.extend(_stored_findings(record, split, prediction_path(record, results, split)))
        except UserError as error:
            checks.findings.append(Finding(f"prediction_files.{split}", first_line(error)))


def _stored_findings(record: RunRecord, split: str, path: Path) -> Iterator[Finding]:
    if "." in split and record.trained_by is None:  # rows of a companion task, which has their labels
        if not path.is_file():
            raise UserError(f"{path}: file not found.")
        return
    stored = read_prediction_file(path, record.task)
    rows = len(stored.rows)
    expected_rows = record.data.rows.get(split) if record.data and record.trained_by is None else None
    if expected_rows is not None and expected_rows != rows:
        yield Finding(f"data.rows.{split}", f"expected {rows:,}, as in the file of predictions, got {expected_rows:,}")
    predicted = predictions_from_scores(stored.scores, record.threshold, stored.questions)
    if predicted.shape != stored.predictions.shape or not np.array_equal(predicted, stored.predictions):
        yield Finding(f"prediction_files.{split}", "its predictions do not follow from its scores")
    for name, packed, values in (
        ("predictions", record.predictions, stored.predictions),
        ("gold", record.gold, stored.gold),
    ):
        if split not in packed or (values is None and record.trained_by is not None):
            continue  # the run that predicts a companion task does not know its labels
        recorded = unpack_array(packed[split])
        if name == "gold" and stored.questions is not None:
            recorded = recorded == 1  # of agreements with the right answers, the file has those of right candidates
        if values is None or not np.array_equal(recorded, values):
            yield Finding(f"{name}.{split}", "other values than in the file of predictions")
    loss = record.value(split, "loss")
    if loss is not None and stored.gold is not None:
        expected = mean_loss(stored.scores, stored.gold)
        if abs(loss - expected) > _LOSS_TOLERANCE * max(1.0, abs(expected)):
            yield Finding(f"metrics.{split}.loss", f"expected {expected} from the stored scores, got {loss}")


# -- data --------------------------------------------------------------------------------------------------------------


def _check_data(record: RunRecord, task: TaskSpec, checks: FileChecks) -> None:
    spec, data = record.spec, record.data
    if data is None or record.trained_by is not None:
        return
    if spec.data is not None:
        checks.unchecked.append(f"data of {spec.task}: files of the user")
        return
    try:
        splits = pinned_splits(spec.task, spec.recipe.protocol, spec.recipe.train_rows, spec.test_mode)
    except UserError:
        checks.unchecked.append(f"data of {spec.task}: not in the local cache")
        return
    rows = {name: len(split.text) for name, split in splits.items()}
    if any(rows.get(name, count) != count for name, count in data.rows.items()):
        if data.is_partial:
            checks.unchecked.append(f"data of {spec.task}: the local cache has other rows than this partial data")
            return
        name = next(name for name, count in data.rows.items() if rows.get(name, count) != count)
        message = f"expected {rows[name]:,}, as in the pinned data, got {data.rows[name]:,}"
        checks.findings.append(Finding(f"data.rows.{name}", message))
        return
    if (expected := _fingerprint(splits)) != data.fingerprint:
        message = f"expected {expected}, that of the pinned data, got {data.fingerprint}"
        checks.findings.append(Finding("data.fingerprint", message))
    for name, packed in record.gold.items():
        if name in splits and not np.array_equal(unpack_array(packed), np.asarray(splits[name].gold)):
            checks.findings.append(Finding(f"gold.{name}", "other labels than in the pinned data"))


def _fingerprint(splits: Mapping[str, Split]) -> str:
    from harness.rows.loading import fingerprint

    return fingerprint({name: split for name, split in splits.items() if split.label is not None})


@cache
def pinned_splits(name: str, protocol: str, train_rows: int | None, is_test_mode: bool) -> dict[str, Split]:
    """The rows of a task's pinned source; those of test mode are generated again.

    Raises:
        UserError: they cannot be read.
    """
    import datasets

    from harness.rows import loading

    task = apply_protocol(load_task(name), protocol)
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity_error()  # it would warn that it uses the cache
    try:
        tables = test_mode.tables(task) if is_test_mode else loading.read_tables(task, None)
        return loading.load_splits(task, tables, protocol, train_rows)
    finally:
        datasets.logging.set_verbosity(verbosity)


def texts_of_pinned_rows(runs: Sequence[RunRecord]) -> dict[str, list[tuple[str, str | None]]]:
    """The texts of each split of a task, from the rows that its runs have read.

    Raises:
        UserError: the runs have read files of the user, or other rows than the task's pinned ones.
    """
    run = next((run for run in runs if run.data is not None and run.trained_by is None), None)
    if run is None or run.data is None or run.spec.data is not None:
        raise UserError("--show-texts: no texts found, since no run has read the rows of a registered task.")
    spec = run.spec
    splits = pinned_splits(spec.task, spec.recipe.protocol, spec.recipe.train_rows, spec.test_mode)
    if _fingerprint(splits) != run.data.fingerprint:
        raise UserError(f"--show-texts: the rows of {spec.task} that can be read here are not those of {run.run_id}.")
    return {name: splits[name].texts for name in splits}


# -- the saved model ---------------------------------------------------------------------------------------------------


def _check_weights(record: RunRecord, folder: Path, checks: FileChecks) -> None:
    if record.weights_sha256 is None or not bundles.is_bundle(folder):
        checks.unchecked.append("weights: no saved model")
        return
    try:
        bundle = bundles.read_bundle(folder)
        bundles.check_weights(bundle)
        saved = _tensor_hash(folder / bundles.WEIGHTS)
    except UserError as error:
        checks.findings.append(Finding("weights_sha256", first_line(error)))
        return
    if bundle.record.weights_sha256 != record.weights_sha256:
        message = f"expected {bundle.record.weights_sha256}, as in {bundles.RECORD} of the saved model"
        checks.findings.append(Finding("weights_sha256", f"{message}, got {record.weights_sha256}"))
    elif saved != record.weights_sha256:  # merged adapters and shared tensors are saved in another form
        checks.unchecked.append("weights: saved in another form than they were hashed in; the checksums of files agree")


def _tensor_hash(path: Path) -> str:
    """The hash of all tensors of a file of safetensors, as `Training.weights_sha256` computes it from the model.

    Raises:
        UserError: the file is not readable.
    """
    digest = hashlib.sha256()
    with boundary(f"{path}: not a readable file of weights", ValueError, KeyError, TypeError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError("header too long")
        header = json.loads(file.read(length))
        for name in sorted(key for key in header if key != "__metadata__"):
            start, end = header[name]["data_offsets"]
            file.seek(8 + length + start)
            digest.update(name.encode())
            digest.update(file.read(end - start))
    return digest.hexdigest()
