"""Locks: one holder at a time, told apart from one that was killed."""

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


def test_the_second_is_told_who_holds_it(holder, tmp_path):
    with (
        pytest.raises(UserError, match=rf"going on already, by process {holder.pid} on .* since"),
        hold_lock(tmp_path / ".run.lock"),
    ):
        pass


def test_a_killed_holder_does_not_keep_it(holder, tmp_path):
    holder.kill()
    holder.wait()
    with hold_lock(tmp_path / ".run.lock"):
        pass


@pytest.mark.parametrize("failure", [NotImplementedError("flock"), OSError(37, "No locks available")])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, failure):
    def refuse(self, **options):
        raise failure

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=r"has no locks.*--results"), hold_lock(tmp_path / ".run.lock"):
        pass


def test_nothing_is_left_behind(tmp_path):
    with hold_lock(tmp_path / "deep" / ".run.lock"):
        pass
    assert list((tmp_path / "deep").iterdir()) == []


def test_other_runs_share_the_folder(holder, tmp_path):
    with hold_lock(tmp_path / ".other.lock"):
        pass
