"""The accelerator that a run computes on: processes, device and precision as they really are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
    parse_flag_from_env,
)

from harness.errors import UserError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Value = TypeVar("Value")

LONGEST_WAIT = timedelta(hours=2)
"""How long processes wait for each other: one of them may have to download and encode a large data set first."""


def start(precision: str, on_cpu: bool, tracker: str | None, folder: Path, deterministic: bool = False) -> Accelerator:
    """The accelerator for this process; every process must call it. Trackers write below `folder`.

    Raises:
        UserError: the processes are not connected, the precision does not exist on this device, or there is no such
            tracker here.
    """
    hush_libraries()
    on_cpu = on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no deterministic kernels
    torch.use_deterministic_algorithms(deterministic)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    advice = (
        f"For several processes on CPUs: ACCELERATE_USE_CPU=yes torchrun --nproc_per_node {launched} harness/run.py ..."
    )
    try:
        state = PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)
    except ValueError as error:  # nothing says where the first process listens
        PartialState._reset_state()  # it keeps what it has half set up
        raise UserError(f"{launched} processes were started, but cannot find each other: {error}. {advice}") from None
    if launched != state.num_processes:
        raise UserError(
            f"{launched} processes were started, but accelerate connected {state.num_processes}: each would write the "
            f"results. {advice}"
        )
    chosen = choose_precision(precision, state.device)
    AcceleratorState._reset_state()  # an earlier run of this process may have used another precision
    torch.set_float32_matmul_precision("high" if chosen == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = chosen == "tf32"  # PyTorch's default is True, for convolutions
    try:
        return Accelerator(
            cpu=on_cpu,
            mixed_precision="no" if chosen in ("fp32", "tf32") else chosen,
            log_with=tracker,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )
    except ValueError as error:
        raise UserError(f"accelerate cannot start: {error}") from None


def by_main(accelerator: Accelerator, compute: Callable[[], Value]) -> Value:
    """What `compute` gives on the main process, on every process; all of them must call it together."""
    value = compute() if accelerator.is_main_process else None
    if accelerator.num_processes > 1:
        value = broadcast_object_list([value])[0]
    return cast(Value, value)


def keeps_whole_weights(accelerator: Accelerator) -> bool:
    """Whether each process has all weights and optimizer states, as a checkpoint needs; FSDP and DeepSpeed cut them."""
    cut = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    return accelerator.distributed_type not in cut


def any_process(accelerator: Accelerator, claims: Sequence[bool]) -> list[bool]:
    """For each claim whether it holds on some process; all of them must call it together."""
    if accelerator.num_processes == 1:
        return list(claims)
    counts = accelerator.reduce(torch.tensor(claims, dtype=torch.float32, device=accelerator.device), "sum")
    return [bool(count) for count in counts.tolist()]


def common(accelerator: Accelerator, names: list[str]) -> set[str]:
    """Those of the names that every process has; all of them must call it together."""
    return set.intersection(*map(set, gather_object([names])))


def choose_precision(asked: str, device: torch.device) -> Precision:
    """What to compute in. `auto` is what accelerate launch was given (its default `no` says nothing), else bf16 where
    the hardware multiplies it natively, else fp32.

    Raises:
        UserError: fp16 on a CPU, where accelerate would train in fp32 and say fp16, tf32 on what has no such unit, or
            a precision unknown here.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked == "auto":
        asked = launched if launched != "no" else "bf16" if has_native_bf16(device) else "fp32"
    if asked not in get_args(Precision):
        raise UserError(f"mixed precision {asked!r} is not supported; use bf16, fp16 or --precision fp32.")
    if asked == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16: CPUs train in bf16 or fp32 only; use --precision bf16 or fp32.")
    if asked == "tf32" and not computes_in("tf32", device):
        raise UserError("--precision tf32: only NVIDIA GPUs from Ampere on have it; use --precision bf16 or fp32.")
    return cast(Precision, asked)


def may_refuse_memory(device: torch.device) -> bool:
    """Whether the device says so when memory runs out.

    Linux promises a process more memory than there is and kills it later, except under a limit (`ulimit -v`) or strict
    overcommit: elsewhere to try how much fits tells nothing, and costs as much as a few steps.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return True
    import resource

    try:
        is_strict = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:
        is_strict = False
    return is_strict or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def whereabouts(accelerator: Accelerator) -> str:
    """Where a run computes, in a few words; on a CPU with the threads it uses, which accelerate launch sets to 1."""
    if accelerator.device.type != "cpu":
        return f"{accelerator.num_processes} x {accelerator.device.type}"
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    idle = cores // accelerator.num_processes
    hint = f"; accelerate launch --num_cpu_threads_per_process {idle} would use all {cores}" if threads < idle else ""
    return f"cpu ({threads} thread{'s' if threads > 1 else ''} a process{hint})"


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return False


def computes_in(precision: Precision, device: torch.device) -> bool:
    """Whether the device computes in a precision by itself."""
    if precision == "bf16":
        return has_native_bf16(device)
    if precision == "tf32":
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return precision == "fp32" or device.type == "cuda"


def precision_of(accelerator: Accelerator) -> Precision:
    """What the accelerator computes in."""
    if accelerator.mixed_precision != "no":
        return cast(Precision, accelerator.mixed_precision)
    return "tf32" if torch.get_float32_matmul_precision() == "high" else "fp32"


def hush_libraries() -> None:
    """Keeps progress bars and reports of the libraries from mixing with ours; their errors still come through."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
