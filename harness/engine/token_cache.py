"""Token arrays on disk: rows are tokenised once; later runs map the file, which a node's processes share."""

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

from harness.engine.encoding import Encoded, encode, input_texts, least_width, tokenizer_identity
from harness.errors import UserError
from harness.rows.splits import Split
from harness.system.atomic import write_atomically

FORMAT = 1
"""Version of the files, part of their keys; raised when their meaning changes."""

UNUSED_DAYS = 90
"""Days after which an unread file is removed, when another one is written."""


def cache_folder() -> Path | None:
    """Returns the folder of the cache, in $HARNESS_CACHE or the user's cache; None if $HARNESS_CACHE is empty."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "glue-harness")
    folder = os.environ.get("HARNESS_CACHE", str(default))
    try:
        return Path(folder).expanduser() / "tokens" if folder else None
    except RuntimeError:  # the user has no home
        return None


def encode_splits(
    splits: Mapping[str, Split], tokenizer: Tokenizer, max_length: int, folder: Path | None, warn: Callable[[str], None]
) -> dict[str, Encoded]:
    """Encodes each split, or reads it from the cache in `folder`; without a folder nothing is cached.

    Passes a message to `warn` for a damaged file, which is written again, and once if the folder is not writable.

    Raises:
        UserError: a text contains half a character (a lone surrogate), which no tokenizer accepts.
    """
    identity = tokenizer_identity(tokenizer) if folder is not None else ""
    encoded = {}
    for name, split in splits.items():
        facts = json.dumps([FORMAT, _texts_hash(name, split), identity, max_length])
        key = hashlib.sha256(facts.encode()).hexdigest()
        path = None if folder is None else folder / f"{key}.safetensors"
        cached = None if path is None else _read(path, split, tokenizer, warn)
        encoded[name] = encode(split, tokenizer, max_length) if cached is None else cached
        if path is not None and cached is None:
            try:
                _write(path, encoded[name])
            except OSError as error:
                warn(f"{path.parent}: cannot write tokens ({error.strerror or error}); continuing without a cache")
                folder = None
    return encoded


def _texts_hash(name: str, split: Split) -> str:
    """Returns the sha256 of every input's text and pair, in order."""
    columns = input_texts(split)
    digest = hashlib.sha256(f"{len(columns[0])} {len(columns) > 1};".encode())
    for texts in columns:
        lengths = np.fromiter(map(len, texts), np.int64, count=len(texts))
        digest.update(lengths.tobytes())
        try:
            digest.update("".join(texts).encode())
        except UnicodeEncodeError as error:
            row = 1 + int(np.searchsorted(lengths.cumsum(), error.start, side="right")) * len(split.text) // len(texts)
            raise UserError(
                f"row {row} of split {name!r}: invalid text, it contains {error.object[error.start]!r}, half of a "
                "character in UTF-16. Replace it by the whole character or remove it."
            ) from None
    return digest.hexdigest()


def _read(path: Path, split: Split, tokenizer: Tokenizer, warn: Callable[[str], None]) -> Encoded | None:
    """Maps a file into memory; returns None if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:  # framework="numpy" would copy instead of map
            metadata: dict[str, str] = file.metadata() or {}
            names = file.keys()
            arrays = {name: file.get_tensor(name).numpy() for name in names}
        is_intact = metadata.get("sha256") == _hash(path.stem, metadata.get("padding"), arrays)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, SafetensorError) as error:
        warn(f"{path}: cannot be read ({error}); tokenising again")
        return None
    if not is_intact:
        warn(f"{path}: invalid checksum; tokenising again")
        return None
    with suppress(OSError):
        os.utime(path)  # marks it as used today
    offsets = arrays.pop("offsets")
    choices = len(split.choices[0]) if split.choices else 1
    assert len(offsets) == len(split.text) * choices + 1, (len(offsets), len(split.text))
    padding = json.loads(metadata["padding"])
    pads_left = tokenizer.padding_side == "left"
    return Encoded(arrays, offsets, padding, split.label, pads_left, choices, least_width(tokenizer))


def _write(path: Path, encoded: Encoded) -> None:
    arrays: dict[str, NDArray[Any]] = {**encoded.tokens, "offsets": encoded.offsets}
    padding = json.dumps(encoded.padding)
    content = save(arrays, {"padding": padding, "sha256": _hash(path.stem, padding, arrays)})
    write_atomically(path, content)
    _remove_unused(path.parent)


def _hash(key: str, padding: str | None, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(f"{key} {padding}".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f";{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for path in [*folder.glob("*.safetensors"), *folder.glob(".*.safetensors-*")]:  # also those of a killed process
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
