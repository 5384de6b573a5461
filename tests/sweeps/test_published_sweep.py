"""The sweep of a published row has exactly the stated recipe, and reasons against a comparison are known before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.engine.test_mode import RECIPE as TEST_MODE_RECIPE
from harness.errors import UserError
from harness.facts.published import load_row, published_rows, row_names
from harness.facts.recipes import Recipe
from harness.sweeps.file import Sweep, read_sweep
from harness.sweeps.plan import PlannedRun, SweepRequest, expand, tasks_of
from harness.sweeps.published_sweep import comparable_scores, obstacles, seeds_of, sweep_of, sweep_text


def _runs(sweep: Sweep, *args: str, is_test_mode: bool = False) -> list[PlannedRun]:
    sweep = sweep.model_copy(update={"tasks": tasks_of(sweep)})
    return expand(SweepRequest(sweep, {}, args, is_test_mode))


VARIANTS = [(name, variant) for name, row in published_rows().items() for variant in (None, *row.conflicts)]


@pytest.mark.parametrize("name, variant", VARIANTS)
def test_runs_have_the_recipe_that_the_row_states_and_no_other_default(name: str, variant: str | None) -> None:
    row = load_row(name)
    if not (tasks := comparable_scores(row)):
        assert all(obstacles(row, task).keys() == set(row.tasks[task].scores) for task in row.tasks)
        return
    chosen = sorted(tasks, key=lambda task: "init_from" not in (row.recipe_of(task) or {}))[:2]
    runs = _runs(sweep_of(row, chosen, variant=variant, seeds=1))
    assert {run.task.name for run in runs if run.is_requested} == set(chosen)
    for run in runs:
        assert run.spec.recipe == Recipe(**(row.recipe_of(run.task.name, variant) or {}))
        assert run.spec.model == row.model


def test_text_of_the_sweep_is_a_sweep_file(tmp_path: Path) -> None:
    sweep = sweep_of(load_row("roberta-large-lora"), ["sst2", "rte"], variant="script")
    path = tmp_path / "sweep.yaml"
    path.write_text(sweep_text(sweep), encoding="utf-8")
    assert read_sweep(path) == sweep


def test_a_task_starts_from_the_row_s_own_parent() -> None:
    runs = _runs(sweep_of(load_row("roberta-base-lora"), ["rte"], seeds=2))
    parents = {run.run_id: run for run in runs if not run.is_requested}
    assert {run.spec.parent for run in runs if run.is_requested} == parents.keys()
    assert {(run.task.name, run.spec.recipe.epochs, run.spec.recipe.adapter) for run in parents.values()} == {
        ("mnli", 30, "lora")
    }


def test_a_copy_of_the_model_gets_the_same_recipe(tiny_model: Path, tmp_path: Path) -> None:
    row = load_row("electra-large")
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text()) | {"max_position_embeddings": 512}
    (copy / "config.json").write_text(json.dumps(config))
    (run, *_) = _runs(sweep_of(row, ["rte"], model=str(copy)))
    assert run.spec.recipe == Recipe(**(row.recipe_of("rte") or {}))
    assert run.spec.revision.startswith("sha256:")


@pytest.mark.parametrize("is_grouped, flags", [(False, {"--no-length-grouping"}), (True, set())])
def test_switch_of_the_recipe_is_a_flag_without_a_value(is_grouped: bool, flags: set[str]) -> None:
    row = load_row("bert-base-cased")
    row = row.model_copy(update={"recipe": {**(row.recipe or {}), "length_grouping": is_grouped}})
    (run, *_) = _runs(sweep_of(row, ["rte"]))
    assert run.spec.recipe.length_grouping is is_grouped
    assert {arg for arg in run.args if "length-grouping" in arg} == flags


def test_test_mode_keeps_its_own_hyperparameters() -> None:
    (run, *_) = _runs(sweep_of(load_row("electra-large"), ["rte"], is_test_mode=True), "--test-mode", is_test_mode=True)
    assert (run.spec.recipe.epochs, run.spec.recipe.layer_decay) == (8, 0.9)


def test_test_mode_has_its_own_length_and_the_layers_of_its_own_model() -> None:
    def recipe(name: str, task: str) -> Recipe:
        sweep = sweep_of(load_row(name), [task], is_test_mode=True)
        return _runs(sweep, "--test-mode", is_test_mode=True)[0].spec.recipe

    albert, lora = recipe("albert-base-v2", "mnli"), recipe("deberta-v2-xxlarge-lora", "cola")
    assert (albert.max_steps, albert.epochs, albert.evaluate_every) == (None, 8, 100)
    assert (lora.adapter_targets, lora.adapter_rank) == (None, 16)


@pytest.mark.parametrize("name", [name for name in row_names() if comparable_scores(load_row(name))])
def test_every_row_has_a_valid_recipe_in_test_mode(name: str) -> None:
    row = load_row(name)
    for settings in sweep_of(row, comparable_scores(row), is_test_mode=True).tasks.values():
        Recipe(**{**TEST_MODE_RECIPE, **settings.recipe})


def test_seeds_are_those_of_the_row_or_as_many() -> None:
    row = load_row("roberta-base-lora")
    assert seeds_of(row, "rte") == (0, 1, 2, 3, 4)
    assert seeds_of(load_row("bert-base-cased"), "rte") == (0, 1, 2, 3, 4), "one seed has no spread"
    own = row.model_copy(update={"seeds": (1, 7)})
    assert [seeds_of(own, "rte", number) for number in (None, 1, 4)] == [(1, 7), (1,), (1, 7, 0, 2)]


@pytest.mark.parametrize(
    "name, task, part",
    [
        ("bert-base-glue-server", "cola", "hidden"),
        ("modernbert-base", "mrpc", None),
        ("minilm-l6", "cola", "recipe"),
        ("roberta-base", "cola", None),
    ],
)
def test_reasons_against_a_comparison(name: str, task: str, part: str | None) -> None:
    reasons = obstacles(load_row(name), task)
    assert [part in reason for reason in reasons.values() if part] == [True] * bool(part)
    assert bool(reasons) == bool(part)


def test_another_metric_split_or_task_is_a_reason() -> None:
    row = load_row("roberta-base")
    (score,) = row.tasks["rte"].scores
    for change, part in (({"metric": "f1_macro"}, "metric"), ({"split": "half"}, "split")):
        changed = row.tasks["rte"].model_copy(update={"scores": (score.model_copy(update=change),)})
        other = row.model_copy(update={"tasks": {"rte": changed, "own": changed}})
        assert [f"another {part}" in reason for reason in obstacles(other, "rte").values()] == [True]
        assert ["not found" in reason for reason in obstacles(other, "own").values()] == [True]


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UserError, match="'script'"):
        sweep_of(load_row("roberta-base-lora"), ["rte"], variant="scripts")
    with pytest.raises(UserError, match="no variants"):
        sweep_of(load_row("roberta-base"), ["rte"], variant="script")
