"""Entries of the leaderboard: one recipe for each task, and never scores of different meaning."""

from typing import Any

import pytest
from support.boards import record

from harness.stats.entries import entries_of, variant_of


def variants(runs: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], str]:
    """The variant of the entry of each task and recipe."""
    records = [record(task, recipe=recipe, seed=seed) for task in runs for recipe in runs[task] for seed in (1, 2)]
    entries = entries_of(records)
    return {
        (run.spec.task, str(run.recipe_changes)): entry.variant for run, entry in zip(records, entries, strict=True)
    }


def test_recipes_that_differ_by_task_make_one_entry() -> None:
    by_recipe = variants({"cola": [{"epochs": 2}], "rte": [{"epochs": 2}], "sst2": [{"epochs": 1}], "wnli": [{}]})
    assert set(by_recipe.values()) == {"epochs=2 (1: sst2; default: wnli)"}


def test_a_task_with_two_recipes_makes_two_entries_and_the_first_has_most_tasks() -> None:
    by_recipe = variants({"cola": [{"epochs": 2}, {"epochs": 9}], "rte": [{"epochs": 2}], "sst2": [{"epochs": 1}]})
    assert by_recipe["cola", "{'epochs': 2}"] == by_recipe["sst2", "{'epochs': 1}"] == "epochs=2 (1: sst2)"
    assert by_recipe["cola", "{'epochs': 9}"] == "epochs=9"


@pytest.mark.parametrize(
    "change", [{"init_from": "mnli"}, {"protocol": "holdout"}, {"train_rows": 100}, {"select": "best"}], ids=str
)
def test_scores_of_different_meaning_share_no_entry(change: dict[str, Any]) -> None:
    by_recipe = variants({"cola": [{"epochs": 2}], "rte": [change], "mrpc": [change | {"epochs": 7}]})
    ((name, value),) = change.items()
    assert by_recipe["cola", "{'epochs': 2}"] == "epochs=2"
    assert {variant for (task, _), variant in by_recipe.items() if task != "cola"} == {
        # the recipe's own order of hyperparameters
        ", ".join(sorted(["epochs=7 (default: rte)", f"{name}={value}"], key=lambda text: text[0] != "e"))
    }


def test_entries_do_not_depend_on_the_order_of_records() -> None:
    records = [
        record(task, recipe=recipe)
        for task, recipe in [("cola", {"epochs": 2}), ("rte", {"epochs": 4}), ("cola", {"epochs": 4}), ("mrpc", {})]
    ]
    entries = entries_of(records)
    assert entries == entries_of(records[::-1])[::-1]
    assert len(set(entries)) == 2


def test_variant_has_the_usual_value_and_the_exceptions() -> None:
    assert variant_of({"cola": {}, "rte": {}}) == "default"
    assert variant_of({"cola": {"max_grad_norm": None}}) == "max_grad_norm=None"
    assert variant_of({"a": {"epochs": 3}, "b": {"epochs": 3}, "c": {"epochs": 4, "learning_rate": 0.1}}) == (
        "learning_rate=default (0.1: c), epochs=3 (4: c)"
    )
