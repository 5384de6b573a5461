"""Files of rows and folders of models, hashed into an identity that does not depend on their paths."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, boundary, did_you_mean, first_line
from harness.facts.sources import FILE_FORMATS, FileReference, Source, file_ending, parse_file_reference
from harness.facts.tasks import TaskSpec
from harness.system.offline import hub_url
from harness.system.paths import user_path
from harness.system.redaction import redact_secrets

ALL_ROWS = "all"
"""The source split of a task with one file for all rows."""

RECENT_SECONDS = 2.0
"""Seconds after a change in which another one may have the same time; the file is then read every time."""

NON_MODEL_FILES = ("bundle.json", "record.json")
"""Files that a run adds to a saved model; they have times and paths, which affect no score."""


class DataFile(NamedTuple):
    """One file of rows."""

    path: Path
    name: str
    """The path or URL as the user writes it, with the extension of its format."""
    sha256: str
    sheet: str | None = None
    """The sheet of a workbook."""


class Files(NamedTuple):
    """The files with a task's rows."""

    by_split: dict[str, tuple[DataFile, ...]]
    """Files of each split, whose rows follow each other."""
    are_canonical: bool
    """True: the splits are the task's own. False: they are the source's, from which the task's `splits` are cut."""

    @property
    def identity(self) -> str:
        """A hash of the splits' names and the files' contents, not of the files' names and paths."""
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


def hash_unless_known(path: Path) -> str:
    """sha256 of a file's bytes, which are read again only after a change: a sweep needs it for each of its runs."""
    facts = path.stat()
    if time.time() - facts.st_mtime < RECENT_SECONDS:
        return file_hash(path)
    return _hash_at(path, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino)


@functools.cache
def _hash_at(path: Path, *stamp: int) -> str:
    return file_hash(path)


def find_files(task: TaskSpec, data: Path | None) -> Files | None:
    """The files of `--data` or of the task itself; None when the rows come from the Hub or a pinned URL.

    `data` is DIR, with DIR/<task>/<split>.<format> or the files that the task names, or the task's only file.

    Raises:
        UserError: a file is missing or has another checksum than the task says, or a split has two files.
    """
    if data is None:
        return _task_files(task)
    data = user_path("--data", data)
    with boundary(f"--data {data}: cannot be read"):
        return _data_files(task, data)


def split_sheet(path: Path) -> tuple[Path, str | None]:
    """The path and the sheet of `rows.xlsx#sheet=Name`; None for a path without a sheet."""
    name, _, sheet = str(path).rpartition("#sheet=")
    return (Path(name), sheet) if name else (path, None)


def _data_files(task: TaskSpec, data: Path) -> Files:
    references = task.source.file_references
    data, sheet = split_sheet(data)
    if data.is_file():
        if [len(files) for files in references.values()] != [1]:
            raise UserError(
                f"--data {data}: {task.name} has more than one file. Name the folder with "
                f"{task.name}/{next(iter(task.splits))}.parquet (or {', '.join(FILE_FORMATS)}) and the other splits."
            )
        return Files({split: (_file(data, sheet=sheet),) for split in references}, are_canonical=False)
    if not data.is_dir():
        raise UserError(f"--data {data}: file or folder not found.")
    if sheet is not None:
        raise UserError(f"--data {data}#sheet={sheet}: a folder has no sheets. Name the workbook, or drop #sheet=.")
    if references and not (data / task.name).is_dir():
        source = task.source.relative_to(None).resolve_in(data)
        if not missing_files(source):
            by_split = {split: collect_files(task.name, files) for split, files in source.file_references.items()}
            return Files(by_split, are_canonical=False)
    return _folder_files(task, data / task.name)


def missing_files(source: Source) -> list[str]:
    """The paths and patterns of a source that match no file; URLs are not tried."""
    references = [parse_file_reference(text) for texts in source.file_references.values() for text in texts]
    paths = [reference.name for reference in references if not reference.is_url]
    return [path for path in paths if not Path(path).exists() and not glob(path, recursive=True)]  # noqa: PTH207


