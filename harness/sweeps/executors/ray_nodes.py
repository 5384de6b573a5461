"""A run on several nodes of Ray: one task per node starts torchrun with the node's part of the processes.

The supervisor is on the first node; the tasks of the others only hold their torchrun. A stop request reaches the
processes of the first node, and all of them save the checkpoint together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from harness.sweeps.executors.ray_run import RayRun, environment, work_of
from harness.sweeps.executors.ray_task import ADDRESS, FOLLOWER, PORT, free_endpoint, hold
from harness.sweeps.failures import is_finished, last_lines
from harness.sweeps.launch import LOCKED, MISTAKE, SCRIPT, STOPPED, Start, log_tail
from harness.system.devices import Slot

GRACE_SECONDS = 60.0
"""Seconds in which the tasks of all nodes end after the first has, and in which Ray notices that a node is lost."""


class RayNodesRun(RayRun):
    """The tasks of a run on several nodes, followed as one."""

    def submit(self, start: Start, slot: Slot) -> Any:
        """Submits a task for each node, in a placement group; returns the one with the supervisor."""
        cpus, gpus = self.share.cpus, self.share.gpus
        bundle = {name: number for name, number in {"CPU": cpus, "GPU": gpus}.items() if number}
        self.group = self.ray.util.placement_group([bundle] * self.share.nodes, strategy="STRICT_SPREAD")
        self.ended_at: float | None = None
        """Time on the monotonic clock when the first task was seen to have ended, and the others have to."""
        self.is_cut = self.is_over = False
        variables = environment(slot) | {"ACCELERATE_MIXED_PRECISION": "no"}
        variables |= {} if gpus else {"ACCELERATE_USE_CPU": "yes"}
        endpoint = self._task(free_endpoint, 0, 0, 0).remote()
        work = work_of(start._replace(command=self._torchrun(start, 0)), variables)
        self.other_logs = [start.log.with_name(f"{start.log.name}.{number}") for number in range(1, self.share.nodes)]
        self.others = [
            self._task(hold, number, cpus, gpus).remote(
                work._replace(
                    command=[sys.executable, "-c", FOLLOWER, *self._torchrun(start, number)],
                    input="",
                    log=str(log.absolute()),
                ),
                endpoint,
            )
            for number, log in enumerate(self.other_logs, start=1)
        ]
        return self._task(hold, 0, cpus, gpus).remote(work, endpoint)

    def _task(self, function: Any, node: int, cpus: int, gpus: float) -> Any:
        """The remote function on one of the run's nodes. A lost node ends the run: Ray does not start a part again."""
        strategy = self.ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self.group, node)
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0, "name": f"{self.record.stem}-{node}"}
        return self.ray.remote(function).options(**options, scheduling_strategy=strategy)

    def _torchrun(self, start: Start, node: int) -> list[str]:
        """The command that starts the processes of one node; those of the first have the first ranks."""
        return [
            *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={self.share.nodes}", f"--node-rank={node}"),
            *(f"--nproc-per-node={int(max(1, self.share.gpus))}", f"--master-addr={ADDRESS}"),
            *(f"--master-port={PORT}", str(SCRIPT), *start.args),
        ]

    def exit_code(self) -> int | None:
        """The exit code, or None until the tasks of all nodes have ended."""
        super().exit_code()
        ended = self.ray.wait(self.others, num_returns=len(self.others), timeout=0)[0]
        results = [self.result(task) for task in ended]
        if self.end is not None and len(ended) == len(self.others):
            if not self.is_over:
                self._finish(self.end, results)
            return self.end[0]
        failed = [task for task, result in zip(ended, results, strict=True) if result[0] != 0]
        if self.end is not None or failed:
            self.ended_at = self.ended_at or time.monotonic()
            if not self.is_cut and time.monotonic() > self.ended_at + GRACE_SECONDS:
                self._cut(failed)
        return None

    def _finish(self, end: tuple[int, str], results: Sequence[tuple[int | None, str]]) -> None:
        """Frees the nodes. A run that failed because one of them was lost starts again, without its failed record."""
        self.is_over = True
        self.ray.util.remove_placement_group(self.group)
        losses = [message for code, message in results if code is None]
        if losses and end[0] not in (0, LOCKED, MISTAKE, STOPPED) and not is_finished(self.record):
            self.record.unlink(missing_ok=True)
            self.end = self.lose(losses[0])

    def _cut(self, failed: Sequence[Any]) -> None:
        """Ends the tasks that go on after one has ended: their processes would wait for its processes for hours."""
        self.is_cut = True
        if self.end is None and self.stopped_at is None:
            super().kill()
            code, message = self.result(failed[0])
            lines = last_lines(log_tail(self.other_logs[self.others.index(failed[0])], 0))
            reason = message or f"A node ended with exit code {code}: {''.join(lines[-1:])}"
            self.end = (MISTAKE, message) if code == MISTAKE and message else self.lose(reason)
        for task in self.others:
            self.ray.cancel(task)

    def stop(self) -> None:
        """Interrupts the first task, whose run saves a checkpoint; all of them while they wait for nodes."""
        super().stop()
        if not self.has_node():
            for task in self.others:
                self.ray.cancel(task)

    def kill(self) -> None:
        """Kills the processes of the first node, and ends the others."""
        super().kill()
        for task in self.others:
            self.ray.cancel(task)
