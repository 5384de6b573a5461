"""The files of tasks: a folder for each registered suite, a YAML file for each of its tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError

_HERE = Path(__file__).resolve().parents[1]
TASKS_FOLDER = next((folder for folder in (_HERE / "registry", _HERE.parent / "tasks") if folder.is_dir()), _HERE)
"""The folder of registered suites: in an installed wheel, or next to the package in a checkout."""

SUITE_FILE = "suite.yaml"
"""The file that makes a folder of task files a suite; see `harness.facts.suites`."""


def task_files(folder: Path) -> dict[str, Path]:
    """The task files of a suite's folder by the names of the tasks, sorted."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != SUITE_FILE}


def suite_folders(tasks_folder: Path) -> list[Path]:
    """The folders of the suites in a folder, sorted."""
    return sorted(path for path in tasks_folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def registered_files() -> Mapping[str, Path]:
    """The files of all registered tasks by their names, sorted: names are unique over all suites.

    Raises:
        UserError: two suites have a task of the same name.
    """
    return _files_by_name(TASKS_FOLDER)


@functools.cache
def _files_by_name(tasks_folder: Path) -> Mapping[str, Path]:
    """The task files of the suites in a folder, which is searched once: a sweep needs them for each of its runs."""
    files: dict[str, Path] = {}
    for folder in suite_folders(tasks_folder):
        for name, path in task_files(folder).items():
            if name in files:
                raise UserError(duplicate_task(files[name], path))
            files[name] = path
    return dict(sorted(files.items()))


def duplicate_task(first: Path, second: Path) -> str:
    """The message about two task files of the same name."""
    return (
        f"duplicate task {first.stem!r}: {first} and {second}. The runs of a task are in a folder of its name: rename "
        "the second file."
    )
