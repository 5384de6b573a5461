"""A Ray cluster of several nodes on this machine, in a network namespace of this process and its children."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CLONE_NEWNET = 0x40000000


def reason_to_skip() -> str | None:
    """The reason why no cluster can be started here."""
    if importlib.util.find_spec("ray") is None:
        return "ray is not installed"
    attempt = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    if shutil.which(attempt[0]) is None or subprocess.run(attempt, capture_output=True, check=False).returncode:
        return "Ray listens on all addresses; a network namespace, which keeps others out, cannot be made here"
    return None


@contextmanager
def private_network() -> Iterator[None]:
    """Sockets that this thread and its children open in the block see a loopback of their own, and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            libc.setns(before.fileno(), CLONE_NEWNET)


class RayCluster:
    """A head without resources, and nodes at 127.0.0.3, 127.0.0.4 and so on."""

    def __init__(self, folder: Path, nodes: int, **resources: float) -> None:
        """Starts the processes; `resources` are those of each node, such as num_cpus=1."""
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # of the processes of its nodes
        from ray._private.utils import get_ray_address_file
        from ray.cluster_utils import Cluster

        Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)  # as the first `ray.init` does
        self.resources, self.started = resources, 0
        prompt = {
            "health_check_initial_delay_ms": 500,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
        }
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False}
        self.cluster = Cluster(True, head_node_args={**head, "temp_dir": str(folder), "_system_config": prompt})
        self.address: str = self.cluster.address
        for _ in range(nodes):
            self.add_node()

    def add_node(self) -> None:
        """Starts one more node."""
        self.started += 1
        self.cluster.add_node(node_ip_address=f"127.0.0.{self.started + 2}", wait=True, **self.resources)

    def kill_node(self, address: str) -> None:
        """Kills a node with its workers and everything that they have started, as a power cut does."""
        node = next(node for node in self.cluster.worker_nodes if node.node_ip_address == address)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()
        self.cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """Ends all processes."""
        import ray

        ray.shutdown()
        self.cluster.shutdown()
