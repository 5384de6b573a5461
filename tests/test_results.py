"""The published results/: every record is readable, and the leaderboard follows from the records byte by byte."""

import json
import re
import shutil
from pathlib import Path

import matplotlib

from harness.commands.sweep import read_options
from harness.facts.records import read_records
from harness.facts.tasks import load_task
from harness.reports.folder import read_folder, read_pages, write_leaderboard
from harness.reports.plots import PLOTS
from harness.sweeps.plan import expand

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PINNED_MATPLOTLIB = re.findall(r"^matplotlib==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]


def test_every_published_record_is_readable():
    records, messages = read_records(RESULTS)
    assert messages == []
    assert len(records) == 42
    assert not any(record.spec.test_mode for record in records)


def test_published_records_have_no_paths_and_have_their_predictions():
    for results in (RESULTS, RESULTS / "grid"):
        for record in read_records(results).records:
            args = record.command.split()
            assert args[args.index("--results") + 1] == str(results.relative_to(ROOT))
            assert " /" not in record.command
            assert "://" not in record.command
            assert record.environment
            assert record.environment.git_dirty is False
    for record in read_records(RESULTS).records:
        folder = RESULTS / "runs" / record.spec.task
        assert record.prediction_files
        assert all((folder / name).is_file() for name in record.prediction_files.values())


def test_every_line_of_the_adapters_was_chosen_by_its_own_grid():
    entries = json.loads((RESULTS / "adapters" / "leaderboard.json").read_text())["entries"]
    tuned = [(entry["tuning"]["points"], entry["tuning"]["uncounted"], entry["verification"]) for entry in entries]
    assert tuned == [(3, 0, "checked")] * 4
    for record in read_records(RESULTS / "adapters").records:
        assert "--results results/adapters" in record.command
        assert " /" not in record.command


def test_published_grid_chose_the_published_learning_rates():
    chosen = [json.loads(path.read_text()) for path in (RESULTS / "grid" / "grids").glob("*.json")]
    assert {one["selected_on"] for one in chosen} == {"rows that are not reported"}
    by_model = {record.spec.model: record.spec.recipe.learning_rate for record in read_records(RESULTS).records}
    assert {one["model"]: one["chosen"]["learning_rate"] for one in chosen} == by_model
    entries = json.loads((RESULTS / "leaderboard.json").read_text())["entries"]
    assert {(entry["model"], entry["tuning"]["points"], entry["tuning"]["runs"]) for entry in entries} == {
        (model, 4, 4) for model in by_model
    }
    assert {entry["verification"] for entry in entries} == {"checked"}
    assert all(entry["tuning"]["device_seconds"] > 0 and entry["tuning"]["uncounted"] == 0 for entry in entries)


def test_published_leaderboard_follows_from_the_records_and_writing_again_changes_no_byte(tmp_path):
    for folder in ("runs", "grid"):
        shutil.copytree(RESULTS / folder, tmp_path / folder)
    pages, content = read_pages(tmp_path)[0], read_folder(tmp_path)
    write_leaderboard(pages, tmp_path)
    names = [f"leaderboard.{ending}" for ending in ("md", "csv", "json")]
    names += sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("leaderboard/*.html"))
    assert len(names) == 3 + len({record.spec.task for record in read_records(RESULTS).records})
    if matplotlib.__version__ == PINNED_MATPLOTLIB:  # another one may draw the same with other bytes
        names += ["leaderboard.html", *(f"plots/{name}" for name in PLOTS if (RESULTS / "plots" / name).exists())]
        assert {path.name for path in (tmp_path / "plots").iterdir()} == {
            path.name for path in (RESULTS / "plots").iterdir()
        }
    for name in names:
        assert (tmp_path / name).read_bytes() == (RESULTS / name).read_bytes(), f"{name}: run 'harness leaderboard'"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert read_folder(tmp_path) == content, "pages are a function of these records"
    write_leaderboard(pages, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_published_run_ids_are_those_of_the_same_commands():
    for record in read_records(RESULTS).records:
        assert record.run_id == record.spec.run_id
        assert record.spec.task_fingerprint == load_task(record.spec.task).fingerprint


def test_published_sweep_has_all_runs():
    """Six tasks with three seeds and three with one, for two models."""
    _, request = read_options([str(RESULTS / "sweep.yaml")])
    runs = expand(request, lambda task, model: [{}])
    assert len(runs) == 2 * (6 * 3 + 3)
    assert len({run.spec.recipe.learning_rate for run in runs}) == 2, "one for each model"
