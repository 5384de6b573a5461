"""Runs on this machine: the flags of a sweep become its slots."""

from __future__ import annotations

import pytest

from harness.commands.sweep import read_options
from harness.errors import UserError
from harness.sweeps.executors import local, make_executor
from harness.system.devices import GPU_MEMORY_SHARE, Devices


def test_runs_per_device_share_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "find_devices", lambda on_cpu: Devices(("0", "1"), "a GPU", 8))
    settings = read_options(["--tasks", "rte", "--runs-per-device", "2"])[1].sweep.executor
    executor = make_executor(settings, test_mode=False)
    assert [(slot.gpus, slot.threads) for slot in executor.slots] == [(("0",), 2), (("1",), 2)] * 2
    assert all(slot.environment[GPU_MEMORY_SHARE] == "0.4500" for slot in executor.slots)


def test_cpu_is_shared_by_jobs_and_not_by_runs_per_device() -> None:
    settings = read_options(["--tasks", "rte", "--test-mode", "--runs-per-device", "2"])[1].sweep.executor
    with pytest.raises(UserError, match=r"--runs-per-device 2: no GPU is visible.*--max-jobs"):
        make_executor(settings, test_mode=True)
