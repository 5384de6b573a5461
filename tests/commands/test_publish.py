"""`harness publish` and `harness leaderboard --from`: a results folder to a dataset of the Hub, and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from huggingface_hub import HfApi
from support.boards import record, record_with_predictions
from support.local_hub import new_commit, serve
from support.records import finished_record
from support.upload_hub import TOKEN, upload_hub

from harness.commands.publish import main
from harness.errors import UserError
from harness.facts.records import read_records, write_record

COMMIT = "c0ffee" + "0" * 34


PULL = """
import sys
from pathlib import Path
from harness.reports.results_repository import pull_records
pull = pull_records(sys.argv[1], Path(sys.argv[2]))
print(pull.source, pull.new, pull.known, *pull.messages)
"""


def python(*args: Any, address: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own: the Hub's client reads its settings once, when it is imported."""
    settings = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    environment = {**os.environ, **settings, "HF_TOKEN": TOKEN}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_results_are_uploaded_and_read_back(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = record_with_predictions("mrpc", 0.7, seed=seed, prediction_files={"validation": f"{seed}.parquet"})
        write_record(run, tmp_path / "mine")
        (tmp_path / f"mine/runs/mrpc/{seed}.parquet").write_bytes(b"predictions")
    with upload_hub(kind="datasets") as server:
        args = ("-m", "harness", "publish", "--to", "me/saved", "--results", tmp_path / "mine")
        done = python(*args, address=server.address, home=tmp_path / "hf")
    assert done.returncode == 0, done.stderr
    assert server.created["type"] == "dataset"
    assert "datasets/me/saved" in done.stdout
    assert {"README.md", "scores.parquet", "leaderboard.md", "leaderboard.html"} < server.files.keys()
    assert server.files["README.md"].startswith(b"---\n")

    folder = new_commit(tmp_path / "hub", "datasets", "me/saved", COMMIT)
    for name, content in server.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    edited = folder / "runs/mrpc/edited.json"
    first = next((folder / "runs/mrpc").glob("*.json"))
    edited.write_bytes(first.read_bytes())
    (folder / "runs/mrpc/code.py").write_text("raise SystemExit")
    scores = pd.read_parquet(folder / "scores.parquet")
    assert sorted(set(scores["seed"])) == [1, 2]
    with serve(tmp_path / "hub") as address:
        args = ("-c", PULL, "hf://datasets/me/saved", tmp_path / "theirs")
        done = python(*args, address=address, home=tmp_path / "hf2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"hf://datasets/me/saved@{COMMIT} 2 0 ")
    assert "edited.json" in done.stdout
    assert read_records(tmp_path / "theirs") == read_records(tmp_path / "mine")
    assert {path.name for path in (tmp_path / "theirs").rglob("*.p*")} == {"1.parquet", "2.parquet"}


def test_a_space_shows_the_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(record("mrpc", 0.7), tmp_path)
    created: dict[str, Any] = {}
    files: dict[str, str] = {}

    def create(_: HfApi, repository: str, **settings: Any) -> SimpleNamespace:
        created.update(settings)
        return SimpleNamespace(repo_id=repository)

    def upload(_: HfApi, folder_path: Path, repo_type: str, **settings: Any) -> None:
        files["repo_type"] = repo_type
        files.update({path.name: path.read_text() for path in folder_path.glob("*.*") if path.suffix != ".parquet"})

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(HfApi, "whoami", lambda _: {"name": "me"})
    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    main(["--to", "spaces/me/saved", "--public", "--results", str(tmp_path)])
    assert (created["repo_type"], created["space_sdk"], created["private"]) == ("space", "static", False)
    assert files["repo_type"] == "space"
    card = yaml.safe_load(files["README.md"].split("---\n")[1])
    assert card["sdk"] == "static"
    assert card["app_file"] in files


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "name"], "--to name"),
        (["--to", "a/b/c"], "--to a/b/c"),
        (["--to", "me/saved.git", "--dry-run"], "--to me/saved.git: "),
        (["--to", "spaces/name"], "--to spaces/name"),
        (["--to", "hf://datasets/name"], "--to hf://datasets/name"),
        (["--to", "me/saved"], "no records found"),
    ],
)
def test_mistakes_are_named(args: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main([*args, "--results", str(tmp_path)])


def test_runs_in_test_mode_are_not_published(tmp_path: Path) -> None:
    write_record(record(spec={"test_mode": True}), tmp_path)
    with pytest.raises(UserError, match="test mode"):
        main(["--to", "me/saved", "--results", str(tmp_path)])


def test_dry_run_lists_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished_record(prediction_files={"validation": "predictions.parquet"})
    path = write_record(run, tmp_path)
    (path.parent / "predictions.parquet").write_bytes(b"rows")
    main(["--to", "me/saved", "--results", str(tmp_path), "--dry-run"])
    shown = capsys.readouterr().out
    assert "1 records" in shown
    assert f"runs/rte/{run.run_id}.json" in shown
    assert "runs/rte/predictions.parquet" in shown
