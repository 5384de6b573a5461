"""Hyperparameters: the order of their sources, invalid values, and the arithmetic of steps."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import pytest

from harness.errors import UserError
from harness.facts.family_recipes import MODEL_RECIPES, Family, find_family
from harness.facts.recipes import (
    OptimizerName,
    Recipe,
    StepPlan,
    learning_rate_factor,
    plan_steps,
    recipe_difference,
    resolve_recipe,
)
from harness.facts.tasks import all_tasks, load_task

PLAIN = "google-bert/bert-base-cased"
ROBERTA = "FacebookAI/roberta-base"
SIZES = (1, 7, 16, 17, 31, 32, 33, 100)

each_family = pytest.mark.parametrize("family", MODEL_RECIPES, ids=lambda family: family.pattern)


@pytest.mark.parametrize("name", [name for name in Recipe.model_fields if name != "length_grouping"])
def test_switch_is_no_number(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} \(--[a-z0-9-]+\) is True: "):
        Recipe(**{name: True})


# -- order of sources --------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_published_table() -> None:
    """transformers' examples/pytorch/text-classification/README.md: 3 epochs, 2e-5, batch 32, length 128."""
    recipe = Recipe()
    assert (recipe.epochs, recipe.learning_rate, recipe.global_batch_size, recipe.max_length) == (3, 2e-5, 32, 128)
    assert (recipe.schedule, recipe.warmup, recipe.weight_decay, recipe.max_grad_norm) == ("linear", 0.0, 0.0, 1.0)
    assert (recipe.select, recipe.protocol) == ("last", "standard")


def test_plain_model_and_task_give_the_defaults() -> None:
    assert resolve_recipe(PLAIN, "sst2", {}) == Recipe()


def test_task_overrides_the_default() -> None:
    assert resolve_recipe(PLAIN, "mrpc", {"epochs": 5}) == Recipe(epochs=5)


def test_family_overrides_the_default() -> None:
    assert resolve_recipe(ROBERTA, "sst2", {}).epochs == 10


def test_task_overrides_the_family() -> None:
    assert resolve_recipe(ROBERTA, "sst2", {"epochs": 5}).epochs == 5


def test_family_for_this_task_overrides_the_task() -> None:
    assert resolve_recipe(ROBERTA, "mrpc", {"epochs": 5}).epochs == 10


def test_family_for_another_task_changes_nothing() -> None:
    assert resolve_recipe(ROBERTA, "rte", {}).learning_rate == 2e-5
    assert resolve_recipe(ROBERTA, "sst2", {}).learning_rate == 1e-5


def test_override_wins_over_everything() -> None:
    recipe = resolve_recipe(ROBERTA, "mrpc", {"epochs": 5}, {"epochs": 2, "learning_rate": 3e-4})
    assert (recipe.epochs, recipe.learning_rate, recipe.global_batch_size) == (2, 3e-4, 16)


def test_override_with_none_removes_a_value() -> None:
    assert resolve_recipe(PLAIN, "sst2", {}, {"max_grad_norm": None}).max_grad_norm is None


def test_each_source_keeps_values_that_later_ones_do_not_name() -> None:
    recipe = resolve_recipe(ROBERTA, "rte", {"max_length": 64}, {"schedule": "cosine"})
    assert (recipe.adam_beta2, recipe.max_length, recipe.learning_rate, recipe.schedule) == (0.98, 64, 2e-5, "cosine")


def test_resolving_changes_no_source() -> None:
    task_recipe: dict[str, Any] = {"epochs": 5}
    overrides: dict[str, Any] = {"epochs": 2}
    resolve_recipe(ROBERTA, "mrpc", task_recipe, overrides)
    assert (task_recipe, overrides) == ({"epochs": 5}, {"epochs": 2})
    assert resolve_recipe(ROBERTA, "mrpc", task_recipe).epochs == 10


