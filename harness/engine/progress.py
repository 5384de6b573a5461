"""Progress of a run: counts, history and the selected epoch, as plain values that a checkpoint can hold.

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
from harness.facts.records import Amount, Cost, Count, Epoch, RunSpec, Value
from harness.system.atomic import write_atomically
from harness.system.locks import progress_path

if TYPE_CHECKING:
    from harness.engine.training import Step
    from harness.facts.outcome import SplitOutcome

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
    loss: Value | None = None
    """Mean loss of the epoch so far, or of the last one at its end."""


def read_summary(path: Path) -> ProgressSummary | None:
    """The summary in a progress file or a manifest; None if there is no valid one."""
    with suppress(UserError), boundary(str(path), ValueError, KeyError, TypeError):
        return ProgressSummary.model_validate(json.loads(path.read_text(encoding="utf-8"))["summary"])
    return None


class Progress:
    """Progress up to the last step, the same on every process except for the clock. Times are in seconds."""

    def __init__(self, recipe: Recipe) -> None:
        self.select, self.patience = recipe.select, recipe.patience
        self.step = self.epoch = self.rows = self.tokens = self.computed_tokens = 0
        self.train_seconds = self.seconds_before = 0.0
        self.epoch_loss = self.epoch_seconds = 0.0
        self.epoch_rows = 0
        self.selected_epoch = 0
        self.lowest = math.inf
        """Lowest value so far of what selection minimises: the validation loss, or the negative main score."""
        self.history: list[Epoch] = []
        self.notes: list[str] = []
        self.fell_back = False
        """Mixed precision diverged, and the run was restarted in fp32."""
        self.topology = ""
        """Processes, batch size, precision and device; on another topology the numbers differ."""
        self._started = perf_counter()
        self._unchecked: list[Step] = []

    @property
    def seconds(self) -> float:
        """Seconds that the run has computed, before interruptions too; the time between them does not count."""
        return self.seconds_before + perf_counter() - self._started

    @property
    def is_out_of_patience(self) -> bool:
        """None of the last `patience` epochs is better than the selected one."""
        return self.patience is not None and self.epoch - self.selected_epoch >= self.patience

    def begin(self, started: float, topology: str, fault: str) -> None:
        """Counts time from `started`, a value of `perf_counter`, and notes a changed topology or a restart in fp32.

        `fault` says why mixed precision diverged, if it did.
        """
        self._started = started
        if self.topology and self.topology != topology:
            self.note(
                f"resumed after step {self.step} on {topology} instead of {self.topology}: dropout and rounding differ"
            )
        if fault:
            self.fell_back = True
            self.note(f"{fault} in mixed precision: restarted in fp32")
        self.topology = topology

    def note(self, note: str) -> None:
        """Adds a note for the record, once even if the run is interrupted and repeats it."""
        if note not in self.notes:
            self.notes.append(note)

    def add(self, step: Step) -> list[Step]:
        """Counts a step; returns the steps whose losses are known from now on, earlier ones included."""
        self.step = step.number
        self.rows += step.rows
        self.tokens += step.tokens
        self.computed_tokens += step.computed_tokens
        self.train_seconds += step.seconds
        self.epoch_rows += step.rows
        self.epoch_seconds += step.seconds
        self._unchecked.append(step)
        if not step.is_checked:
            return []
        checked, self._unchecked = self._unchecked, []
        self.epoch_loss += sum(step.loss * step.rows for step in checked)
        return checked

    def summary(self, spec: RunSpec, total_steps: int) -> ProgressSummary:
        """Returns the part of the progress that other processes read."""
        last = self.history[-1].train_loss if self.history else None
        loss = self.epoch_loss / self.epoch_rows if self.epoch_rows else last
        return ProgressSummary(
            spec=spec, total_steps=total_steps, step=self.step, train_seconds=self.train_seconds, loss=loss
        )

    def close_epoch(self, step: Step, validation: SplitOutcome) -> Epoch:
        """Records the epoch that `step` ends, selects it if it is the best so far, and returns it."""
        self.epoch = step.epoch
        self.history.append(
            Epoch(
                epoch=step.epoch,
                step=step.number,
                train_loss=self.epoch_loss / self.epoch_rows,
                learning_rate=step.learning_rate,
                seconds=self.epoch_seconds,
                metrics=validation.values,
            )
        )
        self.epoch_loss, self.epoch_rows, self.epoch_seconds = 0.0, 0, 0.0
        minimised = -validation.main_score if self.select == "best_main_score" else validation.loss
        if self.select == "last" or self.selected_epoch == 0 or minimised < self.lowest:
            self.selected_epoch, self.lowest = step.epoch, minimised
        return self.history[-1]

    def to_json(self) -> dict[str, Any]:
        """Returns the progress in values that JSON has."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        history = [epoch.model_dump(mode="json") for epoch in self.history]
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
            progress.history = [Epoch(**epoch) for epoch in values["history"]]
            progress.lowest = math.inf if values["lowest"] is None else float(values["lowest"])
        return progress

    def check_plan(self, plan: StepPlan) -> None:
        """Raises UserError when the progress is none of a run with this plan of steps."""
        closed = plan.epochs if self.step == plan.total_steps else self.step // plan.steps_per_epoch
        is_selected = 1 <= self.selected_epoch <= closed or self.selected_epoch == closed == 0
        if self.step > plan.total_steps or self.epoch != closed or not is_selected:
            raise UserError(f"progress: step {self.step} of epoch {self.epoch} is not in the plan")
        ends = [(number, min(number * plan.steps_per_epoch, plan.total_steps)) for number in range(1, self.epoch + 1)]
        if len(self.history) != closed or [(epoch.epoch, epoch.step) for epoch in self.history] != ends:
            raise UserError("progress: the history is not that of the epochs before this step")


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


def cost_fields(progress: Progress, peak_bytes: Sequence[int], setup_seconds: float) -> dict[str, Any]:
    """Returns the fields of a record about time and memory; `peak_bytes` has one value per process."""
    seconds = progress.seconds
    return dict(
        rows_per_second=progress.rows / progress.train_seconds,
        tokens_per_second=progress.tokens / progress.train_seconds,
        padding_share=1 - progress.tokens / progress.computed_tokens,
        peak_bytes=max(peak_bytes),
        cost=Cost(
            seconds=seconds,
            setup_seconds=setup_seconds,
            train_seconds=progress.train_seconds,
            evaluate_seconds=max(0.0, seconds - setup_seconds - progress.train_seconds),
            device_seconds=seconds * len(peak_bytes),
            steps=progress.step,
            rows=progress.rows,
            tokens=progress.tokens,
            peak_bytes_per_process=list(peak_bytes),
        ),
    )
