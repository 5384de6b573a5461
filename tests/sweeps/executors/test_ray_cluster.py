"""The runs that the nodes of a Ray cluster can do at a time, and addresses at which there is no cluster."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from support.processes import wait_until

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors import ray_cluster
from harness.sweeps.executors.ray_cluster import find_cluster, share_of
from harness.sweeps.executors.ray_task import GUARD
from harness.system.devices import Slot

NODES = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 4.0}]


@pytest.mark.parametrize(
    "nodes, settings, on_cpu, expected",
    [
        (NODES, {}, False, (2, 1, 1, [Slot(("0",), 2)] * 6)),
        (NODES, {"gpus_per_run": 2}, False, (4, 2, 1, [Slot(("0", "1"), 2)] * 3)),
        (NODES, {"gpus_per_run": 4, "max_jobs": 3}, False, (8, 4, 1, [Slot(("0", "1", "2", "3"), 2)] * 3)),
        (NODES, {"runs_per_device": 7}, False, (0, 0.1428, 1, [Slot(("0",), 1, 7)] * 42)),
        (NODES, {"nodes_per_run": 2}, False, (2, 1, 2, [Slot(("0",), 2)] * 2)),
        (NODES, {"nodes_per_run": 3}, True, (4, 0, 3, [Slot((), 4)])),
        (NODES, {}, True, (4, 0, 1, [Slot((), 4)] * 7)),
        (NODES, {"max_jobs": 6}, True, (2, 0, 1, [Slot((), 2)] * 6)),
        (NODES[2:], {}, False, (4, 0, 1, [Slot((), 4)])),
    ],
)
def test_runs_at_a_time_follow_from_the_nodes(
    nodes: Any, settings: Any, on_cpu: bool, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share_of(nodes, ExecutorSettings(name="ray", **settings), on_cpu) == expected


@pytest.mark.parametrize(
    "nodes, settings, message",
    [
        (NODES, {"gpus_per_run": 5}, "--gpus-per-run 5: .*more than 4"),
        (NODES[2:], {"runs_per_device": 2}, "--runs-per-device 2: .*GPU"),
        (NODES, {"nodes_per_run": 3}, "--nodes-per-run 3: 2 "),
        ([{"CPU": 0.0}], {}, "CPU"),
        (NODES, {"max_jobs": 1001}, "--max-jobs 1001: .*1,000"),
    ],
)
def test_more_than_the_nodes_have_is_refused(nodes: Any, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        share_of(nodes, ExecutorSettings(name="ray", **settings), on_cpu=False)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001", "127.0.0.1:99999", ":6379"])
def test_address_without_a_cluster_is_refused_at_once(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=f"--ray-address {address}"):
        find_cluster(address)
    assert time.monotonic() - started < 5


def test_address_of_another_service_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_cluster, "ANSWER_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=f"--ray-address {address}: .*3 s"):
            find_cluster(None)


def test_cluster_that_nobody_has_named_and_that_does_not_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, timeout: float, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", timeout)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    assert find_cluster(None) is None
    with pytest.raises(UserError, match="--ray-address auto"):
        find_cluster("auto")


LEADER = "import subprocess, sys; run = subprocess.Popen(['sleep', '60']); print(run.pid, flush=True); run.wait()"
"""A supervisor as a guard starts it, with its run."""


def test_run_of_a_supervisor_that_is_killed_ends_with_it() -> None:
    command = [sys.executable, "-c", GUARD, sys.executable, "-c", LEADER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guard:
        assert guard.stdout is not None
        run = psutil.Process(int(guard.stdout.readline()))
        supervisor = run.parent()
        assert supervisor is not None
        supervisor.kill()
        assert guard.wait(timeout=30) != 0
        assert "supervisor of this run was killed" in guard.stdout.read()
    wait_until(lambda: not run.is_running() or run.status() == psutil.STATUS_ZOMBIE, 30)
