"""A trained model saved as a folder that transformers can load, with the task and the record that describe it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import __version__
from harness.errors import UserError, first_line
from harness.facts.records import RunRecord, read_record_copy, record_text
from harness.facts.tasks import TaskSpec, read_task, task_text
from harness.rows.files import file_hash
from harness.saved_models.model_card import model_card
from harness.system.atomic import check_writable, replace_folder, write_atomically

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

FORMAT = 1
"""Version of the folder's layout; raised when older harnesses cannot read it, so that they refuse it."""

MANIFEST = "bundle.json"
"""File with format, run_id and the weights' hash. It is written last: a folder without it is no bundle."""

WEIGHTS, CONFIG, TASK, RECORD, CARD = "model.safetensors", "config.json", "task.yaml", "record.json", "README.md"

_LOCAL_SETTINGS = ("is_local", "local_files_only", "name_or_path")
"""Settings of a tokenizer that tell where transformers read it from."""


class Bundle(NamedTuple):
    """A folder with a saved model: its task and its record."""

    folder: Path
    task: TaskSpec
    """The task as its file defined it, under its own name; the user's own data files are named without their folder."""
    record: RunRecord


# -- writing -----------------------------------------------------------------------------------------------------------


def check_save_folder(folder: Path, run_id: str, overwrite: bool) -> None:
    """Checks, before hours are spent, that the model of a run can be written to the folder.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    final = _absolute(folder)
    try:
        first = next(final.iterdir(), None) if final.exists() else None
        check_writable(final.parent)
    except OSError as error:
        raise UserError(
            f"--save-model {folder}: cannot write there ({error.strerror or error}). Name another folder."
        ) from None
    if first is None:
        return
    if not is_bundle(final):
        raise UserError(
            f"--save-model {folder}: the folder is not empty ({first.name!r}) and holds no saved model. Name an empty "
            "or new folder."
        )
    if (other := _manifest(final).get("run_id")) != run_id and not overwrite:
        raise UserError(
            f"--save-model {folder}: the folder holds the model of another run, {other}. Name another folder, or "
            "replace it with --overwrite."
        )


def stage_model(
    folder: Path,
    run_id: str,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    weights: Mapping[str, torch.Tensor],
    max_length: int,
) -> None:
    """Writes weights, configuration and tokenizer to a hidden folder next to `folder`; `finish_bundle` renames it.

    Only the main process calls it. `weights` may have the names that torch.compile gives them. The saved tokenizer
    truncates to `max_length` tokens.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    scratch = _scratch(folder, run_id)
    shutil.rmtree(scratch, ignore_errors=True)
    model = getattr(model, "_orig_mod", model)
    plain = {re.sub(r"(^|\.)_orig_mod\.", r"\1", name): tensor for name, tensor in weights.items()}
    with _explained_errors(scratch):
        model.save_pretrained(scratch, state_dict=plain, max_shard_size="1TB")
        _save_tokenizer(tokenizer, scratch, max_length)


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Writes the same files whatever the tokenizer did before: it remembers the truncation of its last call."""
    backend, limit = getattr(tokenizer, "backend_tokenizer", None), tokenizer.model_max_length
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = max_length
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = limit
    path = folder / "tokenizer_config.json"
    settings = {key: value for key, value in json.loads(path.read_text()).items() if key not in _LOCAL_SETTINGS}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def finish_bundle(folder: Path, task: TaskSpec, record: RunRecord) -> None:
    """Adds task, record and model card to what `stage_model` wrote, and renames the whole to `folder`.

    `task` is the task as `load_task` returns it.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    scratch = _scratch(folder, record.run_id)
    with _explained_errors(scratch):
        manifest = {
            "format": FORMAT,
            "harness": __version__,
            "run_id": record.run_id,
            "files": {WEIGHTS: file_hash(scratch / WEIGHTS)},
        }
        (scratch / TASK).write_text(task_text(task), encoding="utf-8")
        (scratch / RECORD).write_text(record_text(record), encoding="utf-8")
        (scratch / CARD).write_text(model_card(task, record), encoding="utf-8")
        write_atomically(scratch / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for path in scratch.iterdir():
            path.chmod(0o644)  # safetensors writes for the owner alone
        replace_folder(scratch, _absolute(folder))


@contextmanager
def _explained_errors(scratch: Path) -> Iterator[None]:
    """Turns a failed write into a UserError and removes the hidden folder."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UserError(
            f"--save-model: cannot write to {scratch.parent}: {error}. Free disk space or name another folder with "
            "--save-model, then run the same command again: it resumes from the run's last checkpoint."
        ) from error


def _absolute(folder: Path) -> Path:
    return folder.expanduser().resolve()


def _scratch(folder: Path, run_id: str) -> Path:
    final = _absolute(folder)
    return final.with_name(f".{final.name}-{run_id}")


# -- reading -----------------------------------------------------------------------------------------------------------


def check_saved_model(folder: Path, record: RunRecord) -> None:
    """Raises UserError when the folder does not hold the model of this finished run."""
    if is_bundle(folder) and _manifest(folder).get("run_id") == record.run_id:
        return
    if record.status == "diverged":
        raise UserError(f"--save-model {folder}: the run diverged, so it has no model to save.")
    raise UserError(
        f"--save-model {folder}: the run {record.run_id} is finished, but its weights were not saved. Add --overwrite "
        "to train again and save the model."
    )


def is_bundle(folder: Path) -> bool:
    """Tells whether a run saved its model in this folder."""
    return (folder / MANIFEST).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Reads task and record of a saved model, but no weights.

    Raises:
        UserError: the folder does not exist, is incomplete, or was made by a newer harness.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: folder not found. `harness run --save-model {folder}` writes it.")
    if not is_bundle(folder):
        raise UserError(
            f"{folder}: not a saved model, {MANIFEST} is missing. Name the folder that "
            "`harness run --save-model` wrote."
        )
    manifest = _manifest(folder)
    version = manifest.get("format")
    if not isinstance(version, int) or not isinstance(manifest.get("files"), dict):
        raise UserError(f"{folder / MANIFEST}: 'format' or 'files' is missing. The file was edited or is damaged.")
    if version > FORMAT:
        raise UserError(
            f"{folder}: unsupported format {version}, written by a newer harness "
            f"({manifest.get('harness', 'version unknown')}); this one, {__version__}, reads formats up to {FORMAT}. "
            "Update the harness."
        )
    if missing := next((name for name in (WEIGHTS, CONFIG, TASK, RECORD) if not (folder / name).is_file()), None):
        raise UserError(f"{folder}: {missing} is missing; the saved model is incomplete.")
    record = read_record_copy(folder / RECORD)
    task = read_task(folder / TASK).model_copy(update={"name": record.spec.task})
    return Bundle(folder, task, record)


def check_weights(bundle: Bundle) -> None:
    """Raises UserError when the weights are not the ones that the run saved."""
    path = bundle.folder / WEIGHTS
    if file_hash(path) != _manifest(bundle.folder)["files"].get(WEIGHTS):
        raise UserError(f"{path}: invalid checksum. The file was replaced or is damaged since the run saved it.")


def load_model(bundle: Bundle) -> tuple[PreTrainedModel, Tokenizer]:
    """Loads the model in float32, in evaluation mode, and its tokenizer.

    Raises:
        UserError: the weights are not the ones that the run saved, or cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.engine.adaptations.float32_head import compute_head_in_float32

    folder = bundle.folder
    check_weights(bundle)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # each library raises its own kind for a file that it cannot read
        raise UserError(f"{folder}: cannot load the model: {first_line(error)}") from None
    compute_head_in_float32(model)
    return model.eval(), tokenizer


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read: {error}") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{folder / MANIFEST}: expected a JSON object, got {type(manifest).__name__}.")
    return manifest
