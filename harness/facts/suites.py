"""A suite: a folder of task files with a `suite.yaml`, which says their order, their titles and their averages."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from harness.errors import UserError, did_you_mean
from harness.facts.task_files import (
    SUITE_FILE,
    TASKS_FOLDER,
    duplicate_task,
    registered_files,
    suite_folders,
    task_files,
)
from harness.facts.task_rows import FileName, Names
from harness.facts.tasks import TaskSpec, is_path, read_task
from harness.facts.yaml_file import KeysOfFile, Location, describe_faults, line_number, read_yaml, refuse_keys
from harness.system.paths import user_path

FIRST_SUITE = "glue"
"""The suite of the first page and of the first table; the others follow by name."""


class Average(KeysOfFile):
    """An average: the unweighted mean of the tasks' scores, each the mean of its main metrics and reported splits."""

    without: Names = ()
    """Tasks of the suite that are left out."""


def _with_headings(tasks: Any) -> Any:
    """Tasks with their headings, from a list of names or from names with headings."""
    if isinstance(tasks, list):
        if others := [name for name in tasks if not isinstance(name, str)]:
            raise ValueError(f"{others[0]!r} is not the name of a task")
        if duplicate := next((name for number, name in enumerate(tasks) if name in tasks[:number]), None):
            raise ValueError(f"duplicate task {duplicate!r}")
        return {name: name for name in tasks}
    return tasks


class Suite(KeysOfFile):
    """One suite. Field names are the keys of its YAML file."""

    name: FileName
    title: Annotated[str, Field(min_length=1, max_length=100)]
    """Name in tables."""
    tasks: Annotated[dict[str, str], BeforeValidator(_with_headings), Field(min_length=1)]
    """All tasks of the folder in the order of the tables: a list of names, or names with their headings."""
    averages: dict[Annotated[str, Field(min_length=1, max_length=40)], Average] = {}
    """The averages by their headings. The leaderboard has a page for each suite with an average."""
    folder: Path

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """The tasks of each average."""
        return {
            name: tuple(task for task in self.tasks if task not in average.without)
            for name, average in self.averages.items()
        }

    def path_of(self, task: str) -> Path:
        """The file of a task."""
        return self.folder / f"{task}.yaml"

    def read_tasks(self) -> list[TaskSpec]:
        """The tasks in the order of the tables.

        Raises:
            UserError: a task file is invalid (with file and line).
        """
        return [read_task(self.path_of(task)) for task in self.tasks]


@functools.cache
def registered_suites() -> Mapping[str, Suite]:
    """The registered suites by name, `FIRST_SUITE` first and the others sorted.

    Raises:
        UserError: a folder has no valid suite file, or two suites have a task of the same name.
    """
    registered_files()
    folders = sorted(suite_folders(TASKS_FOLDER), key=lambda folder: (folder.name != FIRST_SUITE, folder.name))
    return {folder.name: read_suite(folder) for folder in folders}


def load_suite(name_or_path: str, flag: str = "--suite") -> Suite:
    """A registered suite by name, or one of your own by the path of its folder; `flag` is where the user named it.

    Raises:
        UserError: the suite is not found or invalid, or has the name of a registered suite or task.
    """
    known = registered_suites()
    if not is_path(name_or_path):
        if name_or_path not in known:
            raise UserError(
                f"{flag} {name_or_path}: suite not found.{did_you_mean(name_or_path, known)} Registered: "
                f"{', '.join(known)}. Or give the path of a suite's folder, such as ./{name_or_path}."
            )
        return known[name_or_path]
    path = user_path(flag, name_or_path)
    if not path.is_dir():
        raise UserError(f"{flag} {name_or_path}: folder not found.")
    suite = read_suite(path)
    if suite.name in known and not suite.folder.samefile(known[suite.name].folder):
        raise UserError(f"{flag} {name_or_path}: duplicate suite {suite.name!r}: {known[suite.name].folder} has it.")
    for task, file in registered_files().items():
        if task in suite.tasks and not suite.path_of(task).samefile(file):
            raise UserError(duplicate_task(file, suite.path_of(task)))
    return suite


def expand_suites(names: Iterable[str], among: Collection[str]) -> tuple[str, ...]:
    """The names with those of registered suites replaced by the suite's tasks `among` these, where it has any."""
    suites = registered_suites()
    members = {name: [task for task in suite.tasks if task in among] for name, suite in suites.items()}
    return tuple(dict.fromkeys(task for name in names for task in members.get(name) or [name]))


def read_suite(folder: Path) -> Suite:
    """Reads and checks the suite file of a folder, but not its task files.

    Raises:
        UserError: the folder has no suite file, or `file:line: message`, one line per error.
    """
    path = folder / SUITE_FILE
    if not path.is_file():
        raise UserError(f"{folder}: {SUITE_FILE} not found: it makes a folder of task files a suite. Write it.")
    values, node = read_yaml(path, "title: My suite")
    refuse_keys(path, node, values, ("name", "folder"), "a suite is named like its folder")
    try:
        suite = Suite(**{**values, "name": folder.resolve().name, "folder": folder.absolute()})
    except ValidationError as error:
        raise UserError(describe_faults(path, node, error.errors(), Suite, ("name", "folder"))) from None
    if faults := [f"{path}:{line_number(node, location)}: {message}" for location, message in _faults(suite)]:
        raise UserError("\n".join(faults))
    return suite


def _faults(suite: Suite) -> Iterator[tuple[Location, str]]:
    """The location and the message of each fault that concerns several keys, or the files of the folder."""
    files = task_files(suite.folder)
    for task in suite.tasks:
        if task not in files:
            yield ("tasks", task), f"tasks: {task!r}: {task}.yaml not found.{did_you_mean(task, files)}"
    for task in sorted(files.keys() - suite.tasks.keys()):
        yield ("tasks",), f"tasks: {task!r} is missing, whose file {task}.yaml is in the folder. Add it."
    for name, average in suite.averages.items():
        location = ("averages", name, "without")
        for task in average.without:
            if task not in suite.tasks:
                yield (*location, task), f"without: unknown task {task!r}.{did_you_mean(task, suite.tasks)}"
        if not suite.members[name]:
            yield location, f"without: no task is left in the average {name!r}."


def task_headings(tasks: Iterable[str], suites: Iterable[Suite]) -> dict[str, str]:
    """The suites' spelling of each task; its name where no suite has it, or where another task is spelled the same."""
    headings = {name: name for name in tasks}
    headings |= {name: heading for suite in suites for name, heading in suite.tasks.items() if name in headings}
    counts = Counter(headings.values())
    return {name: heading if counts[heading] == 1 else name for name, heading in headings.items()}
