"""Token arrays on disk: rows are tokenised once, and read from then on as a mapping that a node's processes share."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.engine.encoding import Encoded, Rows, encode, tokenizer_identity
from harness.errors import UserError

FORMAT = 1
"""Raised when files of before can no longer be read as they are meant."""

UNUSED_DAYS = 90
"""Files that no run has read for so long are removed when another is written."""


def cache_folder() -> Path | None:
    """Where token arrays lie: in $HARNESS_CACHE, else in the user's cache; None where that is set to nothing."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "glue-harness")
    place = os.environ.get("HARNESS_CACHE", str(users))
    try:
        return Path(place).expanduser() / "tokens" if place else None
    except RuntimeError:  # a user without a home
        return None


def encoded(
    splits: Mapping[str, Rows],
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path | None,
    say: Callable[[str], None],
) -> dict[str, Encoded]:
    """`encode` of each split, from `folder` where it lies there and then kept there; no folder, nothing kept.

    A damaged file is named through `say` and written anew. Where nothing can be written, `say` is told once.

    Raises:
        UserError: a text holds half a character, which no tokenizer reads.
    """
    identity = tokenizer_identity(tokenizer) if folder is not None else ""
    found = {}
    for name, split in splits.items():
        facts = json.dumps([FORMAT, _texts_hash(name, split), identity, max_length])
        key = hashlib.sha256(facts.encode()).hexdigest()
        path = None if folder is None else folder / f"{key}.safetensors"
        kept = None if path is None else _read(path, split, say)
        found[name] = encode(split, tokenizer, max_length) if kept is None else kept
        if path is not None and kept is None:
            try:
                _write(path, found[name])
            except OSError as error:
                say(f"{path.parent}: cannot keep tokens there ({error.strerror or error}); going on without a cache")
                folder = None
    return found


def _texts_hash(name: str, split: Rows) -> str:
    """sha256 over every row's text and pair, in order."""
    digest = hashlib.sha256(f"{len(split.text)} {split.pair is not None};".encode())
    for texts in (split.text, split.pair):
        if texts is None:
            continue
        lengths = np.fromiter(map(len, texts), np.int64, count=len(texts))
        digest.update(lengths.tobytes())
        try:
            digest.update("".join(texts).encode())
        except UnicodeEncodeError as error:
            row = 1 + int(np.searchsorted(lengths.cumsum(), error.start, side="right"))
            raise UserError(
                f"the text of row {row} of split {name!r} holds {error.object[error.start]!r}, half of a character in "
                "UTF-16, which no tokenizer reads. Write the whole character, or leave it out."
            ) from None
    return digest.hexdigest()


def _read(path: Path, split: Rows, say: Callable[[str], None]) -> Encoded | None:
    """What lies there, mapped into memory, or None when nothing whole does."""
    try:
        with safe_open(path, framework="pt") as file:  # as numpy's it would be a copy instead of a mapping
            about: dict[str, str] = file.metadata() or {}
            names = file.keys()
            arrays = {name: file.get_tensor(name).numpy() for name in names}
        is_whole = about.get("sha256") == _hash(path.stem, about.get("padding"), arrays)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, SafetensorError) as error:
        say(f"{path}: cannot be read ({error}); tokenising again")
        return None
    if not is_whole:
        say(f"{path}: is damaged; tokenising again")
        return None
    with suppress(OSError):
        os.utime(path)  # it was of use today
    offsets = arrays.pop("offsets")
    assert len(offsets) == len(split.text) + 1, (len(offsets), len(split.text))
    return Encoded(arrays, offsets, json.loads(about["padding"]), split.label)


def _write(path: Path, encoded: Encoded) -> None:
    arrays: dict[str, NDArray[Any]] = {**encoded.tokens, "offsets": encoded.offsets}
    padding = json.dumps(encoded.padding)
    content = save(arrays, {"padding": padding, "sha256": _hash(path.stem, padding, arrays)})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except OSError:
        with suppress(OSError):
            scratch.unlink()
        raise
    _remove_unused(path.parent)


def _hash(key: str, padding: str | None, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(f"{key} {padding}".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f";{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for path in [*folder.glob("*.safetensors"), *folder.glob(".*.safetensors.*")]:  # those of a killed writer too
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
