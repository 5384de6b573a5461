"""Scores and metrics of a run's splits: inference on every process, metrics once, on the main process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from accelerate import Accelerator
from torch import nn

from harness.engine import deployment
from harness.engine.encoding import Encoded
from harness.engine.inference import Scores, infer
from harness.facts.outcome import SplitOutcome, prediction_threshold, score_split
from harness.facts.recipes import Recipe
from harness.facts.tasks import TaskSpec
from harness.rows.splits import Split


class Evaluator(NamedTuple):
    """The splits of a run with their gold labels; every process must call each method together."""

    accelerator: Accelerator
    task: TaskSpec
    recipe: Recipe
    encoded: Mapping[str, Encoded]
    splits: Mapping[str, Split]
    batch_size: int

    def scores(self, model: nn.Module, split: str) -> Scores:
        """The model's scores for every row of a split.

        Raises:
            NotFinite: a score is infinite or not a number.
        """
        return infer(self.accelerator, model, self.encoded[split], self.batch_size)

    def threshold(self, scores: Scores) -> float | None:
        """The threshold that goes with these scores of the selection split; None for other than label sets."""
        gold = self.splits[self.task.select_on].label
        return deployment.compute_on_main(
            self.accelerator, lambda: prediction_threshold(self.task, self.recipe, scores, gold)
        )

    def outcome(self, split: str, scores: Scores, threshold: float | None) -> SplitOutcome:
        """Loss and metrics of a labelled split, the same on every process."""
        gold, row_groups = self.splits[split].gold, self.splits[split].row_groups
        return deployment.compute_on_main(
            self.accelerator, lambda: score_split(self.task, split, scores, gold, threshold, row_groups)
        )
