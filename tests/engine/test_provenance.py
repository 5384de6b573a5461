"""Provenance of a run: versions, devices and the harness's commit, but no names of hosts or people."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from harness.engine import provenance
from harness.engine.provenance import (
    PACKAGES,
    code_facts,
    device_name,
    energy_meters,
    environment_fields,
    git_state,
    memory_and_energy,
    peak_bytes,
    versions,
)
from harness.facts.record_parts import Environment
from harness.system.devices import GPU_MEMORY_SHARE
from harness.system.energy import Counter, Counters, EnergyMeter, EnergyMeters

CPU = torch.device("cpu")


def test_versions_are_the_installed_ones() -> None:
    assert set(versions()) == {"harness", *PACKAGES}
    assert versions()["torch"] == importlib.metadata.version("torch")


def test_device_has_a_name_and_memory_a_size() -> None:
    assert device_name(CPU)
    assert 2**20 < peak_bytes(CPU) < 2**40


def test_environment_fields_fill_the_record_and_name_nobody() -> None:
    fields = environment_fields(Accelerator(cpu=True))
    environment = Environment(precision="fp32", device_batch_size=8, accumulation=1, eval_batch_size=8, **fields)
    assert (environment.processes, len(environment.devices), environment.distributed) == (1, 1, "NO")
    assert environment.python == platform.python_version()
    text = json.dumps(fields)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert len(user := getpass.getuser()) < 3 or f'"{user}"' not in text


def test_commit_is_that_of_the_loaded_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout may change while a fork server forks runs."""
    first = code_facts()
    monkeypatch.setattr(provenance, "git_state", lambda: ("0" * 40, True))
    assert environment_fields(Accelerator(cpu=True))["git_commit"] == first["git_commit"] != "0" * 40


def test_peak_memory_has_one_value_per_process() -> None:
    accelerator = Accelerator(cpu=True)
    (value,), energy = memory_and_energy(accelerator, energy_meters(accelerator))
    assert value > 2**20
    assert energy.gpu_joules is None
    assert [source.partition(" ")[0].strip(":") for source in energy.sources] == ["RAPL"]


def test_energy_is_the_sum_over_processes_and_unknown_if_one_of_them_is() -> None:
    joules = iter((5.0, 7.0))
    meters = [EnergyMeter(Counters((Counter(lambda: next(joules, 7.0), None),), "counted"))]
    meters.append(EnergyMeter(Counters((), "RAPL: no counters")))
    _, energy = memory_and_energy(Accelerator(cpu=True), EnergyMeters(*meters))
    assert (energy.gpu_joules, energy.processor_joules) == (2.0, None)
    assert energy.sources == ["counted", "RAPL: no counters"]


def test_energy_of_a_gpu_that_runs_share_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1"))
    counter = Counters((Counter(lambda: 5.0, None),), "NVML of the GPU")
    monkeypatch.setattr(provenance, "gpu_counter", lambda _: counter)
    alone = energy_meters(Accelerator(cpu=True)).gpu
    monkeypatch.setenv(GPU_MEMORY_SHARE, "0.45")
    shared = energy_meters(Accelerator(cpu=True)).gpu
    assert alone
    assert shared
    assert (alone.joules(), shared.joules()) == (0.0, None)
    assert "share" in shared.description


# -- the harness's commit ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the module takes for its checkout."""
    module = tmp_path / "harness" / "engine" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def git(checkout: Path, *args: str) -> str:
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *person, *args], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_is_that_of_the_checkout_with_a_flag_for_changed_files(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state() == (commit, False)
    (checkout / "results.json").write_text("an untracked file")
    assert git_state() == (commit, False)
    (checkout / "harness" / "engine" / "provenance.py").write_text("changed")
    assert git_state() == (commit, True)


def test_package_outside_a_checkout_has_no_commit(checkout: Path) -> None:
    assert git_state() == (None, None)


def test_broken_checkout_has_no_commit(checkout: Path) -> None:
    (checkout / ".git").write_text("gitdir: /nowhere")
    assert git_state() == (None, None)
