"""Progress of a run: counts, history and the selected evaluation, as plain values for a checkpoint.

A `ProgressSummary` is the part that other processes read while the run lasts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from harness.errors import UserError, boundary
from harness.facts.recipes import Recipe, StepPlan
from harness.facts.record_parts import Amount, Cost, Count, Energy, HistoryEntry, Value
from harness.facts.records import RunSpec
from harness.system.atomic import write_atomically
from harness.system.locks import progress_path

if TYPE_CHECKING:
    from harness.engine.training import Step
    from harness.facts.outcome import SplitOutcome
    from harness.system.energy import EnergyMeters

WRITE_SECONDS = 5.0
"""Seconds between two writes of a progress file."""


class ProgressSummary(BaseModel):
    """The progress of a run as other processes read it, from its progress file or the manifest of a checkpoint."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    spec: RunSpec
    total_steps: Count = 0
    """0 before the plan of steps is made."""
    step: Count = 0
    train_seconds: Amount = 0.0
    """Time of the steps so far."""
    evaluate_seconds: Amount = 0.0
    """Time of evaluations and checkpoints so far."""
    loss: Value | None = None
    """Mean loss since the last evaluation, or up to it where no step came after it."""


def read_summary(path: Path) -> ProgressSummary | None:
    """The summary in a progress file or a manifest; None if there is no valid one."""
    with suppress(UserError), boundary(str(path), ValueError, KeyError, TypeError):
        return ProgressSummary.model_validate(json.loads(path.read_text(encoding="utf-8"))["summary"])
    return None


