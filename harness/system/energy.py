"""Energy in joules, from the counters of GPUs (NVML) and of processor packages (RAPL), where they can be read.

A counter counts for a whole device: what other programs use it for is counted, too. Nothing is estimated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

POWERCAP = Path("/sys/class/powercap")
"""The folder of Linux with the counters of RAPL."""

SAMPLE_SECONDS = 30.0
"""Seconds between two readings, so that no overflow of a counter is missed."""

_MOST_WATTS = 1000.0
"""No processor package uses more; a counter that could overflow twice between readings is given up."""


class Counter(NamedTuple):
    """A counter of energy that only rises, until it overflows."""

    read: Callable[[], float]
    """Joules since some time in the past; raises OSError where it cannot be read any more."""
    overflow: float | None
    """Joules after which it starts at 0 again; None: never."""


class Counters(NamedTuple):
    """The counters that can be read, with their names in a sentence; or the reason why there are none."""

    counters: tuple[Counter, ...]
    description: str


SHARED_GPU = Counters((), "NVML: other runs share the GPU")
"""The counter of a GPU counts all of its runs together, so the energy of each is unknown."""


def package_counters(folder: Path = POWERCAP) -> Counters:
    """The counters of all processor packages of this machine.

    Linux lets only root read them, since they tell about other users' programs.
    """
    zones = sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1)
    if not zones:
        return Counters((), f"RAPL: no counters in {folder}")
    counters = []
    for zone in zones:
        path = zone / "energy_uj"
        try:
            _read_microjoules(path)
            overflow = _read_microjoules(zone / "max_energy_range_uj")
            counters.append(Counter(partial(_read_microjoules, path), overflow))
        except (OSError, ValueError):
            return Counters((), f"RAPL: {path} is not readable, as only root may on most systems")
    return Counters(tuple(counters), f"RAPL of {len(counters)} processor package(s)")


def _read_microjoules(path: Path) -> float:
    return int(path.read_text()) / 1e6


def gpu_counter(uuid: str, library: str = "libnvidia-ml.so.1") -> Counters:
    """The counter of the GPU with this UUID, such as `GPU-8f4c...`; it has been there since Volta."""
    try:
        nvml = ctypes.CDLL(library)
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        _check(nvml.nvmlInit_v2())
        _check(nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)))

        def read() -> float:
            _check(nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)))
            return millijoules.value / 1e3

        read()
    except (OSError, AttributeError) as error:
        return Counters((), f"NVML: {error}")
    return Counters((Counter(read, None),), "NVML of the GPU")


def _check(code: int) -> None:
    if code != 0:
        raise OSError(f"error {code}")


class EnergyMeter:
    """The joules that the counters of one kind of device have counted since the meter was made."""

    def __init__(self, source: Counters, clock: Callable[[], float] = monotonic) -> None:
        self._counters, self._clock = source.counters, clock
        self.description = source.description
        """The names of the counters, or the reason why the joules are unknown."""
        self._joules, self._sampled_at = 0.0, clock()
        self._last: list[float] | None = None
        self.sample(is_forced=True)

    def sample(self, is_forced: bool = False) -> None:
        """Reads the counters, at most every SAMPLE_SECONDS unless forced."""
        elapsed = self._clock() - self._sampled_at
        if not self._counters or (elapsed < SAMPLE_SECONDS and not is_forced):
            return
        self._sampled_at += elapsed
        try:
            values = [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            self._give_up("could not be read any more")
            return
        for counter, value, last in zip(self._counters, values, self._last or values, strict=True):
            if counter.overflow is not None and elapsed * _MOST_WATTS > counter.overflow:
                self._give_up(f"not read for {elapsed:.0f} s, in which it may have overflowed twice")
                return
            self._joules += value - last + (counter.overflow or 0.0) * (value < last)
        self._last = values

    def _give_up(self, reason: str) -> None:
        self._counters, self.description = (), f"{self.description}: {reason}"

    def joules(self) -> float | None:
        """The joules until now; None, with the reason in `description`, where they are unknown."""
        self.sample(is_forced=True)
        return self._joules if self._counters else None


class EnergyMeters(NamedTuple):
    """The meters of one process of a run."""

    gpu: EnergyMeter | None
    """None for a process on a CPU."""
    processor: EnergyMeter | None
    """None but for the first process on a machine, which counts for all."""

    def sample(self) -> None:
        """Reads the counters where that is due."""
        for meter in filter(None, self):
            meter.sample()
