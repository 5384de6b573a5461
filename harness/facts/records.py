"""The identity of a run (`RunSpec`), its record (`RunRecord`), and the record's JSON file."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.facts.recipes import Recipe
from harness.metrics.metric import ProblemType
from harness.system.atomic import check_writable, write_atomically

SCHEMA_VERSION = 2
"""Increased when a field is renamed or changes its meaning; records of other versions are refused."""

Status = Literal["ok", "collapsed", "diverged", "failed"]
Values = dict[str, float | None]


class _Facts(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )


class RunSpec(_Facts):
    """The identity of a run: everything that can affect its scores. Runs with equal specs are the same run."""

    task: str
    task_version: int
    task_fingerprint: str
    """Hash of the task's columns, labels, splits and source revision."""
    data: str | None
    """Hash of the files from --data or from a task of your own; None for the task's pinned source."""
    model: str
    """Name on the Hub, or folder."""
    revision: str
    """Branch, tag or commit on the Hub; for a folder, `sha256:...` of its files."""
    seed: int
    recipe: Recipe
    test_mode: bool = False
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
        short = re.sub(r"[^A-Za-z0-9._]+", "-", self.model.rstrip("/").rsplit("/", 1)[-1]).strip("-.")[:48]
        return f"{short or 'model'}-seed{self.seed}-{digest}"

    def group_key(self, parent_group_key: str | None) -> str:
        """Key shared by runs that differ only in their seed, and in the seed of their parents.

        It is the run_id that the run would have with seed 0 and `parent_group_key`, its parent's key, as parent.
        """
        return self.model_copy(update={"seed": 0, "parent": parent_group_key}).run_id


class TaskFacts(_Facts):
    """The task at the time of the run, as far as tables need it."""

    title: str
    suite: str | None
    labels: list[str] | None
    """None for a regression."""
    problem_type: ProblemType
    metrics: list[str]
    main_metrics: list[str]
    report: list[str]
    """Splits whose main metrics are in the leaderboard."""
    select_on: str
    """The split evaluated after each epoch."""


class DataFacts(_Facts):
    """The rows that were used."""

    source: str
    revision: str | None
    fingerprint: str
    """Hash of the text, pair and label of every labelled row, in order."""
    rows: dict[str, int]
    """Number of rows used, by split."""
    full_rows: dict[str, int]
    """Number of rows of the full data, by split, from the task file."""
    is_partial: bool
    """A split that was used has another number of rows than the full data."""
    missing_splits: list[str]
    """Splits to predict that the source does not have."""
    shared_texts: dict[str, int]
    """`a & b`: number of rows of split b whose text (and pair) is also in split a; left out where it is 0."""


class ModelFacts(_Facts):
    """The model that was trained."""

    commit: str | None
    """Commit of the revision on the Hub."""
    architecture: str
    parameters: int
    attention: str
    head: Literal["new", "kept", "reordered"]
    """The classification head: new, or the checkpoint's own, with its labels in order or reordered for the task."""


class Epoch(_Facts):
    """The evaluation after one epoch."""

    epoch: int
    step: int
    train_loss: float
    """Mean loss of the epoch's rows, with dropout."""
    learning_rate: float
    seconds: float
    metrics: Values


class Cost(_Facts):
    """The cost of a run. Times are wall clock; a device-second is one second of one process."""

    seconds: float
    """Time from start to record."""
    setup_seconds: float
    """Time before the first step."""
    train_seconds: float
    """Time of the steps alone."""
    evaluate_seconds: float
    device_seconds: float
    steps: int
    rows: int
    """Rows trained on, counted in every epoch."""
    tokens: int
    """Tokens of these rows, without padding."""
    peak_bytes_per_process: list[int]
    """Peak device memory on a GPU, peak resident memory on a CPU."""


