"""What is published under results/ can be trusted: records read, and the leaderboard is theirs to the byte."""

import shutil
from pathlib import Path

from harness.leaderboard import write_leaderboard
from harness.records import read_records
from harness.tasks import load_task

RESULTS = Path(__file__).resolve().parents[1] / "results"


def test_every_published_record_is_read():
    found = read_records(RESULTS)
    assert found.problems == []
    assert len(found.records) >= 6
    assert not any(record.spec.test_mode for record in found.records)


def test_published_leaderboard_is_that_of_the_published_records(tmp_path):
    shutil.copytree(RESULTS / "runs", tmp_path / "runs")
    write_leaderboard(tmp_path)
    for ending in ("md", "csv", "json"):
        name = f"leaderboard.{ending}"
        assert (tmp_path / name).read_bytes() == (RESULTS / name).read_bytes(), f"{name}: run 'harness leaderboard'"


def test_a_second_writing_changes_no_byte(tmp_path):
    shutil.copytree(RESULTS / "runs", tmp_path / "runs")
    write_leaderboard(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("leaderboard.*")}
    write_leaderboard(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("leaderboard.*")}


def test_published_runs_are_those_that_the_same_commands_would_find_finished():
    for record in read_records(RESULTS).records:
        assert record.run_id == record.spec.run_id
        assert record.spec.definition == load_task(record.spec.task).definition
