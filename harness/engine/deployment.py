"""The accelerator of a run: its processes, its device, and the precision that it really computes in."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    LoggerType,
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
    parse_flag_from_env,
)

from harness.errors import UserError, boundary, did_you_mean
from harness.system.signals import end_by_signal

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Value = TypeVar("Value")

PROCESS_TIMEOUT = timedelta(hours=2)
"""Time that processes wait for each other: one of them may have to download and encode a large data set."""


def start(precision: str, on_cpu: bool, tracker: str | None, folder: Path, deterministic: bool = False) -> Accelerator:
    """Creates the accelerator of this process; every process must call it. Trackers write to `folder`.

    Raises:
        UserError: the processes are not connected, the device lacks the precision, the kind of sharding is unsupported,
            or the tracker is unknown or not installed.
    """
    silence_libraries()
    trackers = [each.value for each in LoggerType]
    if tracker is not None and tracker not in trackers:
        suggestion = did_you_mean(tracker, trackers)
        raise UserError(f"--tracker {tracker}: unknown tracker.{suggestion} Known: {', '.join(trackers)}.")
    # accelerate keeps device, precision and sharding of an earlier run in this process, so both of its states are reset
    AcceleratorState._reset_state(reset_partial_state=True)
    on_cpu = on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it for deterministic kernels
    torch.use_deterministic_algorithms(deterministic)
    state = _connect(on_cpu)
    chosen = choose_precision(precision, state.device)
    torch.set_float32_matmul_precision("high" if chosen == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = chosen == "tf32"  # PyTorch's default is True, for convolutions
    try:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if chosen in ("fp32", "tf32") else chosen,
            log_with=tracker,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )
    except ValueError as error:
        raise UserError(f"accelerate failed to start: {error}") from None
    _check_sharding(accelerator)
    if tracker is not None and not accelerator.log_with:  # accelerate warns, and would log nowhere
        raise UserError(f"--tracker {tracker}: its package is not installed. Install it, or drop --tracker.")
    return accelerator


def _connect(on_cpu: bool) -> PartialState:
    """The processes of the launch, connected to each other, and the device of this one.

    Raises:
        UserError: they cannot connect, or each of them is alone.
    """
    with boundary("WORLD_SIZE", ValueError, advice="The launcher sets this variable: unset it, or give a number."):
        launched = int(os.environ.get("WORLD_SIZE", "1"))
    advice = (
        f"For several processes on CPUs: ACCELERATE_USE_CPU=yes torchrun --nproc_per_node {launched} harness/run.py ..."
    )
    try:
        with end_by_signal() if launched > 1 else nullcontext():  # the other processes may never start
            state = PartialState(cpu=on_cpu, timeout=PROCESS_TIMEOUT)
    except ValueError as error:  # the address of the first process is missing
        PartialState._reset_state()  # it would keep its half-finished setup
        raise UserError(
            f"{launched} processes were started, but cannot connect to each other: {error}. {advice}"
        ) from None
    if launched != state.num_processes:
        raise UserError(
            f"{launched} processes were started, but accelerate connected {state.num_processes}: each of them would "
            f"write the results. {advice}"
        )
    return state


def _check_sharding(accelerator: Accelerator) -> None:
    """Raises UserError for a kind of sharding in which no model can be trained here."""
    if accelerator.distributed_type == DistributedType.FSDP and accelerator.num_processes == 1:
        raise UserError(  # torch ends with a TypeError in its first step
            "FSDP needs at least two processes, got 1. For one GPU: --config_file accelerate_configs/single_gpu.yaml"
        )
    deepspeed = accelerator.state.deepspeed_plugin
    if deepspeed is not None and deepspeed.zero_stage == 3:
        raise UserError(
            "DeepSpeed ZeRO stage 3: unsupported. Set zero_stage: 2, or shard the weights with "
            "--config_file accelerate_configs/fsdp2.yaml"
        )


def compute_on_main(accelerator: Accelerator, compute: Callable[[], Value]) -> Value:
    """Computes a value on the main process and returns it on every process; all of them must call it together."""
    value = compute() if accelerator.is_main_process else None
    return cast(Value, broadcast_object_list([value])[0])


def keeps_whole_weights(accelerator: Accelerator) -> bool:
    """Tells whether each process has all weights and optimizer states; FSDP and others shard them."""
    sharded = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    return accelerator.distributed_type not in sharded


def can_gather_weights(accelerator: Accelerator) -> bool:
    """Tells whether weights and optimizer states can be saved: they are whole, or FSDP2 can gather them."""
    return keeps_whole_weights(accelerator) or accelerator.is_fsdp2


def any_process(accelerator: Accelerator, flags: Sequence[bool]) -> list[bool]:
    """Returns for each flag whether it is set on any process; all processes must call it together."""
    if accelerator.num_processes == 1:
        return list(flags)
    counts = accelerator.reduce(torch.tensor(flags, dtype=torch.float32, device=accelerator.device), "sum")
    return [bool(count) for count in counts.tolist()]


def names_on_all_processes(accelerator: Accelerator, names: list[str]) -> set[str]:
    """Returns the names that every process has; all of them must call it together."""
    return set.intersection(*map(set, gather_object([names])))


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Returns the precision to compute in.

    `auto` is that of accelerate launch unless it has its default `no`, else bf16 where the hardware multiplies it
    natively, else fp32.

    Raises:
        UserError: fp16 on a CPU, where accelerate would train in fp32 and report fp16, tf32 on a device without it, or
            an unknown precision.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision == "auto":
        precision = launched if launched != "no" else "bf16" if has_native_bf16(device) else "fp32"
    if precision not in get_args(Precision):
        raise UserError(f"unsupported mixed precision {precision!r}: use --precision bf16, fp16 or fp32.")
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16: unsupported on a CPU. Use --precision bf16 or fp32.")
    if precision == "tf32" and not supports_precision("tf32", device):
        raise UserError(
            "--precision tf32: unsupported here, it needs an NVIDIA GPU from Ampere on. Use --precision bf16 or fp32."
        )
    return cast(Precision, precision)


def reports_out_of_memory(device: torch.device) -> bool:
    """Tells whether an allocation fails when memory runs out, so that a trial shows how much fits.

    Linux promises a process more memory than exists and kills it later, except under a limit (`ulimit -v`) or strict
    overcommit: there a trial tells nothing and costs as much as a few steps.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return True
    import resource

    try:
        is_strict = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:
        is_strict = False
    return is_strict or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def finish_trackers(accelerator: Accelerator) -> None:
    """Ends the tracking of an attempt; MLflow does not start another before."""
    for tracker in accelerator.trackers:
        tracker.finish()


def device_summary(accelerator: Accelerator) -> str:
    """Describes the devices; for a CPU with its threads, of which accelerate launch sets one by default."""
    if accelerator.device.type != "cpu":
        return f"{accelerator.num_processes} x {accelerator.device.type}"
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    share = cores // accelerator.num_processes
    advice = f"; accelerate launch --num_cpu_threads_per_process {share} uses all {cores}" if threads < share else ""
    return f"cpu ({threads} thread{'s' if threads > 1 else ''} per process{advice})"


def has_native_bf16(device: torch.device) -> bool:
    """Tells whether the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return False


def supports_precision(precision: Precision, device: torch.device) -> bool:
    """Tells whether the device computes natively in a precision."""
    if precision == "bf16":
        return has_native_bf16(device)
    if precision == "tf32":
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return precision == "fp32" or device.type == "cuda"


def precision_of(accelerator: Accelerator) -> Precision:
    """Returns the precision that the accelerator computes in."""
    if accelerator.mixed_precision != "no":
        return cast(Precision, accelerator.mixed_precision)
    return "tf32" if torch.get_float32_matmul_precision() == "high" else "fp32"


def silence_libraries() -> None:
    """Turns off progress bars and messages of the libraries, and deprecations among them, but not their errors."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of calls in peft
