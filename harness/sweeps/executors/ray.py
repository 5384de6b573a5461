"""Runs as tasks of Ray, on a cluster or on this machine.

Ray starts a task again elsewhere when its node or worker is lost, and the run resumes from its newest checkpoint. The
tasks end with the sweep. The results folder must be visible on the nodes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.executors.ray_cluster import connect, import_ray, share_of
from harness.sweeps.executors.ray_nodes import RayNodesRun
from harness.sweeps.executors.ray_run import RayRun
from harness.sweeps.executors.ray_task import hold
from harness.sweeps.launch import Start
from harness.system.devices import Slot, keeps_off_gpus


class RayExecutor:
    """Starts each run as a task, or as one task on each of several nodes."""

    supported_settings: ClassVar = frozenset(
        {"max_jobs", "gpus_per_run", "nodes_per_run", "runs_per_device", "ray_address"}
    )
    has_queue = False

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when Ray is missing, no cluster answers, or a run needs more than its nodes have."""
        if settings.runs_per_device and (settings.gpus_per_run or settings.nodes_per_run):
            other = "gpus" if settings.gpus_per_run else "nodes"
            raise UserError(f"--runs-per-device: runs that share a GPU have one GPU each; drop --{other}-per-run.")
        self.ray = import_ray()
        connect(self.ray, settings.ray_address)
        self.ray.cloudpickle.register_pickle_by_value(sys.modules[hold.__module__])
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self.share = share_of(nodes, settings, on_cpu=test_mode or keeps_off_gpus())
        self.slots: Sequence[Slot] = self.share.slots
        self.device = ""
        self.losses: Counter[Path] = Counter()

    def start(self, start: Start, slot: Slot) -> RayRun:
        """Submits the task."""
        run = RayNodesRun if self.share.nodes > 1 else RayRun
        return run(self.ray, self.share, self.losses, start, slot)
