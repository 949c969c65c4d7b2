"""What the pinned stack asks of a machine with NVIDIA cards: which cards, and which driver for them.

A driver is named by its branch: 580 for 580.65.06. Whoever has a newer one has what an older one can, until a branch drops a
card. The tables are NVIDIA's; of the lock's torch it was measured what it is built for.
"""

from __future__ import annotations

from typing import Final

Capability = tuple[int, int]

# measured: `torch.version.cuda` and the least of `torch.cuda.get_arch_list()` in torch 2.15.0 of the lock, 2026-11-26
TORCH_CUDA: Final = (13, 2)
LEAST_CAPABILITY: Final[Capability] = (7, 5)

# CUDA's major version -> the least branch, for every minor version of it (NVIDIA, CUDA Toolkit release notes, "minor version
# compatibility"; 2026-11).
LEAST_FOR_CUDA: Final = {11: 450, 12: 525, 13: 580}

# Compute capability -> the least branch that knows the card. derived: what the first CUDA that compiles for it came with
# (release notes of CUDA 6.5, 8.0, 9.0, 10.0, 11.0, 11.1, 11.4, 11.8, 12.8, 12.9 and 13.0; 2026-11).
LEAST_FOR_CARD: Final[dict[Capability, int]] = {
    (3, 7): 340,
    (5, 2): 340,
    (6, 0): 367,
    (6, 1): 367,
    (7, 0): 384,
    (7, 5): 410,
    (8, 0): 450,
    (8, 6): 455,
    (8, 7): 470,
    (8, 9): 520,
    (9, 0): 520,
    (10, 0): 570,
    (10, 3): 575,
    (11, 0): 580,
    (12, 0): 570,
    (12, 1): 575,
}
LAST_BEFORE_TURING: Final = (
    580  # NVIDIA's blog, "Navigating GPU Architecture Support", 2025-08: newer ones know none before 7.5
)
TURING: Final[Capability] = (7, 5)


def least_driver(capability: Capability | None = None, *, cuda: Capability = TORCH_CUDA) -> int:
    """The oldest branch that runs torch's CUDA on such a card; without a card, on any that it runs on."""
    of_card = LEAST_FOR_CARD.get(capability, 0) if capability is not None else 0
    return max(LEAST_FOR_CUDA[cuda[0]], of_card)


def unfit_card(capability: Capability) -> str | None:
    """Why the lock's torch can't compute on such a card, in one sentence; None where it can."""
    if capability >= LEAST_CAPABILITY:
        return None
    found, least = dotted(capability), dotted(LEAST_CAPABILITY)
    return f"the trainer's torch has no code for compute capability {found}, only from {least} on"


def unfit_driver(driver: int, capability: Capability | None = None, *, cuda: Capability = TORCH_CUDA) -> str | None:
    """Why torch can't compute on such a card under this branch, in one sentence; None where it can."""
    least = least_driver(capability, cuda=cuda)
    if driver < least:
        return f"its NVIDIA driver {driver} is too old: torch's CUDA {dotted(cuda)} needs {least} or newer"
    if capability is not None and capability < TURING and driver > LAST_BEFORE_TURING:
        found = dotted(capability)
        return f"its NVIDIA driver {driver} knows no card of compute capability {found}: {LAST_BEFORE_TURING} was the last"
    return None


def dotted(version: tuple[int, int]) -> str:
    """(8, 6) -> "8.6"."""
    return ".".join(map(str, version))
