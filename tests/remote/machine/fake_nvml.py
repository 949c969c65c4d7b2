"""What stands for NVIDIA's management library where no card is: as many of its functions as a test gives answers for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from remote.machine.nvml import Card


class NVMLError(Exception):
    """As pynvml raises it for a meter that a card does not have."""


def process(pid: int, held_bytes: int | None) -> SimpleNamespace:
    """One row of `nvmlDeviceGetComputeRunningProcesses`."""
    return SimpleNamespace(pid=pid, usedGpuMemory=held_bytes)


def fake_nvml(**answers: Any) -> SimpleNamespace:
    """`answers`: by the function's name without "nvmlDeviceGet"; what is callable is called, and exceptions are raised."""

    def answering(answer: Any) -> Any:
        def function(_handle: object, *arguments: Any) -> Any:
            found = answer(*arguments) if callable(answer) else answer
            if isinstance(found, Exception):
                raise found
            return found

        return function

    constants = {
        "NVML_MEMORY_ERROR_TYPE_UNCORRECTED": 1,
        "NVML_VOLATILE_ECC": 0,
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_PCIE_UTIL_TX_BYTES": 0,
        "NVML_PCIE_UTIL_RX_BYTES": 1,
    }
    functions = {f"nvmlDeviceGet{name}": answering(answer) for name, answer in answers.items() if name != "driver"}
    said = answers.get("driver", "580.65.06")
    return SimpleNamespace(NVMLError=NVMLError, nvmlSystemGetDriverVersion=lambda: said, **constants, **functions)


def fake_card(**answers: Any) -> Card:
    """A card that gives these answers, and has no other meter."""
    return Card(fake_nvml(**answers), "handle")
