"""What the machine's meters show: peak RAM, peak VRAM three ways, energy."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Final

from remote.machine.nvml import Card, card_in_use

JOULES_PER_KWH: Final = 3.6e6
SPARE_SHARE: Final = 0.1  # assumed: of a card, left free by who takes more than was planned


def peak_ram_bytes() -> int:
    """The most RAM that this process held. From the kernel's high-water mark, which, unlike rusage, forgets the parent."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(kib) * 1024


class Meters:
    """Guards the card that torch uses; on a CPU it only knows RAM."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self.card: Card | None = card_in_use() if self._cuda else None
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
        process = self.card.own_bytes() if self.card is not None else None
        if process is not None:
            self._peak_process_bytes = max(process, self._peak_process_bytes or 0)
            found["peak_vram_process_bytes"] = self._peak_process_bytes
        return found

    def takes_twice(self) -> bool:
        """Whether the card has room for twice what torch has taken of it so far; on a CPU nobody knows what is free for us."""
        if not self._cuda:
            return False
        import torch

        return int(torch.cuda.max_memory_reserved()) <= self.room_bytes()

    def room_bytes(self) -> int:
        """Of the card, beside the most that torch has taken of it so far, and a share that is left free; on a CPU none."""
        if not self._cuda:
            return 0
        import torch

        free_bytes, total_bytes = torch.cuda.mem_get_info()
        taken_bytes = int(torch.cuda.max_memory_reserved())
        room_bytes = int(free_bytes) + int(torch.cuda.memory_reserved()) - taken_bytes - SPARE_SHARE * int(total_bytes)
        return max(0, int(room_bytes))

    def forget(self) -> None:
        """Give back what the allocator keeps for later, and begin the peaks anew: those so far are of what did not fit."""
        gc.collect()
        if not self._cuda:
            return
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self._peak_process_bytes = None

    def energy_kwh(self) -> float | None:
        """What the GPU has used since the start; None where it has no counter."""
        now_j = self._energy_j()
        if now_j is None or self._energy_start_j is None:
            return None
        return (now_j - self._energy_start_j) / JOULES_PER_KWH

    def _energy_j(self) -> float | None:
        return None if self.card is None else self.card.energy_j()
