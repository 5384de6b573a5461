"""Saved adapters: merged model, peft and the harness give the logits of the run, and a wrong base model is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.commands import run, sigterm_at_step

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record
from harness.facts.run_files import checkpoint_folder
from harness.facts.tasks import load_task
from harness.inspection.scorer import open_model
from harness.rows import loading
from harness.rows.files import file_hash
from harness.rows.splits import Split

FLAGS = ("--task", "rte", "--test-mode", "--epochs", "2", "--learning-rate", "0.03")
KINDS = ("lora", "dora", "ia3", "bitfit")


def record_of(results: Path, task: str = "rte") -> RunRecord:
    (path,) = (results / "test-mode/runs" / task).glob("*.json")
    return read_record(path)


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with this adapter: its results, and its model in `model`; tests must not change it."""
    if request.param != "bitfit":
        pytest.importorskip("peft")
    root = tmp_path_factory.mktemp(request.param)
    run(*FLAGS, "--adapter", request.param, "--results", root, "--save-model", root / "model")
    return root


def texts() -> Split:
    task = load_task("rte")
    return loading.load_splits(task, test_mode.tables(task), "standard", None)["validation"]


def saved_scores(results: Path) -> np.ndarray[Any, Any]:
    record = record_of(results)
    path = results / "test-mode/runs/rte" / record.prediction_files["validation"]
    return np.stack(pd.read_parquet(path)["scores"].tolist())


