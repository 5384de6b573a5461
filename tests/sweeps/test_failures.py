"""The lines of a log that a failed record keeps: no launcher traceback, folders of this machine or secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.commands.sweep import read_options
from harness.sweeps.failures import (
    LAST_LINES,
    exit_code_of_run,
    last_lines,
    remove_leftovers,
    user_error,
    write_failure,
)
from harness.sweeps.launch import Start
from harness.sweeps.plan import expand
from harness.system.locks import progress_path

LAUNCHER = """\
error: --model a/b: cannot be loaded
Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/accelerate/commands/launch.py", line 1, in <module>
    main()
subprocess.CalledProcessError: Command '['/usr/bin/python3', 'run.py', '--task', 'rte']' {ending}.
"""


@pytest.mark.parametrize("ending", ["returned non-zero exit status 2", "died with <Signals.SIGKILL: 9>"])
def test_launchers_traceback_becomes_one_line(ending: str) -> None:
    assert last_lines(LAUNCHER.format(ending=ending)) == [
        "error: --model a/b: cannot be loaded",
        f"(the launcher: {ending})",
    ]


TORCHRUN = """\
error: --model a/b: cannot be loaded
Try another one.
W1128 14:25:51.062000 5 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 236 signal SIGTERM
E1128 14:25:51.080000 5 .venv/torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 2) local_rank: 0
Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/accelerate/commands/launch.py", line 1029, in multi_gpu_launcher
    distrib_run.run(args)
  File "/usr/lib/python3/site-packages/torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
harness/run.py FAILED
------------------------------------------------------------
Failures:
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : -15 (pid: 237)  (SIGTERM)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {ending} (pid: 236)
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""


@pytest.mark.parametrize("ending", ["2", "-9"])
def test_report_of_several_processes_becomes_one_line(ending: str) -> None:
    output = TORCHRUN.format(ending=ending)
    assert last_lines(output)[1:] == ["Try another one.", f"(the launcher: exit code {ending})"]
    assert user_error(output) == "--model a/b: cannot be loaded\nTry another one."


def test_own_traceback_stays() -> None:
    own = 'Traceback (most recent call last):\n  File "x.py", line 1\n    y()\nRuntimeError: no\n'
    assert last_lines(own + LAUNCHER.format(ending="returned non-zero exit status 1"))[:4] == own.splitlines()


def test_only_the_end_is_kept() -> None:
    lines = last_lines("\n".join(f"line {number}" for number in range(100)))
    assert len(lines) == LAST_LINES
    assert lines[-1] == "line 99"
    assert last_lines("") == []


def test_no_folder_of_this_machine_is_kept() -> None:
    root = Path(__file__).resolve().parents[2]
    output = f'File "{root}/harness/run.py", line 1\nin {Path.home()}/models/mine\nat {Path.cwd()}/results'
    assert last_lines(output) == ['File "harness/run.py", line 1', "in ~/models/mine", "at results"]


def test_home_folder_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is for a user without an entry and without HOME, as in some containers."""

    def refuse(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", refuse)
    assert last_lines("in ~/models/mine") == ["in ~/models/mine"]


def test_redrawn_lines_are_shown_as_they_were_last_and_secrets_never() -> None:
    assert last_lines("10 %\r50 %\r100 %\n\nhf_abcdefghijkl") == ["100 %", "***"]


SRUN = """\
error: --tracker nosuch: not installed.
[process 1] error: --tracker nosuch: not installed.
srun: error: n1: task 0: Exited with exit code 2
srun: launch/slurm: _step_signal: Terminating StepId=27.0
slurmstepd-n2: error: *** STEP 27.0 ON n1 CANCELLED AT 2026-11-26T18:51:57 ***
srun: error: n2: task 1: Terminated
"""


def test_mistake_on_several_nodes_is_told_whatever_becomes_of_the_other_processes() -> None:
    assert exit_code_of_run(143, SRUN) == 2
    assert user_error(SRUN) == "--tracker nosuch: not installed."


def test_run_that_dies_on_several_nodes_is_recorded_with_the_task_that_died_first(tmp_path: Path) -> None:
    killed = (
        SRUN[SRUN.index("srun:") :].replace("Exited with exit code 2", "Killed") + "srun: Force Terminated StepId=27.0"
    )
    start = Start(tmp_path / "run.json", "none", tmp_path / "log", [], [], "", {"status": "failed"})
    write_failure(start, killed, datetime.now(UTC))
    assert json.loads(start.record.read_text())["error"].endswith("srun: error: n1: task 0: Killed")


def test_leftovers_of_another_user_that_cannot_be_removed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    args = ["--tasks", "rte", "--test-mode", "--results", str(tmp_path)]
    (run,) = expand(read_options(args)[1])
    leftover = progress_path(run.path)
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    monkeypatch.setattr(Path, "unlink", refuse)
    remove_leftovers(run)
    assert leftover.exists()
