"""What a run ran on: versions, commit, devices, processes, memory; never names of hosts or people."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

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
    """Installed versions of the harness and of every library that can change a number."""
    import harness

    return {"harness": harness.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def git_state() -> tuple[str | None, bool | None]:
    """(commit, has uncommitted changes) of the harness's checkout; (None, None) outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=20
        ).stdout.strip()

    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def device_name(device: torch.device) -> str:
    """The model of the GPU or processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_bytes(device: torch.device) -> int:
    """The most memory this process has held: on the device for a GPU, resident for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def surroundings(accelerator: Accelerator) -> dict[str, Any]:
    """The fields of `records.Environment` that the process finds by itself; every process must call it."""
    commit, is_dirty = git_state()
    return dict(
        processes=accelerator.num_processes,
        devices=gather_object([device_name(accelerator.device)]),
        threads=torch.get_num_threads(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        distributed=accelerator.distributed_type.value,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
        git_commit=commit,
        git_dirty=is_dirty,
    )


def peaks(accelerator: Accelerator) -> list[int]:
    """`peak_bytes` of each process; every process must call it."""
    return list(gather_object([peak_bytes(accelerator.device)]))