class Environment(_Facts):
    """The devices and the software of a run, without host names, user names or paths."""

    processes: int
    devices: list[str]
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    """The precision that was used, not the one that was requested."""
    device_batch_size: int
    accumulation: int
    eval_batch_size: int
    threads: int
    distributed: str
    deterministic: bool = False
    """True when only deterministic kernels were allowed."""
    is_compiled: bool = False
    """True when steps ran through torch.compile."""
    system: str
    python: str
    versions: dict[str, str]
    git_commit: str | None
    """Commit of the harness, when it runs from a checkout."""
    git_dirty: bool | None
    """True when the checkout had uncommitted changes."""


class RunRecord(_Facts):
    """The record of one run: its numbers and everything they can be traced to."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    status: Status
    """collapsed: one class or value predicted throughout; diverged: a loss was not finite; failed: an error."""
    error: str | None = None
    spec: RunSpec
    recipe_changes: dict[str, Any]
    """The hyperparameters that differ from the default recipe of this model and task."""
    task: TaskFacts
    data: DataFacts | None = None
    model: ModelFacts | None = None
    metrics: dict[str, Values] = {}
    """Metrics by split and name, as fractions, not percentages. None is undefined; `notes` has the reason."""
    baseline: dict[str, Values] = {}
    """Metrics of the constant prediction with the best main score, by split and name."""
    notes: list[str] = []
    selected_epoch: int | None = None
    """The epoch, from 1, whose weights were scored."""
    history: list[Epoch] = []
    rows_per_second: float | None = None
    """Rows per second of steps alone, without evaluation, over all processes."""
    tokens_per_second: float | None = None
    """Tokens per second of steps alone, without padding."""
    padding_share: float | None = None
    """Share of padding among the tokens that steps computed."""
    peak_bytes: int | None = None
    """Peak memory of the process that used most."""
    cost: Cost | None = None
    environment: Environment | None = None
    command: str
    started: datetime
    finished: datetime
    threshold: float | None = None
    """Probability from which a label was predicted, in a multi-label task."""
    weights_sha256: str | None = None
    """Hash of the weights that were scored; None when no process has all of them."""
    predictions: dict[str, str] = {}
    """Predicted class, value or label set of each row, in row order, by reported split; packed by `pack_array`."""
    gold: dict[str, str] = {}
    """Gold labels by reported split, packed alike, so that any metric can be recomputed from the record."""
    prediction_files: dict[str, str] = {}
    """Name of the Parquet file next to the record, by predicted split."""
    parent_group_key: str | None = None
    """`RunSpec.group_key` of the run that it started from."""
    trained_by: str | None = None
    """run_id of the run whose model made these predictions, for a task without training rows."""

    @property
    def is_finished(self) -> bool:
        """False for a failed run, which a new attempt may complete."""
        return self.status != "failed"


def record_path(results: Path, task: str, run_id: str) -> Path:
    """The path of a run's record."""
    return results / "runs" / task / f"{run_id}.json"


def prepare_results(results: Path) -> None:
    """Makes the results folder and proves, before hours are spent, that it is writable.

    Raises:
        UserError: it is not.
    """
    try:
        check_writable(results / "runs")
    except OSError as error:
        raise UserError(
            f"--results {results}: cannot be written ({error.strerror or error}). Name another folder."
        ) from None


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
    """Reads one record.

    Raises:
        UserError: the file cannot be read, is not a record, or has another schema version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable record: {error}") from None
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
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"{path}: invalid record: {where}: {fault['msg']}") from None


class Records(NamedTuple):
    """The records of a results folder, sorted by task and run_id, and a message for each file that is not one."""

    records: list[RunRecord]
    messages: list[str]


def read_records(results: Path) -> Records:
    """Reads every record under `results/runs`."""
    records, messages = [], []
    for path in sorted((results / "runs").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except UserError as error:
            messages.append(str(error))
    return Records(sorted(records, key=lambda record: (record.spec.task, record.run_id)), messages)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(RunRecord.model_json_schema(), indent=1) + "\n")