@pytest.mark.parametrize(
    "model, pattern",
    [
        ("FacebookAI/roberta-base", "*/roberta-base"),
        ("roberta-base", "*/roberta-base"),
        ("models/roberta-base/", "*/roberta-base"),
        ("models/roberta-base/.", "*/roberta-base"),
        ("google/electra-base-discriminator", "*electra-*-discriminator"),
        ("google/electra-small-discriminator", "*electra-*-discriminator"),
        ("google/electra-large-discriminator", "*electra-large-discriminator"),
        ("FacebookAI/roberta-large", "*/roberta-large"),
        ("answerdotai/ModernBERT-base", "*modernbert-base"),
        ("answerdotai/ModernBERT-large", "*modernbert-large"),
        ("microsoft/deberta-v3-xsmall", "*/deberta-v3-xsmall"),
        ("microsoft/deberta-v3-large", "*/deberta-v3-large"),
        ("microsoft/deberta-v3-base", "*/deberta-v3-base"),
        ("microsoft/deberta-v3-small", "*/deberta-v3-small"),
    ],
)
def test_family_is_found_by_the_model_name(model: str, pattern: str) -> None:
    family = find_family(model)
    assert family is not None
    assert family.pattern == pattern


@pytest.mark.parametrize(
    "model",
    [
        "google-bert/bert-base-uncased",
        "FacebookAI/roberta-base-finetuned",
        "microsoft/deberta-base",
        "google/electra-base-generator",
        "roberta-base/distilbert",
        "",
    ],
)
def test_other_models_belong_to_no_family(model: str) -> None:
    assert find_family(model) is None


@each_family
def test_family_has_a_source(family: Family) -> None:
    assert family.source.strip()


@each_family
def test_family_is_found_before_any_other_pattern_that_matches(family: Family) -> None:
    assert find_family(family.pattern.replace("*", "x-")) is family


@each_family
def test_family_gives_a_valid_recipe_for_every_task(family: Family) -> None:
    for task in all_tasks():
        recipe = resolve_recipe(family.pattern.replace("*", "x-"), task.name, task.recipe)
        own = {**family.recipe, **task.recipe, **family.by_task.get(task.name, {})}
        assert {name: getattr(recipe, name) for name in own} == own


@each_family
def test_family_names_only_registered_tasks(family: Family) -> None:
    for name in family.by_task:
        assert load_task(name).name == name


@each_family
def test_family_repeats_no_value(family: Family) -> None:
    """A value of a family for a task differs from the value without it."""
    for name, values in family.by_task.items():
        without = {**Recipe().model_dump(), **family.recipe, **load_task(name).recipe}
        assert {key for key, value in values.items() if value != without[key]}, name


def test_difference_is_the_fields_with_other_values() -> None:
    assert recipe_difference(Recipe(epochs=5, warmup=0.1), Recipe(epochs=5)) == {"warmup": 0.1}
    assert recipe_difference(Recipe(), Recipe(max_steps=7)) == {"max_steps": None}
    assert recipe_difference(Recipe(), Recipe()) == {}


def test_equal_numbers_of_other_types_are_not_a_difference() -> None:
    assert recipe_difference(Recipe(warmup=100), Recipe(warmup=100.0)) == {}
    assert recipe_difference(Recipe.model_validate({"learning_rate": "2e-5", "epochs": 3.0}), Recipe()) == {}


