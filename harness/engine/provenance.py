"""Versions, commit, devices, processes and memory of a run, for its record; never names of hosts or people."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from harness.system.devices import processor_name

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "scipy",
)


def versions() -> dict[str, str]:
    """Returns the installed versions of the harness and of every library that can change a number."""
    import harness

    return {"harness": harness.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def git_state() -> tuple[str | None, bool | None]:
    """Returns (commit, has uncommitted changes) of the harness's checkout; (None, None) outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def code_facts() -> dict[str, Any]:
    """Returns the versions and the commit of the loaded code; they are read once, while the files are those loaded."""
    commit, is_dirty = git_state()
    return dict(versions=versions(), git_commit=commit, git_dirty=is_dirty)


def device_name(device: torch.device) -> str:
    """Returns the product name of the GPU or processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()


def peak_bytes(device: torch.device) -> int:
    """Returns the peak memory of this process: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment_fields(accelerator: Accelerator) -> dict[str, Any]:
    """Returns the fields of `records.Environment` that are known without the run; every process must call it."""
    return dict(
        processes=accelerator.num_processes,
        devices=gather_object([device_name(accelerator.device)]),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        distributed=accelerator.distributed_type.value,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        **code_facts(),
    )


def peak_bytes_by_process(accelerator: Accelerator) -> list[int]:
    """Returns `peak_bytes` of each process; every process must call it."""
    return list(gather_object([peak_bytes(accelerator.device)]))