def _task_files(task: TaskSpec) -> Files | None:
    references = task.source.file_references
    is_pinned_url = task.source.sha256 is not None and FileReference(str(task.source.file)).is_url
    if not references or is_pinned_url:  # the checksum identifies the rows before they are downloaded
        return None
    by_split = {split: collect_files(task.name, files) for split, files in references.items()}
    if task.source.sha256 is not None:
        check_sha256(task.name, by_split[ALL_ROWS][0], task.source.sha256)
    return Files(by_split, are_canonical=False)


def collect_files(task: str, references: Sequence[str]) -> tuple[DataFile, ...]:
    """The files of the references in order, those of a pattern sorted; URLs are downloaded.

    Raises:
        UserError: a file is missing, is a folder or has another checksum, or the files have different formats.
    """
    with boundary(f"task {task}: cannot read files"):
        files = tuple(file for text in references for file in _matching_files(task, parse_file_reference(text)))
    formats = {file_ending(file.name).format: file.name for file in files}
    if len(formats) > 1:
        first, second, *_ = formats.values()
        raise UserError(f"task {task}: {first} and {second} have different formats. Use one format per split.")
    return files


def _matching_files(task: str, reference: FileReference) -> list[DataFile]:
    if reference.is_url:
        paths = [(download(task, reference.name), reference.name)]
    elif reference.is_pattern and not Path(reference.name).exists():
        matches = sorted(path for path in glob(reference.name, recursive=True) if Path(path).is_file())  # noqa: PTH207
        if not matches:
            raise UserError(f"task {task}: no file matches {reference.name}.")
        paths = [(Path(path), path) for path in matches]
    else:
        _check_is_file(task, user_path(f"task {task}:", reference.name))
        paths = [(Path(reference.name), reference.name)]
    files = [_file(path, name, reference.sheet) for path, name in paths]
    for file in files:
        check_sha256(task, file, reference.sha256)
    return files


def _check_is_file(task: str, path: Path) -> None:
    if path.is_dir():
        raise UserError(f"task {task}: {path} is a folder. Name the files in it, such as '{path}/*.csv'.")
    if not path.is_file():
        near = did_you_mean(path.name, [other.name for other in path.parent.glob("*") if other.is_file()])
        raise UserError(f"task {task}: file not found: {path}.{near}")


def _file(path: Path, name: str | None = None, sheet: str | None = None) -> DataFile:
    name = name or str(path)
    with boundary(f"{name}: cannot be read"):
        return DataFile(path, name, hash_unless_known(path), sheet)


def download(task: str, url: str) -> Path:
    """The path of a URL's file, which is downloaded once.

    Raises:
        UserError: the download failed.
    """
    import datasets

    from harness.system.hub import call_with_retries

    if not url.startswith(("http://", "https://")):
        raise UserError(f"task {task}: {url}: expected an http or https URL. Download the file and name its path.")
    try:
        return Path(call_with_retries(url, lambda: datasets.DownloadManager().download(url)))
    except Exception as error:  # each transport raises its own errors
        raise UserError(
            f"task {task}: cannot download {url}: {first_line(error)}\n"
            "Check the connection, name a local file with --data FILE, or try --test-mode, which needs no network."
        ) from None


def check_sha256(task: str, file: DataFile, expected: str | None) -> None:
    """Raises UserError when the task expects another checksum of the file."""
    if expected is not None and file.sha256 != expected:
        raise UserError(
            f"task {task}: {file.name}: wrong checksum: expected sha256 {expected}, got {file.sha256}. "
            "Name the right file with --data FILE."
        )


