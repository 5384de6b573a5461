"""The launch configurations: each loads in accelerate, explains every key, and has no key that is ignored."""

from __future__ import annotations

import argparse
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from harness.facts.recipes import Recipe

FOLDER = Path(__file__).resolve().parents[1] / "accelerate_configs"

EXPECTED = {
    "cpu": (DistributedType.NO, 1, 1, "no"),
    "single_gpu": (DistributedType.NO, 1, 1, "bf16"),
    "multi_gpu_fp16": (DistributedType.MULTI_GPU, 2, 1, "fp16"),
    "multi_gpu_bf16": (DistributedType.MULTI_GPU, 2, 1, "bf16"),
    "multi_node": (DistributedType.MULTI_GPU, 16, 2, "bf16"),
    "fsdp2": (DistributedType.FSDP, 2, 1, "bf16"),
    "deepspeed_zero2": (DistributedType.DEEPSPEED, 2, 1, "bf16"),
}
"""Type of distribution, processes, machines and precision of each configuration."""

NOT_LAUNCH_ARGUMENTS = {"compute_environment", "distributed_type"}
"""Keys that accelerate reads before it fills in the launch arguments, or spells differently there."""

each_config = pytest.mark.parametrize("name", EXPECTED)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes launch variables of the machine that runs the tests."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def _load_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load(_path(name).read_text(encoding="utf-8"))


def _launch_arguments(name: str, *flags: str) -> argparse.Namespace:
    """The arguments that `accelerate launch --config_file accelerate_configs/<name>.yaml` acts on."""
    command = ["--config_file", str(_path(name)), *flags, "harness/run.py", "--task", "rte"]
    return _validate_launch_command(launch_command_parser().parse_args(command))[0]


def test_every_configuration_is_tested() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


@each_config
def test_configuration_loads_with_the_parser_of_accelerate(name: str) -> None:
    config = load_config_from_file(str(_path(name)))
    assert type(config) is ClusterConfig
    facts = (config.distributed_type, config.num_processes, config.num_machines, config.mixed_precision)
    assert facts == EXPECTED[name]
    assert config.use_cpu is (name == "cpu")


@each_config
def test_every_key_has_a_comment(name: str) -> None:
    lines = _path(name).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the first line has the purpose of the file"
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            above = lines[number - 1].lstrip()
            assert above.startswith("# ") or " # " in line, f"{_path(name)}:{number + 1} has no comment: {line}"


@each_config
def test_no_key_is_silently_ignored(name: str) -> None:
    """accelerate 1.15 reads rdzv_backend, same_network and others from the command line only."""
    arguments = vars(_launch_arguments(name))
    for key, value in _load_yaml(name).items():
        if isinstance(value, dict):
            assert {inner: arguments.get(inner) for inner in value} == value
        elif key not in NOT_LAUNCH_ARGUMENTS:
            assert arguments[key] == value, key


@each_config
def test_nested_keys_are_launch_flags(name: str) -> None:
    """The loader refuses unknown keys at the top level only; a misspelled nested key would have no effect."""
    flags = {action.dest for action in launch_command_parser()._actions}
    for key, value in _load_yaml(name).items():
        if isinstance(value, dict):
            assert set(value) <= flags, key


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "cpu.yaml"
    copy.write_text(_path("cpu").read_text(encoding="utf-8") + "num_gpus: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="num_gpus"):
        load_config_from_file(str(copy))


def test_cpu_launches_one_plain_process_on_the_cpu() -> None:
    arguments = _launch_arguments("cpu")
    assert not any((arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed, arguments.tpu))
    command, environment = prepare_simple_launcher_cmd_env(arguments)
    assert command[1:] == ["harness/run.py", "--task", "rte"]
    assert environment["ACCELERATE_USE_CPU"] == "True"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"


def test_the_command_line_overrides_the_file() -> None:
    arguments = _launch_arguments("multi_gpu_bf16", "--num_processes", "4", "--mixed_precision", "fp16")
    assert (arguments.num_processes, arguments.mixed_precision) == (4, "fp16")


@pytest.mark.parametrize("name", ["multi_gpu_fp16", "multi_gpu_bf16"])
def test_multi_gpu_starts_a_process_for_each_gpu(name: str) -> None:
    arguments = _launch_arguments(name)
    assert arguments.multi_gpu
    environment = prepare_multi_gpu_env(arguments)
    assert arguments.nproc_per_node == "2"
    assert int(arguments.master_port) > 0, "a free port replaces 0"
    assert environment["ACCELERATE_MIXED_PRECISION"] == EXPECTED[name][3]


def test_multi_node_connects_to_the_first_machine() -> None:
    arguments = _launch_arguments("multi_node", "--machine_rank", "1", "--main_process_ip", "127.0.0.1")
    prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("2", "8", 1)
    assert arguments.rdzv_endpoint == "127.0.0.1:29500"


def test_fsdp2_plugin_has_the_settings_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = _launch_arguments("fsdp2")
    assert arguments.use_fsdp
    for variable, value in prepare_multi_gpu_env(arguments).items():
        if "FSDP" in variable:
            monkeypatch.setenv(variable, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert isinstance(plugin.state_dict_type, Enum)
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert getattr(plugin.auto_wrap_policy, "__name__", "") == "transformer_auto_wrap_policy"
    assert plugin.transformer_cls_names_to_wrap is None
    assert not plugin.cpu_ram_efficient_loading
    assert not plugin.activation_checkpointing


def test_deepspeed_does_not_accumulate_and_clips_as_the_recipe() -> None:
    arguments = _launch_arguments("deepspeed_zero2")
    assert arguments.use_deepspeed
    assert arguments.gradient_accumulation_steps == 1, "the harness accumulates the batches of a step itself"
    assert arguments.gradient_clipping == Recipe().max_grad_norm
