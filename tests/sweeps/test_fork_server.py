"""Runs forked from a fork server: they are those of the launcher, and none of them can harm another."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest
import torch
from support.processes import leftovers, outcome_of, wait_until

from harness.api import run as run_here
from harness.commands.sweep import read_options
from harness.facts.records import read_record
from harness.sweeps.launch import CONFIG, MISTAKE, STOPPED, Start, launch_command, launch_config, record_stamp
from harness.sweeps.plan import expand
from harness.sweeps.tied_supervisors import ForkedSupervisor, LaunchedSupervisor, Supervisors, TiedSupervisor
from harness.system.devices import Slot

SHORT = ("--max-steps", "6", "--select", "last")
LONG = ("--epochs", "200", "--checkpoint-every", "1")

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system does not fork")


class SlotOfRank7(Slot):
    """A slot with a variable that a run prints."""

    environment = {"RANK": "7"}  # noqa: RUF012


@pytest.fixture(scope="module")
def supervisors() -> Supervisors:
    return Supervisors(0, torch.get_num_threads())


def start_of(results: Path, *args: str, seed: int = 0) -> Start:
    args = ("--tasks", "wnli", "--seeds", str(seed), "--test-mode", "--results", str(results), *args)
    (run,) = expand(read_options(args)[1])
    command = launch_command(Path(CONFIG), 1, torch.get_num_threads(), run.args)
    failure = {"status": "failed", "run_id": run.run_id, "notes": []}
    return Start(run.path, record_stamp(run.path), run.log_path, run.args, command, launch_config(0), failure)


def code_of(run: TiedSupervisor) -> int:
    wait_until(lambda: run.exit_code() is not None, 120, run.output)
    code = run.exit_code()
    assert code is not None
    return code


def process_of(run: TiedSupervisor) -> psutil.Process:
    """The process of the run itself, once it has trained an epoch."""
    wait_until(lambda: re.search(r"^ +1 ", run.output(), re.MULTILINE), 120, run.output)
    forked = run.process
    assert isinstance(forked, ForkedSupervisor)
    assert run.exit_code() is None
    (process,) = psutil.Process(int(forked.received)).children()
    return process


def test_forked_run_has_the_record_of_a_run_by_itself(supervisors: Supervisors, tmp_path: Path) -> None:
    start = start_of(tmp_path / "forked", *SHORT)
    run = supervisors.start(start, Slot())
    assert code_of(run) == 0, run.output()
    assert isinstance(run.process, ForkedSupervisor)
    here = run_here("wnli", seed=0, test_mode=True, results=tmp_path / "here", max_steps=6, select="last")
    alone = tmp_path / "here" / "test-mode" / "runs" / "wnli" / start.record.name
    assert outcome_of(start.record) == outcome_of(alone)
    assert read_record(start.record).environment == here.environment
    assert leftovers(tmp_path / "forked") == []


def test_run_that_crashes_leaves_a_failed_record_and_harms_no_other(supervisors: Supervisors, tmp_path: Path) -> None:
    crashes = supervisors.start(start := start_of(tmp_path, *LONG), Slot())
    other = supervisors.start(start_of(tmp_path, *SHORT, seed=1), Slot())
    process_of(crashes).send_signal(signal.SIGSEGV)
    assert code_of(crashes) == 1
    record = json.loads(start.record.read_text())
    assert record["status"] == "failed"
    assert "SIGSEGV" in record["error"]
    assert "wnli, tiny-bert, seed 0" in record["notes"][-1]
    assert code_of(other) == 0, other.output()


def test_stopped_run_saves_a_checkpoint_and_resumes(supervisors: Supervisors, tmp_path: Path) -> None:
    start = start_of(tmp_path, "--epochs", "30", "--checkpoint-every", "1000")
    run = supervisors.start(start, Slot())
    process_of(run)
    run.stop()
    assert code_of(run) == STOPPED
    assert not start.record.exists()
    again = supervisors.start(start, Slot())
    wait_until(lambda: "resuming after" in again.output(), 120, again.output)
    again.kill()
    assert code_of(again) == 1


@pytest.mark.parametrize("has_read", [True, False])
def test_run_stops_when_its_sweep_is_gone(supervisors: Supervisors, tmp_path: Path, has_read: bool) -> None:
    """What the sweep has not read makes the end of their connection an error."""
    run = supervisors.start(start_of(tmp_path, *LONG), Slot())
    assert isinstance(run.process, ForkedSupervisor)
    assert supervisors.server is not None
    wait_until(lambda: re.search(r"^ +1 ", run.output(), re.MULTILINE), 120, run.output)
    if has_read:
        assert run.exit_code() is None
    processes = psutil.Process(supervisors.server.process.pid).children(recursive=True)
    run.process.connection.close()  # as the system does when the sweep is killed
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert "stopped by SIGTERM" in run.output()


def test_kill_ends_the_run_at_once(supervisors: Supervisors, tmp_path: Path) -> None:
    run = supervisors.start(start_of(tmp_path, *LONG), Slot())
    process = process_of(run)
    run.kill()
    assert code_of(run) == 1
    assert not process.is_running()
    assert "stopped by" not in run.output()


def test_mistake_is_that_of_the_run_and_environment_is_its_own(supervisors: Supervisors, tmp_path: Path) -> None:
    start = start_of(tmp_path, "--tracker", "nosuch")
    run = supervisors.start(start, Slot())
    assert code_of(run) == MISTAKE
    assert re.search(r"^error: .*nosuch", run.output(), re.MULTILINE)
    run = supervisors.start(start, SlotOfRank7())
    assert code_of(run) == MISTAKE
    assert "[process 7] error: " in run.output()
    assert not start.record.exists()


def test_fork_server_ends_with_its_sweep_and_later_runs_are_launched(supervisors: Supervisors, tmp_path: Path) -> None:
    assert supervisors.server is not None
    supervisors.server.requests.shutdown(socket.SHUT_WR)  # as the system does when the sweep is killed
    assert supervisors.server.process.wait(timeout=60) == 0
    run = supervisors.start(start_of(tmp_path, *SHORT), Slot())
    assert run.exit_code() is None
    assert isinstance(run.process, LaunchedSupervisor)
    run.stop()
    assert code_of(run) == STOPPED
