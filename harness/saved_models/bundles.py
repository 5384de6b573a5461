"""A trained model kept as a folder that transformers can load, with the task and the record that say what it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import __version__
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record, record_text, write_atomically
from harness.facts.tasks import TaskSpec, read_task, task_text
from harness.rows.files import file_hash
from harness.saved_models.model_card import model_card

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

FORMAT = 1
"""Raised when older harnesses could not read a bundle any more; they refuse it then."""

MANIFEST = "bundle.json"
"""Names format, run and the weights' hash. Written last: a folder without it is no bundle."""

WEIGHTS, CONFIG, TASK, RECORD, CARD = "model.safetensors", "config.json", "task.yaml", "record.json", "README.md"


class Bundle(NamedTuple):
    """What a folder says of the model in it."""

    folder: Path
    task: TaskSpec
    """As its file defined it, under its own name; a data file of the user's own is named without its folder."""
    record: RunRecord


# -- writing -----------------------------------------------------------------------------------------------------------


def check_place(folder: Path, run_id: str, overwrite: bool) -> None:
    """Proves, before hours are spent, that the model of a run can be written there.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    place = _absolute(folder)
    try:
        inside = next(place.iterdir(), None) if place.exists() else None
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-"):
            pass
    except OSError as error:
        raise UserError(
            f"--save-model {folder}: cannot write there ({error.strerror or error}). Name another folder."
        ) from None
    if inside is None:
        return
    if not (place / MANIFEST).is_file():
        raise UserError(
            f"--save-model {folder}: the folder holds {inside.name!r} and no model of the harness. Name a folder that "
            "is empty or not there yet."
        )
    if (held := _manifest(place).get("run_id")) != run_id and not overwrite:
        raise UserError(
            f"--save-model {folder}: the model of another run is there, {held}. Name another folder, or replace it "
            "with --overwrite."
        )


def put_model(
    folder: Path,
    run_id: str,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    weights: Mapping[str, torch.Tensor],
    tokens: int,
) -> None:
    """Writes weights, configuration and tokenizer aside; `finish` puts them in their place. By the main process.

    `weights` may have the names that torch.compile gives them. `tokens`: the longest input, to which the saved
    tokenizer then cuts when it is asked to truncate.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    scratch = _scratch(folder, run_id)
    shutil.rmtree(scratch, ignore_errors=True)
    model = getattr(model, "_orig_mod", model)
    clean = {re.sub(r"(^|\.)_orig_mod\.", r"\1", name): tensor for name, tensor in weights.items()}
    _explaining(scratch, lambda: model.save_pretrained(scratch, state_dict=clean, max_shard_size="1TB"))
    _explaining(scratch, lambda: _save_tokenizer(tokenizer, scratch, tokens))


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, tokens: int) -> None:
    """The same files whatever the tokenizer was used for before: it remembers the last call's truncation."""
    backend, limit = getattr(tokenizer, "backend_tokenizer", None), tokenizer.model_max_length
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = tokens
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = limit
    path = folder / "tokenizer_config.json"
    settings = {key: value for key, value in json.loads(path.read_text()).items() if key not in _LOCAL}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


_LOCAL = ("is_local", "local_files_only", "name_or_path")
"""What transformers writes of where a tokenizer was read from."""


