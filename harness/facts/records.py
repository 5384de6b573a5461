"""What a run leaves behind: its identity (`RunSpec`), its outcome (`RunRecord`), and the one JSON file it becomes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.facts.metrics import ProblemType
from harness.facts.recipes import Recipe

SCHEMA_VERSION = 2
"""Raised when a field is renamed or changes its meaning; records of any other version are refused."""

Status = Literal["ok", "collapsed", "diverged", "failed"]
Values = dict[str, float | None]


class _Facts(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class RunSpec(_Facts):
    """What a run is: all that may change its numbers, and nothing else. Two runs of equal specs are the same run."""

    task: str
    task_version: int
    task_fingerprint: str
    """Hash of the task's columns, labels, splits and source revision."""
    data: str | None
    """Hash of the files given with --data or named by a task of one's own; None for the task's pinned source."""
    model: str
    """Name on the Hub, or the folder as given."""
    revision: str
    """Branch, tag or commit on the Hub; `sha256:...` of the files for a folder."""
    seed: int
    recipe: Recipe
    test_mode: bool = False
    parent: str | None = None
    """run_id of the run whose weights it starts from; None: it starts from the model as published."""

    @property
    def run_id(self) -> str:
        """Readable and unique: the model's short name, the seed, and a hash of the whole identity.

        What is None is left out, so that a hyperparameter added later, None for "as before", renames no run.
        """
        facts = self.model_dump(exclude_none=True)
        if self.revision.startswith("sha256:"):
            del facts["model"]  # the files say what it is, wherever they lie
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
        short = re.sub(r"[^A-Za-z0-9._]+", "-", self.model.rstrip("/").rsplit("/", 1)[-1]).strip("-.")[:48]
        return f"{short or 'model'}-seed{self.seed}-{digest}"

    def group_key(self, parent_group_key: str | None) -> str:
        """One name for all runs that agree in everything but the seed, their parents' included.

        It is the run_id that the run with seed 0 would have if its parent were called `parent_group_key`, as `like` of the
        parent says.
        """
        return self.model_copy(update={"seed": 0, "parent": parent_group_key}).run_id


class TaskFacts(_Facts):
    """What a table needs to know of the task, as it was when the run was made."""

    title: str
    suite: str | None
    labels: list[str] | None
    """None for a regression."""
    problem_type: ProblemType
    metrics: list[str]
    main_metrics: list[str]
    report: list[str]
    """Splits whose main metrics stand in the leaderboard."""
    select_on: str
    """The split looked at after each epoch."""


class DataFacts(_Facts):
    """Which rows were used."""

    source: str
    revision: str | None
    fingerprint: str
    """Hash of text, pair and label of every labelled row, in order."""
    rows: dict[str, int]
    full_rows: dict[str, int]
    """What the full data has, as the task file says."""
    is_partial: bool
    """A split that was used has another number of rows than the full data."""
    missing_splits: list[str]
    """Splits to predict that the source does not have."""
    shared_texts: dict[str, int]
    """`a & b`: rows of split b whose text (and pair) stands in split a too; pairs that share none are left out."""


class ModelFacts(_Facts):
    """Which model was trained."""

    commit: str | None
    """The Hub commit that the revision was resolved to."""
    architecture: str
    parameters: int
    attention: str
    head: Literal["new", "kept", "reordered"]
    """The classification head: new, or the checkpoint's own, its labels as they were or put in the task's order."""


class Epoch(_Facts):
    """One look at the validation split."""

    epoch: int
    step: int
    train_loss: float
    """Mean over the epoch's rows, dropout on."""
    learning_rate: float
    seconds: float
    metrics: Values


class Cost(_Facts):
    """What the run took. Times are wall clock; a device-second is one second of one process."""

    seconds: float
    """From start to record."""
    setup_seconds: float
    """Until the first step."""
    train_seconds: float
    """Steps alone."""
    evaluate_seconds: float
    device_seconds: float
    steps: int
    rows: int
    """Rows trained on, counted each time."""
    tokens: int
    """Their tokens, without padding."""
    peak_bytes_per_process: list[int]
    """Device memory at its highest on a GPU, resident memory on a CPU."""


class Environment(_Facts):
    """Where it ran. No host names, user names or paths."""

    processes: int
    devices: list[str]
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    """What was used, not what was asked for."""
    device_batch_size: int
    accumulation: int
    eval_batch_size: int
    threads: int
    distributed: str
    deterministic: bool = False
    """Only deterministic kernels were allowed."""
    is_compiled: bool = False
    """Steps ran through torch.compile."""
    system: str
    python: str
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    """Of the harness itself, when it runs from a checkout."""


