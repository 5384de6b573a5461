"""The identity of a run (`RunSpec`), its record (`RunRecord`), and the record's JSON file."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, ValidationError, model_validator

from harness.errors import UserError, boundary
from harness.facts.packing import unpack_array
from harness.facts.recipes import Recipe
from harness.facts.record_parts import (
    MAX_NUMBER,
    MAX_RECORD_BYTES,
    Amount,
    Cost,
    Count,
    DataFacts,
    Energy,
    Environment,
    Facts,
    HistoryEntry,
    ModelFacts,
    TaskFacts,
    Values,
)
from harness.metrics.registry import METRICS
from harness.system.atomic import check_writable, write_atomically

SCHEMA_VERSION = 2
"""Increased when a field is renamed or changes its meaning; records of other versions are refused."""

Status = Literal["ok", "collapsed", "diverged", "failed"]
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""A name of a file without its folder and extension."""


class RunSpec(Facts):
    """The identity of a run: everything that can affect its scores. Runs with equal specs are the same run."""

    task: str
    task_version: Count
    task_fingerprint: str
    """Hash of the task's columns, labels, splits and source revision."""
    data: str | None
    """Hash of the files from --data or from a task of your own; None for the task's pinned source."""
    model: str
    """Name on the Hub, or folder."""
    revision: str
    """Branch, tag or commit on the Hub; for a folder, `sha256:...` of its files."""
    seed: Count
    recipe: Recipe
    test_mode: bool = False
    trust_remote_code: Literal[True] | None = None
    """True when code that comes with the model may run; None: it never does."""
    parent: str | None = None
    """run_id of the run whose weights it starts from; None: the published model."""

    @property
    def run_id(self) -> str:
        """The model's short name, the seed, and a hash of the whole identity.

        None is left out of the hash, so that a hyperparameter that is added later, with the default None, renames no
        run. The name of a local model is left out too: its revision is the hash of its files.
        """
        facts = self.model_dump(exclude_none=True)
        if self.revision.startswith("sha256:"):
            del facts["model"]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
        return f"{short_name(self.model) or 'model'}-seed{self.seed}-{digest}"

    def group_key(self, parent_group_key: str | None) -> str:
        """Key shared by runs that differ only in their seed, and in the seed of their parents.

        It is the run_id that the run would have with seed 0 and `parent_group_key`, its parent's key, as parent.
        """
        return self.model_copy(update={"seed": 0, "parent": parent_group_key}).run_id


