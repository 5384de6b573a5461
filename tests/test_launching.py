"""One run as processes of its own: accelerate understands what starts it, and it ends with whoever asked for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from harness.sweeps.launch import IS_HELD, Launched, launch_config, launch_words, stamp, sweep_lock_of
from harness.system.devices import Slot
from harness.system.locks import hold_lock, lock_of

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True)); "
WAIT = "print('began', flush=True); time.sleep(60)"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "some.model-seed0-0123456789.json"


def started(record: Path, *program: str, slot: Slot = Slot()) -> Launched:  # noqa: B008
    return Launched(record, stamp(record), record.with_suffix(".log"), slot, [sys.executable, *program])


def wait_for(launched: Launched, word: str) -> None:
    until = time.monotonic() + 60
    while word not in launched.printed():
        assert time.monotonic() < until, launched.printed()
        assert launched.ended() is None, launched.printed()
        time.sleep(0.02)


def code_of(launched: Launched) -> int:
    code = launched.minder.wait(timeout=60)
    assert launched.ended() == code
    return code


@pytest.mark.parametrize("gpus, kind", [(0, "NO"), (1, "NO"), (4, "MULTI_GPU")])
def test_accelerate_understands_what_starts_a_run(gpus: int, kind: str, tmp_path: Path) -> None:
    config = tmp_path / "launch.json"
    config.write_text(launch_config(gpus))
    words = launch_words(config, max(1, gpus), 3, ["--task", "rte", "--epochs", "2"])
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    asked = launch_command_parser().parse_args(words[3:])
    assert (asked.num_processes, asked.num_cpu_threads_per_process) == (max(1, gpus), 3)
    assert asked.training_script_args == ["--task", "rte", "--epochs", "2"]
    assert Path(asked.training_script).is_file()
    assert asked.main_process_port == (0 if gpus > 1 else None)
    loaded = load_config_from_file(str(config))
    assert (loaded.distributed_type, loaded.use_cpu, loaded.mixed_precision) == (kind, gpus == 0, "no")


def test_run_sees_its_devices_and_threads(record: Path) -> None:
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    launched = started(record, "-c", show, slot=Slot(("2", "5"), 3))
    assert code_of(launched) == 0
    assert "2,5 3" in launched.printed()


def test_its_exit_code_is_told_and_its_log_is_added_to(record: Path) -> None:
    assert code_of(started(record, "-c", "print('first')")) == 0
    launched = started(record, "-c", "import sys; print('second'); sys.exit(3)")
    assert code_of(launched) == 3
    assert "second" in launched.printed()
    assert "first" not in launched.printed()
    assert "first" in launched.log.read_text()
    assert not sweep_lock_of(record).exists()


def test_stop_asks_and_waits_until_it_has_ended(record: Path) -> None:
    launched = started(record, "-c", STUBBORN + "print('began', flush=True); time.sleep(0.5); print('saved')")
    wait_for(launched, "began")
    launched.stop()
    assert code_of(launched) == 0
    assert launched.printed().split()[-3:] == ["began", "asked", "saved"]


def test_kill_asks_nothing(record: Path) -> None:
    launched = started(record, "-c", STUBBORN + WAIT)
    wait_for(launched, "began")
    launched.kill()
    assert code_of(launched) != 0
    assert "asked" not in launched.printed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_all_processes_is_a_wish_to_stop(record: Path, number: int) -> None:
    """A scheduler sends it to each."""
    launched = started(record, "-c", STUBBORN + "print('began', flush=True); time.sleep(0.3); print('saved')")
    wait_for(launched, "began")
    launched.minder.send_signal(number)
    assert code_of(launched) == 0
    assert "saved" in launched.printed()


@pytest.mark.parametrize("lock", [sweep_lock_of, lock_of])
def test_run_that_somebody_has_in_hand_is_not_started(record: Path, lock: object) -> None:
    with hold_lock(lock(record)):  # type: ignore[operator]
        launched = started(record, "-c", "print('began')")
        assert code_of(launched) == IS_HELD
    assert "began" not in launched.printed()


def test_run_whose_record_was_written_meanwhile_is_not_started(record: Path) -> None:
    seen = stamp(record)
    record.write_text("{}")
    launched = Launched(record, seen, record.with_suffix(".log"), Slot(), [sys.executable, "-c", "print('began')"])
    assert code_of(launched) == IS_HELD
    assert stamp(record) != seen


def test_minder_loads_no_heavy_library() -> None:
    heavy = {"torch", "pydantic", "numpy", "tyro"}
    program = f"import sys, harness.sweeps.launch; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
