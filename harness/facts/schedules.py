"""The learning rate of each step, as a share of its peak."""

from __future__ import annotations

import math

from harness.facts.recipes import Recipe, StepPlan

INVERSE_SQRT_STEPS = 10_000
"""Steps after which the inverse square root without a warmup has fallen to 1 / sqrt(2), as in transformers."""


def learning_rate_factor(step: int, plan: StepPlan, recipe: Recipe) -> float:
    """The learning rate of step number `step`, from 0, as a share of the peak.

    Equals transformers' get_*_schedule_with_warmup: the first of W warmup steps has 0/W, the first step after them the
    peak, and a decaying schedule reaches its floor one step after the last. `linear_from_start` is that of BERT's
    optimization.py: the decay counts from step 0, so that it never has the peak after a warmup.
    """
    if step < plan.warmup_steps:
        return step / plan.warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "inverse_sqrt":
        scale = plan.warmup_steps or INVERSE_SQRT_STEPS
        return math.sqrt(scale / (step - plan.warmup_steps + scale))
    start = 0 if recipe.schedule == "linear_from_start" else plan.warmup_steps
    progress = min(1.0, (step - start) / max(1, plan.total_steps - start))
    if recipe.schedule == "cosine":
        decay = 0.5 * (1.0 + math.cos(math.pi * progress))
    else:
        decay = 1.0 - progress if recipe.schedule_power is None else (1.0 - progress) ** recipe.schedule_power
    floor = recipe.min_learning_rate_ratio or 0.0
    return floor + (1.0 - floor) * decay
