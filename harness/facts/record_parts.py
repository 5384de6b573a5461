"""The parts of a run's record as checked values: task, data, model, evaluations, cost and environment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from harness.metrics.metric import ProblemType
from harness.metrics.registry import METRICS, check_support

MAX_RECORD_BYTES = 1 << 26
"""Size of the largest file that is read as a record: with the predictions of a million rows, a record has a tenth."""

_ROUNDING = 1e-9
"""A metric may be outside its range by this, the error of floating-point sums."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of rows, bytes or steps, of 64 bits."""
Amount = Annotated[float, Field(ge=0, lt=2**63)]
"""Seconds, or rows or tokens per second."""
Value = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A loss or metric; squares of such numbers can be summed."""
MAX_NUMBER = 1e50
"""The largest value of a regression in a record, so that its square is a `Value`."""
Names = Annotated[list[str], Field(min_length=1)]


def _check_ranges(values: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in values.items():
        metric = METRICS.get(name)
        if metric and value is not None and not metric.lowest - _ROUNDING <= value <= metric.highest + _ROUNDING:
            raise ValueError(f"{name} is {value}: expected {metric.lowest:g} to {metric.highest:g}")
    return values


Values = Annotated[dict[str, Value | None], AfterValidator(_check_ranges)]
"""Metrics by name, each in its range; None is undefined."""


class Facts(BaseModel):
    """The base of the parts of a record. Its limit for texts also makes pydantic refuse lone surrogates in them."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        str_max_length=MAX_RECORD_BYTES,
    )


class TaskFacts(Facts):
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

    @model_validator(mode="after")
    def _check_shape(self) -> TaskFacts:
        """Checks labels and metrics against the problem type, as a task file is checked: reports rely on it."""
        labels = len(self.labels or ())
        if (self.labels is None) != (self.problem_type == "regression"):
            raise ValueError(f"labels: expected null for a regression alone, got {labels} for {self.problem_type}")
        if self.problem_type == "answer_selection" and labels != 2:
            raise ValueError("labels: expected two, for wrong and right candidates")
        check_support(self.metrics, self.problem_type, labels)
        if other := next((name for name in self.main_metrics if name not in self.metrics), None):
            raise ValueError(f"main_metrics: {other!r} is not in metrics ({', '.join(self.metrics)})")
        return self


class DataFacts(Facts):
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
    is_unpinned: bool = False
    """The task names no commit of its data set; `revision` is the one that was read."""


class ModelFacts(Facts):
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


class HistoryEntry(Facts):
    """An evaluation during training: metrics of the selection split, loss and seconds of the steps before it."""

    epoch: Count | Amount
    """Epochs trained so far, with decimals within an epoch; without `evaluate_every`, the number of the epoch."""
    step: Count
    train_loss: Value
    """Mean loss of the rows trained on since the previous evaluation, with dropout."""
    learning_rate: Amount
    seconds: Amount
    metrics: Values


class Cost(Facts):
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


class Energy(Facts):
    """The energy of a run from its setup to its record, by the counters of whole devices; nothing is estimated."""

    gpu_joules: Amount | None
    """The sum over the GPUs of all processes, by NVML."""
    processor_joules: Amount | None
    """The sum over the processor packages of all machines, by RAPL, other programs on them included."""
    sources: list[str]
    """The counters that were read, and for what is None the reason."""


class Environment(Facts):
    """The devices and the software of a run, without host names, user names or paths."""

    processes: Annotated[Count, Field(ge=1)]
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
