"""What a record says of where a run ran: versions and devices, the harness's commit, and no names."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from harness.engine import provenance
from harness.engine.provenance import PACKAGES, device_name, git_state, peak_bytes, peaks, surroundings, versions
from harness.facts.records import Environment

CPU = torch.device("cpu")


def test_versions_are_those_installed() -> None:
    assert set(versions()) == {"harness", *PACKAGES}
    assert versions()["torch"] == importlib.metadata.version("torch")


def test_device_has_a_name_and_memory_a_size() -> None:
    assert device_name(CPU)
    assert 2**20 < peak_bytes(CPU) < 2**40


def test_surroundings_fill_the_record_and_name_nobody() -> None:
    told = surroundings(Accelerator(cpu=True))
    environment = Environment(precision="fp32", device_batch_size=8, accumulation=1, eval_batch_size=8, **told)
    assert (environment.processes, len(environment.devices), environment.distributed) == (1, 1, "NO")
    assert environment.python == platform.python_version()
    text = json.dumps(told)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert len(user := getpass.getuser()) < 3 or f'"{user}"' not in text


def test_memory_is_told_of_each_process() -> None:
    (mine,) = peaks(Accelerator(cpu=True))
    assert mine > 2**20


# -- the harness's commit ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the module takes for the one it lies in."""
    module = tmp_path / "harness" / "engine" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def git(checkout: Path, *words: str) -> str:
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *person, *words], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_is_that_of_the_checkout_and_says_whether_files_were_changed(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state() == (commit, False)
    (checkout / "results.json").write_text("a file of nobody's")
    assert git_state() == (commit, False)
    (checkout / "harness" / "engine" / "provenance.py").write_text("changed")
    assert git_state() == (commit, True)


def test_package_outside_a_checkout_has_no_commit(checkout: Path) -> None:
    assert git_state() == (None, None)


def test_broken_checkout_has_no_commit(checkout: Path) -> None:
    (checkout / ".git").write_text("gitdir: /nowhere")
    assert git_state() == (None, None)
