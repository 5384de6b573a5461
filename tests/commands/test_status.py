"""The status of a results folder: what runs, what has stopped, and that looking disturbs no run."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import run_harness
from support.fake_run import command_in
from support.processes import wait_until
from support.records import finished_record, minimal_record, run_spec

from harness.engine.progress import Progress, ProgressFile, ProgressSummary
from harness.facts.records import read_records, record_path, write_record
from harness.facts.tasks import load_task
from harness.requests.identity import identify
from harness.requests.options import parse_options
from harness.sweeps import unfinished
from harness.sweeps.launch import CONFIG, Start, launch_config, record_stamp, sweep_lock_path
from harness.sweeps.tied_supervisors import LaunchedSupervisor
from harness.sweeps.unfinished import RunKey, run_statuses
from harness.system.locks import hold_lock, is_free, lock_path, progress_path

LOCK = """
import sys, pathlib
from harness.system.locks import hold_lock
with hold_lock(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""

SPEC = run_spec()
Status = Callable[..., list[str]]

KEY = RunKey(SPEC.task, SPEC.run_id)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The path of the record that the run of SPEC will write."""
    path = record_path(tmp_path, *KEY)
    path.parent.mkdir(parents=True)
    return path


@contextmanager
def locked_by_another(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is killed."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", LOCK, str(lock)], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def write_holder(lock: Path) -> None:
    """Leaves the files of a lock whose holder was killed."""
    lock.touch()
    facts = {"process": 1, "host": "node", "since": "2026-01-02T03:04:05+00:00"}
    lock.with_suffix(".holder").write_text(json.dumps(facts))


def save_checkpoint(results: Path, step: int, total_steps: int = 300) -> None:
    folder = results / "checkpoints" / KEY.task / KEY.run_id / f"step-{step:08d}"
    folder.mkdir(parents=True)
    summary = ProgressSummary(spec=SPEC, step=step, total_steps=total_steps, train_seconds=step / 2, loss=0.25)
    (folder / "manifest.json").write_text(json.dumps({"summary": summary.model_dump(mode="json")}))


@pytest.fixture
def status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Status:
    """The lines that the command prints, without the head of the table."""

    def show(results: Path = tmp_path) -> list[str]:
        run_harness("status", "--results", results)
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()][1:]

    return show


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The locks that are checked, each of which is taken for a moment if it is free."""
    paths: list[Path] = []

    def check(path: Path) -> bool | None:
        paths.append(path)
        return is_free(path)

    monkeypatch.setattr(unfinished, "is_free", check)
    return paths


@pytest.mark.parametrize("lock_of", [lock_path, sweep_lock_path])
def test_run_that_another_process_has_locked_is_running_until_it_is_killed(
    status: Status, record: Path, lock_of: Callable[[Path], Path]
) -> None:
    with locked_by_another(lock_of(record)) as process:
        for _ in range(2):
            (line, _) = status()
            assert line.startswith(f"rte bert 1 running process {process.pid} on ")
    assert status() == ["0 finished (0 diverged), 0 failed."]


def test_supervised_run_is_running_then_done(tmp_path: Path, status: Status) -> None:
    results = tmp_path / "test-mode"
    args = ["--task", "rte", "--seed", "3", "--test-mode", "--results", str(tmp_path)]
    run_id = identify(load_task("rte"), None, parse_options(args)).run_id
    record, log = record_path(results, "rte", run_id), results / "logs" / "rte" / f"{run_id}.log"
    (tmp_path / "rte-3").write_text("wait")
    command = command_in(tmp_path)(Path(CONFIG), 1, 1, args)
    launched = LaunchedSupervisor(Start(record, record_stamp(record), log, args, command, launch_config(0), {}), {})
    wait_until((tmp_path / "starts").exists)
    assert f"rte tiny-bert 3 running process {launched.process.pid} on " in status(results)[0]
    (tmp_path / "rte-3").unlink()
    assert launched.process.wait(timeout=60) == 0
    assert status(results) == ["1 finished (0 diverged), 0 failed."]
    (earlier,) = run_statuses(results, read_records(results).records, [RunKey("rte", run_id)])
    assert earlier.state == "done"


@pytest.mark.parametrize("loss, shown", [(0.5, "0.5000"), (2.5e6, "2.50e+06")])
def test_step_loss_and_time_are_those_of_the_progress_file(
    status: Status, record: Path, loss: float, shown: str
) -> None:
    progress = Progress(SPEC.recipe)
    progress.step, progress.train_seconds, progress.loss_sum, progress.interval_rows = 100, 50.0, 64 * loss, 64
    progress.setup_seconds, progress.seconds_before = 10.0, 90.0  # 30 s of evaluations
    with hold_lock(lock_path(record)), (file := ProgressFile(record, SPEC)):
        file.written_at = 0.0
        file.write(progress, 300)
        assert status()[0].endswith(f"100 of 300 {shown} 3 min")
    assert not progress_path(record).exists()


def test_run_without_a_step_has_the_estimate_of_its_records(status: Status, record: Path) -> None:
    write_record(finished_record(seed=2), record.parents[2])
    with hold_lock(lock_path(record)), ProgressFile(record, SPEC):
        line, _ = status()
    assert line.endswith(("min", " s"))
    assert " of " not in line


def test_resumed_run_has_the_step_of_its_checkpoint_until_it_takes_one(
    tmp_path: Path, status: Status, record: Path
) -> None:
    save_checkpoint(tmp_path, 120)
    with hold_lock(lock_path(record)), ProgressFile(record, SPEC):
        line, _ = status()
    assert "running" in line
    assert "120 of 300" in line


def test_stopped_run_has_the_step_of_its_newest_checkpoint(tmp_path: Path, status: Status, record: Path) -> None:
    save_checkpoint(tmp_path, 90)
    save_checkpoint(tmp_path, 120)
    (line, _) = status()
    assert line.startswith("rte bert 1 stopped with a checkpoint 20")
    assert line.endswith("120 of 300 0.2500 2 min")


def test_run_with_a_log_alone_has_stopped(tmp_path: Path, status: Status, record: Path) -> None:
    (tmp_path / "logs" / "rte").mkdir(parents=True)
    (tmp_path / "logs" / "rte" / f"{KEY.run_id}.log").touch()
    assert status()[0].startswith("rte bert 1 stopped 20")


def test_records_are_counted_and_a_failed_run_with_a_log_is_shown(tmp_path: Path, status: Status, record: Path) -> None:
    outcomes = ["ok", "collapsed", "diverged", "failed"]
    for seed, outcome in enumerate(outcomes, start=1):
        spec = run_spec(seed=seed)
        write_record(minimal_record(spec=spec, status=outcome), tmp_path)
        log = tmp_path / "logs" / "rte" / f"{spec.run_id}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    line, counts = status()
    assert line == "rte bert 4 failed 2026-01-02 03:08"
    assert counts == "3 finished (1 diverged), 1 failed."


def test_failed_run_that_was_started_by_hand_has_no_log_and_is_shown(
    tmp_path: Path, status: Status, record: Path
) -> None:
    write_record(minimal_record(spec=SPEC, status="failed"), tmp_path)
    line, counts = status()
    assert line.startswith("rte bert 1 failed 2026-")
    assert counts == "0 finished (0 diverged), 1 failed."


def test_lock_that_is_about_to_be_taken_is_not_checked(status: Status, record: Path, checks: list[Path]) -> None:
    """It has no holder yet."""
    sweep_lock_path(record).touch()
    with locked_by_another(lock_path(record)):
        assert "running" in status()[0]
    assert checks == [lock_path(record)]


def test_folder_that_cannot_be_written_is_believed(
    status: Status, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_holder(lock_path(record))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "process 1 on node" in status()[0]
    assert lock_path(record).exists()


@pytest.mark.parametrize("lock_of", [lock_path, sweep_lock_path])
def test_free_lock_with_a_holder_is_left(status: Status, record: Path, lock_of: Callable[[Path], Path]) -> None:
    """It may be held on another machine, where locks are not shared; a sweep finds that by the holder."""
    write_holder(lock_of(record))
    assert status() == ["0 finished (0 diverged), 0 failed."]
    assert lock_of(record).exists()
    assert lock_of(record).with_suffix(".holder").exists()


def test_lock_of_a_run_that_a_sweep_starts_is_not_checked(status: Status, record: Path, checks: list[Path]) -> None:
    """A killed run has left its lock, and its supervisor starts it again."""
    write_holder(lock_path(record))
    with locked_by_another(sweep_lock_path(record)):
        assert "running" in status()[0]
        assert checks == [sweep_lock_path(record)]
    status()
    assert lock_path(record) in checks


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"summary": {"step": -1}}', '{"summary": 3}', "[" * 100_000])
def test_unreadable_progress_is_none(tmp_path: Path, status: Status, record: Path, content: str) -> None:
    save_checkpoint(tmp_path, 120)
    (manifest,) = tmp_path.glob("checkpoints/*/*/*/manifest.json")
    manifest.write_text(content)
    with hold_lock(lock_path(record)):
        progress_path(record).write_text(content)
        assert "running" in status()[0]
    assert "stopped with a checkpoint" in status()[0]


def test_unreadable_record_is_counted_and_named(
    tmp_path: Path, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_text("{")
    run_harness("status", "--results", tmp_path)
    output = capsys.readouterr()
    assert output.out.endswith("0 failed, 1 unreadable.\n")
    assert str(record) in output.err


@pytest.mark.parametrize("fault", ["missing", "file", "empty", "no-terminal"])
def test_bad_input_ends_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "no-terminal" / "runs").mkdir(parents=True)
    run_harness("status", "--results", tmp_path / fault, *(["--watch"] if fault == "no-terminal" else []), code=2)
    assert capsys.readouterr().err.count("\n") == 1


def test_folder_of_test_mode_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test-mode").mkdir()
    run_harness("status", "--results", tmp_path, code=2)
    assert str(tmp_path / "test-mode") in capsys.readouterr().err


def test_watch_shows_the_folder_until_ctrl_c(tmp_path: Path, record: Path) -> None:
    save_checkpoint(tmp_path, 120)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "harness", "status", "--watch", "--results", str(tmp_path)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True, preexec_fn=_own_terminal
    )
    os.close(end)
    output = b""
    while b"120 of 300" not in output:
        output += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    assert process.wait(timeout=60) == 130
    os.close(terminal)


def _own_terminal() -> None:
    """Makes standard input the terminal from which Ctrl-C comes."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
