"""One run in processes of its own: accelerate accepts its command, and it stops when its sweep stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from harness.sweeps.launch import LOCKED, RunProcess, launch_command, launch_config, record_stamp, sweep_lock_path
from harness.system.devices import Slot
from harness.system.locks import hold_lock, lock_path

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('signalled', flush=True)); "
WAIT = "print('began', flush=True); time.sleep(60)"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "some.model-seed0-0123456789.json"


def started(record: Path, *program: str, slot: Slot = Slot()) -> RunProcess:  # noqa: B008
    return RunProcess(record, record_stamp(record), record.with_suffix(".log"), slot, [sys.executable, *program])


def wait_for(launched: RunProcess, text: str) -> None:
    until = time.monotonic() + 60
    while text not in launched.output():
        assert time.monotonic() < until, launched.output()
        assert launched.exit_code() is None, launched.output()
        time.sleep(0.02)


def code_of(launched: RunProcess) -> int:
    code = launched.supervisor.wait(timeout=60)
    assert launched.exit_code() == code
    return code


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


def test_run_sees_its_devices_and_threads(record: Path) -> None:
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    launched = started(record, "-c", show, slot=Slot(("2", "5"), 3))
    assert code_of(launched) == 0
    assert "2,5 3" in launched.output()


def test_exit_code_is_passed_on_and_the_log_appended_to(record: Path) -> None:
    assert code_of(started(record, "-c", "print('first')")) == 0
    launched = started(record, "-c", "import sys; print('second'); sys.exit(3)")
    assert code_of(launched) == 3
    assert "second" in launched.output()
    assert "first" not in launched.output()
    assert "first" in launched.log.read_text()
    assert not sweep_lock_path(record).exists()


def test_stop_lets_the_run_finish(record: Path) -> None:
    launched = started(record, "-c", STUBBORN + "print('began', flush=True); time.sleep(0.5); print('saved')")
    wait_for(launched, "began")
    launched.stop()
    assert code_of(launched) == 0
    assert launched.output().split()[-3:] == ["began", "signalled", "saved"]


def test_kill_sends_no_sigterm(record: Path) -> None:
    launched = started(record, "-c", STUBBORN + WAIT)
    wait_for(launched, "began")
    launched.kill()
    assert code_of(launched) != 0
    assert "signalled" not in launched.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_all_processes_is_a_stop_request(record: Path, number: int) -> None:
    """A scheduler sends it to each."""
    launched = started(record, "-c", STUBBORN + "print('began', flush=True); time.sleep(0.3); print('saved')")
    wait_for(launched, "began")
    launched.supervisor.send_signal(number)
    assert code_of(launched) == 0
    assert "saved" in launched.output()


@pytest.mark.parametrize("lock", [sweep_lock_path, lock_path])
def test_locked_run_is_not_started(record: Path, lock: object) -> None:
    with hold_lock(lock(record)):  # type: ignore[operator]
        launched = started(record, "-c", "print('began')")
        assert code_of(launched) == LOCKED
    assert "began" not in launched.output()


def test_run_with_a_new_record_is_not_started(record: Path) -> None:
    stamp = record_stamp(record)
    record.write_text("{}")
    launched = RunProcess(record, stamp, record.with_suffix(".log"), Slot(), [sys.executable, "-c", "print('began')"])
    assert code_of(launched) == LOCKED
    assert record_stamp(record) != stamp


def test_supervisor_loads_no_heavy_library() -> None:
    heavy = {"torch", "pydantic", "numpy", "tyro"}
    program = f"import sys, harness.sweeps.launch; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
