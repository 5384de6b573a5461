"""Output of a run: a progress bar on a terminal, one table line per evaluation, and a summary at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

from harness.facts.evaluation_steps import epoch_text
from harness.facts.recipes import StepPlan
from harness.facts.record_parts import HistoryEntry
from harness.facts.records import RunRecord
from harness.metrics.registry import baseline_name, format_score, title_of

if TYPE_CHECKING:
    from harness.engine.training import Step

SMOOTHING = 0.9
"""Weight of earlier steps in the moving average of the loss."""


class Display:
    """A progress bar on a terminal and a table of evaluations, on the main process; other processes print nothing."""

    def __init__(self, plan: StepPlan, is_main: bool, completed_steps: int = 0) -> None:
        self.is_main = is_main
        self.bar = tqdm(
            total=plan.total_steps,
            initial=completed_steps,
            unit="step",
            dynamic_ncols=True,
            leave=False,
            disable=not (is_main and sys.stderr.isatty()),
        )
        self.has_header = False
        self.loss: float | None = None
        self.rows, self.seconds = 0, 0.0

    def update(self, step: Step) -> None:
        """Advances the bar by one step."""
        if step.is_checked:
            self.loss = step.loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * step.loss
        self.rows, self.seconds = self.rows + step.rows, self.seconds + step.seconds
        self.bar.set_postfix_str(
            f"epoch {step.epoch}, loss {format_score(self.loss)}, learning rate {step.learning_rate:.2e}, "
            f"{self.rows / self.seconds:,.0f} rows/s",
            refresh=False,
        )
        self.bar.update()

    def evaluation(self, evaluation: HistoryEntry) -> None:
        """Prints the line of an evaluation, after the header if it is the first."""
        if not self.is_main:
            return
        columns = [
            ("epoch", epoch_text(evaluation.epoch)),
            ("step", f"{evaluation.step:,}"),
            ("train loss", format_score(evaluation.train_loss)),
            ("learning rate", f"{evaluation.learning_rate:.2e}"),
            *((title_of(name), format_score(value)) for name, value in evaluation.metrics.items()),
            ("seconds", f"{evaluation.seconds:,.1f}"),
        ]
        widths = [max(len(title), 8) for title, _ in columns]
        if not self.has_header:  # a resumed run starts with a later one
            self.has_header = True
            self._line("  ".join(title.rjust(width) for (title, _), width in zip(columns, widths, strict=True)))
        self._line("  ".join(value.rjust(width) for (_, value), width in zip(columns, widths, strict=True)))

    def _line(self, text: str) -> None:
        with self.bar.external_write_mode(file=sys.stdout):
            print(text, flush=True)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def summary(record: RunRecord) -> str:
    """Returns scores, baseline, notes, status and cost of a run as a few lines."""
    lines = []
    for split, values in record.metrics.items():
        scores = ", ".join(f"{title_of(name)} {format_score(value)}" for name, value in values.items())
        lines.append(f"{record.spec.task} {split} ({record.data.rows[split] if record.data else 0:,} rows): {scores}")
        is_regression = record.task.problem_type == "regression"  # whose baseline has no correlation, but errors
        constant = {
            name: value
            for name, value in record.baseline.get(split, {}).items()
            if is_regression or name in record.task.main_metrics
        }
        if constant:
            scores = ", ".join(f"{title_of(name)} {format_score(value)}" for name, value in constant.items())
            lines.append(f"  {baseline_name(record.task.problem_type)}: {scores}")
    if record.threshold is not None:
        lines.append(f"  threshold: labels with a probability of at least {record.threshold:g} are predicted")
    lines += [f"note: {note}" for note in record.notes]
    if record.status != "ok":
        lines.append(f"status: {record.status}" + (f", {record.error}" if record.error else ""))
    if record.cost and record.rows_per_second and record.padding_share is not None and record.peak_bytes:
        lines.append(
            f"{record.cost.seconds:,.1f} s in total, {record.cost.train_seconds:,.1f} s of training at "
            f"{record.rows_per_second:,.0f} rows/s, {record.padding_share:.0%} padding, "
            f"{record.peak_bytes / 2**20:,.0f} MiB peak memory"
        )
    return "\n".join(lines)
