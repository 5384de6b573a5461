"""Checkpoints: only intact ones are used, and only the newest are kept."""

import copy
import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from harness.engine import checkpoints
from harness.engine.checkpoints import Checkpoint, check_fit, load_checkpoint, newest_checkpoint, save_checkpoint
from harness.engine.training import TrainingState
from harness.errors import UserError
from harness.facts.run_files import checkpoint_folder, discard_checkpoints


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


def test_run_that_starts_again_keeps_its_own_checkpoints(folder):
    for step in (5, 10):
        save_checkpoint(Accelerator(cpu=True), folder, checkpoint(step))
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000005", "step-00000010"]


def test_loaded_checkpoint_equals_the_saved_one(folder):
    loaded = load_checkpoint(Accelerator(cpu=True), folder / "step-00000010")
    expected = checkpoint(10)
    assert torch.equal(loaded.state.weights["layer.weight"], expected.state.weights["layer.weight"])
    assert torch.equal(loaded.best_weights["layer.weight"], expected.state.weights["layer.weight"])
    assert loaded.state.optimizer["state"][0]["step"] == 10
    assert torch.equal(loaded.state.randomness[0], torch.get_rng_state())
    assert loaded.progress["step"] == 10


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_weights_are_readable_for_those_whom_the_umask_allows(tmp_path, mask):
    folder, before = checkpoint_folder(tmp_path, "rte", "run-1"), os.umask(mask)
    try:
        save_checkpoint(Accelerator(cpu=True), folder, checkpoint(5, best=True))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.glob("step-*/*.safetensors")} == {0o666 & ~mask}


def edit(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


DAMAGES = {
    "a truncated file": lambda path: (path / "weights.safetensors").write_bytes(
        (path / "weights.safetensors").read_bytes()[:-3]
    ),
    "a changed file": lambda path: (path / "optimizer.pt").write_bytes(b"x"),
    "a missing file": lambda path: (path / "optimizer.pt").unlink(),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text("{"),
    "a manifest nested too deeply": lambda path: (path / "manifest.json").write_text("[" * 100_000),
    "a manifest with a long number": lambda path: (path / "manifest.json").write_text("9" * 5_000),
    "a manifest of text": lambda path: edit(path, files="none"),
    "progress without a step": lambda path: edit(path, progress={}),
    "progress with a step of text": lambda path: edit(path, progress={"step": "15"}),
    "no randomness of a process": lambda path: edit(path, processes=2),
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
    (folder / ".step-00000017").mkdir()  # a run may save after other steps the next time
    save_checkpoint(Accelerator(cpu=True), folder, checkpoint(20))
    assert newest_checkpoint(folder, print) == folder / "step-00000020"
    assert [path.name for path in folder.glob(".*")] == []


DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "function, error, message",
    [
        ("save_file", DISK_FULL, "no space left on device"),
        ("file_hash", DISK_FULL, "no space left on device"),
        ("save_file", SafetensorError("I/O error: File too large (os error 27)"), "file too large"),
        ("save_file", SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No" })'), "no space left"),
        (
            "save_file",
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
            "the disk is full",
        ),
        ("save_file", RuntimeError("basic_ios::clear: iostream error"), "the disk is full"),
    ],
)
def test_full_disk_is_an_error_and_earlier_checkpoints_stay_intact(folder, monkeypatch, function, error, message):
    def full(*arguments, **options):
        raise error

    monkeypatch.setattr(checkpoints, function, full)
    with pytest.raises(UserError, match=rf"{message}.*--results"):
        save_checkpoint(Accelerator(cpu=True), folder, checkpoint(20))
    monkeypatch.undo()
    assert newest_checkpoint(folder, print) == folder / "step-00000015"
    assert not (folder / ".step-00000020").exists()


def test_loading_refuses_a_file_that_could_run_code(folder):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    target = folder / "step-00000015" / "optimizer.pt"
    torch.save({"optimizer": Harm(), "scaler": None}, target)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_checkpoint(Accelerator(cpu=True), target.parent)


def state_of(training):
    """The state of a training after three steps, as a checkpoint."""
    for _ in range(3):
        training.model(torch.ones(1, 2)).sum().backward()
        training.optimizer.step()
    state = TrainingState(training.model.state_dict(), training.optimizer.state_dict(), None, [torch.get_rng_state()])
    return Checkpoint(copy.deepcopy(state), None, {"step": 3})


@pytest.fixture
def small_training():
    accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    return SimpleNamespace(accelerator=accelerator, model=model, optimizer=optimizer, weights=model.state_dict)


FORGERIES = {
    "weights of another shape": lambda saved: saved.state.weights.update(bias=torch.zeros(4)),
    "weights of another type": lambda saved: saved.state.weights.update(bias=torch.zeros(3, dtype=torch.float64)),
    "weights of another name": lambda saved: saved.state.weights.update(other=torch.zeros(3)),
    "an empty optimizer": lambda saved: saved.state.optimizer.clear(),
    "fewer parameters": lambda saved: saved.state.optimizer["param_groups"][0].update(params=[0]),
    "moments of another shape": lambda saved: saved.state.optimizer["state"][0].update(exp_avg=torch.zeros(9)),
    "moments of no parameter": lambda saved: saved.state.optimizer["state"].update(
        {7: saved.state.optimizer["state"][0]}
    ),
    "no moments": lambda saved: saved.state.optimizer["state"].clear(),
    "other steps": lambda saved: saved.progress.update(step=4),
    "other randomness": lambda saved: saved.state.randomness.__setitem__(0, torch.zeros(3)),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_checkpoint_of_another_training_is_refused(small_training, forge):
    saved = state_of(small_training)
    check_fit(saved, small_training)
    forge(saved)
    with pytest.raises(UserError):
        check_fit(saved, small_training)


def test_checkpoint_that_does_not_fit_is_skipped_for_the_one_before_it(folder):
    assert newest_checkpoint(folder, print, [folder / "step-00000015"]) == folder / "step-00000010"


def test_discarding_removes_empty_folders(folder, tmp_path):
    discard_checkpoints(folder)
    assert list(tmp_path.iterdir()) == []