def finish(folder: Path, task: TaskSpec, record: RunRecord) -> None:
    """Adds task, record and card to what `put_model` wrote, and puts the folder in its place; whole or not at all.

    `task` as `load_task` gives it.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    place, scratch = _absolute(folder), _scratch(folder, record.run_id)
    facts = {
        "format": FORMAT,
        "harness": __version__,
        "run_id": record.run_id,
        "files": {WEIGHTS: file_hash(scratch / WEIGHTS)},
    }

    def write() -> None:
        (scratch / TASK).write_text(task_text(task), encoding="utf-8")
        (scratch / RECORD).write_text(record_text(record), encoding="utf-8")
        (scratch / CARD).write_text(model_card(task, record), encoding="utf-8")
        write_atomically(scratch / MANIFEST, json.dumps(facts, indent=1) + "\n")
        for path in scratch.iterdir():
            path.chmod(0o644)  # safetensors writes for the owner alone
        old = scratch.with_name(f"{scratch.name}-old")
        if place.exists():
            os.replace(place, old)
        os.replace(scratch, place)
        shutil.rmtree(old, ignore_errors=True)

    _explaining(scratch, write)


def _explaining(scratch: Path, write: Callable[[], Any]) -> None:
    from safetensors import SafetensorError

    try:
        write()
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UserError(
            f"--save-model: cannot write to {scratch.parent}: {error}. Make room, or name another folder with "
            "--save-model, and give the same command again: it goes on from the run's last checkpoint."
        ) from error


def _absolute(folder: Path) -> Path:
    return folder.expanduser().resolve()


def _scratch(folder: Path, run_id: str) -> Path:
    place = _absolute(folder)
    return place.with_name(f".{place.name}-{run_id}")


# -- reading -----------------------------------------------------------------------------------------------------------


def check_kept(folder: Path, record: RunRecord) -> None:
    """Raises UserError when the model of a finished run is not in the folder."""
    if is_bundle(folder) and _manifest(folder).get("run_id") == record.run_id:
        return
    if record.status == "diverged":
        raise UserError(f"--save-model {folder}: the run diverged, so it has no model to keep.")
    raise UserError(
        f"--save-model {folder}: the run {record.run_id} is finished and its weights were not kept; only its record "
        "and its predictions are there. --overwrite trains again and keeps the model."
    )


def is_bundle(folder: Path) -> bool:
    """Whether a run left its model there."""
    return (folder / MANIFEST).is_file()


def read(folder: Path) -> Bundle:
    """What is in a folder that `--save-model` wrote; no weights are read.

    Raises:
        UserError: it is no such folder, not whole, or made by a newer harness.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder. `harness run --save-model {folder}` would make it.")
    if not is_bundle(folder):
        raise UserError(
            f"{folder}: no model of the harness is there: it has no {MANIFEST}. Give the folder that "
            "`harness run --save-model` wrote."
        )
    held = _manifest(folder)
    if not isinstance(held.get("format"), int) or not isinstance(held.get("files"), dict):
        raise UserError(f"{folder / MANIFEST}: names no format or no files. It was changed by hand or is damaged.")
    if held["format"] > FORMAT:
        raise UserError(
            f"{folder}: made by a newer harness, {held.get('harness', 'of unknown version')} (format "
            f"{held['format']}; this one, {__version__}, reads up to {FORMAT}). Update."
        )
    if lacking := [name for name in (WEIGHTS, CONFIG, TASK, RECORD) if not (folder / name).is_file()]:
        raise UserError(f"{folder}: {lacking[0]} is missing; the model is not whole.")
    record = read_record(folder / RECORD)
    task = read_task(folder / TASK).model_copy(update={"name": record.spec.task})
    return Bundle(folder, task, record)


def check_weights(bundle: Bundle) -> None:
    """Raises UserError when the weights are not those that the run saved."""
    folder = bundle.folder
    if file_hash(folder / WEIGHTS) != _manifest(folder)["files"].get(WEIGHTS):
        raise UserError(
            f"{folder / WEIGHTS}: these are not the weights that the run saved: the file was replaced or is damaged."
        )


def load(bundle: Bundle) -> tuple[PreTrainedModel, Tokenizer]:
    """The model in float32, ready to score, and its tokenizer.

    Raises:
        UserError: the weights are not those that the run saved, or cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.engine.adaptations.float32_head import compute_head_in_float32

    folder = bundle.folder
    check_weights(bundle)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # each library has a kind of its own for a file that it cannot read
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: the model cannot be loaded: {reason}") from None
    compute_head_in_float32(model)
    return model.eval(), tokenizer


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        held = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read: {error}") from None
    if not isinstance(held, dict):
        raise UserError(f"{folder / MANIFEST}: is no manifest.")
    return held