def short_name(model: str) -> str:
    """The last part of a model's name or path in the characters of file names; empty if it has none of them."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", model.rstrip("/").rsplit("/", 1)[-1]).strip("-.")[:48]


class RunRecord(Facts):
    """The record of one run: its numbers and everything they can be traced to."""

    schema_version: int = SCHEMA_VERSION
    run_id: RunId
    status: Status
    """collapsed: one class or value predicted throughout; diverged: a loss was not finite; failed: an error."""
    error: str | None = None
    spec: RunSpec
    recipe_changes: dict[str, bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | str | None]
    """The hyperparameters that differ from the default recipe of this model and task."""
    task: TaskFacts
    data: DataFacts | None = None
    model: ModelFacts | None = None
    metrics: dict[str, Values] = {}
    """Metrics by split and name, as fractions, not percentages. None is undefined; `notes` has the reason."""
    baseline: dict[str, Values] = {}
    """Metrics of the constant prediction with the best main score, by split and name."""
    notes: list[str] = []
    selected_epoch: Count | Amount | None = None
    """The `epoch` in `history` whose weights were scored."""
    history: list[HistoryEntry] = []
    rows_per_second: Amount | None = None
    """Rows per second of steps alone, without evaluation, over all processes."""
    tokens_per_second: Amount | None = None
    """Tokens per second of steps alone, without padding."""
    padding_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of padding among the tokens that steps computed."""
    peak_bytes: Count | None = None
    """Peak memory of the process that used most."""
    cost: Cost | None = None
    energy: Energy | None = None
    """None in older records, and where the run has no score."""
    environment: Environment | None = None
    command: str
    started: AwareDatetime
    finished: AwareDatetime
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Probability from which a label was predicted, in a multi-label task."""
    weights_sha256: str | None = None
    """Hash of the weights that were scored; None when no process has all of them."""
    predictions: dict[str, str] = {}
    """Predicted class, value or label set of each row, in row order, by reported split; packed by `pack_array`."""
    gold: dict[str, str] = {}
    """Gold labels by reported split, packed in the same way, so that any metric can be recomputed from the record.

    In a selection of answers: the agreement of each candidate with the right ones."""
    row_groups: dict[str, str] = {}
    """Number of each row's group by reported split, in a task of groups; packed in the same way."""
    prediction_files: dict[str, str] = {}
    """Name of the Parquet file next to the record, by predicted split."""
    parent_group_key: str | None = None
    """`RunSpec.group_key` of the run that it started from."""
    trained_by: str | None = None
    """run_id of the run whose model made these predictions, for a task without training rows."""

    @model_validator(mode="after")
    def _check_labels(self) -> RunRecord:
        for by_split, is_gold in ((self.predictions, False), (self.gold, True)):
            if not all(_are_labels(unpack_array(packed), self.task, is_gold) for packed in by_split.values()):
                raise ValueError(f"predictions, gold: expected one or more labels of {self.task.problem_type}")
        is_over_groups = any(name in METRICS and METRICS[name].is_over_groups for name in self.task.metrics)
        needs_groups = is_over_groups or self.task.problem_type == "answer_selection"
        if needs_groups and (missing := self.gold.keys() - self.row_groups.keys()):
            raise ValueError(f"row_groups: missing split {min(missing)}")
        for split, packed in self.row_groups.items():
            numbers = unpack_array(packed)
            if numbers.dtype.kind != "i" or numbers.ndim != 1 or split not in self.gold:
                raise ValueError("row_groups: expected the number of a group for each row of a split with gold labels")
            if len(numbers) != len(unpack_array(self.gold[split])):
                raise ValueError(f"row_groups: {len(numbers)} rows of {split}, but gold has another number")
            if self.task.problem_type == "answer_selection" and split in self.predictions:
                selected = np.flatnonzero(unpack_array(self.predictions[split]) == 1)
                fits = len(selected) and selected[-1] < len(numbers)
                if not fits or not np.array_equal(np.sort(numbers[selected]), np.unique(numbers)):
                    raise ValueError(f"predictions: expected one row of each group of {split}")
        return self

    @property
    def is_finished(self) -> bool:
        """False for a failed run, which a new attempt may complete."""
        return self.status != "failed"

    def value(self, split: str, metric: str) -> float | None:
        """A metric of a split; None where it is undefined or not in the record."""
        return self.metrics.get(split, {}).get(metric)


def _are_labels(rows: NDArray[Any], task: TaskFacts, is_gold: bool) -> bool:
    """True for values [N], class numbers [N], label sets [N, C] of 0 and 1, or agreements [N], as the task has them."""
    if len(rows) == 0:
        return False
    if task.problem_type == "answer_selection" and is_gold:
        return rows.dtype.kind == "f" and rows.ndim == 1 and bool(((rows >= 0) & (rows <= 1)).all())
    if task.problem_type == "regression":
        return rows.dtype.kind == "f" and rows.ndim == 1 and bool((np.abs(rows) <= MAX_NUMBER).all())
    classes = len(task.labels or ())
    if task.problem_type == "multi_label_classification":
        return rows.dtype.kind == "i" and rows.shape[1:] == (classes,) and bool(np.isin(rows, (0, 1)).all())
    return rows.dtype.kind == "i" and rows.ndim == 1 and bool(((rows >= 0) & (rows < classes)).all())


def record_path(results: Path, task: str, run_id: str) -> Path:
    """The path of a run's record."""
    return results / "runs" / task / f"{run_id}.json"


def prepare_results(results: Path) -> None:
    """Makes the results folder and proves, before hours are spent, that it is writable.

    Raises:
        UserError: it is not.
    """
    with boundary(f"--results {results}: cannot be written", advice="Name another folder."):
        check_writable(results / "runs")


def write_record(record: RunRecord, results: Path, overwrite: bool = False) -> Path:
    """Writes the record and returns its path.

    Raises:
        UserError: the run already has a finished record, and `overwrite` is false.
    """
    path = record_path(results, record.spec.task, record.run_id)
    if path.exists() and not overwrite and read_record(path).is_finished:
        raise UserError(f"{path}: the run already has a record; --overwrite replaces it.")
    write_atomically(path, record_text(record))
    return path


