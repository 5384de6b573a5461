"""Records of a foreign repository are accepted only if they are records, of bounded size, and contradict nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from support.records import finished_record

from harness.errors import UserError
from harness.facts.records import read_records, record_path, record_text, write_record
from harness.reports import results_repository
from harness.reports.results_repository import pull_records

ADDRESS = "hf://datasets/org/results"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files the Hub lists and the download brings."""
    folder = tmp_path / "repository"
    folder.mkdir()

    def listing(*_: Any, **__: Any) -> list[RepoFile]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return [
            RepoFile(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, oid="0" * 40) for path in files
        ]

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(HfApi, "list_repo_tree", listing)
    monkeypatch.setattr(results_repository, "_download", lambda repository, commit: str(folder))
    return folder


def test_new_and_known_records_are_counted(repository: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_record(finished_record(seed=seed), repository)
    write_record(finished_record(seed=1), tmp_path / "results")
    pull = pull_records(ADDRESS, tmp_path / "results")
    assert (pull.source, pull.new, pull.known) == (f"{ADDRESS}@c0ffee", 1, 1)
    assert len(read_records(tmp_path / "results").records) == 2


def test_edited_records_are_not_accepted(repository: Path, tmp_path: Path) -> None:
    run = finished_record()
    path = write_record(run, repository)
    values = json.loads(record_text(run))
    values["spec"]["recipe"]["learning_rate"] = 0.5
    path.write_text(json.dumps(values))
    (path.parent / "text.json").write_text("{")
    pull = pull_records(ADDRESS, tmp_path / "results")
    assert pull.new == 0
    assert any("run_id: expected" in message for message in pull.messages)
    assert any("text.json" in message for message in pull.messages)
    assert all(str(repository) not in message for message in pull.messages)
    assert not (tmp_path / "results").exists()


def test_another_record_of_the_same_run_is_an_error_and_nothing_is_added(repository: Path, tmp_path: Path) -> None:
    own = write_record(finished_record(), tmp_path / "results")
    before = own.read_bytes()
    write_record(finished_record(scores={"accuracy": 0.9}), repository)
    write_record(finished_record(seed=2), repository)
    with pytest.raises(UserError, match="another record of the same run"):
        pull_records(ADDRESS, tmp_path / "results")
    assert own.read_bytes() == before
    assert len(read_records(tmp_path / "results").records) == 1


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES", "MAX_RECORD_BYTES"])
def test_large_repository_is_an_error(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    for seed in (1, 2):
        write_record(finished_record(seed=seed), repository)
    monkeypatch.setattr(results_repository, limit, 1)
    with pytest.raises(UserError, match=r"--from.*expected at most"):
        pull_records(ADDRESS, tmp_path / "results")


def test_deeper_files_count_for_the_size_but_are_no_records(repository: Path, tmp_path: Path) -> None:
    path = record_path(repository, "rte/deeper", "run")
    path.parent.mkdir(parents=True)
    path.write_text(record_text(finished_record()))
    with pytest.raises(UserError, match="no records found"):
        pull_records(ADDRESS, tmp_path / "results")


@pytest.mark.parametrize("address", ["org/results", "hf://org/results", "hf://datasets/results", f"{ADDRESS}/../x"])
def test_invalid_address_is_an_error(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--from"):
        pull_records(address, tmp_path)


def test_folder_on_this_machine_is_refused_with_the_command_that_copies_its_runs(tmp_path: Path) -> None:
    other = tmp_path / "their results"
    other.mkdir()
    with pytest.raises(UserError, match=re.escape(f"'{other}/runs/'")):
        pull_records(str(other), tmp_path / "results")


def test_repository_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--from {ADDRESS}: cannot be read"):
        pull_records(ADDRESS, tmp_path)


def test_predictions_come_along_and_replace_no_file_of_the_folder(repository: Path, tmp_path: Path) -> None:
    run = finished_record(prediction_files={"validation": "mine.parquet", "test": "theirs.parquet"})
    folder = write_record(run, repository).parent
    for name in ("mine.parquet", "theirs.parquet", "other.parquet"):
        (folder / name).write_bytes(b"theirs")
    own = tmp_path / "results/runs/rte/mine.parquet"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert pull_records(ADDRESS, tmp_path / "results").new == 1
    assert own.read_bytes() == b"mine"
    assert own.with_name("theirs.parquet").read_bytes() == b"theirs"
    assert not own.with_name("other.parquet").exists()


@pytest.mark.parametrize("name", ["run.json", "../rte/run.json", "../../x.parquet", "/etc/x.parquet"])
def test_record_that_names_another_file_as_predictions_is_not_accepted(
    repository: Path, tmp_path: Path, name: str
) -> None:
    write_record(finished_record(prediction_files={"validation": name}), repository)
    pull = pull_records(ADDRESS, tmp_path / "results")
    assert (pull.new, len(pull.messages)) == (0, 1)
    assert "prediction_files.validation" in pull.messages[0]
