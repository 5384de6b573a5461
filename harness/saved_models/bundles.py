"""A trained model saved as a folder that transformers can load, with the task and the record that describe it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import __version__
from harness.errors import UserError, boundary
from harness.facts.records import RunRecord, read_record_copy, record_text
from harness.facts.tasks import TaskSpec, read_task, task_text
from harness.reports.learning_curve import PLOT, curve_plot
from harness.rows.files import file_hash
from harness.saved_models import adapter_folder
from harness.saved_models.model_card import model_card
from harness.system.atomic import check_writable, replace_folder, write_atomically, write_fault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from harness.engine.adaptations.adapters import AdapterFiles

FORMAT = 1
"""Version of the folder's layout; raised when older harnesses cannot read it, so that they refuse it."""

MANIFEST = "bundle.json"
"""File with format, run_id and every file's hash. It is written last: a folder without it is no bundle."""

WEIGHTS, CONFIG, TASK, RECORD, CARD = "model.safetensors", "config.json", "task.yaml", "record.json", "README.md"

ADAPTER = "adapter"
"""Folder in a saved model with its adapter, which has a manifest, task and record of its own."""

_LOCAL_SETTINGS = ("is_local", "local_files_only", "name_or_path")
"""Settings of a tokenizer that tell where transformers read it from."""


class Bundle(NamedTuple):
    """A folder with a saved model: its task and its record."""

    folder: Path
    task: TaskSpec
    """The task as its file defined it, under its own name; the user's own data files are named without their folder."""
    record: RunRecord


# -- writing -----------------------------------------------------------------------------------------------------------


