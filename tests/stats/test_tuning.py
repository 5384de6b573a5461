"""The tuning budget: which entries a grid belongs to, and what its points cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.boards import BERT, record, table

from harness.commands.leaderboard import main, read_leaderboard
from harness.errors import UserError
from harness.facts.choices import GridChoice, TriedPoint, read_choice, write_choice
from harness.facts.records import RunRecord, record_path, write_record
from harness.reports.costs import tuning_text
from harness.reports.markdown import table_head
from harness.reports.standings import Leaderboard
from harness.stats.groups import Group
from harness.stats.tuning import has_chosen

RATES = (1e-5, 3e-5, 5e-5)


def trial(rate: float, task: str = "mrpc", model: str = BERT, **changes: Any) -> RunRecord:
    """A run of the grid: seed 1, so 61 device-seconds."""
    recipe = {"learning_rate": rate, "protocol": "holdout"}
    made = record(task, recipe=recipe, model=model, facts={"report": ["validation_holdout"]}, **changes)
    return made.model_copy(update={"run_id": made.spec.run_id})


def write_grid(results: Path, chosen: float | None = 3e-5, task: str = "mrpc", **changes: Any) -> Path:
    runs = [trial(rate, task) for rate in RATES]
    for run in runs:
        write_record(run, results)
    points = [
        TriedPoint(values={"learning_rate": rate}, runs={task: run.run_id}, scores={task: 0.5}, score=0.5)
        for rate, run in zip(RATES, runs, strict=True)
    ]
    facts = dict(model=BERT, tasks=[task], seed=1, rule="best", selected_on="rows that are not reported", points=points)
    return write_choice(GridChoice(**{**facts, "chosen": chosen and {"learning_rate": chosen}, **changes}), results)


@pytest.mark.parametrize("changes", [{"chosen": {"learning_rate": 1e-3}}, {"points": []}])
def test_chosen_point_is_one_of_the_points(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_grid(tmp_path)
    assert read_choice(path).chosen == {"learning_rate": 3e-5}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=r"invalid grid: chosen: expected the values of one of the points"):
        read_choice(path)


def budgets(results: Path) -> dict[tuple[str, str], Any]:
    """The budget in leaderboard.json by model and recipe."""
    main(["--results", str(results)])
    entries = json.loads((results / "leaderboard.json").read_text())["entries"]
    return {(entry["model"], entry["variant"]): entry["tuning"] for entry in entries}


def test_chosen_point_has_the_cost_of_all_points_and_no_other_point_is_an_entry(tmp_path: Path) -> None:
    path = write_grid(tmp_path)
    by_entry = budgets(tmp_path)
    assert by_entry.pop((BERT, "learning_rate=3e-05, protocol=holdout")) == {
        "grids": [f"grids/{path.name}"],
        "points": 3,
        "runs": 3,
        "uncounted": 0,
        "device_seconds": 3 * 61.0,
    }
    assert by_entry == {}
    lines = table(page := (tmp_path / "leaderboard.md").read_text())
    assert [line["tuning"] for line in lines] == ["3 points, 0.05 h", ""]
    assert "Not ranked: 2 run(s)" in page
    assert f'href="grids/{path.name}"' in (tmp_path / "leaderboard.html").read_text()
    assert "tuning_points" in (tmp_path / "leaderboard.csv").read_text().splitlines()[0]


def test_rejected_point_that_has_a_run_outside_the_grid_is_an_entry(tmp_path: Path) -> None:
    write_grid(tmp_path)
    other = trial(5e-5)
    write_record(record("mrpc", seed=2, recipe=other.spec.recipe.model_dump()), tmp_path)
    recipes = {group.spec.recipe.learning_rate for group in read_leaderboard(tmp_path)[0].groups.values()}
    assert recipes == {3e-5, 5e-5}


@pytest.mark.parametrize(
    ("model", "rate", "task", "per", "is_chosen"),
    [
        (BERT, 3e-5, "mrpc", "task", True),
        (BERT, 3e-5, "rte", "task", False),
        (BERT, 3e-5, "rte", "model", True),
        (BERT, 5e-5, "mrpc", "model", False),
        ("org/other", 3e-5, "mrpc", "model", False),
    ],
)
def test_grid_of_a_folder_within_belongs_to_model_values_and_tasks(
    tmp_path: Path, model: str, rate: float, task: str, per: str, is_chosen: bool
) -> None:
    write_grid(tmp_path / "grid", per=per)
    write_record(record(task, model=model, recipe={"learning_rate": rate}), tmp_path)
    board = read_leaderboard(tmp_path)[0]
    assert [budget.points for budget in board.tuning.values()] == [3] * is_chosen


def test_rung_before_the_last_is_a_part_of_the_search_and_no_entry_of_its_own(tmp_path: Path) -> None:
    path = write_grid(tmp_path)
    facts = read_choice(path)
    longer = trial(3e-5, data={"fingerprint": "longer"}).model_copy(update={"run_id": "longer"})
    last = facts.points[1].model_copy(update={"rung": 2, "runs": {"mrpc": longer.run_id}})
    halved = facts.model_copy(update={"points": [*facts.points, last]})
    path.unlink()
    write_choice(halved, tmp_path)
    write_record(longer, tmp_path)
    board = read_leaderboard(tmp_path)[0]
    assert [(budget.points, budget.runs) for budget in board.tuning.values()] == [(3, 4)]
    (search,) = board.searches
    shown = {run.run_id: has_chosen(search, group) for group in _groups(board) for run in group.runs}
    assert [run_id for run_id, is_chosen in shown.items() if is_chosen] == ["longer"]


def _groups(board: Leaderboard) -> list[Group]:
    return [*board.groups.values(), *(group for group, _ in board.not_ranked)]


def test_grid_without_a_choice_belongs_to_no_entry_and_the_column_is_left_out(tmp_path: Path) -> None:
    write_grid(tmp_path, chosen=None)
    assert "tuning" not in table_head(read_leaderboard(tmp_path)[0])


def test_run_without_a_record_is_counted_as_unknown(tmp_path: Path) -> None:
    write_grid(tmp_path)
    record_path(tmp_path, "mrpc", trial(5e-5).run_id).unlink()
    (budget,) = read_leaderboard(tmp_path)[0].tuning.values()
    assert (budget.runs, budget.uncounted, budget.device_seconds) == (3, 1, 2 * 61.0)
    assert tuning_text(**budget._asdict()) == "3 points, 0.03 h (1 unknown)"


def test_copy_of_a_grid_counts_once(tmp_path: Path) -> None:
    """A backup without the runs, and a link to the folder; the grid is that with the most records."""
    path = write_grid(tmp_path / "grid")
    (tmp_path / "backup" / "grids").mkdir(parents=True)
    (tmp_path / "backup" / "grids" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "latest").symlink_to("grid")
    write_record(record("mrpc", recipe={"learning_rate": 3e-5}), tmp_path)
    board = read_leaderboard(tmp_path)[0]
    (budget,) = board.tuning.values()
    assert (budget.points, budget.runs, budget.uncounted, budget.device_seconds) == (3, 3, 0, 3 * 61.0)
    assert budget.grids == (f"grid/grids/{path.name}",)


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "a"}', '{"points": [{"values": 3}]}'])
def test_file_that_is_no_grid_is_named_and_strict_fails(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_grid(tmp_path)
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["--results", str(tmp_path), "--strict"])
    assert stop.value.code == 1
    assert str(path) in capsys.readouterr().err
