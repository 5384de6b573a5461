"""The checkpoints of a pretraining run: complete or half written folders, revisions, and their order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import GitRefInfo, GitRefs, HfApi

from harness.errors import UserError
from harness.sweeps.pretraining import amount_in, find_checkpoints


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """`run("step100", ...)`: a folder with a checkpoint of each of these names."""

    def make(*names: str) -> Path:
        for name in names:
            shutil.copytree(tiny_model, tmp_path / "run" / name)
        return tmp_path / "run"

    return make


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        *(("step1000", 1000), ("checkpoint-20", 20), ("7b-step100", 100), ("chck_100M", 1e8), ("tokens-1.5B", 1.5e9)),
        *(("40k", 40_000), ("epoch3-step9", 9), ("final", None), ("step10mb", 10)),
    ],
)
def test_number_in_a_name(name: str, amount: float | None) -> None:
    assert amount_in(name) == amount


def test_checkpoints_are_in_the_order_of_their_numbers(run: Callable[..., Path]) -> None:
    checkpoints = find_checkpoints(str(run("step1000", "step200", "step30", "final", ".cache")))
    assert [checkpoint.name for checkpoint in checkpoints.complete] == ["step30", "step200", "step1000"]
    assert checkpoints.unnumbered == ["final"]
    assert checkpoints.incomplete == {}


def test_checkpoint_whose_file_is_nested_too_deeply_is_incomplete(run: Callable[..., Path]) -> None:
    folder = run("step1", "step2")
    (folder / "step2" / "trainer_state.json").write_text("[" * 100_000)
    checkpoints = find_checkpoints(str(folder))
    assert [checkpoint.name for checkpoint in checkpoints.complete] == ["step1"]
    assert "JSON" in checkpoints.incomplete["step2"]


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _truncated_pickle(folder: Path) -> None:
    torch.save({"a": torch.zeros(100)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


def _shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


FAULTS: dict[str, Callable[[Path], object]] = {
    "config.json": lambda folder: (folder / "config.json").unlink(),
    "JSON": lambda folder: (folder / "config.json").write_text("{"),
    "weights": lambda folder: (folder / "model.safetensors").unlink(),
    "model.safetensors": _truncated,
    "pytorch_model.bin": _truncated_pickle,
    "model-00002-of-00002.safetensors": _shard_missing,
}


@pytest.mark.parametrize("index", [{}, [], {"weight_map": None}, {"weight_map": {"a": 1}}])
def test_checkpoint_whose_index_names_no_files_is_incomplete(run: Callable[..., Path], index: object) -> None:
    folder = run("step1", "step2")
    (folder / "step2" / "model.safetensors").unlink()
    (folder / "step2" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_checkpoints(str(folder)).incomplete == {"step2": "a JSON file is incomplete"}


@pytest.mark.parametrize("part", FAULTS)
def test_half_written_checkpoint_is_incomplete(run: Callable[..., Path], part: str) -> None:
    folder = run("step1", "step2")
    FAULTS[part](folder / "step2")
    checkpoints = find_checkpoints(str(folder))
    assert [checkpoint.name for checkpoint in checkpoints.complete] == ["step1"]
    assert part in checkpoints.incomplete["step2"]


def test_whole_pickle_and_shards_are_complete(run: Callable[..., Path]) -> None:
    folder = run("step1", "step2")
    torch.save({"a": torch.zeros(100)}, folder / "step1" / "pytorch_model.bin")
    (folder / "step1" / "model.safetensors").unlink()
    _shard_missing(folder / "step2")
    shutil.copy(folder / "step2/model-00001-of-00002.safetensors", folder / "step2/model-00002-of-00002.safetensors")
    assert [checkpoint.name for checkpoint in find_checkpoints(str(folder)).complete] == ["step1", "step2"]


def test_revisions_of_a_repository() -> None:
    checkpoints = find_checkpoints("org/model", ("step200", "chck_1M", "step30"))
    assert [(one.revision, one.model) for one in checkpoints.complete] == [
        ("step30", "org/model"),
        ("step200", "org/model"),
        ("chck_1M", "org/model"),
    ]


def test_mistakes(run: Callable[..., Path], tmp_path: Path) -> None:
    folder = run("step1")
    with pytest.raises(UserError, match="this is a checkpoint"):
        find_checkpoints(str(folder / "step1"))
    with pytest.raises(UserError, match=r"^~nosuch-user/run: .*home directory"):
        find_checkpoints("~nosuch-user/run")
    with pytest.raises(UserError, match="--revisions"):
        find_checkpoints(str(folder), ("step1",))
    with pytest.raises(UserError, match=r"--revisions main.*step1000"):
        find_checkpoints("org/model", ("main",))
    with pytest.raises(UserError, match="folder not found"):
        find_checkpoints(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"org/model: .*cannot be listed"):  # no network in tests
        find_checkpoints("org/model")


def test_branches_and_tags_with_a_number_are_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    branches = [GitRefInfo(name, f"refs/heads/{name}", "c0ffee") for name in ("main", "step9")]
    tags = [GitRefInfo("step10", "refs/tags/step10", "c0ffee")]
    refs = GitRefs(branches=branches, converts=[], tags=tags)
    monkeypatch.setattr(HfApi, "list_repo_refs", lambda self, repository: refs)
    checkpoints = find_checkpoints("org/model")
    assert [checkpoint.revision for checkpoint in checkpoints.complete] == ["step9", "step10"]
    assert checkpoints.unnumbered == ["main"]
