"""Versions, commit, devices, processes and memory of a run, for its record; never names of hosts or people."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from harness.facts.record_parts import Energy
from harness.system.devices import GPU_MEMORY_SHARE, processor_name
from harness.system.energy import SHARED_GPU, EnergyMeter, EnergyMeters, gpu_counter, package_counters

PACKAGES = "torch transformers accelerate datasets evaluate tokenizers numpy scikit-learn scipy".split()


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


def energy_meters(accelerator: Accelerator) -> EnergyMeters:
    """Returns meters that count from now on: this process's GPU, and on one process of a machine its processors."""
    gpu = None
    if accelerator.device.type == "cuda":
        uuid = getattr(torch.cuda.get_device_properties(accelerator.device), "uuid", None)
        is_shared = bool(os.environ.get(GPU_MEMORY_SHARE))
        gpu = EnergyMeter(SHARED_GPU if is_shared else gpu_counter(f"GPU-{uuid}"))
    return EnergyMeters(gpu, EnergyMeter(package_counters()) if accelerator.is_local_main_process else None)


def memory_and_energy(accelerator: Accelerator, meters: EnergyMeters) -> tuple[list[int], Energy]:
    """Returns `peak_bytes` of each process, and the energy of all; every process must call it."""
    own = [meter and (meter.joules(), meter.description) for meter in meters]
    gpus, processors = zip(*gather_object([own]), strict=True)
    sources = dict.fromkeys(one[1] for one in (*gpus, *processors) if one)
    energy = Energy(gpu_joules=_sum(gpus), processor_joules=_sum(processors), sources=[*sources])
    return list(gather_object([peak_bytes(accelerator.device)])), energy


def _sum(readings: Sequence[tuple[float | None, str] | None]) -> float | None:
    """The sum over the meters that there are; None without any, or if one is unknown."""
    joules = [reading[0] for reading in readings if reading is not None]
    known = [value for value in joules if value is not None]
    return sum(known) if known and len(known) == len(joules) else None
