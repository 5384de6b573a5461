"""A row made from records states their recipe, seeds and scores, and no mixture of several recipes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.published import read_row, row_text
from harness.facts.records import RunRecord
from harness.reports.own_row import own_row

Make = Callable[..., RunRecord]


@pytest.fixture
def make(make_record: Make) -> Make:
    def make(task: str = "rte", seed: int = 1, recipe: dict[str, Any] | None = None, **fields: Any) -> RunRecord:
        fields = {"scores": {"accuracy": 0.7 + seed / 100}, **fields}
        return make_record(task, seed=seed, recipe={"learning_rate": 1e-4, **(recipe or {})}, **fields)

    return make


def test_row_has_recipe_seeds_and_scores(make: Make) -> None:
    records = [
        make(task, seed, recipe) for task, recipe in (("rte", {"epochs": 9}), ("qnli", {})) for seed in (1, 2, 3)
    ]
    row = own_row(records, "mine")
    assert (row.name, row.model, row.revision, row.seeds, row.aggregate) == (
        "mine",
        "example/bert",
        None,
        (1, 2, 3),
        "mean",
    )
    assert row.recipe == {"learning_rate": 1e-4}
    assert row.recipe_of("rte") == {"learning_rate": 1e-4, "epochs": 9}
    (score,) = row.tasks["rte"].scores
    assert (score.metric, score.split, score.value, score.plus_minus) == ("accuracy", "validation", 72.0, 1.0)
    assert score.by_seed == (71.0, 72.0, 73.0)
    assert any("bf16" in note for note in row.notes)


def test_a_small_error_keeps_its_digits(make: Make, tmp_path: Path) -> None:
    small = {1: 0.0000213, 2: 0.0000215}
    row = own_row([make(seed=seed, scores={"mse": value}) for seed, value in small.items()], "mine")
    (score,) = row.tasks["rte"].scores
    assert (score.value, score.by_seed) == (0.0000214, (0.0000213, 0.0000215))
    assert score.plus_minus == pytest.approx(1.41e-7)
    (tmp_path / "mine.yaml").write_text(row_text(row), encoding="utf-8")
    assert read_row(tmp_path / "mine.yaml").tasks["rte"].scores == (score,)


def test_default_recipe_is_a_recipe(make_record: Make, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(row_text(own_row([make_record()], "mine")), encoding="utf-8")
    row = read_row(path)
    assert row.recipe_of("rte") == {}, "a recipe, although it changes nothing"
    assert row.tasks["rte"].scores[0].plus_minus is None


def test_tasks_may_have_other_seeds_and_names(make: Make) -> None:
    records = [make("rte", 1), make("rte", 2), make("qnli", 7)]
    row = own_row(records, "mine")
    assert [(row.seeds_of(task), row.seeds) for task in ("rte", "qnli")] == [((1, 2), None), ((7,), None)]
    assert list(own_row(records, "mine", tasks={"qnli": "my/qnli.yaml"}).tasks) == ["my/qnli.yaml"]


def test_runs_that_others_start_from_are_in_the_row(make: Make) -> None:
    first, other = make("mnli", 1), make("mnli", 1, {"epochs": 9})
    child = make(
        "rte",
        1,
        {"init_from": "mnli"},
        spec={"parent": first.run_id},
        parent_group_key=first.spec.group_key(None),
    )
    row = own_row([first, other, child], "mine", tasks={"rte": "rte"})
    assert row.recipe_of("mnli") == {"learning_rate": 1e-4}
    assert row.recipe_of("rte") == {"learning_rate": 1e-4, "init_from": "mnli"}
    assert [bool(row.tasks[task].scores) for task in ("mnli", "rte")] == [False, True]
    assert own_row([first, other, child], "mine").recipe_of("mnli") == {"learning_rate": 1e-4}, "the parent is chosen"
    with pytest.raises(UserError, match="mnli"):
        own_row([other, child], "mine", tasks={"rte": "rte"})


@pytest.mark.parametrize(
    "changes, kwargs, part",
    [
        ([], {}, "no records"),
        ([{}, {"model": "org/other"}], {}, "--model: missing"),
        ([{}], {"model": "example/bet"}, "'example/bert'"),
        ([{}, {"recipe": {"epochs": 9}}], {}, "several recipes"),
        ([{}, {"seed": 2, "spec": {"revision": "v2"}}], {}, "several revisions"),
        ([{}, {"seed": 2, "status": "diverged", "metrics": {}}], {}, "1 of 2 runs"),
        ([{"scores": {"accuracy": None}}], {}, "undefined"),
        ([{}], {"tasks": {"rta": "rta"}}, "'rte'"),
    ],
)
def test_records_that_make_no_row(make: Make, changes: list[dict[str, Any]], kwargs: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as error:
        own_row([make(**change) for change in changes], "mine", **kwargs)
    assert part in str(error.value)
    assert set(re.findall(r"--[a-z-]+", str(error.value))) <= {"--write", "--results", "--model", "--tasks"}