def plain_logits(model: Any, folder: Path) -> np.ndarray[Any, Any]:
    """Logits of transformers' own model, or of peft's."""
    from transformers import AutoTokenizer

    rows = texts()
    inputs = AutoTokenizer.from_pretrained(folder)(
        rows.text, rows.pair, truncation=True, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        return np.asarray(model.eval()(**inputs).logits.numpy())


def test_merged_model_and_peft_give_the_logits_of_the_run(saved: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    expected, folder = saved_scores(saved), saved / "model"
    merged = AutoModelForSequenceClassification.from_pretrained(folder)
    assert np.allclose(plain_logits(merged, folder), expected, atol=1e-6)
    assert np.ptp(expected) > 1e-2, "logits of different rows differ"
    if not (folder / "adapter").is_dir():
        assert saved.name.startswith("bitfit")
        return
    from peft import PeftModel

    test_mode.write_model(tmp_path)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    adapted = PeftModel.from_pretrained(base, str(folder / "adapter"))
    assert np.allclose(plain_logits(adapted, folder), expected, atol=1e-6)


def test_harness_loads_the_merged_model_and_the_adapter(saved: Path) -> None:
    for folder in (saved / "model", saved / "model/adapter"):
        if folder.is_dir():
            scores = open_model(folder, cpu=True, device_batch_size=64).scores(texts())
            assert np.allclose(scores, saved_scores(saved), atol=1e-6)


def test_record_counts_total_and_trainable_parameters(saved: Path) -> None:
    model = record_of(saved).model
    assert 100 < model.trainable_parameters < model.parameters / 5
    weights = sum(tensor.numel() for tensor in _weights(saved / "model/model.safetensors").values())
    assert model.parameters == weights
    assert f"| {model.trainable_parameters:,} of {model.parameters:,} |" in (saved / "model/README.md").read_text()
    if (saved / "model/adapter").is_dir():
        adapter = _weights(saved / "model/adapter/adapter_model.safetensors")
        assert model.trainable_parameters == sum(tensor.numel() for tensor in adapter.values())


def _weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_interrupted_run_resumes_bit_for_bit_from_trained_weights_alone(saved: Path, tmp_path: Path) -> None:
    flags = (*FLAGS, "--adapter", record_of(saved).spec.recipe.adapter, "--results", tmp_path)
    with sigterm_at_step(15):
        run(*flags, code=143)
    folder = checkpoint_folder(tmp_path / "test-mode", "rte", record_of(saved).run_id)
    weights = _weights(next(folder.glob("*-00000015")) / "weights.safetensors")
    model = record_of(saved).model
    assert sum(tensor.numel() for tensor in weights.values()) == model.trainable_parameters
    run(*flags)
    assert record_of(tmp_path).weights_sha256 == record_of(saved).weights_sha256
    assert record_of(tmp_path).predictions == record_of(saved).predictions


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run with LoRA."""
    pytest.importorskip("peft")
    root = tmp_path_factory.mktemp("lora")
    run(*FLAGS, "--max-steps", 2, "--adapter", "lora", "--results", root, "--save-model", root / "model")
    return root / "model"


def test_damaged_adapter_is_refused(lora: Path, tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        folder = Path(shutil.copytree(lora, tmp_path / name))
        path = folder / "adapter" / name
        path.write_bytes(path.read_bytes().replace(b"query", b"quEry"))
        with pytest.raises(UserError, match=f"{name}: invalid checksum"):
            open_model(folder / "adapter", cpu=True)
        with pytest.raises(UserError, match=f"{name}: invalid checksum"):
            open_model(folder, cpu=True)


def test_other_or_missing_base_model_is_refused(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    write_model = test_mode.write_model

    def write_another(folder: Path) -> None:
        write_model(folder)
        weights = load_file(folder / "model.safetensors")
        weights["embeddings.LayerNorm.weight"] += 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(test_mode, "write_model", write_another)
    with pytest.raises(UserError, match=r"base model.*not the one"):
        open_model(lora / "adapter", cpu=True)
    folder = Path(shutil.copytree(lora / "adapter", tmp_path / "adapter"))
    config, missing = folder / "adapter_config.json", tmp_path / "missing"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(missing)}))
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"]["adapter_config.json"] = file_hash(config)
    record = json.loads((folder / "record.json").read_text())
    record["spec"] |= {"revision": "sha256:0", "test_mode": False}
    (folder / "record.json").write_text(json.dumps(record))
    manifest["files"]["record.json"] = file_hash(folder / "record.json")
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"base model not found: the folder {missing}"):
        open_model(folder, cpu=True)


# -- runs that start from others ---------------------------------------------------------------------------------------


def child(root: Path, parent: RunRecord, *flags: Any) -> dict[str, torch.Tensor]:
    """Trains rte for one step of rate 0, from the saved run `parent` of mnli, and returns its merged weights."""
    folder = root / "child"
    common = ("--task", "rte", "--test-mode", "--max-steps", 1, "--warmup", 1, "--init-from", "mnli", "--overwrite")
    run(*common, "--parent", parent.run_id, "--results", root, "--save-model", folder, *flags)
    return _weights(folder / "model.safetensors")


def test_run_continues_the_adapter_of_its_parent_or_starts_from_its_merged_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    flags = ("--task", "mnli", "--test-mode", "--max-steps", 3, "--learning-rate", 0.03, "--adapter", "lora")
    run(*flags, "--results", tmp_path, "--save-model", tmp_path / "mnli")
    parent = record_of(tmp_path, "mnli")
    shutil.copytree(tmp_path / "mnli", tmp_path / "test-mode/models/mnli" / parent.run_id)
    expected = _weights(tmp_path / "mnli/model.safetensors")
    saved_adapter = _weights(tmp_path / "mnli/adapter/adapter_model.safetensors")
    for settings in (("--adapter", "lora"), ("--adapter", "lora", "--adapter-rank", 4), ("--adapter", "ia3"), ()):
        weights = child(tmp_path, parent, *settings)
        encoder = [name for name in weights if not name.startswith("classifier")]
        assert all(torch.allclose(weights[name], expected[name], atol=1e-6) for name in encoder)
        assert weights["classifier.weight"].shape != expected["classifier.weight"].shape
        if not settings:
            continue
        config = json.loads((tmp_path / "child/adapter/adapter_config.json").read_text())
        adapter = _weights(tmp_path / "child/adapter/adapter_model.safetensors")
        is_continued = all(
            name in saved_adapter and torch.equal(adapter[name], saved_adapter[name])
            for name in adapter
            if "classifier" not in name
        )
        assert is_continued == (settings == ("--adapter", "lora"))
        is_on_pretrained = config["base_model_name_or_path"] == "tiny-bert"
        assert is_on_pretrained == is_continued
        assert np.allclose(
            open_model(tmp_path / "child/adapter", cpu=True).scores(texts()),
            open_model(tmp_path / "child", cpu=True).scores(texts()),
            atol=1e-6,
        )
