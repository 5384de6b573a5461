"""Pins a task to the present commit of its data set: the commit is looked up on the Hub and written into the file."""

from __future__ import annotations

import functools
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from harness.errors import UserError, boundary, first_line
from harness.facts.task_files import registered_files
from harness.facts.tasks import is_path, load_task, read_task
from harness.facts.yaml_file import read_yaml
from harness.system.atomic import write_atomically
from harness.system.paths import user_path


def pin_tasks(names: Iterable[str]) -> Iterator[str]:
    """Pins the named tasks, or all registered ones if none is named, and yields a message about each.

    Raises:
        UserError: a task is not found, is not of the Hub or cannot be written, or the Hub cannot be reached.
    """
    paths = [_path_of(name) for name in names] or [
        path for path in registered_files().values() if read_task(path).source.is_unpinned
    ]
    for path in paths:
        task = read_task(path)
        if task.source.hub is None:
            raise UserError(f"--pin {path}: {task.name} has no dataset of the Hub: expected a source with 'hub'.")
        if not task.source.is_unpinned:
            yield f"{path}: already pinned to {task.source.revision}"
            continue
        _check_writable(path)
        commit = dataset_commit(task.source.hub, task.source.revision)
        text = pinned_text(path, commit)
        with boundary(f"--pin {path}: cannot be written"):
            write_atomically(path, text)
        yield f"{path}: pinned {task.source.hub} to {commit}"
    if not paths:
        yield "Every registered task is pinned."


def _path_of(name: str) -> Path:
    load_task(name, "--pin")
    return user_path("--pin", name) if is_path(name) else registered_files()[name]


def _check_writable(path: Path) -> None:
    if not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(f"--pin {path}: cannot be written: the file is read-only. Copy it, or allow writing.")


@functools.cache
def dataset_commit(hub: str, revision: str | None) -> str:
    """The commit that a branch or tag of a data set names now.

    Raises:
        UserError: the Hub cannot be reached, or has no such data set or revision.
    """
    from huggingface_hub import HfApi

    from harness.system.hub import call_with_retries

    try:
        return str(call_with_retries(hub, lambda: HfApi().dataset_info(hub, revision=revision).sha))
    except Exception as error:  # of the Hub client or httpx
        raise UserError(
            f"--pin: cannot look up {hub} at {revision or 'main'} on the Hub: {first_line(error)}\n"
            "Check the connection or HF_ENDPOINT."
        ) from None


def pinned_text(path: Path, commit: str) -> str:
    """The text of a task file with this revision of its source; all else stays, comments included.

    Raises:
        UserError: the source is written in a way that cannot be edited.
    """
    values, root = read_yaml(path, "title: My task")
    text = path.read_bytes().decode()
    keys = _pairs(_pairs(root).get("source", (None, None))[1])
    edited = text
    if "revision" in keys:
        value = keys["revision"][1]
        edited = text[: value.start_mark.index] + commit + text[value.end_mark.index :]
    elif "hub" in keys:
        key, value = keys["hub"]
        is_block = text[: key.start_mark.index].rpartition("\n")[2].strip() == ""
        separator = "\n" + " " * key.start_mark.column if is_block else ", "
        end = value.end_mark.index
        edited = f"{text[:end]}{separator}revision: {commit}{text[end:]}"
    if not _is_text_of(edited, {**values, "source": {**values["source"], "revision": commit}}):
        raise UserError(f"--pin {path}: the source cannot be edited. Write 'revision: {commit}' into it.")
    return edited


def _is_text_of(text: str, values: Mapping[str, Any]) -> bool:
    """True if the text is YAML of these values."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "task.yaml"
        path.write_bytes(text.encode())
        try:
            return read_yaml(path, "")[0] == values
        except UserError:
            return False


def _pairs(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The nodes of a mapping's keys and values, by key."""
    return {key.value: (key, value) for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
