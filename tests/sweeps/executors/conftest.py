"""The Slurm cluster of the tests of executors, started when the first of them needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.slurm_cluster import reason_to_skip, slurm_cluster
from support.slurm_sweep import slurm

from harness.sweeps.executors import slurm_client, slurm_workers


@pytest.fixture(scope="session")
def slurm_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := reason_to_skip():
        pytest.skip(reason)
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def cluster(slurm_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running cluster, which is asked ten times a second; no job is left to the next test."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_configuration))
    monkeypatch.setattr(slurm_client, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(slurm_workers, "LIST_SECONDS", 0.1)
    yield
    slurm("scancel", "--me")
