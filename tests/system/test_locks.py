"""Locks: one holder at a time, and a killed holder keeps no lock."""

import errno
import os
import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.system.locks import hold_lock

HOLD = """
import sys, time, pathlib
from harness.system.locks import hold_lock
with hold_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".run.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_process_learns_who_holds_the_lock(holder, tmp_path):
    with pytest.raises(UserError, match=rf"{holder.pid} on .* since"), hold_lock(tmp_path / ".run.lock"):
        pass


def test_killed_holder_keeps_no_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    with hold_lock(tmp_path / ".run.lock"):
        pass


@pytest.mark.parametrize("failure", [NotImplementedError("flock"), OSError(37, "No locks available")])
def test_file_system_without_locks_is_refused(tmp_path, monkeypatch, failure):
    def refuse(self, **options):
        raise failure

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=r"cannot be locked.*--results"), hold_lock(tmp_path / ".run.lock"):
        pass


def test_full_disk_is_named_as_the_cause_and_leaves_no_lock(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for function in ("pathlib.Path.write_text", "filelock.FileLock.acquire"):
        with monkeypatch.context() as patched:
            patched.setattr(function, fail)
            with pytest.raises(UserError, match=r"run.*no space left.*--results"), hold_lock(tmp_path / ".run.lock"):
                pass
        assert list(tmp_path.iterdir()) == []


def test_no_file_is_left_behind(tmp_path):
    with hold_lock(tmp_path / "deep" / ".run.lock"):
        pass
    assert list((tmp_path / "deep").iterdir()) == []


def test_other_runs_in_the_folder_are_not_locked(holder, tmp_path):
    with hold_lock(tmp_path / ".other.lock"):
        pass
