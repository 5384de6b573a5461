"""Runs on this machine, each in the processes of a supervisor that ends with the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.launch import Start
from harness.sweeps.tied_supervisors import Supervisors, TiedSupervisor
from harness.system.devices import Slot, find_devices, slots


class LocalExecutor:
    """Starts runs as processes: one per GPU, several that share each, or on the CPU."""

    supported_settings: ClassVar = frozenset({"max_jobs", "gpus_per_run", "runs_per_device"})
    has_queue = False

    def __init__(self, settings: ExecutorSettings, test_mode: bool) -> None:
        """Raises UserError when this machine has fewer devices."""
        devices = find_devices(test_mode)
        self.slots: Sequence[Slot] = slots(devices, settings.max_jobs, settings.gpus_per_run, settings.runs_per_device)
        self.device = devices.name
        self.supervisors = Supervisors(len(self.slots[0].gpus), self.slots[0].threads)

    def start(self, start: Start, slot: Slot) -> TiedSupervisor:
        """Starts a supervisor that is tied to this process."""
        return self.supervisors.start(start, slot)