# -- invalid values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, flag",
    [
        ({"learning_rate": 0}, "--learning-rate"),
        ({"learning_rate": -2e-5}, "--learning-rate"),
        ({"learning_rate": "fast"}, "--learning-rate"),
        ({"learning_rate": math.inf}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"global_batch_size": 0}, "--global-batch-size"),
        ({"global_batch_size": 1.5}, "--global-batch-size"),
        ({"epochs": 0}, "--epochs"),
        ({"epochs": None}, "--epochs"),
        ({"max_steps": 0}, "--max-steps"),
        ({"warmup": -0.1}, "--warmup"),
        ({"warmup": math.inf}, "--warmup"),
        ({"schedule": "quadratic"}, "--schedule"),
        ({"schedule_power": 0, "schedule": "polynomial"}, "--schedule-power"),
        ({"min_learning_rate_ratio": 1.5}, "--min-learning-rate-ratio"),
        ({"min_learning_rate_ratio": -0.1}, "--min-learning-rate-ratio"),
        ({"weight_decay": -0.01}, "--weight-decay"),
        ({"max_grad_norm": 0}, "--max-grad-norm"),
        ({"max_grad_norm": math.inf}, "--max-grad-norm"),
        ({"adam_beta1": 1}, "--adam-beta1"),
        ({"adam_beta1": -0.1}, "--adam-beta1"),
        ({"adam_beta2": 1}, "--adam-beta2"),
        ({"optimizer": "lamb"}, "--optimizer"),
        ({"momentum": 1, "optimizer": "sgd"}, "--momentum"),
        ({"momentum": -0.1, "optimizer": "sgd"}, "--momentum"),
        ({"freeze": 0}, "--freeze"),
        ({"freeze": "head"}, "--freeze"),
        ({"label_smoothing": 1}, "--label-smoothing"),
        ({"label_smoothing": -0.1}, "--label-smoothing"),
        ({"encoder_dropout": 1}, "--encoder-dropout"),
        ({"head_dropout": 1}, "--head-dropout"),
        ({"head_dropout": -0.1}, "--head-dropout"),
        ({"adam_epsilon": math.inf}, "--adam-epsilon"),
        ({"max_length": 3}, "--max-length"),
        ({"select": "first"}, "--select"),
        ({"select": "acuracy"}, "Did you mean 'accuracy'"),
        ({"select": 3}, "--select"),
        ({"pair_order": "first"}, "--pair-order"),
        ({"label_scaling": "log"}, "--label-scaling"),
        ({"weight_decay_on": "all"}, "--weight-decay-on"),
        ({"weight_decay_on": "biases", "weight_decay": 0.1}, "--weight-decay-on"),
        ({"patience": 0, "select": "best"}, "--patience"),
        ({"protocol": "kfold"}, "--protocol"),
        ({"train_rows": 0}, "--train-rows"),
        ({"adapter": "prefix"}, "--adapter"),
        ({"adapter_rank": 0, "adapter": "lora"}, "--adapter-rank"),
        ({"adapter_alpha": 0, "adapter": "lora"}, "--adapter-alpha"),
        ({"adapter_dropout": 1, "adapter": "lora"}, "--adapter-dropout"),
        ({"adapter_dropout": -0.1, "adapter": "lora"}, "--adapter-dropout"),
        ({"adapter_targets": "query,,value", "adapter": "lora"}, "--adapter-targets"),
    ],
)
def test_invalid_value_is_refused_with_its_flag(overrides: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_recipe(PLAIN, "sst2", {}, overrides)
    value = next(iter(overrides.values()))
    assert flag in str(caught.value)
    assert repr(value) in str(caught.value)


def test_every_invalid_value_is_named_at_once() -> None:
    with pytest.raises(UserError, match=r"--epochs.*--max-length"):
        resolve_recipe(PLAIN, "sst2", {}, {"epochs": 0, "max_length": 1})


def test_unknown_hyperparameter_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'learning_rte'.*Did you mean 'learning_rate'"):
        resolve_recipe(PLAIN, "sst2", {"learning_rte": 1e-5})


def test_warmup_in_steps_is_a_whole_number() -> None:
    with pytest.raises(UserError, match=r"--warmup.* 1\.5"):
        Recipe(warmup=1.5)
    assert Recipe(warmup=2.0).warmup == 2


def test_patience_needs_selection() -> None:
    with pytest.raises(UserError, match=r"--patience.*--select"):
        Recipe(patience=2)
    assert Recipe(patience=2, select="best").patience == 2


@pytest.mark.parametrize("name, value", [("rank", 4), ("alpha", 16.0), ("dropout", 0.1), ("targets", "query")])
def test_settings_need_an_adapter_that_has_them(name: str, value: Any) -> None:
    setting = {f"adapter_{name}": value}
    for adapter in (None, "bitfit") if name == "targets" else (None, "bitfit", "ia3"):
        with pytest.raises(UserError, match=rf"--adapter-{name}\b.*--adapter lora"):
            Recipe(adapter=adapter, **setting)
    for adapter in ("lora", "dora"):
        Recipe(adapter=adapter, **setting)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "polynomial", "inverse_sqrt"])
def test_settings_need_a_schedule_that_has_them(schedule: Any) -> None:
    power = {"schedule_power": 2.0} if schedule == "polynomial" else {}
    if schedule in ("constant", "inverse_sqrt"):
        with pytest.raises(
            UserError, match=rf"--min-learning-rate-ratio.*--schedule linear.* got --schedule {schedule}"
        ):
            Recipe(schedule=schedule, min_learning_rate_ratio=0.1)
    else:
        Recipe(schedule=schedule, min_learning_rate_ratio=0.1, **power)
    with pytest.raises(UserError, match="--schedule-power" if power else r"--schedule-power.*--schedule polynomial"):
        Recipe(schedule=schedule, **({} if power else {"schedule_power": 2.0}))


