"""The source of a user's own rows, from flags: files, or a dataset of the Hub at its current commit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import UserError, first_line
from harness.facts.sources import Source, file_ending
from harness.facts.tasks import TaskSpec
from harness.rows.files import DataFile
from harness.rows.formats import DELIMITER_NAMES, DELIMITERS, detect_delimiter
from harness.system.paths import user_path

_SPLIT_NAMES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Names that datasets of the Hub have for the splits."""


def file_source(
    by_split: Mapping[str, tuple[str, ...]], delimiter: str | None, encoding: str | None
) -> tuple[Source, dict[str, str]]:
    """The source with the files of each split, and the splits that have files.

    Raises:
        UserError: a path, the delimiter or the encoding is invalid.
    """
    files = {split: paths if len(paths) > 1 else paths[0] for split, paths in by_split.items() if paths}
    for split, paths in by_split.items():
        for path in (path for path in paths if "://" not in path):
            if user_path(f"--{split}-file", path).is_dir():
                raise UserError(f"--{split}-file: {path} is a folder. Name the files in it, such as '{path}/*.csv'.")
    delimiter = DELIMITER_NAMES.get(delimiter or "", delimiter)
    try:
        source = Source(files=files, delimiter=delimiter, encoding=encoding).resolve_in(Path.cwd())
    except ValidationError as error:
        fault = error.errors()[0]
        flag = "--train-file, --validation-file, --test-file"
        if fault["loc"]:
            flag = f"--{fault['loc'][0]} {fault['input']!r}"
        raise UserError(f"{flag}: {str(fault['msg']).removeprefix('Value error, ')}.") from None
    return source, {split: split for split in files}


def hub_source(dataset: str) -> tuple[Source, dict[str, str]]:
    """The dataset at its current commit, and its splits by our names.

    Raises:
        UserError: it cannot be loaded, or has no training split.
    """
    import datasets
    from huggingface_hub import HfApi

    from harness.system.hub import call_with_retries

    match = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)(?::([^@]+))?(?:@(.+))?", dataset)
    if match is None:
        raise UserError(f"--dataset {dataset}: expected organisation/name, organisation/name:config or ...@commit.")
    hub, config, revision = match.groups()
    try:
        commit = call_with_retries(hub, lambda: HfApi().dataset_info(hub, revision=revision).sha)
        address = f"hf://datasets/{hub}"  # never a folder of this name
        names = call_with_retries(hub, lambda: datasets.get_dataset_split_names(address, config, revision=commit))
    except Exception as error:  # of the Hub client, httpx or datasets
        names = re.findall(r"'([^']+)'", str(error).partition("available configs:")[2].partition("]")[0])
        if config is None and names:
            raise UserError(
                f"--dataset {dataset}: expected one of its configurations, such as {hub}:{names[0]}. It has: "
                f"{', '.join(names)}."
            ) from None
        raise UserError(f"--dataset {dataset}: cannot be loaded from the Hub: {first_line(error)}") from None
    if "train" not in names:
        raise UserError(
            f"--dataset {dataset}: split 'train' not found; its splits: {', '.join(names)}. Write a task file."
        )
    splits = {"train": "train"}
    for split, aliases in _SPLIT_NAMES.items():
        if alias := next((alias for alias in aliases if alias in names), None):
            splits[split] = alias
    return Source(hub=hub, config=config, revision=commit), splits


def infer_delimiter(draft: TaskSpec, first: DataFile) -> str | None:
    """The delimiter in the header of the first training file.

    None if a flag gives it, the format has none, or it is the format's default.
    """
    form = file_ending(first.name).format
    if draft.source.delimiter or form not in (*DELIMITERS, None):
        return None
    delimiter = detect_delimiter(first.path, first.name, draft.source.encoding, draft.columns)
    return None if delimiter == DELIMITERS.get(str(form), delimiter) else delimiter


def refuse_same_files(files: Mapping[str, Sequence[DataFile]]) -> None:
    """Raises UserError when a split has a file twice, or two splits have one of the same bytes."""
    split_of: dict[tuple[str, str | None], str] = {}
    for split, parts in files.items():
        paths: set[tuple[Path, str | None]] = set()
        for file in parts:
            if (path := (file.path.resolve(), file.sheet)) in paths:
                raise UserError(f"--{split}-file {file.name}: duplicate file: name it once, perhaps in a pattern.")
            paths.add(path)
            if (other := split_of.setdefault((file.sha256, file.sheet), split)) != split:
                raise UserError(f"--{split}-file {file.name}: the same bytes are in a file of {other}.")
