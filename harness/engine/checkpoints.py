"""Checkpoints of a run: written completely or not at all, verified before use, removed after the record is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from harness.engine.optimizers import state_shapes
from harness.engine.sharding import gather_state
from harness.engine.training import Step, Training, TrainingState
from harness.errors import UserError, boundary
from harness.rows.files import file_hash
from harness.system.atomic import replace_folder, write_atomically, write_fault

MAX_CHECKPOINTS = 2
"""Number of checkpoints that a run keeps: one to resume from, one in case that is damaged."""

MANIFEST = "manifest.json"
"""File with the hash of every other file. It is written last: a folder without it is no checkpoint."""


class Checkpoint(NamedTuple):
    """The contents of a checkpoint, for this process."""

    state: TrainingState
    best_weights: dict[str, torch.Tensor] | None
    progress: dict[str, Any]
    """`Progress` as plain values."""
    summary: Mapping[str, Any] | None = None
    """`ProgressSummary` as plain values, for other processes; loading does not need it."""


class CheckpointSchedule:
    """Due dates of checkpoints: the end of each epoch, and `steps` steps or `seconds` seconds after the last one."""

    def __init__(self, steps: float, seconds: float, step: int) -> None:
        self.steps, self.seconds = steps, seconds
        self.mark_saved(step)

    def mark_saved(self, step: int) -> None:
        """Starts counting again: the checkpoint of this step is saved."""
        self.saved_step, self.saved_at = step, perf_counter()

    def is_due(self, step: Step) -> bool:
        """True when a checkpoint is due after this step."""
        is_late = step.number - self.saved_step >= self.steps or perf_counter() - self.saved_at > self.seconds
        return step.ends_epoch or is_late


def save_checkpoint(accelerator: Accelerator, folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint named after its step, then removes the oldest ones; every process must call it.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are intact.
    """
    name = f"step-{checkpoint.progress['step']:08d}"
    scratch, final, state = folder / f".{name}", folder / name, checkpoint.state
    size = _bytes_of([state, checkpoint.best_weights])
    weights, best_weights, optimizer = (
        gather_state(each, accelerator.is_main_process)
        for each in (state.weights, checkpoint.best_weights, state.optimizer)
    )
    if accelerator.is_main_process:
        for unfinished in folder.glob(".step-*"):  # of killed processes, perhaps after another step
            shutil.rmtree(unfinished)
    accelerator.wait_for_everyone()
    with _explained_errors(scratch, size):
        scratch.mkdir(parents=True, exist_ok=True)
        torch.save(state.randomness, scratch / f"randomness-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with _explained_errors(scratch, size):
            save_file(_on_cpu(weights), scratch / "weights.safetensors")
            if best_weights is not None:
                save_file(_on_cpu(best_weights), scratch / "best.safetensors")
            torch.save({"optimizer": optimizer, "scaler": state.scaler}, scratch / "optimizer.pt")
            for path in scratch.glob("*.safetensors"):  # are for the owner alone, but another user may resume the run
                path.chmod((scratch / "optimizer.pt").stat().st_mode)
            manifest = {
                "run_id": folder.name,
                "processes": accelerator.num_processes,
                "progress": checkpoint.progress,
                "summary": checkpoint.summary,
                "files": {path.name: file_hash(path) for path in sorted(scratch.iterdir())},
            }
            write_atomically(scratch / MANIFEST, json.dumps(manifest))
            replace_folder(scratch, final)
        newest_first = _newest_first(folder)
        later = [path for path in newest_first if path.name > name]  # of an earlier attempt; they did not fit
        for old in [*later, *newest_first[len(later) + MAX_CHECKPOINTS :]]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def newest_checkpoint(folder: Path, warn: Callable[[str], None], skipped: Collection[Path] = ()) -> Path | None:
    """Returns the newest intact checkpoint not in `skipped`; passes a message about each damaged one to `warn`."""
    for candidate in _newest_first(folder):
        if candidate in skipped:
            continue
        fault = _fault(candidate)
        if fault is None:
            return candidate
        warn(f"{candidate}: {fault}; skipped, trying the checkpoint before it")
    return None


def saved_progress(checkpoint: Path) -> dict[str, Any]:
    """Reads the progress in an intact checkpoint, as plain values."""
    progress: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())["progress"]
    return progress


