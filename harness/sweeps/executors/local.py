"""Runs on this machine, each in the processes of a supervisor that ends with the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.launch import Start, log_size, log_tail
from harness.sweeps.tied_supervisors import Supervisors
from harness.system.devices import Slot, find_devices, slots


class LocalExecutor:
    """Starts runs as processes: one per GPU, several that share each, or on the CPU."""

    supported_settings: ClassVar = frozenset({"max_jobs", "gpus_per_run", "runs_per_device"})

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when this machine has fewer devices."""
        devices = find_devices(test_mode)
        self.slots: Sequence[Slot] = slots(devices, settings.max_jobs, settings.gpus_per_run, settings.runs_per_device)
        self.device = devices.name
        self.supervisors = Supervisors(len(self.slots[0].gpus), self.slots[0].threads)

    def start(self, start: Start, slot: Slot) -> LocalRun:
        """Starts a supervisor that is tied to this process."""
        return LocalRun(start, slot, self.supervisors)


class LocalRun:
    """A run with its supervisor."""

    def __init__(self, start: Start, slot: Slot, supervisors: Supervisors) -> None:
        """Starts the supervisor."""
        self.slot, self.log, self.log_start = slot, start.log, log_size(start.log)
        self.supervisor = supervisors.start(start, slot.environment)

    def location(self) -> str:
        """The GPUs, or the CPU."""
        return str(self.slot)

    def exit_code(self) -> int | None:
        """The exit code, or None while the run lasts."""
        return self.supervisor.exit_code()

    def stop(self) -> None:
        """Asks the run to save a checkpoint and end; `exit_code` tells when it has."""
        self.supervisor.stop()

    def kill(self) -> None:
        """Kills all processes of the run."""
        self.supervisor.kill()

    def output(self) -> str:
        """The output of the run so far, at most its last 64 KiB."""
        return log_tail(self.log, self.log_start)
