"""Deployment: the precision and processes that are really used, or an error."""

import os
import resource
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, PartialState, tracking
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from support.processes import wait_until

from harness.engine.deployment import (
    any_process,
    choose_precision,
    compute_on_main,
    device_summary,
    has_native_bf16,
    keeps_whole_weights,
    precision_of,
    reports_out_of_memory,
    silence_libraries,
    start,
)
from harness.errors import UserError

CPU = torch.device("cpu")


def test_auto_is_the_precision_of_the_launcher(monkeypatch):
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


def test_fp16_on_a_cpu_is_refused_from_flag_and_launcher(monkeypatch):
    with pytest.raises(UserError, match="bf16 or fp32"):
        choose_precision("fp16", CPU)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="bf16 or fp32"):
        choose_precision("auto", CPU)


@pytest.mark.parametrize(("capability", "has_tf32"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tf32_is_used_only_on_request_and_where_a_gpu_has_it(monkeypatch, capability, has_tf32):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    gpu = torch.device("cuda")
    assert choose_precision("auto", gpu) == "fp32"
    if has_tf32:
        assert choose_precision("tf32", gpu) == "tf32"
    else:
        with pytest.raises(UserError, match="Ampere"):
            choose_precision("tf32", gpu)
    with pytest.raises(UserError, match="Ampere"):
        choose_precision("tf32", CPU)


def test_fp32_after_a_run_in_tf32_is_fp32(monkeypatch, tmp_path):
    monkeypatch.setattr("harness.engine.deployment.choose_precision", lambda precision, device: precision)
    for precision in ("tf32", "fp32", "tf32"):
        assert precision_of(start(precision, True, None, tmp_path)) == precision
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    start("fp32", True, None, tmp_path)


def test_unsupported_precision_of_the_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(UserError, match="fp8"):
        choose_precision("auto", CPU)


WAITING_PROGRAM = """
from pathlib import Path
from harness.engine.deployment import start
from harness.system.exit_codes import exit_code_on_error
with exit_code_on_error():
    start("fp32", True, None, Path())
"""


def _listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_process_that_waits_for_the_others_can_be_stopped():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    launch = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", WAITING_PROGRAM], cwd=root, env=os.environ | launch) as process:
        try:
            wait_until(lambda: _listens(port))
            process.terminate()
            assert process.wait(timeout=10) == -signal.SIGTERM
        finally:
            process.kill()


def test_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--tracker tensorbord: .*Did you mean 'tensorboard'"):
        start("fp32", True, "tensorbord", tmp_path)


def test_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    with (
        pytest.raises(UserError, match=r"--tracker tensorboard: .*installed"),
        pytest.warns(UserWarning, match="tensorboard"),
    ):
        start("fp32", True, "tensorboard", tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_can_change_from_run_to_run(precision, tmp_path):
    accelerator = start(precision, True, None, tmp_path)
    assert precision_of(accelerator) == precision


def test_deterministic_kernels_are_on_for_one_run_only(tmp_path):
    start("fp32", True, None, tmp_path, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    start("fp32", True, None, tmp_path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_number_of_processes_must_be_a_number(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "abc")
    with pytest.raises(UserError, match=r"WORLD_SIZE: .*abc"):
        start("fp32", True, None, tmp_path)


def test_fsdp_needs_two_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(UserError, match="two processes"):
        start("fp32", True, None, tmp_path)


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_shards_no_weights(monkeypatch, tmp_path, stage):
    monkeypatch.setattr(
        AcceleratorState, "deepspeed_plugin", SimpleNamespace(enable_msamp=False, zero_stage=stage), raising=False
    )
    with pytest.raises(UserError, match="ZeRO stage 3") if stage == 3 else nullcontext():
        start("fp32", True, None, tmp_path)


def test_type_of_an_earlier_launch_in_this_process_is_forgotten(monkeypatch, tmp_path):
    start("fp32", True, None, tmp_path)
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", DistributedType.FSDP)  # as accelerate does
    assert start("fp32", True, None, tmp_path).distributed_type == DistributedType.NO


def test_deprecations_within_transformers_are_not_shown():
    with warnings.catch_warnings(record=True, action="always") as shown:
        silence_libraries()
        for module in ("transformers.modeling_utils", "harness.engine.models"):
            warnings.warn_explicit("deprecated", FutureWarning, module, 1, module)
    assert [warning.filename for warning in shown] == ["harness.engine.models"]


def test_one_process_decides_for_itself():
    accelerator = Accelerator(cpu=True)
    assert compute_on_main(accelerator, lambda: 7) == 7
    assert any_process(accelerator, [True, False]) == [True, False]
    assert keeps_whole_weights(accelerator)


def test_device_summary_names_idle_cores(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "--num_cpu_threads_per_process 8" in device_summary(accelerator)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert device_summary(accelerator) == "cpu (8 threads per process)"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux overcommits memory")
def test_cpu_reports_out_of_memory_only_under_a_limit():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, before[1]))
    without_limit = reports_out_of_memory(CPU)
    resource.setrlimit(resource.RLIMIT_AS, (2**46, before[1]))
    try:
        assert reports_out_of_memory(CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert without_limit == (Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2")
    assert reports_out_of_memory(torch.device("cuda"))