class RunRecord(_Facts):
    """One run and all that its numbers can be traced to."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    status: Status
    """collapsed: one class (or value) predicted throughout; diverged: a loss was not finite; failed: it broke off."""
    error: str | None = None
    spec: RunSpec
    recipe_changes: dict[str, Any]
    """How the recipe differs from the default for this model and task; empty for the default."""
    task: TaskFacts
    data: DataFacts | None = None
    model: ModelFacts | None = None
    metrics: dict[str, Values] = {}
    """By split, then by name; fractions, not percentages. None is undefined; `notes` says why."""
    baseline: dict[str, Values] = {}
    """By split, what the best constant answer scores."""
    notes: list[str] = []
    selected_epoch: int | None = None
    """The epoch whose weights were scored, counted from 1."""
    history: list[Epoch] = []
    rows_per_second: float | None = None
    """Real rows in steps alone, without evaluation, over all processes."""
    tokens_per_second: float | None = None
    """Real tokens in steps alone."""
    padding_share: float | None = None
    """Padding among the tokens that steps computed."""
    peak_bytes: int | None = None
    """Memory of the process that used most."""
    cost: Cost | None = None
    environment: Environment | None = None
    command: str
    started: datetime
    finished: datetime
    threshold: float | None = None
    """Of a multi-label task: the probability from which a label was predicted."""
    weights_sha256: str | None = None
    """Hash of the weights that were scored; None where no process has all of them."""
    predictions: dict[str, str] = {}
    """By reported split: the predicted class, value or label set of each row, in row order, packed by `pack_array`."""
    gold: dict[str, str] = {}
    """By reported split: the gold labels, packed alike, so that any metric can be computed again from the record."""
    prediction_files: dict[str, str] = {}
    """By split: the Parquet file next to the record."""
    parent_group_key: str | None = None
    """What the parents of all runs that differ in the seed alone have in common: see `RunSpec.like`."""
    trained_by: str | None = None
    """run_id of the run whose model made these predictions, for a task that is not trained itself."""

    @property
    def is_finished(self) -> bool:
        """There is nothing to gain from running it again."""
        return self.status != "failed"


def record_path(results: Path, task: str, run_id: str) -> Path:
    """Where the record of a run lies."""
    return results / "runs" / task / f"{run_id}.json"


def prepare_folder(results: Path) -> None:
    """Makes the results folder and proves that it can be written to, before hours are spent.

    Raises:
        UserError: it cannot.
    """
    try:
        (results / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=results / "runs", prefix=".probe-"):
            pass
    except OSError as error:
        raise UserError(
            f"--results {results}: cannot write there ({error.strerror or error}). Name another folder."
        ) from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """All of it or nothing: written beside `path`, flushed to disk, then renamed. A text is written in UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def write_record(record: RunRecord, results: Path, overwrite: bool = False) -> Path:
    """Writes the record and says where. A finished record is only replaced when `overwrite` says so.

    Raises:
        UserError: a finished record of the same run is there.
    """
    path = record_path(results, record.spec.task, record.run_id)
    if path.exists() and not overwrite and read_record(path).is_finished:
        raise UserError(f"{path}: a record of this run is there already; --overwrite replaces it.")
    write_atomically(path, record_text(record))
    return path


def record_text(record: RunRecord) -> str:
    """The JSON that `read_record` reads."""
    return json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: Path) -> RunRecord:
    """One record.

    Raises:
        UserError: the file is no record, or was written by a newer harness.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable record: {error}") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path}: not a record: it has no schema_version.")
    if version != SCHEMA_VERSION:
        age, remedy = (
            ("older", "run its command again") if version < SCHEMA_VERSION else ("newer", "update the harness")
        )
        raise UserError(
            f"{path}: unsupported record: schema version {version} is {age} than this harness's {SCHEMA_VERSION}; {remedy}."
        )
    try:
        return RunRecord.model_validate(values)
    except UserError as error:  # of its recipe
        raise UserError(f"{path}: not a valid record: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"{path}: not a valid record: {where}: {fault['msg']}") from None


class Records(NamedTuple):
    """What a results folder holds."""

    records: list[RunRecord]
    """Sorted by task and run_id."""
    problems: list[str]
    """One sentence for each file that could not be read."""


def read_records(results: Path) -> Records:
    """Every record under `results/runs`; a file that is none is named and skipped."""
    records, problems = [], []
    for path in sorted((results / "runs").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except UserError as error:
            problems.append(str(error))
    return Records(sorted(records, key=lambda record: (record.spec.task, record.run_id)), problems)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(RunRecord.model_json_schema(), indent=1) + "\n")
