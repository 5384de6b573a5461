"""The checkpoints of a pretraining run: the folders of a directory, or the revisions of a repository on the Hub."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, first_line
from harness.system.hub import call_with_retries
from harness.system.paths import user_path

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:([kmbg])(?![a-z]))?", re.IGNORECASE)

MAX_FOLDERS = 10_000
"""Folders in a watched directory."""


class PretrainedCheckpoint(NamedTuple):
    """One checkpoint; they sort in the order of pretraining."""

    amount: float
    """The number in its name, of steps, tokens or words: 100M is 100,000,000."""
    name: str
    """Its folder's name, or its revision."""
    model: str
    """Its folder, or the repository."""
    revision: str | None = None


class Checkpoints(NamedTuple):
    """The checkpoints of a source at one moment."""

    complete: list[PretrainedCheckpoint]
    """The usable ones, in the order of pretraining."""
    incomplete: dict[str, str]
    """The reason why a checkpoint cannot be used yet, by its name: it is still being written, or damaged."""
    unnumbered: list[str]
    """Names without a number, which have no place in the order."""


def find_checkpoints(source: str, revisions: Sequence[str] = ()) -> Checkpoints:
    """The checkpoints that are there now.

    A source that is no folder is a repository: its `revisions`, or all branches and tags with a number in their name.

    Raises:
        UserError: the folder is not found, is itself a checkpoint or has too many folders, the repository cannot be
            read, or a revision has no number in its name.
    """
    folder = user_path("", source)
    if folder.is_dir():
        if revisions:
            raise UserError(f"--revisions: unsupported for a folder ({source}); drop the flag.")
        return _in_folder(folder)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UserError(f"{source}: folder not found. Name the folder whose subfolders are the checkpoints.")
    if unnumbered := [name for name in revisions if amount_in(name) is None]:
        raise UserError(
            f"--revisions {unnumbered[0]}: expected a number of steps or tokens in its name, as in step1000."
        )
    checkpoints = Checkpoints([], {}, [])
    for name in dict.fromkeys(revisions or _revisions(source)):
        if (amount := amount_in(name)) is None:
            checkpoints.unnumbered.append(name)
        else:
            checkpoints.complete.append(PretrainedCheckpoint(amount, name, source, name))
    return checkpoints._replace(complete=sorted(checkpoints.complete))


def amount_in(name: str) -> float | None:
    """The last number in a name, with its unit: 1000 for `step1000`, 100,000,000 for `chck_100M`."""
    numbers = _NUMBER.findall(name)
    return float(numbers[-1][0]) * _UNITS[numbers[-1][1].lower()] if numbers else None


def _in_folder(folder: Path) -> Checkpoints:
    if (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: this is a checkpoint itself. Name the folder that has the checkpoints in it, or train this one "
            "with `harness sweep --models`."
        )
    checkpoints = Checkpoints([], {}, [])
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) > MAX_FOLDERS:
        raise UserError(f"{folder}: {len(names):,} folders: expected at most {MAX_FOLDERS:,} checkpoints.")
    for name in names:
        reason = _missing_part(folder / name)
        if (amount := amount_in(name)) is None:
            checkpoints.unnumbered.extend([name] if reason is None else [])
        elif reason is None:
            checkpoints.complete.append(PretrainedCheckpoint(amount, name, str(folder / name)))
        else:
            checkpoints.incomplete[name] = reason
    return checkpoints._replace(complete=sorted(checkpoints.complete))


def _missing_part(folder: Path) -> str | None:
    """The part of a checkpoint that is missing or half written, or None."""
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    try:
        for path in folder.glob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        weights = _weights(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # or an index without file names
        return "a JSON file is incomplete"
    if not weights:
        return "weights are missing, model.safetensors or pytorch_model.bin"
    return next((reason for path in weights if (reason := _incomplete_part(path))), None)


def _weights(folder: Path) -> list[Path]:
    """The files with the weights; those that an index names need not be there."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            files: Iterable[str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / file for file in sorted(set(files))]
    return []


def _incomplete_part(weights: Path) -> str | None:
    if not weights.is_file():
        return f"{weights.name} is missing"
    if weights.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(weights, "np"):
                return None
        except SafetensorError as error:
            return f"{weights.name} is incomplete: {first_line(error)}"
    return None if zipfile.is_zipfile(weights) else f"{weights.name} is incomplete"


def _revisions(repository: str) -> list[str]:
    """The branches and tags of a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        refs = call_with_retries(repository, lambda: HfApi().list_repo_refs(repository))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repository}: not a local folder, and its branches and tags on the Hub cannot be listed: "
            f"{first_line(error)}\nCheck the spelling and the connection, or name them with --revisions."
        ) from None
    return [ref.name for ref in (*refs.branches, *refs.tags)]
