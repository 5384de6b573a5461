"""Runs on this machine, each in the processes of a supervisor that ends with the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.launch import SUPERVISOR, Start, log_size, log_tail
from harness.system.devices import Slot, find_devices, slots


class LocalExecutor:
    """Starts runs as processes: one per GPU, or on the CPU."""

    supported_settings: ClassVar = frozenset({"max_jobs", "gpus_per_run"})

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when this machine has fewer devices."""
        devices = find_devices(test_mode)
        self.slots: Sequence[Slot] = slots(devices, settings.max_jobs, settings.gpus_per_run)
        self.device = devices.name

    def start(self, start: Start, slot: Slot) -> LocalRun:
        """Starts a supervisor that is tied to this process."""
        return LocalRun(start, slot)


class LocalRun:
    """The supervisor process of a run."""

    def __init__(self, start: Start, slot: Slot) -> None:
        """Starts the supervisor."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads), "PYTHONUNBUFFERED": "1"}
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
        self.slot, self.log, self.log_start = slot, start.log, log_size(start.log)
        self.supervisor = subprocess.Popen(
            [sys.executable, str(SUPERVISOR), "--tied"],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep alone
        )
        assert self.supervisor.stdin is not None
        with suppress(BrokenPipeError):  # it died at once, as its exit code tells
            self.supervisor.stdin.write(f"{start.to_json()}\n".encode())
            self.supervisor.stdin.flush()

    def location(self) -> str:
        """The GPUs, or the CPU."""
        return str(self.slot)

    def exit_code(self) -> int | None:
        """The exit code, or None while the run lasts."""
        code = self.supervisor.poll()
        if code is not None:
            self.stop()
        return code

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""
        assert self.supervisor.stdin is not None
        with suppress(BrokenPipeError):
            self.supervisor.stdin.close()

    def kill(self) -> None:
        """Kills all processes of the run."""
        self.supervisor.send_signal(signal.SIGUSR1)

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB."""
        return log_tail(self.log, self.log_start)
