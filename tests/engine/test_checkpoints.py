"""Checkpoints: only intact ones are used, and only the newest are kept."""

import errno
import os
import shutil

import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from harness.engine import checkpoints
from harness.engine.checkpoints import (
    Checkpoint,
    checkpoint_folder,
    discard_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from harness.engine.training import TrainingState
from harness.errors import UserError


def checkpoint(step, best=False):
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3) + step}
    optimizer = {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    state = TrainingState(weights, optimizer, None, [torch.get_rng_state()])
    return Checkpoint(state, weights if best else None, {"step": step, "fell_back": False})


@pytest.fixture
def folder(tmp_path):
    accelerator, folder = Accelerator(cpu=True), checkpoint_folder(tmp_path, "rte", "run-1")
    for step in (5, 10, 15):
        save_checkpoint(accelerator, folder, checkpoint(step, best=step == 10))
    return folder


def test_newest_two_checkpoints_are_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000010", "step-00000015"]


def test_loaded_checkpoint_equals_the_saved_one(folder):
    loaded = load_checkpoint(Accelerator(cpu=True), folder / "step-00000010")
    expected = checkpoint(10)
    assert torch.equal(loaded.state.weights["layer.weight"], expected.state.weights["layer.weight"])
    assert torch.equal(loaded.best_weights["layer.weight"], expected.state.weights["layer.weight"])
    assert loaded.state.optimizer["state"][0]["step"] == 10
    assert torch.equal(loaded.state.randomness[0], torch.get_rng_state())
    assert loaded.progress["step"] == 10


DAMAGES = {
    "a truncated file": lambda path: (path / "weights.safetensors").write_bytes(
        (path / "weights.safetensors").read_bytes()[:-3]
    ),
    "a changed file": lambda path: (path / "optimizer.pt").write_bytes(b"x"),
    "a missing file": lambda path: (path / "optimizer.pt").unlink(),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text("{"),
    "an empty manifest": lambda path: (path / "manifest.json").write_text(
        '{"files": {}, "run_id": "run-1", "progress": {}}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_checkpoint_is_named_and_the_one_before_it_is_used(folder, damage):
    messages = []
    damage(folder / "step-00000015")
    assert newest_checkpoint(folder, messages.append) == folder / "step-00000010"
    assert len(messages) == 1
    assert "step-00000015" in messages[0]


def test_checkpoint_of_another_run_is_not_used(folder):
    other = folder.parent / "run-2"
    shutil.copytree(folder, other)
    messages = []
    assert newest_checkpoint(other, messages.append) is None
    assert "run-1" in messages[0]


def test_missing_folder_has_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "none", print) is None


def test_unfinished_folder_of_a_killed_process_is_no_checkpoint_and_is_replaced(folder):
    (folder / ".step-00000020").mkdir()
    (folder / ".step-00000020" / "weights.safetensors").write_bytes(b"half")
    assert newest_checkpoint(folder, print) == folder / "step-00000015"
    save_checkpoint(Accelerator(cpu=True), folder, checkpoint(20))
    assert newest_checkpoint(folder, print) == folder / "step-00000020"


@pytest.mark.parametrize("function", ["save_file", "file_hash"])
def test_full_disk_is_an_error_and_earlier_checkpoints_stay_intact(folder, monkeypatch, function):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, function, full)
    with pytest.raises(UserError, match=r"No space left on device.*--results"):
        save_checkpoint(Accelerator(cpu=True), folder, checkpoint(20))
    monkeypatch.undo()
    assert newest_checkpoint(folder, print) == folder / "step-00000015"
    assert not (folder / ".step-00000020").exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        RuntimeError("basic_ios::clear: iostream error"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    ],
)
def test_failed_write_of_a_library_is_an_error_and_leaves_no_scratch_folder(folder, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(UserError, match="--results"):
        save_checkpoint(Accelerator(cpu=True), folder, checkpoint(20))
    assert not (folder / ".step-00000020").exists()


def test_loading_refuses_a_file_that_could_run_code(folder):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    target = folder / "step-00000015" / "optimizer.pt"
    torch.save({"optimizer": Harm(), "scaler": None}, target)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_checkpoint(Accelerator(cpu=True), target.parent)


def test_discarding_removes_empty_folders(folder, tmp_path):
    discard_checkpoints(folder)
    assert list(tmp_path.iterdir()) == []
