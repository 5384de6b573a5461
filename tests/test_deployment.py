"""Deployment: what is really used, or a refusal."""

import resource
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from harness.engine.deployment import (
    any_process,
    by_main,
    choose_precision,
    has_native_bf16,
    keeps_whole_weights,
    may_refuse_memory,
    precision_of,
    start,
    whereabouts,
)
from harness.errors import UserError

CPU = torch.device("cpu")


def test_auto_takes_what_the_launcher_was_given(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert choose_precision("auto", CPU) == "bf16"
    assert choose_precision("fp32", CPU) == "fp32"


def test_auto_is_bf16_only_where_the_hardware_has_it(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert has_native_bf16(CPU) is native
        assert choose_precision("auto", CPU) == ("bf16" if native else "fp32")
    assert not has_native_bf16(torch.device("meta"))


def test_fp16_on_a_cpu_is_refused_however_it_was_asked_for(monkeypatch):
    with pytest.raises(UserError, match="bf16 or fp32"):
        choose_precision("fp16", CPU)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="bf16 or fp32"):
        choose_precision("auto", CPU)


@pytest.mark.parametrize(("capability", "has_it"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tf32_is_only_where_a_gpu_has_it_and_where_it_was_asked_for(monkeypatch, capability, has_it):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    gpu = torch.device("cuda")
    assert choose_precision("auto", gpu) == "fp32"
    if has_it:
        assert choose_precision("tf32", gpu) == "tf32"
    else:
        with pytest.raises(UserError, match="Ampere"):
            choose_precision("tf32", gpu)
    with pytest.raises(UserError, match="Ampere"):
        choose_precision("tf32", CPU)


def test_fp32_is_fp32_also_after_a_run_in_tf32(monkeypatch, tmp_path):
    monkeypatch.setattr("harness.engine.deployment.choose_precision", lambda asked, device: asked)
    for precision in ("tf32", "fp32", "tf32"):
        assert precision_of(start(precision, True, None, tmp_path)) == precision
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    start("fp32", True, None, tmp_path)


def test_a_precision_nobody_tested_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(UserError, match="fp8"):
        choose_precision("auto", CPU)


def test_a_tracker_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no_such_tracker"):
        start("fp32", True, "no_such_tracker", tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_can_change_from_run_to_run(precision, tmp_path):
    accelerator = start(precision, True, None, tmp_path)
    assert precision_of(accelerator) == precision


def test_deterministic_kernels_are_asked_for_and_no_longer_when_not(tmp_path):
    start("fp32", True, None, tmp_path, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    start("fp32", True, None, tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_one_process_decides_for_itself():
    accelerator = Accelerator(cpu=True)
    assert by_main(accelerator, lambda: 7) == 7
    assert any_process(accelerator, [True, False]) == [True, False]
    assert keeps_whole_weights(accelerator)


def test_idle_cores_are_pointed_out(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "--num_cpu_threads_per_process 8" in whereabouts(accelerator)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert whereabouts(accelerator) == "cpu (8 threads a process)"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux promises memory that is not there")
def test_memory_of_a_cpu_is_refused_only_under_a_limit():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, before[1]))
    freely = may_refuse_memory(CPU)
    resource.setrlimit(resource.RLIMIT_AS, (2**46, before[1]))
    try:
        assert may_refuse_memory(CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert freely == (Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2")
    assert may_refuse_memory(torch.device("cuda"))
