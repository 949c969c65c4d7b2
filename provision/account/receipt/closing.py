"""What books are closed with, beside the ledger: what the boxes told, what is at home, and how the controller ended. Values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from provision.account.receipt.value import EndedBy, Restart
from remote.contract import Measured, Outcome

NOTHING_HEARD: Final = Measured()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's trainers told, on all boxes that it had."""

    outcome: Outcome | None
    phase_s: Mapping[str, float]  # of all of them
    last_phase_s: Mapping[str, float] | None = None  # of the last one; None = there was one only
    heard: Measured = NOTHING_HEARD  # step by step, for what the outcome leaves out
    base_fetched_bytes: int | None = None  # None = it did not come from the hub
    random_base: bool = False  # whether it was a bare configuration
    restarts: tuple[Restart, ...] = ()
    held_out_twins: int = 0  # held-out rows that say word for word what is learned


class AtHome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has made that lies at home: its adapter, its newest checkpoint, a job file that goes on with it."""

    adapter_folder: str | None
    checkpoint_folder: str | None = None  # the newest
    go_on: str | None = None  # a job file that begins with its weights; None where the method can't
    is_elsewhere: bool = False  # whether checkpoints may lie in object storage, which outlive their box


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """How the controller closed a run: when, why, and in which words."""

    at_s: float
    interrupted: bool = False
    ended_by: EndedBy | None = None  # where the controller knows
    message: str = ""  # what it says; where the result is at home the trainer's own words are enough
