"""The identity of a run (`RunSpec`), its record (`RunRecord`), and the record's JSON file."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UserError, boundary
from harness.facts.packing import unpack_array
from harness.facts.recipes import Recipe
from harness.metrics.metric import ProblemType
from harness.metrics.registry import METRICS
from harness.system.atomic import check_writable, write_atomically

SCHEMA_VERSION = 2
"""Increased when a field is renamed or changes its meaning; records of other versions are refused."""

MAX_RECORD_BYTES = 1 << 26
"""Size of the largest file that is read as a record: with the predictions of a million rows, a record has a tenth."""

_ROUNDING = 1e-9
"""A metric may be outside its range by this, the error of floating-point sums."""

Status = Literal["ok", "collapsed", "diverged", "failed"]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of rows, bytes or steps, which 64 bits hold."""
Amount = Annotated[float, Field(ge=0, lt=2**63)]
"""Seconds, or rows or tokens per second."""
Value = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A loss or metric; squares of such numbers can be summed."""
_MAX_NUMBER = 1e50
"""The largest value of a regression in a record, so that its square is a `Value`."""
Names = Annotated[list[str], Field(min_length=1)]
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
"""A name of a file without its folder and extension."""


def _check_ranges(values: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in values.items():
        metric = METRICS.get(name)
        if metric and value is not None and not metric.lowest - _ROUNDING <= value <= metric.highest + _ROUNDING:
            raise ValueError(f"{name} is {value}: expected {metric.lowest:g} to {metric.highest:g}")
    return values


Values = Annotated[dict[str, Value | None], AfterValidator(_check_ranges)]
"""Metrics by name, each in its range; None is undefined."""


class _Facts(BaseModel):
    """The base of the parts of a record. Its limit for texts also makes pydantic refuse lone surrogates in them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, str_max_length=MAX_RECORD_BYTES
    )


class RunSpec(_Facts):
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
    metrics: Names
    main_metrics: Names
    report: list[str]
    """Splits whose main metrics are in the leaderboard."""
    select_on: str
    """The split that is evaluated during training."""


class DataFacts(_Facts):
    """The rows that were used."""

    source: str
    revision: str | None
    fingerprint: str
    """Hash of the text, pair and label of every labelled row, in order."""
    rows: dict[str, Count]
    """Number of rows used, by split."""
    full_rows: dict[str, Count]
    """Number of rows of the full data, by split, from the task file."""
    is_partial: bool
    """A split that was used has another number of rows than the full data."""
    missing_splits: list[str]
    """Splits to predict that the source does not have."""
    shared_texts: dict[str, Count]
    """`a & b`: number of rows of split b whose text (and pair) is also in split a; left out where it is 0."""


class ModelFacts(_Facts):
    """The model that was trained."""

    commit: str | None
    """Commit of the revision on the Hub."""
    architecture: str
    parameters: Count
    """Parameters of the model, without those that an adapter adds."""
    trainable_parameters: Count | None = None
    """Parameters that training changes, those of the adapter included; None in older records."""
    attention: str
    head: Literal["new", "kept", "reordered"]
    """The classification head: new, or the checkpoint's own, with its labels in order or reordered for the task."""


class HistoryEntry(_Facts):
    """An evaluation during training: metrics of the selection split, loss and seconds of the steps before it."""

    epoch: Count | Amount
    """Epochs trained so far, with decimals within an epoch; without `evaluate_every`, the number of the epoch."""
    step: Count
    train_loss: Value
    """Mean loss of the rows trained on since the previous evaluation, with dropout."""
    learning_rate: Amount
    seconds: Amount
    metrics: Values


class Cost(_Facts):
    """The cost of a run. Times are wall clock; a device-second is one second of one process."""

    seconds: Amount
    """Time from start to record."""
    setup_seconds: Amount
    """Time before the first step."""
    train_seconds: Amount
    """Time of the steps alone."""
    evaluate_seconds: Amount
    device_seconds: Amount
    steps: Count
    rows: Count
    """Rows trained on, counted in every epoch."""
    tokens: Count
    """Tokens of these rows, without padding."""
    peak_bytes_per_process: list[Count]
    """Peak device memory on a GPU, peak resident memory on a CPU."""


class Environment(_Facts):
    """The devices and the software of a run, without host names, user names or paths."""

    processes: Count
    devices: list[str]
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    """The precision that was used, not the one that was requested."""
    device_batch_size: Count
    accumulation: Count
    eval_batch_size: Count
    threads: Count
    distributed: str
    deterministic: bool = False
    """True when only deterministic kernels were allowed."""
    is_compiled: bool = False
    """True when steps ran through torch.compile."""
    has_step_graphs: bool = False
    """True when steps were replayed as CUDA graphs."""
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
    """Gold labels by reported split, packed alike, so that any metric can be recomputed from the record."""
    prediction_files: dict[str, str] = {}
    """Name of the Parquet file next to the record, by predicted split."""
    parent_group_key: str | None = None
    """`RunSpec.group_key` of the run that it started from."""
    trained_by: str | None = None
    """run_id of the run whose model made these predictions, for a task without training rows."""

    @model_validator(mode="after")
    def _check_labels(self) -> RunRecord:
        for packed in (*self.predictions.values(), *self.gold.values()):
            if not _are_labels(unpack_array(packed), self.task):
                raise ValueError(f"predictions, gold: expected labels of a {self.task.problem_type}")
        return self

    @property
    def is_finished(self) -> bool:
        """False for a failed run, which a new attempt may complete."""
        return self.status != "failed"


def _are_labels(rows: NDArray[Any], task: TaskFacts) -> bool:
    """True for values [N], class numbers [N] or label sets [N, C] of 0 and 1, as the task has them."""
    if task.problem_type == "regression":
        return rows.ndim == 1 and bool((np.abs(rows) <= _MAX_NUMBER).all())
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
    with boundary(f"{path}: not a readable record", ValueError):
        size = path.stat().st_size
        if not path.is_file() or size > MAX_RECORD_BYTES:  # a FIFO or a device may never end
            raise UserError(
                f"{path}: not a readable record: expected a regular file of at most {MAX_RECORD_BYTES:,} bytes."
            )
        values = json.loads(path.read_text(encoding="utf-8"))
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
        where = "".join(f"{part}." for part in fault["loc"])[:-1] or "values"
        raise UserError(f"{path}: invalid record: {where}: {fault['msg'].removeprefix('Value error, ')}") from None


class Records(NamedTuple):
    """The records of a results folder, sorted by task and run_id, and a message for each file that is not one."""

    records: list[RunRecord]
    messages: list[str]


def read_records(results: Path) -> Records:
    """Reads every record under `results/runs`; a file that is not the record of a run, or a copy, gives a message.

    Raises:
        UserError: the folder cannot be read.
    """
    records, messages = [], []
    with boundary(f"{results / 'runs'}: cannot be read"):
        paths = sorted((results / "runs").glob("*/*.json"))
    for path in paths:
        try:
            records.append(read_record(path))
        except UserError as error:
            messages.append(str(error))
    return Records(sorted(records, key=lambda record: (record.spec.task, record.run_id)), messages)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(RunRecord.model_json_schema(), indent=1) + "\n")