def check_save_folder(folder: Path, run_id: str, overwrite: bool) -> bool:
    """Checks that the model of a run can be written to the folder, and returns whether it replaces a saved model.

    A run checks it twice: before hours are spent, and when it renames, since another run may have used the folder.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    with boundary(f"--save-model {folder}", RuntimeError, advice="Name another folder."):
        final = folder.resolve()
        names = sorted(path.name for path in final.iterdir()) if final.exists() else []
        check_writable(final.parent)
        if not names:
            return False
        if not is_bundle(final):
            raise UserError(
                f"--save-model {folder}: the folder is not empty ({names[0]!r}) and holds no saved model. Name an "
                "empty or new folder."
            )
        manifest = _manifest(final)
        if (other := manifest.get("run_id")) != run_id and not overwrite:
            raise UserError(
                f"--save-model {folder}: the folder holds the model of another run, {other}. Name another folder, or "
                "replace it with --overwrite."
            )
        files = manifest.get("files")
        saved = files if isinstance(files, dict) else {}
        own = [name for name in _paths(final) if name not in (*saved, ADAPTER, MANIFEST)]
        edited = [name for name in (CARD, PLOT) if name in names and name in saved]
        own += [name for name in edited if file_hash(final / name) != saved[name]]
        if own:
            raise UserError(
                f"--save-model {folder}: {own[0]!r} was not written by a run, or was edited since. Move it, or name "
                "another folder."
            )
        return True


def stage_model(
    folder: Path,
    run_id: str,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    weights: Mapping[str, torch.Tensor],
    max_length: int,
    adapter: AdapterFiles | None = None,
) -> None:
    """Writes weights, configuration and tokenizer to a hidden folder next to `folder`; `finish_bundle` renames it.

    The weights are whole: an adapter is merged into them, and is also saved separately, in the folder `adapter`. Code
    that came with the model is copied as well.

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
        _use_own_code(scratch)
        if adapter is not None:
            adapter_folder.write_adapter(scratch / ADAPTER, adapter)


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
    settings = {key: value for key, value in json.loads(path.read_bytes()).items() if key not in _LOCAL_SETTINGS}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _use_own_code(folder: Path) -> None:
    """Makes configuration and tokenizer name the copies of their code, which transformers put into the folder."""
    from harness.engine.model_code import own_references

    if not any(folder.glob("*.py")):
        return
    for path in (folder / CONFIG, folder / "tokenizer_config.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if auto_map := own_references(settings.pop("auto_map", None), folder):
            settings["auto_map"] = auto_map
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def finish_bundle(folder: Path, task: TaskSpec, record: RunRecord, overwrite: bool = False) -> None:
    """Adds task, record and model card to what `stage_model` wrote, and renames the whole to `folder`.

    `task` is the task as `load_task` returns it.

    Raises:
        UserError: the disk is full or cannot be written, or `folder` is no longer free (see `check_save_folder`).
    """
    final, scratch = folder.resolve(), _scratch(folder, record.run_id)
    with _explained_errors(scratch):
        (scratch / CARD).write_text(model_card(task, record), encoding="utf-8")
        if (plot := curve_plot(record)) is not None:
            (scratch / PLOT).write_text(plot, encoding="utf-8")
        if (scratch / ADAPTER).is_dir():
            _describe(scratch / ADAPTER, task, record)
        _describe(scratch, task, record)
        for path in scratch.rglob("*.*"):
            path.chmod(0o644)  # safetensors writes for the owner alone
        replaces = check_save_folder(folder, record.run_id, overwrite)
        (replace_folder if replaces else os.replace)(scratch, final)  # os.replace fails if another run has come first


def _describe(folder: Path, task: TaskSpec, record: RunRecord) -> None:
    """Adds task, record and manifest to the files of a model or an adapter."""
    (folder / TASK).write_text(task_text(task), encoding="utf-8")
    (folder / RECORD).write_text(record_text(record), encoding="utf-8")
    files = {name: file_hash(folder / name) for name in _paths(folder) if (folder / name).is_file()}
    manifest = {"format": FORMAT, "harness": __version__, "run_id": record.run_id, "files": files}
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _paths(folder: Path) -> list[str]:
    """Returns the sorted paths of all files and folders in a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@contextmanager
def _explained_errors(scratch: Path) -> Iterator[None]:
    """Turns a failed write into a UserError; removes the hidden folder after any failure."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if (cause := write_fault(error)) is None:
            raise
        raise UserError(
            f"--save-model: cannot write to {scratch.parent}: {cause}. Free disk space or name another folder with "
            "--save-model, then run the same command again: it resumes from the run's last checkpoint."
        ) from error


def _scratch(folder: Path, run_id: str) -> Path:
    final = folder.resolve()
    return final.with_name(f".{final.name}-{run_id}")


# -- reading -----------------------------------------------------------------------------------------------------------


def check_saved_model(folder: Path, record: RunRecord) -> None:
    """Raises UserError when the folder does not hold the model of this finished run."""
    with boundary(f"--save-model {folder}", advice="Name another folder."):
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
        UserError: the folder does not exist, cannot be read, is incomplete, was edited, or was made by a newer harness.
    """
    with boundary(str(folder), advice="Name the folder that `harness run --save-model` wrote."):
        return _read_bundle(folder)


def _read_bundle(folder: Path) -> Bundle:
    if not folder.is_dir():
        is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder)) and not folder.parent.exists()
        download = f" If it is on the Hub: hf download {folder} --local-dir {folder}" if is_name else ""
        raise UserError(f"{folder}: folder not found. `harness run --save-model {folder}` writes it.{download}")
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
    own = adapter_folder.FILES if adapter_folder.is_adapter(folder) else (WEIGHTS, CONFIG)
    if missing := next((name for name in (*own, TASK, RECORD) if not (folder / name).is_file()), None):
        raise UserError(f"{folder}: {missing} is missing; the saved model is incomplete.")
    _check_files(folder, [name for name in manifest["files"] if name not in (WEIGHTS, CARD, PLOT)])
    record = read_record_copy(folder / RECORD)
    task = read_task(folder / TASK).model_copy(update={"name": record.spec.task})
    return Bundle(folder, task, record)


def check_weights(bundle: Bundle) -> None:
    """Raises UserError when the weights are not the ones that the run saved."""
    _check_files(bundle.folder, [adapter_folder.WEIGHTS if adapter_folder.is_adapter(bundle.folder) else WEIGHTS])


def _check_files(folder: Path, names: Iterable[str]) -> None:
    """Raises UserError when a file is not the one that the run saved; the card and its plot are the user's to edit."""
    expected = _manifest(folder)["files"]
    for name in names:
        if not (folder / name).is_file() or file_hash(folder / name) != expected.get(name):
            raise UserError(
                f"{folder / name}: invalid checksum. The file was edited, replaced or damaged since the run saved it: "
                "restore it, or save the model again."
            )


def load_model(bundle: Bundle, trusts_code: bool = False) -> tuple[PreTrainedModel, Tokenizer]:
    """Loads the model in float32, in evaluation mode, and its tokenizer.

    Raises:
        UserError: the weights or the code are not the ones that the run saved, the code is not trusted, or the model
            cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.engine.adaptations import adapt_loaded, cache
    from harness.engine.inputs import fit_tokenizer
    from harness.engine.model_code import check_code, code_options, fill_uninitialised, name_encoder
    from harness.engine.models import explained_load_errors

    folder, has_code = bundle.folder, bool(bundle.record.spec.trust_remote_code)
    code = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    if has_code and not trusts_code:
        raise UserError(
            f"{folder}: --trust-remote-code is missing: the model needs code that comes with it "
            f"({', '.join(code) or bundle.record.spec.model}). Read that code first."
        )
    check_weights(bundle)
    if adapter_folder.is_adapter(folder):
        return adapter_folder.load_adapted_model(folder, bundle.task, bundle.record)
    options = code_options(has_code)
    with explained_load_errors(str(folder)):
        if has_code:
            _check_files(folder, code)
            check_code(str(folder), str(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **options)
        if has_code:
            fill_uninitialised(model, options)
            name_encoder(str(folder), model)
    adapt_loaded(model)
    cache.switch_off(model)
    fit_tokenizer(tokenizer, model)
    return model.eval(), tokenizer


def _manifest(folder: Path) -> dict[str, Any]:
    with boundary(str(folder / MANIFEST), ValueError, advice="The file was edited or is damaged."):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict):
        raise UserError(f"{folder / MANIFEST}: expected a JSON object, got {type(manifest).__name__}.")
    return manifest
