"""Which devices this machine has for runs, found without loading torch into this process."""

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


class Devices(NamedTuple):
    """What runs can be given."""

    gpus: tuple[str, ...]
    """What CUDA_VISIBLE_DEVICES calls each visible GPU; none: runs go to the CPU."""
    name: str
    """As records have it: of the first GPU, or of the processor."""
    cores: int
    """That this process may use."""


class Slot(NamedTuple):
    """A place where one run at a time can be."""

    gpus: tuple[str, ...] = ()
    """Those that the run sees; none: the CPU."""
    threads: int = 1
    """Of each process."""

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"GPU {', '.join(self.gpus)}" if self.gpus else f"CPU, {threads}"


def find_devices(on_cpu: bool) -> Devices:
    """The GPUs that torch sees, unless `on_cpu` or ACCELERATE_USE_CPU keeps runs off them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    on_cpu |= os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")
    names = [] if on_cpu or not _may_have_gpus() else _names()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    known = [part.strip() for part in visible.split(",") if part.strip()] or list(map(str, range(len(names))))
    return Devices(tuple(known[: len(names)]), names[0] if names else processor_name(), cores)


def slots(devices: Devices, jobs: int | None, devices_per_run: int | None) -> list[Slot]:
    """Where runs can be at the same time: so many GPUs each, or on the CPU `jobs` with as many cores each.

    Raises:
        UserError: there are not so many devices, or a number below 1.
    """
    for flag, number in (("--jobs", jobs), ("--devices-per-run", devices_per_run)):
        if number is not None and number < 1:
            raise UserError(f"{flag} {number}: give 1 or more.")
    if not devices.gpus:
        if devices_per_run is not None and devices_per_run > 1:
            raise UserError(f"--devices-per-run {devices_per_run}: no GPU is visible here; a run gets the CPU.")
        threads = max(1, devices.cores // (jobs or 1))
        wished = os.environ.get("OMP_NUM_THREADS", "")
        return [Slot((), min(threads, int(wished)) if wished.isdigit() and int(wished) else threads)] * (jobs or 1)
    each = devices_per_run or 1
    if each > len(devices.gpus):
        raise UserError(f"--devices-per-run {each}: {len(devices.gpus)} GPU(s) are visible: {', '.join(devices.gpus)}.")
    places = len(devices.gpus) // each
    if jobs is not None and jobs > places:
        raise UserError(
            f"--jobs {jobs}: {len(devices.gpus)} GPU(s) are visible and a run gets {each}: {places} at once at most."
        )
    threads = max(1, devices.cores // len(devices.gpus))
    return [Slot(devices.gpus[place * each : (place + 1) * each], threads) for place in range(jobs or places)]


def processor_name() -> str:
    """The model of the processor."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _may_have_gpus() -> bool:
    """Asking torch takes seconds; on Linux a GPU that it can use has a file."""
    return sys.platform != "linux" or any(map(Path.exists, map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))))


def _names() -> list[str]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return list(json.loads(lines[-1])) if done.returncode == 0 and lines else []
