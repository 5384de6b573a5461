"""The adapter of a saved model, in the files of peft, and the model that it makes of its base model."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, boundary
from harness.facts.recipes import Recipe
from harness.facts.records import RunRecord, RunSpec
from harness.facts.tasks import TaskSpec
from harness.rows.files import model_revision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from harness.engine.adaptations.adapters import AdapterFiles
    from harness.engine.models import BuiltModel

WEIGHTS, CONFIG = FILES = "adapter_model.safetensors", "adapter_config.json"
"""Names that peft gives to the files of an adapter."""

BASE_HASH = "base_sha256"
"""Key in the metadata of the weights: the hash of the frozen weights that the adapter was trained on."""

_SETTINGS = ("adapter", "adapter_rank", "adapter_alpha", "adapter_targets")
"""Hyperparameters that two runs must share for one of them to continue the other's adapter."""


def is_adapter(folder: Path) -> bool:
    """Tells whether the folder has an adapter, and not whole weights."""
    return (folder / CONFIG).is_file()


def write_adapter(folder: Path, adapter: AdapterFiles) -> None:
    """Writes a new folder that `PeftModel.from_pretrained` can load on the base model."""
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(adapter.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(adapter.weights, folder / WEIGHTS, metadata={"format": "pt", BASE_HASH: adapter.base_sha256})


def continued_adapter(folder: Path, parent: RunRecord, recipe: Recipe) -> dict[str, torch.Tensor] | None:
    """Returns the weights of a saved model's adapter if a run of `recipe` continues it, else None.

    It does if both have the same adapter settings, and the parent's frozen weights are those of the published model.
    """
    own, saved = (each.model_dump(include=set(_SETTINGS)) for each in (recipe, parent.spec.recipe))
    if own != saved or parent.spec.parent is not None or not is_adapter(folder):
        return None
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def load_adapted_model(folder: Path, task: TaskSpec, record: RunRecord) -> tuple[PreTrainedModel, Tokenizer]:
    """Loads the base model of an adapter and merges the adapter into it, in evaluation mode; and its tokenizer.

    The code of the base model runs if it ran in training.

    Raises:
        UserError: the base model is not found, cannot be loaded, or is not the one that the adapter was trained on.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    from harness.engine.adaptations import adapters

    with boundary(str(folder / CONFIG), ValueError, KeyError, TypeError):
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        base, revision = str(config["base_model_name_or_path"]), config.get("revision") or record.spec.revision
    with boundary(str(folder / WEIGHTS), SafetensorError), safe_open(folder / WEIGHTS, "pt") as file:
        expected = (file.metadata() or {}).get(BASE_HASH)
    built = _base_model(folder, base, revision, task, record.spec)
    adapters.attach(built.model, record.spec.recipe, record.spec.seed, built.new_modules)
    try:
        adapters.load(built.model, load_file(folder / WEIGHTS), with_head=True)
        actual = adapters.extract(built.model)
    except UserError as error:
        raise UserError(f"{folder}: {base}: {error}.") from None
    if actual is None or actual.base_sha256 != expected:
        raise UserError(
            f"{folder}: invalid checksum of the base model {base}: it is not the one that the adapter was trained on."
        )
    adapters.merge(built.model)
    return built.model.train(False), built.tokenizer


def _base_model(folder: Path, base: str, revision: str, task: TaskSpec, spec: RunSpec) -> BuiltModel:
    """Loads the base model of the adapter in `folder`; in test mode, the tiny model."""
    from harness.engine import models, test_mode

    trusts_code = bool(spec.trust_remote_code)
    is_folder = base != spec.model or spec.revision.startswith("sha256:")  # another name is the folder of its parent
    is_tiny = spec.test_mode and base == spec.model
    if is_folder and not is_tiny and not Path(base).is_dir():
        raise UserError(
            f"{folder}: base model not found: the folder {base}. Restore it, or use the merged model in the folder "
            "above the adapter."
        )
    try:
        if trusts_code and base == spec.model:
            actual = model_revision(base, None if is_folder else revision, trusts_code=True)
            if actual != spec.revision:
                raise UserError(f"{base}: invalid checksum: its code or other files changed after the run.")
        with TemporaryDirectory() as scratch:
            if is_tiny:
                test_mode.write_model(Path(scratch))
            name, revision = scratch if is_tiny else base, "sha256:" if is_tiny or is_folder else revision
            return models.build_model(name, revision, task, spec.seed, trusts_code)
    except UserError as error:
        raise UserError(f"{folder}: cannot load its base model: {error}") from None
