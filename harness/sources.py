"""Data and models that do not come from the Hub: files found, and hashed into an identity without their paths."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.tasks import FILE_FORMATS, TaskSpec

ALL_ROWS = "all"
"""The source split of a task whose rows lie in one file."""


NOT_THE_MODEL = ("bundle.json", "record.json")
"""What a run adds to the model that it keeps; it tells times and paths, which change no number."""


class Files(NamedTuple):
    """The files that hold a task's rows."""

    by_split: dict[str, Path]
    are_canonical: bool
    """They are the task's own splits; otherwise the source's, from which the task's `splits` are cut."""
    are_named_by_task: bool
    """The task's YAML names them; otherwise the user does."""

    @property
    def identity(self) -> str:
        """A hash of names and contents, whatever folder they lie in."""
        facts = {split: file_hash(path) for split, path in self.by_split.items()}
        digest = hashlib.sha256(json.dumps([self.are_canonical, facts], sort_keys=True).encode()).hexdigest()
        return f"sha256:{digest}"


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_files(task: TaskSpec, place: Path | None) -> Files | None:
    """The files that `--data place` or the task itself names, or None when the rows come from the net.

    `place` is DIR, with DIR/<task>/<split>.<format>, or the one file of a task whose source is a file.

    Raises:
        UserError: a file is missing, or two formats of the same split are there.
    """
    if place is None:
        return _own_files(task)
    if place.is_file():
        if task.source.file is None:
            raise UserError(
                f"--data {place}: {task.name} is not made from one file. Give the folder that holds "
                f"{task.name}/{next(iter(task.splits))}.parquet (or {', '.join(FILE_FORMATS)}) and so on."
            )
        return Files({ALL_ROWS: place}, are_canonical=False, are_named_by_task=False)
    if not place.is_dir():
        raise UserError(f"--data {place}: there is no such file or folder.")
    return _in_folder(task, place / task.name)


def _own_files(task: TaskSpec) -> Files | None:
    named = {ALL_ROWS: task.source.file} if task.source.file else dict(task.source.files or {})
    if not named or any("://" in place for place in named.values()):
        return None
    for place in named.values():
        if not Path(place).is_file():
            raise UserError(f"task {task.name}: its source file {place} does not exist.")
    by_split = {split: Path(place) for split, place in named.items()}
    return Files(by_split, are_canonical=False, are_named_by_task=True)


def _in_folder(task: TaskSpec, folder: Path) -> Files:
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        ending = path.suffix.lstrip(".").lower()
        if ending in FILE_FORMATS and path.is_file():
            if path.stem in found:
                raise UserError(f"--data: {found[path.stem]} and {path} are both there: keep one.")
            found[path.stem] = path
    if not found:
        raise UserError(
            f"--data {folder.parent}: there is no {folder.name}/<split>.<format> in it, with the splits "
            f"{', '.join(task.splits)} and one of the formats {', '.join(FILE_FORMATS)}."
        )
    labelled = [split for split in task.splits if split not in task.predict]
    if all(split in found for split in labelled or task.splits):
        canonical = {split: found[split] for split in task.splits if split in found}
        return Files(canonical, are_canonical=True, are_named_by_task=False)
    if task.source.file is not None and ALL_ROWS not in found:
        lacking = next(split for split in labelled if split not in found)
        raise UserError(f"--data: {folder} has neither {ALL_ROWS}.csv nor {lacking}.csv (or another format).")
    return Files(found, are_canonical=False, are_named_by_task=False)


def data_identity(task: TaskSpec, files: Files | None) -> str | None:
    """What of the data enters a run's identity: the files' hash, or None for the task's own pinned source."""
    if files is None:
        return None
    pinned = task.source.sha256
    if pinned and set(files.by_split) == {ALL_ROWS} and file_hash(files.by_split[ALL_ROWS]) == pinned:
        return None
    return files.identity


def model_revision(name: str, revision: str | None) -> str:
    """The revision asked for, `main` by default; for a folder a hash of its configuration, weights and tokenizer.

    Raises:
        UserError: the folder holds no model, or a revision was asked of a folder.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")):
            raise UserError(f"--model {name}: there is no such folder.")
        return revision or "main"
    if revision:
        raise UserError(f"--revision {revision}: {name} is a folder; revisions belong to models of the Hub.")
    if not (folder / "config.json").is_file():
        raise UserError(f"--model {name}: the folder has no config.json, so it holds no model.")
    counted = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in {".json", ".txt", ".model", ".safetensors", ".bin"} and path.name not in NOT_THE_MODEL
    )
    facts = {path.name: file_hash(path) for path in counted}
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
