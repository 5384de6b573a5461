"""The steps after which a run is evaluated: the last of each epoch, or those that `evaluate_every` gives."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator

_MAX_STEPS = 10**9
"""Steps that are not a slip of the keyboard, as in every count of a recipe."""


def _parse(value: Any) -> int | float | None:
    """The value of `evaluate_every`, also from a text such as `0.1`; 1.0 is the default, None."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    elif isinstance(value, str) and re.fullmatch(r"[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE]-[0-9]+", value):
        value = float(value)
    if value is None or (isinstance(value, float) and value == 1):
        return None
    if type(value) is int and 1 <= value <= _MAX_STEPS:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError("expected a whole number of steps such as 500, or a fraction of an epoch between 0 and 1 like 0.1")


EvaluateEvery = Annotated[int | float | None, BeforeValidator(_parse)]
"""Steps between evaluations as an int, or their distance in epochs as a float below 1; None: one epoch."""


@dataclass(frozen=True)
class EvaluationSteps:
    """The steps of a run after which it is evaluated, in steps from 1; the last step always is one of them.

    With a fraction f of an epoch of S steps, they are the steps nearest to f S, 2 f S, 3 f S, ... of each epoch, the
    same in all epochs. With a number of steps they are its multiples over the whole run.
    """

    every: int | float | None
    steps_per_epoch: int
    total_steps: int

    def __contains__(self, step: int) -> bool:
        return self.until(step) > self.until(step - 1)

    def until(self, step: int) -> int:
        """The number of evaluations after the first `step` steps."""
        regular = self._regular(step)
        return regular + (step == self.total_steps and regular == self._regular(step - 1))

    def _regular(self, step: int) -> int:
        """The same number without the evaluation after the last step."""
        if isinstance(self.every, int):
            return step // self.every
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self._within_epoch(self.steps_per_epoch) + self._within_epoch(rest)

    def _within_epoch(self, steps: int) -> int:
        """The number of multiples of the distance that are nearest to one of the first steps of an epoch."""
        return math.ceil(Fraction(2 * steps + 1, 2) / max(Fraction(1), self._distance)) - 1

    @cached_property
    def _distance(self) -> Fraction:
        """Steps between evaluations by a fraction, exactly: the decimal 0.1 is no binary number."""
        return Fraction(str(self.every or 1.0)) * self.steps_per_epoch

    def epoch_after(self, step: int) -> int | float:
        """The epochs trained after `step` steps; without `every`, the number of the epoch that the step is in."""
        if self.every is None or step % self.steps_per_epoch == 0:
            return math.ceil(step / self.steps_per_epoch)
        return step / self.steps_per_epoch

    @property
    def note(self) -> str | None:
        """A note for the record if the run is too short for `every`, or `every` too short for an epoch of the run."""
        if self.every is None:
            return None
        if self._regular(self.total_steps) == 0:
            return (
                f"evaluate_every (--evaluate-every) is {self.every}, but the run has {self.total_steps:,} step(s): it "
                "is evaluated after the last one only"
            )
        if not isinstance(self.every, int) and self._distance < 1:
            return (
                f"evaluate_every (--evaluate-every) is {self.every}, less than one step, since an epoch has "
                f"{self.steps_per_epoch:,}: the run is evaluated after every step"
            )
        return None


def epoch_text(epoch: int | float) -> str:
    """Epochs with at most four decimals: `3`, `0.5`."""
    return str(epoch) if isinstance(epoch, int) else f"{epoch:.4f}".rstrip("0").rstrip(".")
