"""Paths of the user: expanded, and an impossible one is refused at once by the name of its flag."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.system.paths import MAX_SHOWN, user_path


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "rows.csv")
    return str(folder / "rows.csv")


def _loop(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop" / "rows.csv")


IMPOSSIBLE = {
    "name too long": (lambda folder: f"{folder}/{'a' * 300}", "too long"),
    "path too long": (lambda folder: "a/" * 5000, "too long"),
    "unknown user": (lambda folder: "~nosuchuser/rows.csv", "home directory"),
    "null byte": (lambda folder: f"{folder}/a\0b", "null byte"),
    "loop of symlinks": (_loop, "symbolic links"),
    "FIFO": (_fifo, "regular file"),
    "device": (lambda folder: "/dev/null", "regular file"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_path_is_refused_by_its_flag(name: str, tmp_path: Path) -> None:
    make, cause = IMPOSSIBLE[name]
    with pytest.raises(UserError, match=rf"^--data .*{cause}") as error:
        user_path("--data", make(tmp_path))
    assert len(str(error.value)) < MAX_SHOWN + 120


def test_tilde_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("--data", "~/rows.csv") == tmp_path / "rows.csv"


@pytest.mark.parametrize("name", ["", "missing", "missing/below", "file", "file/below"])
def test_other_paths_are_returned_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert user_path("--data", tmp_path / name) == tmp_path / name
