"""The meter of time and memory, equal conditions for every variant, and the facts of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.engine.provenance import device_name, git_state, versions


class Meter:
    """Seconds and memory between `start` and `stop`; create it before anything that the measured work builds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak_bytes = 0
        """The peak of memory between start and stop, without what was in use when the meter was created."""
        gc.collect()
        _release_memory(device)
        self._base = _used_bytes(device)
        self._began: float | None = None

    def start(self) -> None:
        """Starts the clock after the work that is queued on a GPU."""
        _synchronise(self.device)
        _reset_peak(self.device)
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Stops the clock after the work that is queued on a GPU; when called several times, the last call counts."""
        assert self._began is not None, "the meter was not started"
        _synchronise(self.device)
        self.seconds = time.perf_counter() - self._began
        self.peak_bytes = max(0, _peak_bytes(self.device) - self._base)


@contextlib.contextmanager
def fresh_state(threads: int, seed: int) -> Iterator[None]:
    """Runs the body with seeded generators and the libraries' global state of a fresh process, and resets it after."""
    from accelerate.state import AcceleratorState, GradientState

    def reset() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        keep_freed_memory(False)

    environment = dict(os.environ)  # TrainingArguments writes its precision there, for every later Accelerator
    reset()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        reset()


def keep_freed_memory(keep: bool) -> None:
    """Makes glibc keep freed memory for later allocations, or, as by default, return large pieces to the system.

    Returned memory costs each step tens of thousands of page faults. The thresholds of `False` are those that glibc
    reaches by itself in a process that frees large pieces.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**30 if keep else 32 * 2**20)
        libc.mallopt(trim_threshold, 2**31 - 1 if keep else 64 * 2**20)


@contextlib.contextmanager
def capture_output() -> Iterator[io.StringIO]:
    """Collects what the body prints instead of showing it."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


def machine_facts(device: torch.device, threads: int) -> dict[str, Any]:
    """Returns date, commit, hardware and versions of a measurement, without names of hosts, people or folders."""
    commit, is_dirty = git_state()
    return dict(
        date=datetime.now(UTC).date().isoformat(),
        commit=commit,
        uncommitted_changes=is_dirty,
        device=device_name(device),
        instructions=torch.backends.cpu.get_cpu_capability(),
        cores=os.cpu_count(),
        threads=threads,
        memory_gib=memory_gib(),
        versions=versions(),
    )


def memory_gib() -> int:
    """Returns the machine's memory in GiB."""
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _release_memory(device: torch.device) -> None:
    """Returns freed memory to the system, so that no variant reuses what another has allocated."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _used_bytes(device: torch.device) -> int:
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _status_bytes("VmRSS")


def _peak_bytes(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status_bytes("VmHWM")


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # not Linux: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(name: str) -> int:
    """Resident memory (VmRSS) or its peak (VmHWM); 0 where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
