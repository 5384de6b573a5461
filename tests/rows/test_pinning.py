"""Pinning: the commit of a data set in the task file, without any other change to the file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from harness.commands.tasks import main
from harness.errors import UserError
from harness.facts.tasks import read_task
from harness.rows.pinning import dataset_commit, pinned_text

COMMIT = "c0ffee" + "0" * 34
TASK = """\
# A comment at the top.
title: Mine  # my own
source: {hub: a/b, revision: main, config: c}  # unpinned so far
text: text
labels: [bad, good]
splits: {train: train, validation: validation}
metrics: [accuracy]
main_metrics: accuracy
"""
SOURCES = {
    "flow": ("{hub: a/b, revision: main, config: c}", f"{{hub: a/b, revision: {COMMIT}, config: c}}"),
    "flow without revision": ("{hub: a/b}", f"{{hub: a/b, revision: {COMMIT}}}"),
    "quoted": ('{hub: a/b, revision: "refs/convert/parquet"}', f"{{hub: a/b, revision: {COMMIT}}}"),
    "block": ("\n  hub: a/b  # there\n  revision: main", f"\n  hub: a/b  # there\n  revision: {COMMIT}"),
    "block without revision": ("\n  hub: a/b\n  config: c", f"\n  hub: a/b\n  revision: {COMMIT}\n  config: c"),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub where every branch of every data set names COMMIT."""
    dataset_commit.cache_clear()
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))


def _file(folder: Path, source: str = SOURCES["flow"][0]) -> Path:
    path = folder / "mine.yaml"
    path.write_text(TASK.replace(SOURCES["flow"][0], source), encoding="utf-8")
    return path


@pytest.mark.parametrize("source, pinned", SOURCES.values(), ids=SOURCES)
def test_only_the_revision_changes(tmp_path: Path, source: str, pinned: str) -> None:
    path = _file(tmp_path, source)
    assert pinned_text(path, COMMIT) == TASK.replace(SOURCES["flow"][0], pinned)


def test_pinned_task_is_another_definition(hub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path)
    before = read_task(path)
    main(["--pin", str(path)])
    after = read_task(path)
    assert (before.source.is_unpinned, after.source.is_unpinned) == (True, False)
    assert after.source.revision == COMMIT
    assert before.fingerprint != after.fingerprint
    main(["--pin", str(path)])
    assert "already pinned" in capsys.readouterr().out


def test_registered_unpinned_tasks_are_pinned_without_names(
    hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    from harness.facts import task_files

    (tmp_path / "mine").mkdir()
    path = _file(tmp_path / "mine")
    monkeypatch.setattr(task_files, "TASKS_FOLDER", tmp_path)
    main(["--pin"])
    assert read_task(path).source.revision == COMMIT


def test_hub_that_cannot_be_reached_changes_nothing(tmp_path: Path) -> None:
    dataset_commit.cache_clear()
    path = _file(tmp_path)
    with pytest.raises(UserError, match="--pin: cannot look up a/b at main"):
        main(["--pin", str(path)])
    assert path.read_text(encoding="utf-8") == TASK


def test_read_only_file_is_named(hub: None, tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.chmod(0o444)
    with pytest.raises(UserError, match=r"--pin .*mine\.yaml: .*read-only"):
        main(["--pin", str(path)])


def test_task_of_files_cannot_be_pinned(hub: None) -> None:
    with pytest.raises(UserError, match=r"--pin .*ttc4900\.yaml: .*'hub'"):
        main(["--pin", "ttc4900"])


def test_source_that_cannot_be_edited_is_named(tmp_path: Path) -> None:
    path = _file(tmp_path, "{hub: a/b, revision: *branch}")
    path.write_text(path.read_text(encoding="utf-8").replace("title: Mine", "title: &branch main"), encoding="utf-8")
    with pytest.raises(UserError, match=f"revision: {COMMIT}"):
        pinned_text(path, COMMIT)
