"""What torch and the driver count on a card."""

from __future__ import annotations

import os
from typing import Any


class Gauge:
    """Guards the counters of torch and of the driver; on a CPU it sees nothing of either."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._notes: dict[str, int] = {}
        self._driver = _Driver() if self._cuda else None
        if self._cuda:
            import torch

            torch.zeros(1, device=device)

    @property
    def device_name(self) -> str:
        if not self._cuda:
            return "cpu"
        import torch

        return str(torch.cuda.get_device_name(0))

    @property
    def allocated_bytes(self) -> dict[str, int] | None:
        """What was noted; None on a CPU."""
        return dict(self._notes) if self._cuda else None

    def note(self, when: str) -> None:
        """Bytes allocated now."""
        if self._cuda:
            import torch

            self._notes[when] = int(torch.cuda.memory_allocated())

    def note_peak(self, when: str) -> None:
        """The most bytes allocated since the peak was forgotten."""
        if self._cuda:
            import torch

            self._notes[when] = int(torch.cuda.max_memory_allocated())

    def forget_peak(self) -> None:
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()

    def reserved_peak_bytes(self) -> int | None:
        """The most bytes that torch has held since the peak was forgotten."""
        if not self._cuda:
            return None
        import torch

        return int(torch.cuda.max_memory_reserved())

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self._cuda:
            import torch

            torch.cuda.synchronize()

    def process_bytes(self) -> int | None:
        return None if self._driver is None else self._driver.process_bytes()

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; None where there is no counter."""
        return None if self._driver is None else self._driver.energy_j()


class _Driver:
    """NVML's view of torch's card. To be made before torch makes a context there."""

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        used_before = {pynvml.nvmlDeviceGetUUID(handle): self._used_bytes(handle) for handle in handles}
        import torch

        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        self._used_before = used_before[uuid]

    def _used_bytes(self, handle: Any) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)

    def process_bytes(self) -> int:
        """Of this process; where a container hides its number, what the card has in use more than before."""
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return self._used_bytes(self._handle) - self._used_before

    def energy_j(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._nvml.NVMLError:  # before Volta
            return None
