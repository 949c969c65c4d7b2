"""Is this the card that the plan meant, whole and free? What is seen of it, and what is judged of that."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from remote.machine.drivers import TORCH_CUDA, Capability, dotted, unfit_card, unfit_driver
from remote.machine.nvml import Card, Holder
from remote.units import GIB

MOST_TOLD: Final = 3  # assumed: processes, as many as a sentence bears


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A card as its meters show it before anything is loaded."""

    name: str
    capability: Capability
    architectures: tuple[str, ...]  # that torch has code for, as `torch.cuda.get_arch_list()` names them
    cuda: Capability  # torch's
    driver: int | None
    free_bytes: int
    total_bytes: int
    own_bytes: int | None  # of the rest, what is this process's: its context
    others: tuple[Holder, ...]
    uncorrected_errors: int | None
    failed_rows: bool


def look_at(card: Card | None, driver: int | None) -> Seen:
    """The card that torch uses. `card`: None where NVML does not answer; `driver`: what the kernel says then."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    cuda = tuple(map(int, str(torch.version.cuda).split(".")))
    return Seen(
        name=properties.name,
        capability=(properties.major, properties.minor),
        architectures=tuple(torch.cuda.get_arch_list()),
        cuda=(cuda[0], cuda[1]),
        driver=driver if card is None else card.driver() or driver,
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        own_bytes=None if card is None else card.own_bytes(),
        others=() if card is None else tuple(holder for holder in card.holders() if holder.pid != os.getpid()),
        uncorrected_errors=None if card is None else card.uncorrected_errors(),
        failed_rows=card is not None and card.failed_rows(),
    )


def unfit(seen: Seen, planned_bytes: int | None) -> str | None:
    """Why the job can't be trained on it, and what to do, in one sentence; None where it can."""
    return (
        _without_code(seen)
        or (unfit_driver(seen.driver, seen.capability, cuda=seen.cuda) if seen.driver is not None else None)
        or _broken(seen)
        or _taken(seen, planned_bytes)
    )


def _without_code(seen: Seen) -> str | None:
    if seen.cuda == TORCH_CUDA and (known := unfit_card(seen.capability)) is not None:
        return known
    if runs_on(seen.capability, seen.architectures):
        return None
    return (
        f"torch has no code for the {seen.name}, of compute capability {dotted(seen.capability)}: it is built for "
        f"{', '.join(seen.architectures)}; another card is the cure"
    )


def runs_on(capability: Capability, architectures: Sequence[str]) -> bool:
    """Whether code for one of these runs on such a card: "sm_86" on 8.6 and 8.9, "compute_90" on all from 9.0 on.

    CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility". A list that is not known refuses nothing.
    """
    known = [found for name in architectures if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name))]
    if not known:
        return True
    codes = [(found[1], (int(found[2]), int(found[3]))) for found in known]
    return any(code <= capability and (kind == "compute" or code[0] == capability[0]) for kind, code in codes)


def _broken(seen: Seen) -> str | None:
    if seen.failed_rows:
        return f"the {seen.name} has broken rows of memory and none to put in their place; another card is the cure"
    if seen.uncorrected_errors:
        return (
            f"the memory of the {seen.name} has had {seen.uncorrected_errors} errors that ECC could not correct since its "
            "driver was loaded, so what it computes can't be trusted; a reset of the card, or another one, is the cure"
        )
    return None


def _taken(seen: Seen, planned_bytes: int | None) -> str | None:
    """The plan counts this process's context, which is taken by now."""
    if planned_bytes is None or seen.free_bytes + (seen.own_bytes or 0) >= planned_bytes:
        return None
    return (
        f"{seen.free_bytes / GIB:.1f} of {seen.total_bytes / GIB:.1f} GiB of VRAM are free, the plan needs "
        f"{planned_bytes / GIB:.1f}{_holders_words(seen.others)}"
    )


def _holders_words(others: Sequence[Holder]) -> str:
    if not others:
        return "; another card is the cure"
    named = [
        f"{holder.pid}" + (f" ({holder.held_bytes / GIB:.1f} GiB)" if holder.held_bytes is not None else "")
        for holder in sorted(others, key=lambda holder: -(holder.held_bytes or 0))
    ]
    more = f" and {len(named) - MOST_TOLD} more" * (len(named) > MOST_TOLD)
    return f"; other processes compute on it: {', '.join(named[:MOST_TOLD])}{more}; end them, or take another card"
