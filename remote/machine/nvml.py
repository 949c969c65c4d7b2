"""The card that torch computes on, asked of NVIDIA's management library. What it has no meter for is None."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Holder(NamedTuple):
    """A process that holds memory of the card."""

    pid: int  # of the host: in a container it may be nobody's
    held_bytes: int | None


class Card:
    """Guards the library and the handle of one card. `nvml`: pynvml, or what stands for it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function of the library says of this card; None where the card or the driver has no such meter."""
        asked: Callable[..., Any] | None = getattr(self._nvml, f"nvmlDeviceGet{function}", None)
        if asked is None:
            return None
        try:
            return asked(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None

    def holders(self) -> tuple[Holder, ...]:
        """Who computes on it, this process as well."""
        found = self.ask("ComputeRunningProcesses") or ()
        return tuple(Holder(process.pid, process.usedGpuMemory) for process in found)

    def own_bytes(self) -> int | None:
        """What the driver books on this process, as nvidia-smi shows it; in a container its pid may be unknown there."""
        return next((holder.held_bytes for holder in self.holders() if holder.pid == os.getpid()), None)

    def driver(self) -> int | None:
        """The branch of the driver: 580 for 580.65.06."""
        try:
            said = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        found = re.match(r"\d+", said.decode() if isinstance(said, bytes) else said)
        return int(found[0]) if found else None

    def uncorrected_errors(self) -> int | None:
        """Errors of memory that ECC could not correct since the driver was loaded; None for a card without ECC."""
        found = self.ask("TotalEccErrors", self._nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self._nvml.NVML_VOLATILE_ECC)
        return None if found is None else int(found)

    def failed_rows(self) -> bool:
        """Whether broken rows of memory could not be replaced by spare ones."""
        found = self.ask("RemappedRows")  # corrected, uncorrected, pending, failed
        return found is not None and bool(found[3])

    def energy_j(self) -> float | None:
        """Since the driver was loaded; None before Volta."""
        found = self.ask("TotalEnergyConsumption")  # mJ
        return None if found is None else float(found) / 1000


def card_in_use() -> Card | None:
    """The card that torch uses; None where the library is not there or does not know it."""
    import pynvml
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        return Card(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return None
