"""Output files: --out is checked before the work, and a failed write leaves nothing new."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.inspection.output_files import check_output_file, check_output_folder, write_output_files

FORMATS = ("csv", "zip")


def test_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("")
    with pytest.raises(UserError, match=r"--out .*old\.csv: .*--overwrite"):
        check_output_file(path, FORMATS, overwrite=False)
    check_output_file(path, FORMATS, overwrite=True)
    with pytest.raises(UserError, match=r"old\.csv: .*folder"):
        check_output_folder(path, overwrite=True)


def test_extension_is_one_of_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out .*out\.xlsx: .*\.csv, \.zip"):
        check_output_file(tmp_path / "out.xlsx", FORMATS, overwrite=False)


def test_path_without_a_writable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("")
    with pytest.raises(UserError, match=r"--out .*cannot be written"):
        check_output_file(tmp_path / "old.csv" / "out.csv", FORMATS, overwrite=False)
    with pytest.raises(UserError, match=r"--out .*cannot be written"):
        check_output_folder(tmp_path / "old.csv" / "out", overwrite=False)


def test_folder_is_no_file_and_needs_overwrite_when_it_has_files(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: .*folder"):
        check_output_file(tmp_path / "folder.csv", FORMATS, overwrite=True)
    check_output_folder(tmp_path / "folder.csv", overwrite=False)
    (tmp_path / "folder.csv/thesis.txt").write_text("")
    with pytest.raises(UserError, match="--overwrite"):
        check_output_folder(tmp_path / "folder.csv", overwrite=False)
    check_output_folder(tmp_path / "folder.csv", overwrite=True)


def test_failed_write_leaves_no_new_file_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.csv").write_text("earlier")
    replace = os.replace

    def fail_at_the_picture(source: Path, target: Path) -> None:
        if target.suffix == ".svg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_picture)
    with pytest.raises(UserError, match=r"--out .*no space left"):
        write_output_files(tmp_path, {"old.csv": "later", "new.csv": ""}, {"bars": {"svg": b""}})
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
