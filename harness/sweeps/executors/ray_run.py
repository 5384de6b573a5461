"""A run as a task of Ray, followed from this process."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.sweeps.executors.ray_cluster import RETRIES, Share
from harness.sweeps.executors.ray_task import NODE, Work, hold
from harness.sweeps.launch import STOPPED, SUPERVISOR, TIED, Start, log_size, log_tail
from harness.system.devices import GPU_MEMORY_SHARE, Slot

SUBMISSIONS = 3
"""Times that a run is submitted whose task Ray gives up: a run that takes its nodes down must not start for ever."""

INTERRUPT_SECONDS = 1.0
"""Seconds between two interrupts of a task, which would otherwise count as one, and until it has ended."""

VARIABLES = (
    *("ACCELERATE_", "AIM_", "CLEARML_", "COMET_", "CUBLAS_", "DATASETS_", "GLOO_", "HARNESS_", "HF_", "MKL_"),
    *("MLFLOW_", "NCCL_", "NEPTUNE_", "OMP_", "PYTHON", "PYTORCH_", "TOKENIZERS_", "TORCH", "TRACKIO_"),
    *("TRANSFORMERS_", "WANDB_", "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
"""Beginnings of the environment variables that go along with a run, in any case; all others are those of its node."""


class RayRun:
    """A task that holds the supervisor of a run."""

    def __init__(self, ray: Any, share: Share, losses: Counter[Path], start: Start, slot: Slot) -> None:
        """Submits the task; `losses` counts the tasks that Ray has given up, by the record of their run."""
        self.ray, self.share, self.losses, self.record = ray, share, losses, start.record
        self.log, self.log_start = start.log, log_size(start.log)
        self.node = ""
        self.end: tuple[int, str] | None = None
        """The exit code, and what the task or Ray says about it, once it has ended."""
        self.stopped_at: float | None = None
        start.log.parent.mkdir(parents=True, exist_ok=True)
        start.log.touch()  # a node that does not see it does not see the results folder
        self.task = self.submit(start, slot)

    def submit(self, start: Start, slot: Slot) -> Any:
        """Submits the task that holds the supervisor, and returns its reference."""
        resources = {"num_cpus": self.share.cpus, "num_gpus": self.share.gpus}
        task = self.ray.remote(hold).options(**resources, max_retries=RETRIES, name=start.record.stem)
        return task.remote(work_of(start, environment(slot)))

    def location(self) -> str:
        """The node and its GPUs, or the fact that there is none yet."""
        return f"Ray node {self.node}" if self.has_node() else "Ray, waiting for a node"

    def has_node(self) -> bool:
        """True when the task has begun, as its log tells."""
        lines = log_tail(self.log, self.log_start).splitlines()
        nodes = [line.removeprefix(NODE) for line in lines if line.startswith(NODE)]
        self.node = nodes[-1] if nodes else self.node
        return bool(self.node)

    def exit_code(self) -> int | None:
        """The exit code, or None until Ray has ended the task for good."""
        if self.end is None and self.ray.wait([self.task], timeout=0)[0]:
            code, message = self.result(self.task)
            self.end = self.lose(message) if code is None else (code, message)
        return None if self.end is None else self.end[0]

    def result(self, task: Any) -> tuple[int | None, str]:
        """The exit code of a task that has ended, None if Ray has lost it, and what the task or Ray says about it."""
        try:
            code, message = self.ray.get(task)
            return code, message
        except self.ray.exceptions.TaskCancelledError:
            return STOPPED, ""
        except self.ray.exceptions.RayTaskError as error:
            return 1, str(error)
        except self.ray.exceptions.RayError as error:
            return None, f"{type(error).__name__}: {' '.join(str(error).split())}"

    def lose(self, reason: str) -> tuple[int, str]:
        """The exit code of a run that has lost a node: it starts again, but not for ever."""
        self.losses[self.record] += 1
        number = self.losses[self.record]
        return STOPPED if number < SUBMISSIONS else 1, f"The run has lost its nodes {number} times. {reason}"

    def stop(self) -> None:
        """Interrupts the task, which lets the run save a checkpoint and waits for it."""
        self.stopped_at = time.monotonic()
        self.ray.cancel(self.task)

    def kill(self) -> None:
        """Interrupts the task for the second time, and gives it a moment: what is sent last may be lost at our end."""
        if self.stopped_at is None:
            self.stop()
        time.sleep(max(0.0, (self.stopped_at or 0.0) + INTERRUPT_SECONDS - time.monotonic()))
        self.ray.cancel(self.task)
        self.ray.wait([self.task], timeout=INTERRUPT_SECONDS)

    def output(self) -> str:
        """The output of the run so far; at the end, what the task or Ray says about it."""
        output = log_tail(self.log, self.log_start)
        return f"{output}\n{self.end[1]}\n" if self.end and self.end[1] else output


def work_of(start: Start, variables: Mapping[str, str]) -> Work:
    """The supervisor as a task starts it."""
    return Work(
        command=[sys.executable, str(SUPERVISOR), TIED],
        input=start.to_json(),
        cwd=str(Path.cwd()),
        variables=variables,
        log=str(start.log.absolute()),
        needed={
            str(start.log.absolute()): str(start.record.absolute().parents[2]),
            **{path: path for path in (str(Path.cwd()), sys.executable, str(SUPERVISOR))},
        },
    )


def environment(slot: Slot) -> dict[str, str]:
    """The variables that go along with a run; Ray itself tells it the GPUs."""
    passed = {name: value for name, value in os.environ.items() if name.upper().startswith(VARIABLES)}
    own = {name: value for name, value in slot.environment.items() if name == GPU_MEMORY_SHARE}
    return {**passed, **own, "OMP_NUM_THREADS": str(slot.threads), "PYTHONUNBUFFERED": "1"}
