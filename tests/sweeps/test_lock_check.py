"""A lock that is held on another machine must be seen here; one that is not ends the sweep."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from support.fake_run import command_in
from sweeps.test_scheduler import OneSlot

from harness.commands.sweep import read_options
from harness.errors import UserError
from harness.sweeps import lock_check
from harness.sweeps.estimates import Estimate
from harness.sweeps.jobs import Job
from harness.sweeps.launch import sweep_lock_path
from harness.sweeps.lock_check import LockCheck
from harness.sweeps.plan import expand
from harness.sweeps.scheduler import Scheduler
from harness.system.locks import hold_lock
from harness.system.signals import StopRequest


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_check, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(lock_check, "FREE_SECONDS", 0.2)


def unshare(lock: Path) -> None:
    """Gives this machine a lock file of its own: so a mount without shared locks looks."""
    copy = lock.with_suffix(".copy")
    shutil.copyfile(lock, copy)
    copy.replace(lock)


def check_for(check: LockCheck, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check.check()
        time.sleep(0.01)


def test_lock_that_is_seen_held_passes_for_good(tmp_path: Path) -> None:
    check = LockCheck(tmp_path / "run.json")
    with hold_lock(check.path):
        check.check()
    assert check.is_passed


def test_lock_with_a_holder_that_is_free_here_is_an_error_that_names_it(tmp_path: Path) -> None:
    check = LockCheck(tmp_path / "run.json")
    with hold_lock(check.path):
        unshare(check.path)
        with pytest.raises(UserError, match=str(check.path)):
            check_for(check, 2)


def test_holder_that_was_killed_before_the_start_is_no_error(tmp_path: Path) -> None:
    path = sweep_lock_path(tmp_path / "run.json")
    path.touch()
    path.with_suffix(".holder").write_text("killed")
    check = LockCheck(tmp_path / "run.json")
    check_for(check, 0.5)
    assert not check.is_passed


def test_run_that_ends_between_two_checks_is_no_error(tmp_path: Path) -> None:
    check = LockCheck(tmp_path / "run.json")
    with hold_lock(check.path):
        unshare(check.path)
        check.check()
    check_for(check, 0.5)
    assert not check.is_passed


def test_sweep_stops_its_runs_and_ends_with_the_error(tmp_path: Path) -> None:
    args = ["--tasks", "rte", "--seeds", "0", "--test-mode", "--results", str(tmp_path / "results")]
    (run,) = expand(read_options(args)[1])
    (tmp_path / "rte-0").write_text("wait")
    lock = sweep_lock_path(run.path)
    lock.parent.mkdir(parents=True)
    scheduler = Scheduler([Job(run, Estimate(None, "", 0), 1.0, False, False)], OneSlot(), command_in(tmp_path))
    check, is_unshared = LockCheck.check, False

    def check_unshared(self: LockCheck) -> None:
        nonlocal is_unshared
        if lock.with_suffix(".holder").exists() and not is_unshared:
            is_unshared = True
            unshare(lock)
        check(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LockCheck, "check", check_unshared)
        with pytest.raises(UserError, match=str(lock)):
            list(scheduler.events(StopRequest()))
    assert [job.run for job in scheduler.in_state("waiting")] == [run]
    assert not run.path.exists()
    assert not lock.with_suffix(".holder").exists()
