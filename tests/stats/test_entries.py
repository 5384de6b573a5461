"""Rows of the table: one recipe for each task, and never runs of two kinds."""

from typing import Any

import pytest
from reports.test_leaderboard import record

from harness.stats.entries import rows_of, variant_of


def variants(runs: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], str]:
    """By task and learning rate or epochs or protocol, as text: the variant of the row."""
    records = [record(task, recipe=recipe, seed=seed) for task in runs for recipe in runs[task] for seed in (1, 2)]
    found = rows_of(records)
    return {(run.spec.task, str(run.recipe_changes)): row.variant for run, row in zip(records, found, strict=True)}


def test_recipes_that_differ_by_task_make_one_row() -> None:
    found = variants({"cola": [{"epochs": 2}], "rte": [{"epochs": 2}], "sst2": [{"epochs": 1}], "wnli": [{}]})
    assert set(found.values()) == {"epochs=2 (1: sst2; default: wnli)"}


def test_a_task_with_two_recipes_makes_two_rows_and_the_first_has_most_tasks() -> None:
    found = variants({"cola": [{"epochs": 2}, {"epochs": 9}], "rte": [{"epochs": 2}], "sst2": [{"epochs": 1}]})
    assert found["cola", "{'epochs': 2}"] == found["sst2", "{'epochs': 1}"] == "epochs=2 (1: sst2)"
    assert found["cola", "{'epochs': 9}"] == "epochs=9"


@pytest.mark.parametrize(
    "kind", [{"init_from": "mnli"}, {"protocol": "holdout"}, {"train_rows": 100}, {"select": "best"}], ids=str
)
def test_runs_of_two_kinds_share_no_row(kind: dict[str, Any]) -> None:
    found = variants({"cola": [{"epochs": 2}], "rte": [kind], "mrpc": [kind | {"epochs": 7}]})
    ((name, value),) = kind.items()
    assert found["cola", "{'epochs': 2}"] == "epochs=2"
    assert {variant for (task, _), variant in found.items() if task != "cola"} == {
        # the recipe's own order of hyperparameters
        ", ".join(sorted(["epochs=7 (default: rte)", f"{name}={value}"], key=lambda text: text[0] != "e"))
    }


def test_rows_do_not_depend_on_the_order_of_records() -> None:
    records = [
        record(task, recipe=recipe)
        for task, recipe in [("cola", {"epochs": 2}), ("rte", {"epochs": 4}), ("cola", {"epochs": 4}), ("mrpc", {})]
    ]
    forth, back = rows_of(records), rows_of(records[::-1])
    assert forth == back[::-1]
    assert len(set(forth)) == 2


def test_variant_names_what_most_tasks_have_and_those_that_differ() -> None:
    assert variant_of({"cola": {}, "rte": {}}) == "default"
    assert variant_of({"cola": {"max_grad_norm": None}}) == "max_grad_norm=None"
    assert variant_of({"a": {"epochs": 3}, "b": {"epochs": 3}, "c": {"epochs": 4, "learning_rate": 0.1}}) == (
        "learning_rate=default (0.1: c), epochs=3 (4: c)"
    )
