"""Checkpoints: whole or not believed, and only the newest kept."""

import errno
import os
import shutil

import pytest
import torch
from accelerate import Accelerator

from harness.engine import checkpoints
from harness.engine.checkpoints import Checkpoint, discard, folder_of, load, newest, save
from harness.engine.training import TrainingState
from harness.errors import UserError


def checkpoint(step, best=False):
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3) + step}
    optimizer = {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    state = TrainingState(weights, optimizer, None, [torch.get_rng_state()])
    return Checkpoint(state, weights if best else None, {"step": step, "fell_back": False})


@pytest.fixture
def folder(tmp_path):
    accelerator, folder = Accelerator(cpu=True), folder_of(tmp_path, "rte", "run-1")
    for step in (5, 10, 15):
        save(accelerator, folder, checkpoint(step, best=step == 10))
    return folder


def test_the_newest_two_are_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000010", "step-00000015"]


def test_what_was_saved_comes_back(folder):
    back = load(Accelerator(cpu=True), folder / "step-00000010")
    expected = checkpoint(10)
    assert torch.equal(back.state.weights["layer.weight"], expected.state.weights["layer.weight"])
    assert torch.equal(back.best_weights["layer.weight"], expected.state.weights["layer.weight"])
    assert back.state.optimizer["state"][0]["step"] == 10
    assert torch.equal(back.state.randomness[0], torch.get_rng_state())
    assert back.progress["step"] == 10


DAMAGES = {
    "a truncated file": lambda path: (path / "weights.safetensors").write_bytes(
        (path / "weights.safetensors").read_bytes()[:-3]
    ),
    "a changed file": lambda path: (path / "optimizer.pt").write_bytes(b"x"),
    "a missing file": lambda path: (path / "optimizer.pt").unlink(),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text("{"),
    "a manifest of nothing": lambda path: (path / "manifest.json").write_text(
        '{"files": {}, "run_id": "run-1", "progress": {}}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(folder, damage):
    said = []
    damage(folder / "step-00000015")
    assert newest(folder, said.append) == folder / "step-00000010"
    assert len(said) == 1
    assert "step-00000015" in said[0]


def test_a_checkpoint_of_another_run_is_not_taken(folder):
    other = folder.parent / "run-2"
    shutil.copytree(folder, other)
    said = []
    assert newest(other, said.append) is None
    assert "belongs to the run run-1" in said[0]


def test_no_folder_means_no_checkpoint(tmp_path):
    assert newest(tmp_path / "none", print) is None


def test_a_scratch_folder_left_by_a_kill_is_no_checkpoint_and_does_not_stay(folder):
    (folder / ".step-00000020").mkdir()
    (folder / ".step-00000020" / "weights.safetensors").write_bytes(b"half")
    assert newest(folder, print) == folder / "step-00000015"
    save(Accelerator(cpu=True), folder, checkpoint(20))
    assert newest(folder, print) == folder / "step-00000020"


@pytest.mark.parametrize("step", ["save_file", "file_hash"])
def test_a_full_disk_is_told_and_earlier_checkpoints_stay_whole(folder, monkeypatch, step):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, step, full)
    with pytest.raises(UserError, match=r"No space left on device.* It needs .* MiB are free.*--results"):
        save(Accelerator(cpu=True), folder, checkpoint(20))
    monkeypatch.undo()
    assert newest(folder, print) == folder / "step-00000015"
    assert not (folder / ".step-00000020").exists()


def test_nothing_that_could_run_code_is_read(folder):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    target = folder / "step-00000015" / "optimizer.pt"
    torch.save({"optimizer": Harm(), "scaler": None}, target)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load(Accelerator(cpu=True), target.parent)


def test_discarding_leaves_no_empty_folders(folder, tmp_path):
    discard(folder)
    assert list(tmp_path.iterdir()) == []
