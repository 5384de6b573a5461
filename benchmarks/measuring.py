"""Clocks, memory and the machine: what a measurement stands on, the same for every variant."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
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
from harness.system.atomic import write_atomically

RESULTS = Path(__file__).resolve().parent / "results"


class Watch:
    """Seconds and memory of a stretch of work: `start` and `stop` around it, made before anything of it is built."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak_bytes = 0
        """The most memory held while the watch ran, beyond what was held when it was made."""
        gc.collect()
        _give_back_memory(device)
        self._base = _held(device)
        self._began: float | None = None

    def start(self) -> None:
        """Begins; work that was queued on a GPU is done first."""
        _synchronise(self.device)
        _forget_peak(self.device)
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Ends; work that is queued on a GPU is waited for. May be called again, the last call counts."""
        assert self._began is not None, "the watch was not started"
        _synchronise(self.device)
        self.seconds = time.perf_counter() - self._began
        self.peak_bytes = max(0, _peak(self.device) - self._base)


@contextlib.contextmanager
def on_its_own(threads: int, seed: int) -> Iterator[None]:
    """A variant's surroundings: seeded, the libraries' global state as in a fresh process, nothing left behind."""
    from accelerate.state import AcceleratorState, GradientState

    def reset() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
        keep_freed_memory(False)

    environment = dict(os.environ)  # TrainingArguments says its precision there, for every Accelerator to come
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
    """Whether glibc keeps what is freed for the next allocation, or gives large pieces back to the system, as it does
    of itself: then each step pays for tens of thousands of page faults.

    The thresholds of `False` are those at which glibc's own settle in a process that frees large pieces.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**30 if keep else 32 * 2**20)
        libc.mallopt(trim_threshold, 2**31 - 1 if keep else 64 * 2**20)


@contextlib.contextmanager
def silently() -> Iterator[io.StringIO]:
    """Keeps what the body prints from the terminal, and gives it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def surroundings(device: torch.device, threads: int) -> dict[str, Any]:
    """When, on what and with what a measurement was made; no names of hosts, people or folders."""
    commit, is_dirty = git_state()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return dict(
        date=datetime.now(UTC).date().isoformat(),
        commit=commit,
        uncommitted_changes=is_dirty,
        device=device_name(device),
        cores=os.cpu_count(),
        threads=threads,
        memory_gib=round(pages / 2**30),
        versions=versions(),
    )


def write_json(path: Path, values: dict[str, Any]) -> None:
    """The values as a JSON file, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _give_back_memory(device: torch.device) -> None:
    """Returns freed memory to the system, so that one variant does not live on what another has left."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _held(device: torch.device) -> int:
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _status("VmRSS")


def _peak(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM")


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # not Linux: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Bytes of resident memory (VmRSS) or of its peak (VmHWM); 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
