"""Energy counters: sums of what they count, overflows, and the reason where there are none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.system.energy import (
    SAMPLE_SECONDS,
    Counter,
    Counters,
    EnergyMeter,
    gpu_counter,
    package_counters,
)


class World:
    """A clock and two counters that the test moves."""

    def __init__(self) -> None:
        self.seconds, self.joules, self.is_broken = 0.0, [100.0, 5.0], False

    def clock(self) -> float:
        return self.seconds

    def read(self, number: int) -> float:
        if self.is_broken:
            raise OSError("gone")
        return self.joules[number]

    def meter(self, overflow: float | None = None) -> EnergyMeter:
        counters = tuple(Counter(lambda number=number: self.read(number), overflow) for number in (0, 1))
        return EnergyMeter(Counters(counters, "two counters"), self.clock)


def test_joules_are_those_of_all_counters_since_the_start() -> None:
    world = World()
    meter = world.meter()
    world.joules = [110.0, 7.5]
    assert meter.joules() == 12.5
    world.joules = [111.0, 7.5]
    assert meter.joules() == 13.5


def test_overflow_is_counted_where_readings_are_close_enough() -> None:
    world = World()
    meter = world.meter(overflow=262_000.0)
    world.seconds, world.joules = SAMPLE_SECONDS, [260_000.0, 5.0]
    meter.sample()
    world.seconds, world.joules = 2 * SAMPLE_SECONDS, [1_000.0, 5.0]
    meter.sample()
    assert meter.joules() == pytest.approx(260_000 - 100 + 3_000)
    world.seconds += 300
    assert meter.joules() is None
    assert "overflowed twice" in meter.description


def test_counters_are_not_read_at_every_step() -> None:
    world = World()
    meter = world.meter()
    world.seconds, world.is_broken = SAMPLE_SECONDS / 2, True
    meter.sample()
    world.seconds = 2 * SAMPLE_SECONDS
    meter.sample()
    assert meter.joules() is None
    assert meter.description == "two counters: could not be read any more"


def write_zone(folder: Path, name: str, joules: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "energy_uj").write_text(joules)
    (folder / name / "max_energy_range_uj").write_text("262143328850")


def test_packages_are_counted_and_not_their_parts(tmp_path: Path) -> None:
    for number in (0, 1):
        write_zone(tmp_path, f"intel-rapl:{number}", f"{number + 1}500000\n")
    write_zone(tmp_path, "intel-rapl:0:0", "7")
    counters, description = package_counters(tmp_path)
    assert [(counter.read(), counter.overflow) for counter in counters] == [(1.5, 262143.32885), (2.5, 262143.32885)]
    assert "2 processor package" in description


def test_reason_is_given_where_there_is_no_counter(tmp_path: Path) -> None:
    counters, reason = package_counters(tmp_path)
    assert (counters, str(tmp_path) in reason) == ((), True)
    write_zone(tmp_path, "intel-rapl:0", "not a number")
    assert package_counters(tmp_path).counters == ()
    assert "not readable" in package_counters(tmp_path).description
    counters, reason = gpu_counter("GPU-0", str(tmp_path / "libnvidia-ml.so.1"))
    assert (counters, reason.startswith("NVML: ")) == ((), True)
    meter = EnergyMeter(Counters((), reason))
    assert (meter.joules(), meter.description) == (None, reason)


NVML = """
static unsigned long long count = 5000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { *device = &count; return uuid[0] == 'G' ? 0 : 6; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    *energy = (*(unsigned long long *)device += 1500);
    return 0;
}
"""


@pytest.fixture
def nvml(tmp_path: Path) -> str:
    """A stand-in for the library, whose counter rises by 1.5 J at each reading."""
    source, library = tmp_path / "nvml.c", tmp_path / "nvml.so"
    source.write_text(NVML)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    return str(library)


def test_counter_of_a_gpu_is_read_in_joules(nvml: str) -> None:
    meter = EnergyMeter(gpu_counter("GPU-1", nvml))
    assert meter.joules() == 1.5
    assert gpu_counter("other", nvml) == Counters((), "NVML: error 6")
