"""`Request`: what a person asks for, validated once. Everything after it may trust it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from remote.contract import Loop, Task


class DataAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the data: read from a file, or stated. Lengths are tokens after padding or packing."""

    path: str | None = None
    num_examples: int
    mean_tokens: float
    max_tokens: int
    basis: str  # "default", "stated", "counted by the model's tokenizer", "estimated from characters"
    held_out_rows: int = 0


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What may be rented, and how much of it."""

    gpu_memory_gib: float | None = None  # per GPU: --gpu-budget, --max-vram
    gpus: tuple[str, ...] = ()  # names in the GPU table; empty = any
    num_gpus: int | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    spot: bool | None = None  # None = both
    host: str | None = None  # user@address of a machine that exists


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    max_usd: Decimal | None = None
    max_hours: float | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A job to plan. `training` holds the case keys of the estimate contract that were said; the planner fills the rest."""

    model: str  # as it was typed
    task: Task = "causal_lm"
    training: dict[str, Any] = {}
    global_batch_size: int | None = None  # sequences per optimizer step; None = planner's choice
    loop: Loop = msgspec.field(default_factory=Loop)
    data: DataAsked
    where: Where = Where()
    budget: Budget = Budget()
    tags: dict[str, str] = {}
    top: int = 5