@pytest.mark.parametrize(
    "name, value, optimizers",
    [
        ("adam_beta1", 0.8, ("adamw", "bertadam", "muon")),
        ("adam_beta2", 0.98, ("adamw", "bertadam", "muon")),
        ("adam_epsilon", 1e-6, ("adamw", "bertadam", "muon")),
        ("momentum", 0.5, ("sgd", "muon")),
    ],
)
def test_settings_need_an_optimizer_that_has_them(name: str, value: float, optimizers: tuple[str, ...]) -> None:
    flag = f"--{name.replace('_', '-')}"
    for optimizer in get_args(OptimizerName):
        if optimizer in optimizers:
            Recipe.model_validate({"optimizer": optimizer, name: value})
        else:
            with pytest.raises(UserError, match=rf"{flag}\b.*--optimizer {optimizers[0]}.*got --optimizer {optimizer}"):
                Recipe.model_validate({"optimizer": optimizer, name: value})
    with pytest.raises(UserError, match=r"--adam-beta2 0\.999"):
        resolve_recipe(ROBERTA, "rte", {}, {"optimizer": "sgd"})
    if name == "momentum":
        with pytest.raises(UserError, match="got --optimizer adamw"):
            Recipe(momentum=value)


def test_muon_excludes_an_adapter() -> None:
    with pytest.raises(UserError, match=r"--optimizer muon.*--adapter lora"):
        Recipe(optimizer="muon", adapter="lora")


@pytest.mark.parametrize("freeze", ["embeddings", 2])
def test_freezing_excludes_an_adapter(freeze: str | int) -> None:
    assert Recipe.model_validate({"freeze": str(freeze)}).freeze == Recipe(freeze=freeze).freeze == freeze  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--freeze.*--adapter lora"):
        Recipe(freeze=freeze, adapter="lora")  # type: ignore[arg-type]


def test_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().epochs = 4  # type: ignore[misc]


DEFAULTS_OF_VERSION_1 = dict(
    learning_rate=2e-5,
    global_batch_size=32,
    epochs=3,
    warmup=0.0,
    schedule="linear",
    weight_decay=0.0,
    max_grad_norm=1.0,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    max_length=128,
    length_grouping=True,
    select="last",
    protocol="standard",
)
"""The only fields with a default other than None: their values are part of the run IDs of published records."""


def test_every_other_field_defaults_to_none_so_that_no_run_is_renamed() -> None:
    """`RunSpec.run_id` leaves None out: a field that is added with None changes no run ID, any other default does."""
    defaults = {name: field.default for name, field in Recipe.model_fields.items()}
    assert {name: value for name, value in defaults.items() if value is not None} == DEFAULTS_OF_VERSION_1


def test_every_hyperparameter_has_a_help_text() -> None:
    assert [name for name, field in Recipe.model_fields.items() if not field.description] == []


def test_recipe_survives_json() -> None:
    recipe = resolve_recipe(ROBERTA, "rte", {}, {"max_grad_norm": None, "max_steps": 3})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


# -- the arithmetic of steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", SIZES)
def test_steps_follow_from_rows_on_any_number_of_processes(rows: int, processes: int) -> None:
    plan = plan_steps(rows, Recipe(global_batch_size=16, epochs=3), processes)
    assert plan.steps_per_epoch == {1: 1, 7: 1, 16: 1, 17: 2, 31: 2, 32: 2, 33: 3, 100: 7}[rows]
    assert plan.total_steps == 3 * plan.steps_per_epoch
    assert plan.epochs == 3


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("global_batch_size", [1, 2, 5, 16, 32, 60, 512])
def test_batches_of_a_step_hold_the_global_batch_and_no_more(global_batch_size: int, processes: int) -> None:
    share = math.ceil(global_batch_size / processes)
    for device_batch_size in [None, *(size for size in range(1, share + 1) if share % size == 0)]:
        plan = plan_steps(100, Recipe(global_batch_size=global_batch_size), processes, device_batch_size)
        room = plan.processes * plan.device_batch_size * plan.accumulation
        assert global_batch_size <= room < global_batch_size + processes
        assert plan.device_batch_size == (device_batch_size or min(plan.device_batch_size, 64))