def _folder_files(task: TaskSpec, folder: Path) -> Files:
    by_split: dict[str, tuple[DataFile, ...]] = {}
    for path in sorted(folder.glob("*")):
        if path.is_file() and _has_format(path):
            split = path.name.split(".")[0]
            if split in by_split:
                raise UserError(f"--data: two files of one split, {by_split[split][0].name} and {path}: keep one.")
            by_split[split] = (_file(path),)
    if not by_split:
        raise UserError(
            f"--data {folder.parent}: no file {folder.name}/<split>.<format> found, for the splits "
            f"{', '.join(task.splits)} and the formats {', '.join(FILE_FORMATS)}."
        )
    labelled = [split for split in task.splits if split not in task.predict]
    if all(split in by_split for split in labelled or task.splits):
        canonical = {split: by_split[split] for split in task.splits if split in by_split}
        return Files(canonical, are_canonical=True)
    if task.source.file is not None and ALL_ROWS not in by_split:
        missing = next(split for split in labelled if split not in by_split)
        raise UserError(f"--data: neither {ALL_ROWS}.csv nor {missing}.csv (or another format) found in {folder}.")
    return Files(by_split, are_canonical=False)


def _has_format(path: Path) -> bool:
    try:
        return file_ending(path.name).format is not None
    except ValueError:
        return False


def data_identity(task: TaskSpec, files: Files | None) -> str | None:
    """The data's part of a run's identity: the files' hash, or None for the task's own pinned source."""
    if files is None:
        return None
    pinned = task.source.sha256
    if pinned and [file.sha256 for parts in files.by_split.values() for file in parts] == [pinned]:
        return None
    return files.identity


def model_revision(name: str, revision: str | None, trusts_code: bool = False) -> str:
    """The requested revision, by default `main`; for a folder, a hash of its configuration, weights and tokenizer.

    If the code that comes with the model is trusted, it is pinned too: by a commit, or as a part of the folder's hash.

    Raises:
        UserError: the folder has no model or cannot be read, `revision` is given for a folder, or trusted code has no
            commit.
    """
    with boundary(f"--model {name}", RuntimeError, advice="Name a folder that can be read, or a model of the Hub."):
        return _model_revision(name, revision, trusts_code)


def check_positions(name: str, max_length: int) -> None:
    """Raises UserError when a model's folder has a configuration with fewer positions than `max_length`.

    A model that is loaded knows its limit itself; this finds the fault before the first of many runs.
    """
    limit = None
    with suppress(OSError, ValueError, AttributeError, RecursionError):  # loading the model reports the cause
        config = json.loads((Path(name).expanduser() / "config.json").read_text(encoding="utf-8"))
        limit = config.get("max_position_embeddings")
    if isinstance(limit, int) and 0 < limit < max_length:
        raise UserError(f"--max-length {max_length}: {name} has {limit} positions. Lower --max-length.")


def _model_revision(name: str, revision: str | None, trusts_code: bool) -> str:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")):
            raise UserError(f"--model {name}: folder not found.")
        revision = revision or "main"
        if trusts_code and not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise UserError(
                f"--trust-remote-code: --revision {revision} may name other code tomorrow: expected a commit of 40 "
                f"digits. Read the code of {name}, then pin it: this prints the commit for --revision.\n"
                f"git ls-remote {redact_secrets(hub_url().geturl()).rstrip('/')}/{name} {revision}"
            )
        return revision
    if revision:
        raise UserError(f"--revision {revision}: only models of the Hub have revisions, and {name} is a folder.")
    if not (folder / "config.json").is_file():
        is_adapter = (folder / "adapter_config.json").is_file()
        advice = " It is only an adapter: name the model that has it merged in." if is_adapter else ""
        raise UserError(f"--model {name}: not a model folder: config.json not found.{advice}")
    hashed = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in {".json", ".txt", ".model", ".safetensors", ".bin"} and path.name not in NON_MODEL_FILES
        if path.is_file()  # transformers reads no folder, pipe or dangling link either
    )
    facts = {path.name: hash_unless_known(path) for path in hashed}
    if trusts_code:
        facts |= {path.relative_to(folder).as_posix(): hash_unless_known(path) for path in sorted(folder.rglob("*.py"))}
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
