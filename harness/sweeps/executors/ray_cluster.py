"""A Ray cluster, found or started here, and the runs that its nodes can do at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.system.devices import MAX_JOBS, Slot, threads_of

RETRIES = 3
"""Times that Ray starts a task again whose node or worker is lost, or whose node runs out of memory."""

CONNECT_SECONDS = 5.0

ANSWER_SECONDS = 30.0
"""Seconds in which a cluster must accept a program, whose import of Ray counts."""

PROBE = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except ConnectionError:
    sys.exit(3)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
print(ray.get_runtime_context().gcs_address)
"""
"""A program that connects to a cluster and prints its address: a connection that hangs cannot be interrupted."""

NOT_FOUND = 3
"""Exit code of the probe when this machine has no cluster."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Memory for Ray's objects where Ray is started here; the tasks have none."""


class Share(NamedTuple):
    """The part of a node that a run has, on how many nodes, and one slot for each run at a time."""

    cpus: int
    gpus: float
    nodes: int
    slots: list[Slot]


def import_ray() -> Any:
    """Ray, which takes a second to import; it sends no usage statistics.

    Raises:
        UserError: it is missing.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # Ray's own number has no end
    try:
        return import_module("ray")
    except ImportError:
        advice = "Install it: pip install glue-harness[ray]"
        raise UserError(f"--executor ray: ray is not installed. {advice}") from None


def connect(ray: Any, address: str | None) -> None:
    """Connects this process to a cluster, or to a Ray that is started here when no cluster is named or found.

    Raises:
        UserError: no cluster answers at the address.
    """
    cluster = find_cluster(address)
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a Ray that is started here; Ray's own is 15
    own = {} if cluster else {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    handler = signal.getsignal(signal.SIGTERM)
    ray.shutdown()  # of an earlier sweep of this process
    try:
        ray.init(address=cluster or "local", log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # Ray has no error of its own for this
        raise UserError(f"--ray-address {cluster or 'local'}: {' '.join(str(error).split())}") from None
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # Ray has set its own


def find_cluster(address: str | None) -> str | None:
    """The address of a cluster that answers; None for `local`, and when none is named and none runs on this machine.

    Raises:
        UserError: the cluster that is named does not answer.
    """
    named = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or address
    if named == "local":
        return None
    title = f"--ray-address {named or 'auto'}"
    advice = "Start Ray with ray start --head, or here with --ray-address local."
    if named not in (None, "auto"):
        host, _, port = named.rpartition(":")
        if "/" in named or not host or not port.isdecimal():
            raise UserError(f"{title}: expected HOST:PORT of a cluster that this machine is a node of, auto or local.")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"{title}: no Ray cluster answers ({error}). {advice}") from None
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE, named or "auto"], capture_output=True, text=True, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        if named is None:  # what has run here, or is another user's
            return None
        raise UserError(f"{title}: no Ray cluster answers within {ANSWER_SECONDS:g} s. {advice}") from None
    if probe.returncode == NOT_FOUND and named is None:
        return None
    if probe.returncode:
        lines = probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"]
        raise UserError(
            f"{title}: no Ray cluster found. {advice}" if probe.returncode == NOT_FOUND else f"{title}: {lines[-1]}"
        )
    return probe.stdout.split()[-1]


def share_of(nodes: Sequence[Mapping[str, float]], settings: ExecutorSettings, on_cpu: bool) -> Share:
    """The share of a run in the resources of the nodes: GPUs if a node has any, with its part of the node's CPUs.

    Raises:
        UserError: no node has enough, or a number is too large.
    """
    for flag, number in {"--max-jobs": settings.max_jobs, "--runs-per-device": settings.runs_per_device}.items():
        if (number or 0) > MAX_JOBS:
            raise UserError(f"{flag} {number}: expected at most {MAX_JOBS:,}.")
    most = int(max((node.get("GPU", 0) for node in nodes), default=0))
    if on_cpu or not (most or settings.gpus_per_run or settings.runs_per_device):
        return _share_of_cpus([int(node.get("CPU", 0)) for node in nodes], settings)
    gpus, together = settings.gpus_per_run or 1, settings.runs_per_device or 1
    if gpus > most:
        flag = f"--runs-per-device {together}" if settings.runs_per_device else f"--gpus-per-run {gpus}"
        has = f"has more than {most} GPU(s)" if most else "has a GPU"
        raise UserError(f"{flag}: no node of the Ray cluster {has}.")
    useful = [node for node in nodes if node.get("GPU", 0) >= gpus]
    runs = [int(node["GPU"]) // gpus * together for node in useful]
    cpus = min(int(node.get("CPU", 0)) // number for node, number in zip(useful, runs, strict=True))
    part = gpus if together == 1 else 10_000 // together / 10_000  # Ray rounds, and all of them must fit
    slot = Slot(tuple(map(str, range(gpus))), threads_of(cpus // gpus), together)
    return Share(cpus, part, settings.nodes_per_run or 1, [slot] * _runs_at_a_time(runs, settings))


def _share_of_cpus(cpus: Sequence[int], settings: ExecutorSettings) -> Share:
    """The share in the CPUs: one run per node by default; `max_jobs` runs share the cores, as on one machine."""
    useful, nodes = [number for number in cpus if number], settings.nodes_per_run or 1
    if not useful:
        raise UserError("--executor ray: no node of the Ray cluster has a CPU for runs.")
    runs_per_node = -(-(settings.max_jobs or 1) * nodes // len(useful))
    each = max(1, min(useful) // runs_per_node)
    runs = _runs_at_a_time([number // each for number in useful], settings)
    return Share(each, 0, nodes, [Slot((), threads_of(each))] * runs)


def _runs_at_a_time(runs: Sequence[int], settings: ExecutorSettings) -> int:
    """The number of runs, each on different nodes, from the number of parts of them that each node takes."""
    nodes = settings.nodes_per_run or 1
    if nodes > len(runs):
        raise UserError(f"--nodes-per-run {nodes}: {len(runs)} node(s) of the Ray cluster have what a run needs.")
    most = sum(runs) // nodes
    while sum(min(number, most) for number in runs) < most * nodes:  # a run has no node twice
        most -= 1
    return settings.max_jobs or most
