"""The steps after which a run is evaluated: by epochs, by a fraction of an epoch, by steps."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.evaluation_steps import EvaluationSteps, epoch_text
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.records import RunSpec


def steps_of(evaluations: EvaluationSteps) -> list[int]:
    return [step for step in range(1, evaluations.total_steps + 1) if step in evaluations]


@pytest.mark.parametrize(
    "every, steps_per_epoch, total_steps, steps",
    [
        (None, 12, 36, [12, 24, 36]),
        (None, 12, 20, [12, 20]),
        (0.5, 12, 24, [6, 12, 18, 24]),
        (0.5, 7, 21, [4, 7, 11, 14, 18, 21]),
        (0.3, 10, 20, [3, 6, 9, 13, 16, 19, 20]),
        (0.9, 12, 5, [5]),
        (0.01, 3, 4, [1, 2, 3, 4]),
        (5, 12, 20, [5, 10, 15, 20]),
        (5, 12, 22, [5, 10, 15, 20, 22]),
        (500, 12, 36, [36]),
    ],
)
def test_run_is_evaluated_after_these_steps(
    every: float | None, steps_per_epoch: int, total_steps: int, steps: list[int]
) -> None:
    evaluations = EvaluationSteps(every, steps_per_epoch, total_steps)
    assert steps_of(evaluations) == steps
    assert [evaluations.until(step) for step in range(total_steps + 1)] == [
        sum(each <= step for each in steps) for step in range(total_steps + 1)
    ]


def test_tenths_of_any_epoch_are_ten_evaluations() -> None:
    for steps_per_epoch in (10, 12, 77, 1_000, 12_272):
        steps = steps_of(EvaluationSteps(0.1, steps_per_epoch, 2 * steps_per_epoch))
        assert len(steps) == 20
        assert (steps[9], steps[19]) == (steps_per_epoch, 2 * steps_per_epoch)


def test_every_epoch_has_the_steps_nearest_to_the_multiples() -> None:
    draw = random.Random(0)
    for _ in range(300):
        every, in_epoch = round(draw.uniform(0.001, 0.999), 3), draw.randint(1, 60)
        total = draw.randint(1, 3 * in_epoch)
        distance = max(Fraction(1), Fraction(str(every)) * in_epoch)
        nearest = {int(number * distance + Fraction(1, 2)) for number in range(1, 1 + in_epoch)}
        expected = [step for step in range(1, 1 + total) if 1 + (step - 1) % in_epoch in nearest or step == total]
        assert steps_of(EvaluationSteps(every, in_epoch, total)) == expected, (every, in_epoch, total)


def test_epochs_are_whole_numbers_at_their_ends_and_decimals_within() -> None:
    within = EvaluationSteps(0.3, 10, 25)
    assert [within.epoch_after(step) for step in (3, 10, 25)] == [0.3, 1, 2.5]
    assert isinstance(within.epoch_after(10), int)
    assert EvaluationSteps(None, 10, 25).epoch_after(25) == 3
    assert [epoch_text(epoch) for epoch in (3, 0.5, 1 + 2 / 3)] == ["3", "0.5", "1.6667"]


@pytest.mark.parametrize(
    "value, every", [(500, 500), ("500", 500), (0.1, 0.1), ("0.1", 0.1), ("1e-3", 0.001), (1, 1), (10**9, 10**9)]
)
def test_integers_are_steps_and_decimals_below_one_are_epochs(value: Any, every: float) -> None:
    recipe = Recipe(evaluate_every=value)
    assert recipe.evaluate_every == every
    assert type(recipe.evaluate_every) is type(every)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("value", [1.0, "1.0", None])
def test_whole_epoch_is_the_default_and_the_same_run(value: Any) -> None:
    identity = dict(task="rte", task_version=1, task_fingerprint="", data=None, model="a", revision="", seed=1)
    assert Recipe(evaluate_every=value) == Recipe()
    assert (
        RunSpec(recipe=Recipe(evaluate_every=value), **identity).run_id == RunSpec(recipe=Recipe(), **identity).run_id
    )


@pytest.mark.parametrize("value", [0, -1, 0.0, -0.1, 1.5, 2.0, 10**9 + 1, float("nan"), "abc", "1e3", "٣", [1]])
def test_anything_else_is_an_error(value: Any) -> None:
    with pytest.raises(UserError, match=r"--evaluate-every.*500.*0\.1"):
        Recipe(evaluate_every=value)


@pytest.mark.parametrize(
    "every, note",
    [(None, None), (0.25, None), (96, None), (97, "96 step"), (0.01, "every step"), (10**9, "96 step")],
)
def test_run_that_is_too_short_has_a_note(every: float | None, note: str | None) -> None:
    evaluations = plan_steps(384, Recipe(epochs=8, evaluate_every=every), 1).evaluations
    assert evaluations.note is None if note is None else note in (evaluations.note or "")


def test_plan_counts_the_evaluations() -> None:
    assert str(plan_steps(384, Recipe(epochs=8, evaluate_every=0.25), 1)).endswith("0 warmup, 32 evaluations")