def load_checkpoint(accelerator: Accelerator, path: Path) -> Checkpoint:
    """Loads an intact checkpoint on this process. Loading cannot run code from it.

    Raises:
        UserError: a file in it cannot be read.
    """
    with boundary(f"{path}: a file cannot be read", Exception):  # each library raises its own kinds
        manifest = json.loads((path / MANIFEST).read_text())
        best = path / "best.safetensors"
        optimizer = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        randomness = None
        if manifest["processes"] == accelerator.num_processes:
            file = path / f"randomness-{accelerator.process_index}.pt"
            randomness = torch.load(file, map_location="cpu", weights_only=True)
        weights = load_file(path / "weights.safetensors")
        state = TrainingState(weights, optimizer["optimizer"], optimizer["scaler"], randomness)
        return Checkpoint(state, load_file(best) if best.exists() else None, manifest["progress"])


def check_fit(checkpoint: Checkpoint, training: Training) -> None:
    """Checks that a checkpoint is one of this training, before any of it is restored.

    Raises:
        UserError: weights, optimizer or randomness have another form, or the optimizer took another number of steps.
    """
    state, accelerator = checkpoint.state, training.accelerator
    weights = training.weights()
    groups = [len(group["params"]) for group in training.optimizer.param_groups]
    parameters = [parameter for group in training.optimizer.param_groups for parameter in group["params"]]
    shapes = state_shapes(training.optimizer)
    with boundary("optimizer", Exception):  # of values of any kind
        saved_groups = [len(group["params"]) for group in state.optimizer["param_groups"]]
        by_number = state.optimizer["state"]
        own_state = {number: _empty_state(shapes[number], parameters[number].dtype) for number in by_number}
        counts = [int(each["step"]) for each in by_number.values() if "step" in each]
    pairs: list[tuple[str, Any, Any]] = [
        ("weights", state.weights, weights),
        ("best weights", checkpoint.best_weights or weights, weights),
        ("optimizer", by_number, own_state),
    ]
    if state.randomness is not None:
        pairs.append(("randomness", state.randomness[0], torch.get_rng_state()))
    if accelerator.scaler is not None and state.scaler is not None:
        pairs.append(("loss scale", state.scaler, accelerator.scaler.state_dict()))
    for name, saved, own in pairs:
        if _form(saved) != _form(own) or saved_groups != groups:
            raise UserError(f"{name}: other names, shapes or types than in this run")
    step = checkpoint.progress["step"]
    if (counts and max(counts) != step) or (step and any(shapes) and not by_number):
        raise UserError(f"optimizer: {max(counts, default=0)} steps, but the progress is at step {step}")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _fault(checkpoint: Path) -> str | None:
    """Returns why a checkpoint is unusable, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        expected: Mapping[str, str] = manifest["files"]
        for name, digest in expected.items():
            if not (checkpoint / name).is_file():
                return f"{name} is missing"
            if file_hash(checkpoint / name) != digest:
                return f"{name} is damaged (invalid checksum)"
        if manifest["run_id"] != checkpoint.parent.name:
            return f"belongs to the run {manifest['run_id']}"
        needed = {"weights.safetensors", "optimizer.pt", f"randomness-{manifest['processes'] - 1}.pt"}
        if not needed <= set(expected) or type(manifest["progress"]["step"]) is not int:
            return f"{MANIFEST} is incomplete"
    except Exception as error:  # of a file that was edited, of any kind
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def _on_cpu(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _form(value: Any) -> Any:
    """Returns the shapes and types of the tensors in nested dicts and lists, and the types of other values."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, Mapping):
        return {key: _form(each) for key, each in value.items()}
    return [_form(each) for each in value] if isinstance(value, (list, tuple)) else type(value)


def _empty_state(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Returns a parameter's state without values; its count of steps is float32 in any precision."""
    types = {name: torch.float32 if name == "step" else dtype for name in shapes}
    return {name: torch.empty(shape, dtype=types[name], device="meta") for name, shape in shapes.items()}


def _bytes_of(state: Any) -> int:
    """Returns the total size of the tensors in nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    children = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(_bytes_of, children))


@contextmanager
def _explained_errors(scratch: Path, size: int) -> Iterator[None]:
    """Turns a failed write into a UserError and removes the unfinished checkpoint of `size` bytes."""
    try:
        yield
    except Exception as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if (cause := write_fault(error)) is None:
            raise
        folder = next(path for path in scratch.parents if path.exists())
        free = shutil.disk_usage(folder).free
        raise UserError(
            f"{scratch.parent}: cannot write a checkpoint: {cause}. It needs {size / 2**20:,.1f} MiB; "
            f"{free / 2**20:,.1f} MiB are free. Earlier checkpoints and records are intact: free disk space and run "
            "the same command again: it resumes. Or start again in another folder with --results."
        ) from error
