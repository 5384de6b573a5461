"""Slots for runs: each GPU is in one slot, cores are divided, and devices that do not exist are refused."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.system.devices import GPU_MEMORY_SHARE, Devices, Slot, find_devices, slots

CPU = Devices((), "a processor", 8)
GPUS = Devices(("4", "5", "6"), "a GPU", 12)


@pytest.fixture(autouse=True)
def _no_thread_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize("jobs, threads", [(None, 8), (1, 8), (2, 4), (3, 2), (9, 1)])
def test_jobs_divide_the_cores(jobs: int | None, threads: int) -> None:
    assert slots(CPU, jobs, None) == [Slot((), threads)] * (jobs or 1)


def test_omp_num_threads_limits_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert slots(CPU, None, None) == [Slot((), 2)]
    assert slots(CPU, 8, None) == [Slot((), 1)] * 8
    assert {slot.threads for slot in slots(GPUS, None, None)} == {2}


def test_each_gpu_is_in_one_slot() -> None:
    assert slots(GPUS, None, None) == [Slot(("4",), 4), Slot(("5",), 4), Slot(("6",), 4)]
    assert slots(GPUS, 2, None) == [Slot(("4",), 4), Slot(("5",), 4)]
    assert slots(GPUS, None, 2) == [Slot(("4", "5"), 4)]


def test_runs_that_share_a_gpu_divide_its_cores_and_its_memory() -> None:
    shared = slots(GPUS, None, None, 2)
    assert [slot.gpus for slot in shared] == [("4",), ("5",), ("6",)] * 2, "each GPU has a run before one has two"
    assert {slot.threads for slot in shared} == {2}
    assert shared[0].environment == {"CUDA_VISIBLE_DEVICES": "4", GPU_MEMORY_SHARE: "0.4500"}
    assert slots(GPUS, None, None, 1) == slots(GPUS, None, None)
    assert slots(GPUS, None, None)[0].environment == {"CUDA_VISIBLE_DEVICES": "4"}
    assert slots(GPUS, 4, None, 2) == shared[:4]


@pytest.mark.parametrize(
    "devices, jobs, each, sharing, message",
    [
        (CPU, None, None, 2, "--runs-per-device 2: no GPU is visible.*--max-jobs"),
        (GPUS, None, 2, 2, "--runs-per-device 2: .*--gpus-per-run"),
        (GPUS, 7, None, 2, "--max-jobs 7: expected at most 6: .* 2 runs"),
        (GPUS, None, None, 10**9, "--runs-per-device 1000000000: expected at most 1,000"),
    ],
)
def test_gpu_that_cannot_be_shared_so_is_refused(
    devices: Devices, jobs: int | None, each: int | None, sharing: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        slots(devices, jobs, each, sharing)


@pytest.mark.parametrize(
    "devices, jobs, each, message",
    [
        (CPU, None, 2, "--gpus-per-run 2: no GPU"),
        (GPUS, None, 4, r"--gpus-per-run 4: 3 GPU\(s\) are visible: 4, 5, 6"),
        (GPUS, 4, None, r"--max-jobs 4: expected at most 3"),
        (GPUS, 2, 2, "--max-jobs 2: expected at most 1"),
    ],
)
def test_devices_that_do_not_exist_are_refused(
    devices: Devices, jobs: int | None, each: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        slots(devices, jobs, each)


def test_cpu_has_its_name_and_cores() -> None:
    devices = find_devices(on_cpu=True)
    assert devices.gpus == ()
    assert devices.name
    assert devices.cores >= 1


def test_slot_names_its_devices() -> None:
    assert [str(Slot((), 1)), str(Slot((), 4)), str(Slot(("0", "1"), 2))] == [
        "CPU, 1 thread",
        "CPU, 4 threads",
        "GPU 0, 1",
    ]
