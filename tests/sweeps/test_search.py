"""The search of a grid: the best point on the selection split, written to a file, and the rungs of a halving."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.commands.sweep import read_options
from harness.facts.choices import GridChoice, Per, read_choice, write_choice
from harness.facts.records import RunRecord
from harness.facts.tasks import load_task, task_text
from harness.stats.groups import group_runs
from harness.sweeps import search
from harness.sweeps.plan import PlannedRun, expand, points_of
from harness.sweeps.search import (
    choice_text,
    half,
    number_of_rungs,
    protocol_of,
    rung_epochs,
    selection_score,
    sweep_file_lines,
)

GRID = {"learning_rate": [1e-5, 3e-5], "global_batch_size": [16, 32]}

Records = dict[str, RunRecord]


@pytest.fixture
def trials(make_record: Callable[..., RunRecord], tmp_path: Path) -> Callable[..., tuple[list[PlannedRun], Records]]:
    """Makes the runs of a grid over learning rates, from the accuracies on the selection half by task."""

    def make(scores: dict[str, list[float | None]], status: str = "ok") -> tuple[list[PlannedRun], Records]:
        args = ["--tasks", *scores, "--models", "org/a", "--seeds", "0", "--results", str(tmp_path)]
        _, request = read_options(args)
        rates = [10.0**-number for number in range(2, 2 + len(next(iter(scores.values()))))]
        runs = expand(request, lambda task, model: [{"learning_rate": rate, "protocol": "holdout"} for rate in rates])
        records = {}
        for run in runs:
            value = scores[run.task.name][rates.index(run.spec.recipe.learning_rate)]
            metrics = {"validation": {"accuracy": value}, "validation_holdout": {"accuracy": 0.1}}
            changes = {"metrics": {}, "status": status} if value is None else {"metrics": metrics}
            records[run.run_id] = make_record(run.task.name).model_copy(update=changes)
        return runs, records

    return make


POINTS = [{"learning_rate": 0.01}, {"learning_rate": 0.001}, {"learning_rate": 0.0001}]


def choose(runs: Sequence[PlannedRun], records: Mapping[str, RunRecord], per: Per) -> list[GridChoice]:
    """The choices among `POINTS` by scores on rows that are not reported."""
    return search.choose(runs, POINTS, records, search.SearchSettings(per, False, False, False), rung=1)


def test_points_are_all_combinations() -> None:
    assert points_of(GRID) == [
        {"learning_rate": 1e-5, "global_batch_size": 16},
        {"learning_rate": 1e-5, "global_batch_size": 32},
        {"learning_rate": 3e-5, "global_batch_size": 16},
        {"learning_rate": 3e-5, "global_batch_size": 32},
    ]
    assert points_of({}) == [{}]


def test_each_task_has_its_own_choice(trials: Any) -> None:
    runs, records = trials({"rte": [0.6, 0.8, 0.7], "cola": [0.9, 0.2, 0.3]})
    choices = choose(runs, records, "task")
    assert [(choice.tasks, choice.chosen) for choice in choices] == [
        (["rte"], {"learning_rate": 0.001}),
        (["cola"], {"learning_rate": 0.01}),
    ]
    assert choices[0].points[1].score == 0.8, "of the selection half, not of the reported one"


def test_a_model_has_one_choice_by_the_mean_over_its_tasks(trials: Any) -> None:
    runs, records = trials({"rte": [0.6, 0.8, 0.7], "cola": [0.9, 0.2, 0.85]})
    (choice,) = choose(runs, records, "model")
    assert choice.tasks == ["rte", "cola"]
    assert choice.chosen == {"learning_rate": 0.0001}
    assert choice.points[2].score == pytest.approx((0.7 + 0.85) / 2)
    assert choice_text(choice).startswith(
        "grid for rte, cola, org/a: chosen learning_rate=0.0001 (learning_rate=0.01: 0.75"
    )


def test_tie_goes_to_the_first_point(trials: Any) -> None:
    runs, records = trials({"rte": [0.6, 0.8, 0.8]})
    (choice,) = choose(runs, records, "task")
    assert choice.chosen == {"learning_rate": 0.001}
    assert "1 other point, later in the grid, scored" in choice_text(choice)
    (choice,) = choose(*trials({"rte": [0.6, 0.8, 0.6]}), "task")
    assert "tied" not in choice_text(choice), "only a tie for the choice counts"


def test_diverged_point_is_never_chosen(trials: Any) -> None:
    runs, records = trials({"rte": [0.1, None, 0.2]}, status="diverged")
    (choice,) = choose(runs, records, "task")
    assert choice.chosen == {"learning_rate": 0.0001}
    assert "learning_rate=0.001: no score" in choice_text(choice)
    runs, records = trials({"rte": [0.1, None, 0.2], "cola": [None, 0.3, None]}, status="diverged")
    (choice,) = choose(runs, records, "model")
    assert choice.chosen is None
    assert "no point has a score" in choice_text(choice)


def test_nothing_is_chosen_while_a_point_has_failed(trials: Any) -> None:
    runs, records = trials({"rte": [0.1, None, 0.2]}, status="failed")
    assert choose(runs, records, "task")[0].chosen is None
    runs, records = trials({"rte": [0.1, 0.3, 0.2]})
    del records[runs[0].run_id]
    assert choose(runs, records, "task")[0].chosen is None


def test_score_is_the_main_score_negated_where_lower_is_better(make_record: Callable[..., RunRecord]) -> None:
    facts = {"main_metrics": ["pearson", "spearman"]}
    assert selection_score(make_record("stsb", {"pearson": 0.5, "spearman": 0.7}, facts=facts)) == pytest.approx(0.6)
    assert selection_score(make_record("stsb", {"pearson": None, "spearman": 0.7}, facts=facts)) is None
    assert selection_score(make_record("x", {"mse": 2.0})) == -2.0


def test_protocol_keeps_selection_from_the_reported_rows() -> None:
    assert protocol_of(load_task("rte"), select_on_reported=False) == {"protocol": "holdout"}
    assert protocol_of(load_task("rte"), select_on_reported=True) == {"protocol": "tuned_on_reported"}
    assert protocol_of(load_task("ttc4900"), select_on_reported=False) == {}, "it reports its test split"
    assert protocol_of(load_task("ttc4900"), select_on_reported=True) == {}


def test_choice_is_written_to_a_file_that_does_not_change(trials: Any, tmp_path: Path) -> None:
    runs, records = trials({"rte": [0.6, 0.8, 0.7]})
    (choice,) = choose(runs, records, "task")
    path = write_choice(choice, tmp_path)
    assert path.parent == tmp_path / "grids"
    before = path.read_bytes()
    assert read_choice(path) == choice
    content = json.loads(before)
    assert content["chosen"] == {"learning_rate": 0.001}
    assert [point["scores"] for point in content["points"]] == [{"rte": 0.6}, {"rte": 0.8}, {"rte": 0.7}]
    assert content["points"][1]["runs"] == {"rte": runs[1].run_id}
    assert content["seed"] == 0
    assert write_choice(choice, tmp_path) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("per", ["task", "model"])
def test_printed_lines_are_a_sweep_file_with_the_choice(trials: Any, per: Any, tmp_path: Path) -> None:
    runs, records = trials({"rte": [0.6, 0.8, 0.7], "cola": [0.9, 0.2, 0.3]})
    file = tmp_path / "chosen.yaml"
    file.write_text("tasks: [rte, cola]\n" + sweep_file_lines(choose(runs, records, per), runs))
    assert yaml.safe_load(file.read_text())["models"].keys() == {"org/a"}
    _, request = read_options([str(file)])
    rates = {run.task.name: run.spec.recipe.learning_rate for run in expand(request)}
    assert rates == ({"rte": 0.001, "cola": 0.01} if per == "task" else {"rte": 0.01, "cola": 0.01})


def test_printed_lines_name_a_task_by_its_path_where_the_sweep_does(
    make_record: Callable[..., RunRecord], tmp_path: Path
) -> None:
    own, file = tmp_path / "own.yaml", tmp_path / "chosen.yaml"
    own.write_text(task_text(load_task("rte")).replace("suite: glue\n", ""))
    _, request = read_options(["--tasks", str(own), "--models", "org/a", "--results", str(tmp_path)])
    runs = expand(request, lambda task, model: POINTS)
    record = make_record("rte").model_copy(update={"metrics": {"validation": {"accuracy": 0.5}}})
    choices = choose(runs, dict.fromkeys([run.run_id for run in runs], record), "task")
    file.write_text(f"tasks: [{own}]\n" + sweep_file_lines(choices, runs))
    assert [run.spec.recipe.learning_rate for run in expand(read_options([str(file)])[1])] == [0.01]


def test_nothing_chosen_is_no_override(trials: Any) -> None:
    runs, _ = trials({"rte": [0.6, 0.8, 0.7]})
    assert sweep_file_lines(choose(runs, {}, "task"), runs) == "models:"


def test_choice_by_the_reported_score_is_marked(make_record: Callable[..., RunRecord]) -> None:
    def mark_of(protocol: str) -> frozenset[str]:
        (group,) = group_runs([make_record("rte", recipe={"protocol": protocol})])
        return group.marks

    assert mark_of("tuned_on_reported") == {"g"}
    assert mark_of("holdout") == {"h"}
    assert mark_of("standard") == frozenset()


@pytest.mark.parametrize(
    ("points", "epochs", "rungs"),
    [(8, 8, [1, 2, 4, 8]), (8, 3, [1, 2, 3]), (4, 10, [3, 5, 10]), (3, 10, [3, 5, 10]), (2, 3, [2, 3]), (9, 1, [1])],
)
def test_rungs_end_with_all_epochs_and_begin_with_one_or_with_all_points(
    points: int, epochs: int, rungs: list[int]
) -> None:
    number = number_of_rungs(points, epochs)
    assert [rung_epochs(rung, number, epochs) for rung in range(1, number + 1)] == rungs
    left = points
    for _ in range(number - 1):
        left = half(left)
    assert left == 1 or rungs[0] == 1
