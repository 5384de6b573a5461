"""Where a run stands: what it has counted, seen and selected so far, as plain values that a checkpoint can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness.facts.recipes import Recipe
from harness.facts.records import Cost, Epoch

if TYPE_CHECKING:
    from harness.engine.training import Step
    from harness.facts.outcome import SplitOutcome


class Progress:
    """The story so far, the same on every process but for the clock. Times are seconds."""

    def __init__(self, recipe: Recipe) -> None:
        self.select, self.patience = recipe.select, recipe.patience
        self.step = self.epoch = self.rows = self.tokens = self.computed_tokens = 0
        self.train_seconds = self.seconds_before = 0.0
        self.epoch_loss = self.epoch_seconds = 0.0
        self.epoch_rows = 0
        self.selected_epoch = 0
        self.lowest = math.inf
        """Of what is minimised over epochs: the validation loss, or the negative main score."""
        self.history: list[Epoch] = []
        self.notes: list[str] = []
        self.fell_back = False
        """Mixed precision had diverged, and the run was started again in fp32."""
        self.topology = ""
        """Processes, rows of a batch, precision and device: on others the numbers come out otherwise."""
        self._began = perf_counter()
        self._unsettled: list[Step] = []

    @property
    def seconds(self) -> float:
        """Since the run began, the time before interruptions included and that between them not."""
        return self.seconds_before + perf_counter() - self._began

    @property
    def is_out_of_patience(self) -> bool:
        """No epoch of the last `patience` was better than the one selected."""
        return self.patience is not None and self.epoch - self.selected_epoch >= self.patience

    def go_on(self, began: float, topology: str, fell_back: str) -> None:
        """Counts time from `began`, a reading of `perf_counter`, and notes what a reader of the record must know:
        another topology than before, or why it runs in fp32."""
        self._began = began
        if self.topology and self.topology != topology:
            self.note(
                f"resumed after step {self.step} on {topology} instead of {self.topology}: dropout and rounding differ"
            )
        if fell_back:
            self.fell_back = True
            self.note(f"{fell_back} in mixed precision: trained again from the start in fp32")
        self.topology = topology

    def note(self, sentence: str) -> None:
        """Something a reader of the record must know, said once however often the run is interrupted."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def add(self, step: Step) -> list[Step]:
        """Counts a step; those whose losses it now knows, some of them earlier ones."""
        self.step = step.number
        self.rows += step.rows
        self.tokens += step.tokens
        self.computed_tokens += step.computed_tokens
        self.train_seconds += step.seconds
        self.epoch_rows += step.rows
        self.epoch_seconds += step.seconds
        self._unsettled.append(step)
        if not step.is_checked:
            return []
        settled, self._unsettled = self._unsettled, []
        self.epoch_loss += sum(step.loss * step.rows for step in settled)
        return settled

    def close_epoch(self, step: Step, seen: SplitOutcome) -> Epoch:
        """The epoch that `step` ends, after what was seen of the validation split; it is selected if it should be."""
        self.epoch = step.epoch
        self.history.append(
            Epoch(
                epoch=step.epoch,
                step=step.number,
                train_loss=self.epoch_loss / self.epoch_rows,
                learning_rate=step.learning_rate,
                seconds=self.epoch_seconds,
                metrics=seen.values,
            )
        )
        self.epoch_loss, self.epoch_rows, self.epoch_seconds = 0.0, 0, 0.0
        minimised = -seen.main_score if self.select == "best_main_score" else seen.loss
        if self.select == "last" or self.selected_epoch == 0 or minimised < self.lowest:
            self.selected_epoch, self.lowest = step.epoch, minimised
        return self.history[-1]

    def to_json(self) -> dict[str, Any]:
        """All of it in values that JSON has."""
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        history = [epoch.model_dump(mode="json") for epoch in self.history]
        lowest = None if math.isinf(self.lowest) else self.lowest  # JSON has no infinity
        return kept | {"history": history, "seconds_before": self.seconds, "lowest": lowest}

    @classmethod
    def from_json(cls, recipe: Recipe, values: dict[str, Any]) -> Progress:
        """What `to_json` gave, going on from now."""
        progress = cls(recipe)
        vars(progress).update(values)
        progress.history = [Epoch(**epoch) for epoch in values["history"]]
        progress.lowest = math.inf if values["lowest"] is None else values["lowest"]
        return progress


def cost_fields(progress: Progress, peaks: Sequence[int], setup_seconds: float) -> dict[str, Any]:
    """The fields of a record that say what it cost; `peaks`: bytes of each process."""
    seconds = progress.seconds
    return dict(
        rows_per_second=progress.rows / progress.train_seconds,
        tokens_per_second=progress.tokens / progress.train_seconds,
        padding_share=1 - progress.tokens / progress.computed_tokens,
        peak_bytes=max(peaks),
        cost=Cost(
            seconds=seconds,
            setup_seconds=setup_seconds,
            train_seconds=progress.train_seconds,
            evaluate_seconds=max(0.0, seconds - setup_seconds - progress.train_seconds),
            device_seconds=seconds * len(peaks),
            steps=progress.step,
            rows=progress.rows,
            tokens=progress.tokens,
            peak_bytes_per_process=list(peaks),
        ),
    )