class Progress:
    """Progress up to the last step, the same on every process except for the clock. Times are in seconds."""

    def __init__(self, recipe: Recipe) -> None:
        self.select, self.patience = recipe.select, recipe.patience
        self.step = self.rows = self.tokens = self.computed_tokens = 0
        self.train_seconds = self.setup_seconds = self.seconds_before = 0.0
        self.loss_sum = self.interval_seconds = 0.0
        self.interval_rows = 0
        """Rows trained on since the last evaluation; `loss_sum` and `interval_seconds` are sums over these."""
        self.selected_number = 0
        """Number of the selected evaluation, from 1; 0 before the first."""
        self.lowest = math.inf
        """Lowest value so far of what selection minimises: the validation loss, or a negative score."""
        self.history: list[HistoryEntry] = []
        self.notes: list[str] = []
        self.fell_back = False
        """Mixed precision diverged, and the run was restarted in fp32."""
        self.topology = ""
        """Processes, batch size, precision and device; on another topology the numbers differ."""
        self._started = perf_counter()
        self._unchecked: list[Step] = []
        self._meters: EnergyMeters | None = None

    @property
    def seconds(self) -> float:
        """Seconds that the run has computed, before interruptions too; the time between them does not count."""
        return self.seconds_before + perf_counter() - self._started

    @property
    def evaluate_seconds(self) -> float:
        """The seconds that went neither into the setup nor into steps."""
        return max(0.0, self.seconds - self.setup_seconds - self.train_seconds)

    @property
    def is_out_of_patience(self) -> bool:
        """None of the last `patience` evaluations is better than the selected one."""
        return self.patience is not None and len(self.history) - self.selected_number >= self.patience

    @property
    def is_last_selected(self) -> bool:
        """The last evaluation is the selected one."""
        return self.selected_number == len(self.history)

    @property
    def selected(self) -> HistoryEntry:
        """The evaluation whose weights are scored; there is one after the last step."""
        return self.history[self.selected_number - 1]

    def begin(self, started: float, topology: str, fault: str, meters: EnergyMeters | None = None) -> None:
        """Ends a setup that began at `started`, a value of `perf_counter`; notes a changed topology or fp32 restart.

        `fault` says why mixed precision diverged, if it did. `meters` are read at steps.
        """
        self._meters = meters
        self._started = started
        self.setup_seconds += perf_counter() - started
        if self.topology and self.topology != topology:
            self.note(
                f"resumed after step {self.step} on {topology} instead of {self.topology}: dropout and rounding differ"
            )
        if fault and not self.fell_back:
            self.fell_back = True
            self.note(f"{fault} in mixed precision: restarted in fp32")
        self.topology = topology

    def note(self, note: str) -> None:
        """Adds a note for the record, once even if the run is interrupted and repeats it."""
        if note not in self.notes:
            self.notes.append(note)

    def add(self, step: Step) -> list[Step]:
        """Counts a step; returns the steps whose losses are known from now on, earlier ones included."""
        if self._meters is not None:
            self._meters.sample()
        self.step = step.number
        self.rows += step.rows
        self.tokens += step.tokens
        self.computed_tokens += step.computed_tokens
        self.train_seconds += step.seconds
        self.interval_rows += step.rows
        self.interval_seconds += step.seconds
        self._unchecked.append(step)
        if not step.is_checked:
            return []
        checked, self._unchecked = self._unchecked, []
        self.loss_sum += sum(step.loss * step.rows for step in checked)
        return checked

    def summary(self, spec: RunSpec, total_steps: int) -> ProgressSummary:
        """Returns the part of the progress that other processes read."""
        last = self.history[-1].train_loss if self.history else None
        return ProgressSummary(
            spec=spec,
            total_steps=total_steps,
            step=self.step,
            train_seconds=self.train_seconds,
            evaluate_seconds=self.evaluate_seconds,
            loss=self.loss_sum / self.interval_rows if self.interval_rows else last,
        )

    def add_evaluation(self, step: Step, epoch: int | float, validation: SplitOutcome) -> HistoryEntry:
        """Records the evaluation after `step`, selects it if it is the best so far, and returns it."""
        self.history.append(
            HistoryEntry(
                epoch=epoch,
                step=step.number,
                train_loss=self.loss_sum / self.interval_rows,
                learning_rate=step.learning_rate,
                seconds=self.interval_seconds,
                metrics=validation.values,
            )
        )
        self.loss_sum, self.interval_rows, self.interval_seconds = 0.0, 0, 0.0
        minimised = validation.minimised(self.select)
        if self.select == "last" or self.selected_number == 0 or minimised < self.lowest:
            self.selected_number, self.lowest = len(self.history), minimised
        return self.history[-1]

    def to_json(self) -> dict[str, Any]:
        """Returns the progress in values that JSON has."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        history = [evaluation.model_dump(mode="json") for evaluation in self.history]
        lowest = None if math.isinf(self.lowest) else self.lowest  # JSON has no infinity
        return values | {"history": history, "seconds_before": self.seconds, "lowest": lowest}

    @classmethod
    def from_json(cls, recipe: Recipe, values: dict[str, Any]) -> Progress:
        """Restores what `to_json` returned.

        Raises:
            UserError: the values are not such a progress.
        """
        progress = cls(recipe)
        with boundary("progress", AttributeError, KeyError, TypeError, ValueError):
            for name, default in progress.to_json().items():
                if not _is_valid(name, values[name], default):
                    raise ValueError(f"invalid {name}")
            if values.keys() != progress.to_json().keys():
                raise ValueError("unknown values")
            vars(progress).update(values)
            progress.history = [HistoryEntry(**evaluation) for evaluation in values["history"]]
            progress.lowest = math.inf if values["lowest"] is None else float(values["lowest"])
        return progress

    def check_plan(self, plan: StepPlan) -> None:
        """Raises UserError when no run with this plan of steps can have made this progress."""
        if self.step > plan.total_steps:
            raise UserError(f"progress: step {self.step} is not in the plan of {plan.total_steps} steps")
        planned = plan.evaluations
        steps = [step for step in range(1, self.step + 1) if step in planned]
        history = [(planned.epoch_after(step), step) for step in steps]
        if [(evaluation.epoch, evaluation.step) for evaluation in self.history] != history:
            raise UserError("progress: the history is not that of the evaluations before this step")
        if not min(1, len(steps)) <= self.selected_number <= len(steps):
            raise UserError(f"progress: evaluation {self.selected_number} is selected, of {len(steps)}")


class ProgressFile:
    """The file next to the lock of a run that has its `ProgressSummary`; only the main process has one.

    It is for people who watch: a failed write does not end the run.
    """

    def __init__(self, record: Path, spec: RunSpec) -> None:
        self.path, self.spec = progress_path(record), spec
        self.written_at = -math.inf

    def __enter__(self) -> None:
        self._write(ProgressSummary(spec=self.spec))

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.path.unlink()

    def write(self, progress: Progress, total_steps: int) -> None:
        """Writes the progress, at most every WRITE_SECONDS."""
        if perf_counter() - self.written_at > WRITE_SECONDS:
            self._write(progress.summary(self.spec, total_steps))

    def _write(self, summary: ProgressSummary) -> None:
        with suppress(OSError):
            write_atomically(self.path, json.dumps({"summary": summary.model_dump(mode="json")}))
        self.written_at = perf_counter()


def _is_valid(name: str, value: Any, default: Any) -> bool:
    """Tells whether a saved value can be that of a progress, whose fresh value is `default`."""
    if name in ("select", "patience"):
        return bool(value == default)  # of the recipe
    if name == "lowest":
        return value is None or isinstance(value, float)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and 0 <= value < math.inf
    return type(value) is type(default) and (not isinstance(value, int) or 0 <= value < 2**63)


def progress_fields(progress: Progress, peak_bytes: Sequence[int], energy: Energy) -> dict[str, Any]:
    """Returns the fields of a record about evaluations and cost; `peak_bytes` has one value per process."""
    seconds = progress.seconds
    if progress.seconds_before or progress.fell_back:
        resumed = "resumed: the energy before the interruption is unknown"
        reason = resumed if progress.seconds_before else "restarted in fp32: the energy before is unknown"
        energy = Energy(gpu_joules=None, processor_joules=None, sources=[*energy.sources, reason])
    return dict(
        history=progress.history,
        energy=energy,
        rows_per_second=progress.rows / progress.train_seconds,
        tokens_per_second=progress.tokens / progress.train_seconds,
        padding_share=1 - progress.tokens / progress.computed_tokens,
        peak_bytes=max(peak_bytes),
        cost=Cost(
            seconds=seconds,
            setup_seconds=progress.setup_seconds,
            train_seconds=progress.train_seconds,
            evaluate_seconds=progress.evaluate_seconds,
            device_seconds=seconds * len(peak_bytes),
            steps=progress.step,
            rows=progress.rows,
            tokens=progress.tokens,
            peak_bytes_per_process=list(peak_bytes),
        ),
    )
