"""Files and folders are complete under their name or not there, whatever fails on the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.system.atomic import ABANDONED_SECONDS, atomic_path, check_writable, replace_folder, write_atomically


class _Interruption(BaseException):
    """Not an Exception, like KeyboardInterrupt, but nothing to pytest."""


FAULTS = pytest.mark.parametrize("fault", [OSError("disk full"), _Interruption()], ids=["disk full", "interrupted"])


def _files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", ["ğ\r\n", "ğ\r\n".encode()])
def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "table.md"
    write_atomically(path, content)
    assert path.read_bytes() == b"\xc4\x9f\r\n"
    assert [file.name for file in path.parent.iterdir()] == ["table.md"]


def test_file_is_readable_for_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "table.md", "")
    assert (tmp_path / "table.md").stat().st_mode & 0o777 == 0o644


def test_temporary_file_of_a_killed_process_is_removed_a_day_later(tmp_path: Path) -> None:
    path, a_day_ago = tmp_path / "table[1].md", time.time() - ABANDONED_SECONDS - 60
    for name in (".table[1].md-k1ll3d__", ".table[1].md-running_", ".table[1].md-notes", ".table1.md-k1ll3d__"):
        (tmp_path / name).write_text("")
        if "running" not in name:
            os.utime(tmp_path / name, (a_day_ago, a_day_ago))
    write_atomically(path, "")
    assert sorted(_files(tmp_path)) == [".table1.md-k1ll3d__", ".table[1].md-notes", ".table[1].md-running_", path.name]


def test_folder_is_listed_once_for_all_writes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have thousands of files, and a run writes its progress every few seconds."""
    glob, listed = Path.glob, list[Path]()
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: listed.append(folder) or glob(folder, pattern))
    for content in ("1", "2", "3"):
        write_atomically(tmp_path / "progress", content)
    assert listed == [tmp_path]


@pytest.mark.parametrize("function", ["fsync", "chmod", "replace"])
@FAULTS
def test_failed_write_leaves_the_earlier_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, fault: BaseException
) -> None:
    (tmp_path / "table.md").write_text("earlier")

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(os, function, fail)
    for path in (tmp_path / "table.md", tmp_path / "new" / "table.md"):
        with pytest.raises(type(fault)):
            write_atomically(path, "later")
    monkeypatch.undo()
    assert _files(tmp_path) == {"table.md": "earlier"}


@FAULTS
def test_error_in_the_block_leaves_the_earlier_file_and_no_other(tmp_path: Path, fault: BaseException) -> None:
    (tmp_path / "table.md").write_text("earlier")

    def fail_halfway() -> None:
        with atomic_path(tmp_path / "table.md") as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(type(fault)):
        fail_halfway()
    assert _files(tmp_path) == {"table.md": "earlier"}


def test_file_is_flushed_to_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "table.md", "text")
    assert calls == ["fsync", "replace"]


def test_text_that_has_no_utf8_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "table.md", "half a character \udc80")
    assert _files(tmp_path) == {}


def test_check_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_check_fails_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "folder")


def _folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "weights").write_text(content)
    return path


@pytest.mark.parametrize("leftover", [None, ".model-earlier"])
def test_folder_is_replaced_and_the_earlier_one_removed(tmp_path: Path, leftover: str | None) -> None:
    if leftover:
        _folder(tmp_path / leftover, "of a killed process")
    replace_folder(_folder(tmp_path / "scratch", "1"), tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "1"
    replace_folder(_folder(tmp_path / "scratch", "2"), tmp_path / "model")
    assert _files(tmp_path) == {"model/weights": "2"}


def test_earlier_folder_keeps_its_name_when_the_new_one_cannot_be_renamed(tmp_path: Path) -> None:
    _folder(tmp_path / "model", "earlier")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "model")
    assert _files(tmp_path) == {"model/weights": "earlier"}
