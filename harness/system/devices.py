"""The devices of this machine, found without loading torch into this process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError

_PROGRAM = """
import json, torch
print(json.dumps([torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]))
"""


GPU_MEMORY_SHARE = "HARNESS_GPU_MEMORY_SHARE"
"""Variable with the share of a GPU's memory that a run may use, where several runs have the GPU."""

MAX_JOBS = 1_000
"""Runs at the same time on one machine."""


class Devices(NamedTuple):
    """The devices that runs can use."""

    gpus: tuple[str, ...]
    """The name of each visible GPU in CUDA_VISIBLE_DEVICES; empty: runs use the CPU."""
    name: str
    """Model of the first GPU, or of the processor, as records have it."""
    cores: int
    """Processor cores that this process may use."""


class Slot(NamedTuple):
    """The devices of one run at a time."""

    gpus: tuple[str, ...] = ()
    """GPUs that the run sees; empty: the CPU."""
    threads: int = 1
    """Threads of each process."""
    runs_per_gpu: int = 1
    """Runs that have its GPU at the same time."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables from which a run knows its GPUs and its share of their memory."""
        if not self.gpus:
            return {}
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}
        # a tenth is for the contexts of CUDA, which are not counted
        return visible | ({GPU_MEMORY_SHARE: f"{0.9 / self.runs_per_gpu:.4f}"} if self.runs_per_gpu > 1 else {})

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"GPU {', '.join(self.gpus)}" if self.gpus else f"CPU, {threads}"


def find_devices(on_cpu: bool) -> Devices:
    """The GPUs that torch sees, unless `on_cpu` or ACCELERATE_USE_CPU keeps runs off them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [] if on_cpu or keeps_off_gpus() or not _may_have_gpus() else _gpu_names()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = [part.strip() for part in visible.split(",") if part.strip()] or list(map(str, range(len(names))))
    return Devices(tuple(gpus[: len(names)]), names[0] if names else processor_name(), cores)


def keeps_off_gpus() -> bool:
    """True when ACCELERATE_USE_CPU keeps runs off GPUs."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")


def slots(
    devices: Devices, max_jobs: int | None, gpus_per_run: int | None, runs_per_device: int | None = None
) -> list[Slot]:
    """One slot for each run at a time: `gpus_per_run` GPUs each, or `max_jobs` slots that share the cores of the CPU.

    With `runs_per_device`, each GPU is in that many slots. The first slots have different GPUs.

    Raises:
        UserError: there are fewer devices, or a number is too large.
    """
    if max_jobs is not None and max_jobs > MAX_JOBS:
        raise UserError(f"--max-jobs {max_jobs}: expected at most {MAX_JOBS:,}.")
    sharing = runs_per_device or 1
    if sharing > 1 and not devices.gpus:
        raise UserError(f"--runs-per-device {sharing}: no GPU is visible; several runs share the CPU with --max-jobs.")
    if sharing > 1 and gpus_per_run is not None and gpus_per_run > 1:
        raise UserError(f"--runs-per-device {sharing}: runs that share a GPU have one each; drop --gpus-per-run.")
    if sharing * len(devices.gpus) > MAX_JOBS:
        raise UserError(f"--runs-per-device {sharing}: expected at most {MAX_JOBS:,} runs at the same time.")
    if not devices.gpus:
        if gpus_per_run is not None and gpus_per_run > 1:
            raise UserError(f"--gpus-per-run {gpus_per_run}: no GPU is visible, so a run uses the CPU.")
        return [Slot((), threads_of(devices.cores // (max_jobs or 1)))] * (max_jobs or 1)
    each = gpus_per_run or 1
    if each > len(devices.gpus):
        raise UserError(f"--gpus-per-run {each}: {len(devices.gpus)} GPU(s) are visible: {', '.join(devices.gpus)}.")
    groups = [devices.gpus[first : first + each] for first in range(0, len(devices.gpus) - each + 1, each)]
    most = len(groups) * sharing
    if max_jobs is not None and max_jobs > most:
        use = f"each has {sharing} runs" if sharing > 1 else f"a run uses {each}"
        raise UserError(
            f"--max-jobs {max_jobs}: expected at most {most}: {len(devices.gpus)} GPU(s) are visible and {use}."
        )
    threads = threads_of(devices.cores // (len(devices.gpus) * sharing))
    return [Slot(gpus, threads, sharing) for gpus in groups * sharing][: max_jobs or most]


def threads_of(cores: int) -> int:
    """The threads of a run that has these cores: at least one, at most OMP_NUM_THREADS."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(limit))) if limit.isdigit() and int(limit) else max(1, cores)


def processor_name() -> str:
    """The model of the processor."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _may_have_gpus() -> bool:
    """A check that saves the seconds of asking torch: on Linux, a GPU that it can use has a device file."""
    return sys.platform != "linux" or any(map(Path.exists, map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))))


def _gpu_names() -> list[str]:
    result = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    return list(json.loads(lines[-1])) if result.returncode == 0 and lines else []
