"""What the machine's meters show at a moment, by names that carry their units. A meter that is not there is not named."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from remote.machine.nvml import Card

KIB: Final = 1024
# NVML's numbers, as in nvml.h
TEMPERATURE_GPU, CLOCK_SM, CLOCK_MEMORY, SENT, RECEIVED = 0, 1, 2, 0, 1

# Bits of what holds the clocks down that mean a fault of the machine or its room; a card at its power limit is at work.
THROTTLES: Final[Mapping[int, str]] = {
    0x08: "hardware slowdown",
    0x20: "heat",
    0x40: "heat",
    0x80: "its power supply",
}

Figures = dict[str, float]


# One row a meter: name of the figure -> what NVML is asked, and what is taken of the answer.
_CARD: Final[Mapping[str, tuple[tuple[Any, ...], Callable[[Any], float]]]] = {
    "gpu_utilization_percent": (("UtilizationRates",), lambda said: float(said.gpu)),
    "vram_used_bytes": (("MemoryInfo",), lambda said: float(said.used)),
    "gpu_temperature_c": (("Temperature", TEMPERATURE_GPU), float),
    "gpu_power_w": (("PowerUsage",), lambda said: said / 1000),
    "gpu_clock_mhz": (("ClockInfo", CLOCK_SM), float),
    "vram_clock_mhz": (("ClockInfo", CLOCK_MEMORY), float),
    "pcie_sent_bytes_per_s": (("PcieThroughput", SENT), lambda said: float(said) * KIB),
    "pcie_received_bytes_per_s": (("PcieThroughput", RECEIVED), lambda said: float(said) * KIB),
}


def read_card(card: Card) -> Figures:
    """Of the card."""
    found = {name: (card.ask(*asked), taken) for name, (asked, taken) in _CARD.items()}
    return {name: taken(said) for name, (said, taken) in found.items() if said is not None}


def throttles_of(card: Card) -> tuple[str, ...]:
    """What holds its clocks down, in words; nothing where nothing does, or it does not say."""
    said = card.ask("CurrentClocksEventReasons")
    bits = int(said) if said is not None else int(card.ask("CurrentClocksThrottleReasons") or 0)
    return tuple(dict.fromkeys(words for bit, words in THROTTLES.items() if bits & bit))


class Host:
    """Guards the counters of the machine that only grow: a rate is what came since the last look."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        import psutil

        self._folder, self._clock = folder, clock
        self._process = psutil.Process()
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._counted, self._at_s = self._counters(), clock()

    def read(self) -> Figures:
        """Of the machine and this process, since the last look."""
        import psutil

        now, at_s = self._counters(), self._clock()
        passed_s = max(at_s - self._at_s, 1e-3)
        rates = {f"{name}_bytes_per_s": (now[name] - self._counted[name]) / passed_s for name in now if name in self._counted}
        self._counted, self._at_s = now, at_s
        return {
            "cpu_percent": float(psutil.cpu_percent()),  # of all cores
            "process_cpu_percent": float(self._process.cpu_percent()),  # of one: 250 are two and a half cores
            "ram_process_bytes": float(self._process.memory_info().rss),
            "ram_available_bytes": float(psutil.virtual_memory().available),
            "disk_free_bytes": float(shutil.disk_usage(self._folder).free),
            **rates,
        }

    def _counters(self) -> Figures:
        import psutil

        disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
        return ({} if disk is None else {"disk_read": float(disk.read_bytes), "disk_written": float(disk.write_bytes)}) | (
            {} if net is None else {"net_received": float(net.bytes_recv), "net_sent": float(net.bytes_sent)}
        )