@pytest.mark.parametrize(
    "global_batch_size, processes, device_batch_size, accumulation",
    [(32, 1, 32, 1), (32, 2, 16, 1), (64, 1, 64, 1), (128, 1, 64, 2), (128, 2, 64, 1), (96, 1, 48, 2), (3, 4, 1, 1)],
)
def test_device_batch_size_is_the_largest_up_to_64(
    global_batch_size: int, processes: int, device_batch_size: int, accumulation: int
) -> None:
    plan = plan_steps(100, Recipe(global_batch_size=global_batch_size), processes)
    assert (plan.device_batch_size, plan.accumulation) == (device_batch_size, accumulation)


def test_requested_device_batch_size_may_exceed_64() -> None:
    plan = plan_steps(1000, Recipe(global_batch_size=256), 2, device_batch_size=128)
    assert (plan.device_batch_size, plan.accumulation) == (128, 1)


@pytest.mark.parametrize(
    "global_batch_size, processes, device_batch_size, share, nearest",
    [
        (32, 1, 12, 32, "8 or 16"),
        (32, 2, 12, 16, "8 or 16"),
        (32, 2, 32, 16, "16"),
        (32, 3, 2, 11, "1 or 11"),
        (32, 1, 0, 32, "1"),
        (32, 1, -4, 32, "1"),
        (3, 4, 2, 1, "1"),
        (10**9, 1, 48, 10**9, "40 or 50"),
        (999_999_937, 1, 48, 999_999_937, "1 or 999999937"),  # a prime
    ],
)
def test_device_batch_size_that_does_not_divide_is_refused_with_the_nearest(
    global_batch_size: int, processes: int, device_batch_size: int, share: int, nearest: str
) -> None:
    with pytest.raises(UserError) as caught:
        plan_steps(100, Recipe(global_batch_size=global_batch_size), processes, device_batch_size)
    message = str(caught.value)
    assert message.startswith(f"--device-batch-size {device_batch_size}: expected a divisor of {share}, ")
    assert f"{processes} process(es) at global batch size {global_batch_size}" in message
    assert message.endswith(f"{nearest}.")


@pytest.mark.parametrize("max_steps, total, epochs", [(None, 21, 3), (1, 1, 1), (7, 7, 1), (8, 8, 2), (50, 50, 8)])
def test_max_steps_overrides_epochs(max_steps: int | None, total: int, epochs: int) -> None:
    plan = plan_steps(100, Recipe(global_batch_size=16, epochs=3, max_steps=max_steps), 1)
    assert (plan.total_steps, plan.epochs) == (total, epochs)


@pytest.mark.parametrize(
    "warmup, steps", [(0, 0), (0.06, 6), (0.1, 10), (0.005, 1), (0.999, 100), (1, 1), (30, 30), (100, 100), (1000, 100)]
)
def test_warmup_below_one_is_a_share_and_from_one_on_a_count(warmup: float, steps: int) -> None:
    assert plan_steps(1000, Recipe(warmup=warmup, max_steps=100), 1).warmup_steps == steps


@pytest.mark.parametrize(
    "rows, recipe, processes, device_batch_size, text",
    [
        (
            67_349,
            Recipe(warmup=0.1),
            2,
            8,
            "global batch size 32 = 2 processes x 8 rows x 2 batches; "
            "67,349 rows = 2,105 steps per epoch, 6,315 steps, 632 warmup",
        ),
        (
            384,
            Recipe(epochs=8, warmup=0.1),
            3,
            None,
            "global batch size 32 <= 3 processes x 11 rows x 1 batch; "
            "384 rows = 12 steps per epoch, 96 steps, 10 warmup",
        ),
        (
            1,
            Recipe(global_batch_size=1, epochs=1),
            1,
            None,
            "global batch size 1 = 1 process x 1 row x 1 batch; 1 row = 1 step per epoch, 1 step, 0 warmup",
        ),
    ],
)
def test_plan_is_printed_with_all_its_numbers(
    rows: int, recipe: Recipe, processes: int, device_batch_size: int | None, text: str
) -> None:
    assert str(plan_steps(rows, recipe, processes, device_batch_size)) == text


# -- learning rates: those of transformers' schedulers ----------------------------------------------------------------

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
