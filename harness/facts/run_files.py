"""The files of a run in its results folder besides its record: checkpoints, the model that others start from, a log."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


def checkpoint_folder(results: Path, task: str, run_id: str) -> Path:
    """The folder of a run's checkpoints, while it is unfinished."""
    return results / "checkpoints" / task / run_id


def model_folder(results: Path, task: str, run_id: str) -> Path:
    """The folder where a run's model is saved for other runs to start from."""
    return results / "models" / task / run_id


def log_path(results: Path, task: str, run_id: str) -> Path:
    """The file of a run's output in a sweep."""
    return results / "logs" / task / f"{run_id}.log"


def discard_checkpoints(folder: Path) -> None:
    """Removes a run's checkpoints, and the two folders above them if they are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):  # other runs have theirs there
            parent.rmdir()