def record_text(record: RunRecord) -> str:
    """The record as JSON, for `read_record`."""
    return json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: Path) -> RunRecord:
    """Reads the record of a run, whose file has the name that `record_path` gives it.

    Raises:
        UserError: the file cannot be read, is not a record, has another schema version, or is a copy of another file.
    """
    record = read_record_copy(path)
    original = path.parent.parent / record.spec.task / f"{record.run_id}.json"
    # Some file systems decompose the letters of a name.
    if unicodedata.normalize("NFC", str(path)) != unicodedata.normalize("NFC", str(original)):
        raise UserError(
            f"{path}: duplicate or renamed record: that of run {record.run_id} belongs in {original}. Remove the copy, "
            "or rename the file."
        )
    return record


def read_record_copy(path: Path) -> RunRecord:
    """Reads a record from a file of any name, such as that of a saved model.

    Raises:
        UserError: the file cannot be read, is not a record, or has another schema version.
    """
    values = read_json(path, "record")
    version = values.get("schema_version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path}: not a record: missing schema_version.")
    if version != SCHEMA_VERSION:
        remedy = "run its command again" if version < SCHEMA_VERSION else "update the harness"
        raise UserError(
            f"{path}: unsupported record: expected schema version {SCHEMA_VERSION}, got {version}; {remedy}."
        )
    try:
        return RunRecord.model_validate(values)
    except UserError as error:  # raised by its recipe
        raise UserError(f"{path}: invalid record: {error}") from None
    except ValidationError as error:
        raise UserError(f"{path}: invalid record: {first_fault(error)}") from None


def read_json(path: Path, noun: str) -> Any:
    """The values in a JSON file of the results; `noun` is what the file should be.

    Raises:
        UserError: the file cannot be read, is too large, or is not JSON.
    """
    with boundary(f"{path}: not a readable {noun}", ValueError):
        size = path.stat().st_size
        if not path.is_file() or size > MAX_RECORD_BYTES:  # a FIFO or a device may never end
            raise UserError(
                f"{path}: not a readable {noun}: expected a regular file of at most {MAX_RECORD_BYTES:,} bytes."
            )
        return json.loads(path.read_text(encoding="utf-8"))


def first_fault(error: ValidationError) -> str:
    """`key: message` for the first fault that pydantic has found."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "values"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"


class Records(NamedTuple):
    """The records of a results folder, sorted by task and run_id, and a message for each file that is not one."""

    records: list[RunRecord]
    messages: list[str]


def read_records(results: Path) -> Records:
    """Reads every record under `results/runs`.

    A file that is not the record of a run, or a copy, gives a message, and so does a folder that cannot be read.

    Raises:
        UserError: the folder cannot be read.
    """
    records, messages, paths = [], [], []
    with boundary(f"{results / 'runs'}: cannot be read"):
        if results.exists() and not results.is_dir():
            raise UserError(f"{results}: expected a results folder, got a file.")
        folders = sorted(folder for folder in (results / "runs").glob("*") if folder.is_dir())
    for folder in folders:
        try:
            with boundary(f"{folder}: cannot be read"):
                paths += sorted(path for path in folder.iterdir() if path.suffix == ".json")
        except UserError as error:
            messages.append(str(error))
    for path in paths:
        try:
            records.append(read_record(path))
        except UserError as error:
            messages.append(str(error))
    return Records(sorted(records, key=lambda record: (record.spec.task, record.run_id)), messages)


def missing_records(results: Path, messages: Sequence[str] = ()) -> str:
    """The message for a results folder without records; it names the folder above or below that may have some.

    With `messages`, which name the unreadable files, it says that no record is readable.
    """
    if messages:
        return "\n".join([f"{results}: no readable record in {results / 'runs'}:", *messages])
    others = (results / "test-mode", results.parent)
    command = f"run: harness run --task sst2 --results {shlex.quote(str(results))}"
    remedies = [f"Name {other}" for other in others if (other / "runs").is_dir()]
    remedy = remedies[0] if remedies else f"Name another folder, or {command}"
    return f"{results}: no records found under {results / 'runs'}. {remedy}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(RunRecord.model_json_schema(), indent=1) + "\n")
