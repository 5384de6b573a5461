"""The supervisor of a run: the run stops with its sweep, and however it ends, its record and the exit code say so."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.sweeps.launch import (
    CONFIG,
    LOCKED,
    MISTAKE,
    STOPPED,
    SUPERVISOR,
    Start,
    launch_config,
    record_stamp,
    sweep_lock_path,
)
from harness.sweeps.tied_supervisors import LaunchedSupervisor, Supervisors, TiedSupervisor
from harness.system.devices import Slot
from harness.system.locks import hold_lock, lock_path

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('signalled', flush=True)); "
WRITE = "open(sys.argv[1], 'w').write('{\"status\": \"ok\"}')"
WAIT = "print('began', flush=True); time.sleep(60)"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "some.model-seed0-0123456789.json"


def start_of(record: Path, *program: str) -> Start:
    command = [sys.executable, *program]
    failure = {"status": "failed", "run_id": "0123456789", "notes": []}
    return Start(record, record_stamp(record), record.with_suffix(".log"), [], command, launch_config(0), failure)


def started(record: Path, *program: str, slot: Slot = Slot()) -> TiedSupervisor:  # noqa: B008
    return Supervisors(len(slot.gpus), slot.threads).start(start_of(record, *program), slot)


def supervisor_of(launched: TiedSupervisor) -> subprocess.Popen[bytes]:
    assert isinstance(launched.process, LaunchedSupervisor), "the command is not that of a run"
    return launched.process.process


def wait_for(launched: TiedSupervisor, text: str) -> None:
    until = time.monotonic() + 60
    while text not in launched.output():
        assert time.monotonic() < until, launched.output()
        assert launched.exit_code() is None, launched.output()
        time.sleep(0.02)


def code_of(launched: TiedSupervisor) -> int:
    code = supervisor_of(launched).wait(timeout=60)
    assert launched.exit_code() == code
    return code


def test_run_sees_its_devices_and_threads(record: Path) -> None:
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
    launched = started(record, "-c", show, slot=Slot(("2", "5"), 3))
    code_of(launched)
    assert "2,5 3" in launched.output()


def test_configuration_is_written_where_the_run_is(record: Path) -> None:
    launched = started(record, "-c", "import sys; print(open(sys.argv[1]).read())", CONFIG)
    code_of(launched)
    assert launch_config(0) in launched.output()


def test_exit_code_is_passed_on_and_the_log_appended_to(record: Path) -> None:
    code_of(started(record, "-c", "print('first')"))
    launched = started(record, "-c", "import sys; print('second'); sys.exit(3)")
    assert code_of(launched) == 3
    assert "second" in launched.output()
    assert "first" not in launched.output()
    assert "first" in launched.start.log.read_text()
    assert not sweep_lock_path(record).exists()


def test_run_that_writes_another_record_is_no_failure(record: Path) -> None:
    """Its task, rows or model have changed since it was planned, and so has its run_id."""
    launched = started(record, "-c", "print('another.json')")
    assert code_of(launched) == MISTAKE
    assert re.search(r"another.json\nerror: .* changed .* another run ID", launched.output())
    assert not record.exists()


def test_stop_lets_the_run_finish(record: Path) -> None:
    launched = started(record, "-c", STUBBORN + "print('began', flush=True); time.sleep(0.5); print('saved')")
    wait_for(launched, "began")
    launched.stop()
    assert code_of(launched) == STOPPED
    assert launched.output().split()[-3:] == ["began", "signalled", "saved"]


def test_signal_that_killed_the_run_is_in_its_record(record: Path) -> None:
    launched = started(record, "-c", "import os; print('began', flush=True); os.kill(os.getpid(), 9)")
    assert code_of(launched) == 1
    written = json.loads(record.read_text())
    assert "SIGKILL" in written["error"]
    assert "began" in written["notes"][-1]


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
    supervisor_of(launched).send_signal(number)
    assert code_of(launched) == STOPPED
    assert "saved" in launched.output()
    assert not record.exists()


@pytest.mark.parametrize("lock", [sweep_lock_path, lock_path])
def test_locked_run_is_not_started(record: Path, lock: object) -> None:
    with hold_lock(lock(record)):  # type: ignore[operator]
        launched = started(record, "-c", "print('began')")
        assert code_of(launched) == LOCKED
    assert "began" not in launched.output()


@pytest.mark.parametrize("status, code", [("ok", 0), ("diverged", 0), ("failed", 1)])
def test_run_with_a_new_record_is_not_started(record: Path, status: str, code: int) -> None:
    start = start_of(record, "-c", "print('began')")
    record.write_text(json.dumps({"status": status}))
    launched = Supervisors(0, 1).start(start, Slot())
    assert code_of(launched) == code, "only a run that somebody works on is locked"
    assert json.loads(record.read_text()) == {"status": status}
    assert "began" not in launched.output()


def test_run_that_dies_gets_its_failed_record_from_its_supervisor(record: Path) -> None:
    launched = started(record, "-c", "import sys; print('token hf_abcdefghijkl'); sys.exit('it broke')")
    assert code_of(launched) == 1
    written = json.loads(record.read_text())
    assert (written["status"], written["run_id"]) == ("failed", "0123456789")
    assert "it broke" in written["error"]
    assert "token ***\nit broke" in written["notes"][-1]
    assert written["started"] <= written["finished"]


@pytest.mark.parametrize(
    "program, code, left",
    [
        (f"{WRITE}; sys.exit(1)", 0, {"status": "ok"}),
        (f"{WRITE}; os.kill(os.getpid(), 9)", 0, {"status": "ok"}),
        ("print('error: --tracker x: not installed'); sys.exit(2)", MISTAKE, None),
        ("print('subprocess.CalledProcessError: it returned non-zero exit status 2.'); sys.exit(1)", MISTAKE, None),
        ("print('  exitcode  : 2 (pid: 17)'); sys.exit(1)", MISTAKE, None),
    ],
)
def test_finished_record_stays_and_a_mistake_leaves_none(
    record: Path, program: str, code: int, left: dict[str, str] | None
) -> None:
    assert code_of(started(record, "-c", f"import os, sys; {program}", str(record))) == code
    assert (json.loads(record.read_text()) if record.exists() else None) == left


def test_failed_repeat_keeps_the_finished_record(record: Path) -> None:
    record.write_text('{"status": "ok"}')
    assert code_of(started(record, "-c", "import sys; sys.exit(3)")) == 3
    assert record.read_text() == '{"status": "ok"}'


def test_failed_record_of_the_run_gets_the_lines_of_its_log(record: Path) -> None:
    program = f"import sys; {WRITE.replace('ok', 'failed')}; sys.exit('it broke')"
    assert code_of(started(record, "-c", program, str(record))) == 1
    written = json.loads(record.read_text())
    assert written["status"] == "failed"
    assert "error" not in written, "that of the supervisor has one"
    assert "it broke" in written["notes"][0]


def test_supervisor_that_is_not_tied_outlives_its_standard_input(record: Path) -> None:
    """In a batch job, standard input ends at once."""
    start = start_of(record, "-c", f"import sys, time; time.sleep(1); {WRITE}", str(record))
    done = subprocess.run([sys.executable, str(SUPERVISOR)], input=start.to_json(), text=True, timeout=60)
    assert (done.returncode, record.exists()) == (0, True)


def test_supervisor_loads_no_heavy_library() -> None:
    heavy = {"torch", "pydantic", "numpy", "tyro"}
    program = f"import sys, harness.sweeps.supervisor; print(sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
