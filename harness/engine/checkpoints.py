"""A run's state on disk: written aside and renamed, checked before it is believed, gone when the record is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.engine.training import TrainingState
from harness.errors import UserError
from harness.rows.files import file_hash

KEPT = 2
"""Newest checkpoints of a run that stay: one to go on from, one in case it is damaged."""

MANIFEST = "manifest.json"
"""Names the hash of every other file and is written last: a folder without it is none."""


class Checkpoint(NamedTuple):
    """What one holds for this process."""

    state: TrainingState
    best_weights: dict[str, torch.Tensor] | None
    progress: dict[str, Any]
    """Plain values of the story."""


def folder_of(results: Path, task: str, run_id: str) -> Path:
    """Where a run's checkpoints lie."""
    return results / "checkpoints" / task / run_id


def save(accelerator: Accelerator, folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint named for its step, then removes all but the newest; every process must call it.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are whole.
    """
    name = f"step-{checkpoint.progress['step']:08d}"
    scratch, final, state = folder / f".{name}", folder / name, checkpoint.state
    needed = _bytes_of([state, checkpoint.best_weights])
    if accelerator.is_main_process and scratch.exists():
        shutil.rmtree(scratch)
    accelerator.wait_for_everyone()
    with _explaining(scratch, needed):
        scratch.mkdir(parents=True, exist_ok=True)
        torch.save(state.randomness, scratch / f"randomness-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with _explaining(scratch, needed):
            save_file(_on_cpu(state.weights), scratch / "weights.safetensors")
            if checkpoint.best_weights is not None:
                save_file(_on_cpu(checkpoint.best_weights), scratch / "best.safetensors")
            torch.save({"optimizer": state.optimizer, "scaler": state.scaler}, scratch / "optimizer.pt")
            manifest = {
                "run_id": folder.name,
                "processes": accelerator.num_processes,
                "progress": checkpoint.progress,
                "files": {path.name: file_hash(path) for path in sorted(scratch.iterdir())},
            }
            _write_through(scratch / MANIFEST, json.dumps(manifest))
            if final.exists():
                shutil.rmtree(final)
            os.replace(scratch, final)
        for old in _newest_first(folder)[KEPT:]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def newest(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint; each damaged one is named through `say` and skipped."""
    for candidate in _newest_first(folder):
        fault = _fault(candidate)
        if fault is None:
            return candidate
        say(f"{candidate}: {fault}; skipped for the checkpoint before it")
    return None


def progress_of(checkpoint: Path) -> dict[str, Any]:
    """The plain values of a whole checkpoint."""
    progress: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text())["progress"]
    return progress


def load(accelerator: Accelerator, path: Path) -> Checkpoint:
    """A whole checkpoint on this process. Nothing in it can run code when it is read."""
    manifest = json.loads((path / MANIFEST).read_text())
    best = path / "best.safetensors"
    rest = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    randomness = None
    if manifest["processes"] == accelerator.num_processes:
        mine = path / f"randomness-{accelerator.process_index}.pt"
        randomness = torch.load(mine, map_location="cpu", weights_only=True)
    state = TrainingState(load_file(path / "weights.safetensors"), rest["optimizer"], rest["scaler"], randomness)
    return Checkpoint(state, load_file(best) if best.exists() else None, manifest["progress"])


def discard(folder: Path) -> None:
    """Removes a run's checkpoints, and the folders above them that are empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        try:
            parent.rmdir()
        except OSError:
            break


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be used, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        expected: Mapping[str, str] = manifest["files"]
        for name, digest in expected.items():
            if not (checkpoint / name).is_file():
                return f"{name} is missing"
            if file_hash(checkpoint / name) != digest:
                return f"{name} is damaged"
        if manifest["run_id"] != checkpoint.parent.name:
            return f"belongs to the run {manifest['run_id']}"
        if not {"weights.safetensors", "optimizer.pt"} <= set(expected) or "step" not in manifest["progress"]:
            return f"{MANIFEST} is incomplete"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    return None


def _on_cpu(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _write_through(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _bytes_of(state: Any) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    inside = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(_bytes_of, inside))


@contextmanager
def _explaining(scratch: Path, needed: int) -> Iterator[None]:
    """Turns a failed write into the user's error, and leaves nothing half-written. `needed`: bytes of a checkpoint."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, OSError) and "No space left" not in str(error) and "write" not in str(error):
            raise
        shutil.rmtree(scratch, ignore_errors=True)
        folder = next(path for path in scratch.parents if path.exists())
        free = shutil.disk_usage(folder).free
        raise UserError(
            f"{scratch.parent}: cannot write a checkpoint: {error}. It needs {needed / 2**20:,.0f} MiB, and "
            f"{free / 2**20:,.0f} MiB are free. Earlier checkpoints and records are whole: make room, or name another "
            "folder with --results, and give the same command again."
        ) from error
