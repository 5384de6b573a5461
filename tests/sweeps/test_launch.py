"""The start of a run: accelerate accepts its command, and its supervisor gets everything in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env

from harness.sweeps.launch import (
    LOG_TAIL_BYTES,
    Start,
    launch_command,
    launch_config,
    launch_environment,
    log_tail,
    record_stamp,
)


@pytest.mark.parametrize("gpus, distributed_type", [(0, "NO"), (1, "NO"), (4, "MULTI_GPU")])
def test_accelerate_accepts_the_command_of_a_run(gpus: int, distributed_type: str, tmp_path: Path) -> None:
    config = tmp_path / "launch.json"
    config.write_text(launch_config(gpus))
    args = launch_command(config, max(1, gpus), 3, ["--task", "rte", "--epochs", "2"])
    assert args[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    parsed = launch_command_parser().parse_args(args[3:])
    assert (parsed.num_processes, parsed.num_cpu_threads_per_process) == (max(1, gpus), 3)
    assert parsed.training_script_args == ["--task", "rte", "--epochs", "2"]
    assert Path(parsed.training_script).is_file()
    assert parsed.main_process_port == (0 if gpus > 1 else None)
    loaded = load_config_from_file(str(config))
    assert (loaded.distributed_type, loaded.use_cpu, loaded.mixed_precision) == (distributed_type, gpus == 0, "no")


@pytest.mark.parametrize("gpus", [0, 1])
def test_environment_of_a_forked_run_is_that_of_the_launcher(
    gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in launch_environment(gpus, 3):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    config = tmp_path / "launch.json"
    config.write_text(launch_config(gpus))
    args = launch_command_parser().parse_args(launch_command(config, 1, 3, ["--task", "rte"])[3:])
    _, environment = prepare_simple_launcher_cmd_env(_validate_launch_command(args)[0])
    assert {name: value for name, value in environment.items() if before.get(name) != value} == launch_environment(
        gpus, 3
    )


def test_start_is_one_line_that_gives_the_same_start() -> None:
    start = Start(
        Path("a/ı\n.json"),
        "12",
        Path("a/ı.log"),
        ["--task", "rte"],
        ["python", "run.py"],
        launch_config(2),
        {"notes": ["\n"]},
    )
    assert "\n" not in start.to_json()
    assert Start.from_json(json.loads(start.to_json())) == start


def test_stamp_changes_with_each_record(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    stamps = [record_stamp(record)]
    for nanoseconds in (1, 2):
        record.write_text("{}")
        os.utime(record, ns=(nanoseconds, nanoseconds))
        stamps.append(record_stamp(record))
    assert len(set(stamps)) == 3


def test_end_of_a_log_begins_where_the_run_began(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert log_tail(log, 0) == ""
    log.write_bytes(b"earlier\xff\n")
    start = log.stat().st_size
    with log.open("ab") as file:
        file.write(b"now \xff")
    assert log_tail(log, start) == "now \ufffd"
    with log.open("ab") as file:
        file.write(b"x" * LOG_TAIL_BYTES)
    assert log_tail(log, start) == "x" * LOG_TAIL_BYTES
