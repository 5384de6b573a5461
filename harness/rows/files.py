"""Data and models that do not come from the Hub: files found, and hashed into an identity without their paths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, did_you_mean
from harness.facts.sources import FILE_FORMATS, Place, Source, ending_of, place_of
from harness.facts.tasks import TaskSpec

ALL_ROWS = "all"
"""The source split of a task whose rows lie in one file."""


NOT_THE_MODEL = ("bundle.json", "record.json")
"""What a run adds to the model that it keeps; it tells times and paths, which change no number."""


class DataFile(NamedTuple):
    """One file of rows, as it was when it was found."""

    path: Path
    name: str
    """What the user calls it, a path or a URL; its ending tells the format."""
    sha256: str
    sheet: str | None = None
    """Of a workbook."""


class Files(NamedTuple):
    """The files that hold a task's rows."""

    by_split: dict[str, tuple[DataFile, ...]]
    """One after the other."""
    are_canonical: bool
    """They are the task's own splits; otherwise the source's, from which the task's `splits` are cut."""
    are_named_by_task: bool
    """The task's YAML names them; otherwise the user does."""

    @property
    def identity(self) -> str:
        """A hash of the splits' names and their files' contents, whatever these are called and wherever they lie."""
        facts: dict[str, str | list[str]] = {}
        for split, files in self.by_split.items():
            hashes = [file.sha256 + (f"#{file.sheet}" if file.sheet else "") for file in files]
            facts[split] = hashes if len(hashes) > 1 else hashes[0]
        digest = hashlib.sha256(json.dumps([self.are_canonical, facts], sort_keys=True).encode()).hexdigest()
        return f"sha256:{digest}"


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_files(task: TaskSpec, place: Path | None) -> Files | None:
    """The files that `--data place` or the task itself names, or None when the rows come from the net.

    `place` is DIR, with DIR/<task>/<split>.<format> or the files that the task names, or its one file.

    Raises:
        UserError: a file is missing, or two formats of the same split are there.
    """
    if place is None:
        return _own_files(task)
    if place.is_file():
        if [len(words) for words in task.source.words.values()] != [1]:
            raise UserError(
                f"--data {place}: {task.name} is not made from one file. Give the folder that holds "
                f"{task.name}/{next(iter(task.splits))}.parquet (or {', '.join(FILE_FORMATS)}) and so on."
            )
        return Files({split: (_file(place),) for split in task.source.words}, False, False)
    if not place.is_dir():
        raise UserError(f"--data {place}: there is no such file or folder.")
    if task.source.words and not (place / task.name).is_dir():
        there = task.source.seen_from(None).beside(place)
        if not missing_files(there):
            return Files({split: files_of(task.name, words) for split, words in there.words.items()}, False, False)
    return _in_folder(task, place / task.name)


def missing_files(source: Source) -> list[str]:
    """The paths and patterns of a source that lead to no file; URLs are not tried."""
    places = [place_of(word) for words in source.words.values() for word in words]
    local = [place.name for place in places if not place.is_url]
    return [name for name in local if not Path(name).exists() and not glob(name, recursive=True)]  # noqa: PTH207


def _own_files(task: TaskSpec) -> Files | None:
    words = task.source.words
    is_pinned = task.source.sha256 is not None and Place(str(task.source.file)).is_url
    if not words or is_pinned:  # the checksum says what the rows are, before they are fetched
        return None
    found = {split: files_of(task.name, named) for split, named in words.items()}
    return Files(found, are_canonical=False, are_named_by_task=True)


def files_of(task: str, words: Sequence[str]) -> tuple[DataFile, ...]:
    """The files that paths, patterns and URLs name, in their order, those of a pattern sorted; URLs are downloaded.

    Raises:
        UserError: one is not there, is a folder, has another checksum, or they have different formats.
    """
    found = tuple(file for word in words for file in _files_at(task, place_of(word)))
    formats = {ending_of(file.name).format: file.name for file in found}
    if len(formats) > 1:
        first, second, *_ = formats.values()
        raise UserError(f"task {task}: {first} and {second} have different formats. The files of a split have one.")
    return found


def _files_at(task: str, place: Place) -> list[DataFile]:
    if place.is_url:
        paths = [(download(task, place.name), place.name)]
    elif place.is_pattern and not Path(place.name).exists():
        matches = sorted(path for path in glob(place.name, recursive=True) if Path(path).is_file())  # noqa: PTH207
        if not matches:
            raise UserError(f"task {task}: no file matches {place.name}.")
        paths = [(Path(path), path) for path in matches]
    else:
        _must_be_file(task, Path(place.name))
        paths = [(Path(place.name), place.name)]
    files = [_file(path, name, place.sheet) for path, name in paths]
    if place.sha256 is not None and (odd := next((file for file in files if file.sha256 != place.sha256), None)):
        raise UserError(wrong_checksum(task, odd.name, odd.sha256, place.sha256))
    return files


def _must_be_file(task: str, path: Path) -> None:
    if path.is_dir():
        raise UserError(f"task {task}: {path} is a folder. Name the files in it, such as '{path}/*.csv'.")
    if not path.is_file():
        near = did_you_mean(path.name, [other.name for other in path.parent.glob("*") if other.is_file()])
        raise UserError(f"task {task}: its source file {path} does not exist.{near}")


def _file(path: Path, name: str | None = None, sheet: str | None = None) -> DataFile:
    name = name or str(path)
    try:
        return DataFile(path, name, file_hash(path), sheet)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}.") from None


def download(task: str, url: str) -> Path:
    """Where the file of a URL lies after it has been fetched, or was before.

    Raises:
        UserError: it cannot be had.
    """
    import datasets

    from harness.system.hub import persistently

    if not url.startswith(("http://", "https://")):
        raise UserError(f"task {task}: {url}: only http and https are known. Fetch the file and give its path.")
    try:
        return Path(persistently(url, lambda: datasets.DownloadManager().download(url)))
    except Exception as error:  # whatever the transport raises
        lines = str(error).strip().splitlines()
        raise UserError(
            f"task {task}: cannot download {url}: {type(error).__name__}{f': {lines[0]}' if lines else ''}\n"
            "Check the connection, give the file with --data FILE, or try --test-mode, which needs no network."
        ) from None


def wrong_checksum(task: str, name: str, found: str, expected: str) -> str:
    """The sentence for a file that is another than the task says."""
    return (
        f"task {task}: {name} is not the file it should be: its sha256 is {found}, expected {expected}. "
        "Give the right file with --data FILE."
    )


def _in_folder(task: TaskSpec, folder: Path) -> Files:
    found: dict[str, tuple[DataFile, ...]] = {}
    for path in sorted(folder.glob("*")):
        if path.is_file() and _is_of_rows(path):
            split = path.name.split(".")[0]
            if split in found:
                raise UserError(f"--data: {found[split][0].name} and {path} are both there: keep one.")
            found[split] = (_file(path),)
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


def _is_of_rows(path: Path) -> bool:
    try:
        return ending_of(path.name).format is not None
    except ValueError:
        return False


def data_identity(task: TaskSpec, files: Files | None) -> str | None:
    """What of the data enters a run's identity: the files' hash, or None for the task's own pinned source."""
    if files is None:
        return None
    pinned = task.source.sha256
    if pinned and [file.sha256 for parts in files.by_split.values() for file in parts] == [pinned]:
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
