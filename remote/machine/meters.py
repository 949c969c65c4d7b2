"""What the machine's meters show: peak RAM, peak VRAM three ways, energy."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any, Final

JOULES_PER_KWH: Final = 3.6e6
_ABSENT: Final[tuple[Any, Any]] = (None, None)


def peak_ram_bytes() -> int:
    """The most RAM that this process held. From the kernel's high-water mark, which, unlike rusage, forgets the parent."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(kib) * 1024


class Meters:
    """Guards the NVML handle of the GPU that torch uses; on a CPU it only knows RAM."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._nvml, self._handle = _nvml() if self._cuda else _ABSENT
        self._peak_process_bytes: int | None = None
        self._energy_start_j = self._energy_j()

    def peaks(self) -> dict[str, int]:
        """Peak bytes by the field names of `Measured`; meters that are not there are not named."""
        if not self._cuda:
            return {"peak_ram_bytes": peak_ram_bytes()}
        import torch

        found = {
            "peak_ram_bytes": peak_ram_bytes(),
            "peak_vram_allocated_bytes": int(torch.cuda.max_memory_allocated()),
            "peak_vram_reserved_bytes": int(torch.cuda.max_memory_reserved()),
        }
        process = self._process_bytes()
        if process is not None:
            self._peak_process_bytes = max(process, self._peak_process_bytes or 0)
            found["peak_vram_process_bytes"] = self._peak_process_bytes
        return found

    def energy_kwh(self) -> float | None:
        """What the GPU has used since the start; None where it has no counter."""
        now_j = self._energy_j()
        if now_j is None or self._energy_start_j is None:
            return None
        return (now_j - self._energy_start_j) / JOULES_PER_KWH

    def _process_bytes(self) -> int | None:
        """What the driver books on this process, as nvidia-smi shows it; in a container its pid may be unknown there."""
        if self._nvml is None:
            return None
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return own[0] if own and own[0] is not None else None

    def _energy_j(self) -> float | None:
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._nvml.NVMLError:  # before Volta
            return None


def _nvml() -> tuple[Any, Any]:
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return _ABSENT
