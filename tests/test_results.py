"""What is published under results/ can be trusted: records read, and the leaderboard is theirs to the byte."""

import re
import shutil
from pathlib import Path

import matplotlib

from harness.leaderboard import write_leaderboard
from harness.plots import PLOTS
from harness.records import read_records
from harness.sweep import read_options
from harness.sweep_plan import expand
from harness.tasks import load_task

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PINNED_MATPLOTLIB = re.findall(r"^matplotlib==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]


def test_every_published_record_is_read():
    found = read_records(RESULTS)
    assert found.problems == []
    assert len(found.records) >= 6
    assert not any(record.spec.test_mode for record in found.records)


def test_published_leaderboard_is_that_of_the_published_records(tmp_path):
    shutil.copytree(RESULTS / "runs", tmp_path / "runs")
    write_leaderboard(tmp_path)
    names = [f"leaderboard.{ending}" for ending in ("md", "csv", "json")]
    if matplotlib.__version__ == PINNED_MATPLOTLIB:  # another one may draw the same with other bytes
        names += ["leaderboard.html", *(f"plots/{name}" for name in PLOTS)]
    for name in names:
        assert (tmp_path / name).read_bytes() == (RESULTS / name).read_bytes(), f"{name}: run 'harness leaderboard'"


def test_a_second_writing_changes_no_byte(tmp_path):
    shutil.copytree(RESULTS / "runs", tmp_path / "runs")
    write_leaderboard(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_leaderboard(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_published_runs_are_those_that_the_same_commands_would_find_finished():
    for record in read_records(RESULTS).records:
        assert record.run_id == record.spec.run_id
        assert record.spec.definition == load_task(record.spec.task).definition


def test_published_sweep_is_one():
    """Six tasks with three seeds and three with one, for two models."""
    _, request = read_options([str(RESULTS / "sweep.yaml")])
    runs = expand(request, lambda task, model: [{}])
    assert len(runs) == 2 * (6 * 3 + 3)
    assert len({run.spec.recipe.learning_rate for run in runs}) == 2, "one for each model"
