"""The learning rate of each step equals that of transformers' schedulers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from harness.facts.recipes import Recipe, StepPlan, learning_rate_factor, plan_steps

DECAYING: list[dict[str, Any]] = [
    {"schedule": "linear"},
    {"schedule": "cosine"},
    {"schedule": "polynomial", "schedule_power": 2.0},
    {"schedule": "polynomial", "schedule_power": 0.5},
]
FLOORED = [values | {"min_learning_rate_ratio": 0.1} for values in DECAYING]
SCHEDULES = [*DECAYING, *FLOORED, {"schedule": "constant"}, {"schedule": "inverse_sqrt"}]

each_schedule = pytest.mark.parametrize("values", SCHEDULES, ids=lambda values: "-".join(map(str, values.values())))


def _plan(total: int, warmup: int) -> StepPlan:
    return plan_steps(16 * total, Recipe(global_batch_size=16, epochs=1, warmup=warmup), 1)


def _factors(values: dict[str, Any], plan: StepPlan, steps: int) -> list[float]:
    return [learning_rate_factor(step, plan, Recipe(**values)) for step in range(steps)]


def _scheduler(optimizer: Any, values: dict[str, Any], warmup: int, total: int) -> Any:
    """The scheduler of transformers for a peak of 1; its own polynomial is the one with a floor and a linear decay."""
    from transformers import get_scheduler

    schedule, floor = values["schedule"], values.get("min_learning_rate_ratio", 0.0)
    name, settings = schedule, {}
    if schedule == "cosine" and floor:
        name, settings = "cosine_with_min_lr", {"min_lr_rate": floor}
    elif schedule == "polynomial" or floor:
        name, settings = "polynomial", {"lr_end": floor, "power": values.get("schedule_power", 1.0)}
    elif schedule == "constant":
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=settings)


@each_schedule
def test_learning_rate_is_that_of_transformers(values: dict[str, Any]) -> None:
    import torch

    for total, warmup in [(1, 0), (1, 1), (2, 1), (10, 0), (10, 3), (10, 10), (57, 6)]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = _scheduler(optimizer, values, warmup, total)
        expected = []
        for step in range(total):
            expected.append(theirs.get_last_lr()[0])
            optimizer.step()
            if step + 1 < total:  # the polynomial of transformers divides by zero after a warmup of all steps
                theirs.step()
        plan = _plan(total, warmup)
        assert (plan.total_steps, plan.warmup_steps) == (total, warmup)
        assert _factors(values, plan, total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("floor", [None, 0.1])
def test_decay_from_the_start_is_that_of_bert(floor: float | None) -> None:
    values = {"schedule": "linear_from_start", "min_learning_rate_ratio": floor}
    ratio = floor or 0.0
    for total, warmup in [(1, 0), (2, 1), (10, 0), (10, 3), (10, 10), (57, 6)]:
        expected = [step / warmup if step < warmup else 1 - (1 - ratio) * step / total for step in range(total)]
        assert _factors(values, _plan(total, warmup), total) == pytest.approx(expected, abs=1e-12)
        assert _factors(values, _plan(total, 0), total + 2)[-2:] == [ratio, ratio]


@each_schedule
def test_learning_rate_peaks_right_after_the_warmup(values: dict[str, Any]) -> None:
    factors = _factors(values, _plan(total=20, warmup=5), 20)
    assert factors[:6] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert max(factors) == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[5:]))


@pytest.mark.parametrize("values", [*DECAYING, *FLOORED], ids=str)
def test_decaying_schedule_reaches_its_floor_one_step_after_the_last(values: dict[str, Any]) -> None:
    floor = values.get("min_learning_rate_ratio", 0.0)
    factors = _factors(values, _plan(total=10, warmup=0), 16)
    assert factors[9] > floor
    assert factors[10] == factors[15] == floor


def test_last_step_of_linear_and_cosine_by_hand() -> None:
    plan = _plan(total=10, warmup=0)
    assert _factors({"schedule": "linear"}, plan, 10)[9] == pytest.approx(0.1)
    assert _factors({"schedule": "cosine"}, plan, 10)[9] == pytest.approx(0.5 * (1 - math.cos(math.pi / 10)))


@each_schedule
def test_warmup_that_fills_the_run_never_divides_by_zero(values: dict[str, Any]) -> None:
    assert _factors(values, _plan(total=4, warmup=4), 5) == [0.0, 0.25, 0.5, 0.75, 1.0]
