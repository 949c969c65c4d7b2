"""Between which limits every number must lie that a person can say: one table for options, job files and estimates.

The upper limits are plain limits of sense, not of any machine: beyond them a figure is a slip of the keyboard, and what
is computed from it overflows or never ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from remote.contract import KEPT_CHECKPOINTS

Number = int | float | Decimal


class Bounds(msgspec.Struct, frozen=True):
    """An interval of numbers; `open_low` and `open_high` leave its ends out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def admit(self, value: Number) -> bool:
        """Whether `value` is a number of the interval. Neither NaN nor infinity ever is."""
        if value.is_nan() if isinstance(value, Decimal) else value != value:
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = "above" if self.open_low else "at least"
        high = "below" if self.open_high else "at most"
        return f"{low} {_plain(self.low)} and {high} {_plain(self.high)}"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


MANY: Final = 1_000_000_000  # assumed: no job counts more of anything but rows
SOME: Final = 100_000  # assumed: far beyond what any model has or any card holds
PARTS: Final = Bounds(1, 4_096)  # assumed: GPUs, nodes, and the parts that a model is cut into; no job has had more

CASE_BOUNDS: Final[Mapping[str, Bounds]] = {  # keys of the estimate contract; assumed: beyond them lies a slip of the hand
    "rank": Bounds(1, SOME),
    "alpha": Bounds(0, 1e6, open_low=True),
    "dropout": Bounds(0, 1, open_high=True),
    "num_virtual_tokens": Bounds(1, SOME),
    "trainable_layers": Bounds(0, SOME),  # 0: of a classification, the head alone
    "micro_batch_size": Bounds(1, SOME),
    "gradient_accumulation_steps": Bounds(1, SOME),
    "seq_len": Bounds(1, 100_000_000),
    "mean_seq_len": Bounds(0, 100_000_000, open_low=True),
    "num_gpus": PARTS,
    "num_nodes": PARTS,
    "tensor_parallel_size": PARTS,
    "context_parallel_size": PARTS,
    "pipeline_parallel_size": PARTS,
    "expert_parallel_size": PARTS,
    "gpu_memory_gib": Bounds(0, SOME, open_low=True),
    "host_ram_gib": Bounds(0, 1e6, open_low=True),
}
EVALUATION_BOUNDS: Final[Mapping[str, Bounds]] = {  # of its section there
    "micro_batch_size": CASE_BOUNDS["micro_batch_size"],
    "seq_len": CASE_BOUNDS["seq_len"],
    "generate_tokens": Bounds(0, CASE_BOUNDS["seq_len"].high),
}
REQUEST_BOUNDS: Final[Mapping[str, Bounds]] = {  # fields of the Request and its sections; assumed likewise
    "global_batch_size": Bounds(1, 1_000_000),
    "top": Bounds(1, 1_000),
    "loop.epochs": Bounds(0, 10_000, open_low=True),
    "loop.max_steps": Bounds(1, MANY),
    "loop.learning_rate": Bounds(0, 1, open_low=True),
    "loop.cycles": Bounds(1, 10_000),
    "loop.warmup_ratio": Bounds(0, 1),
    "loop.warmup_steps": Bounds(0, MANY),
    "loop.warmup_epochs": Bounds(0, 10_000),
    "loop.weight_decay": Bounds(0, 10),
    "loop.max_grad_norm": Bounds(0, 1e6, open_low=True),
    "loop.seed": Bounds(0, 2**32 - 1),  # what NumPy's generators take
    "loop.evaluations": Bounds(0, 10_000),
    "loop.early_stopping_evaluations": Bounds(1, 10_000),
    "loop.early_stopping_min_delta": Bounds(0, 1_000),
    "loop.checkpoint_every_s": Bounds(0, 1e6, open_low=True),
    "loop.keep_checkpoints": Bounds(KEPT_CHECKPOINTS, 10_000),
    "loop.num_samples": Bounds(0, 1_000),
    "loop.sample_tokens": Bounds(0, SOME),
    "data.num_examples": Bounds(1, 1_000 * MANY),
    "data.mean_tokens": Bounds(1, 100_000_000),
    "data.max_tokens": Bounds(1, 100_000_000),
    "data.held_out_rows": Bounds(0, MANY),
    "data.reading.max_rows": Bounds(1, 1_000 * MANY),
    "data.reading.target_tokens": Bounds(2, MANY),
    "purpose.imbalance": Bounds(1, MANY),
    "where.gpu_memory_gib": CASE_BOUNDS["gpu_memory_gib"],
    "where.num_gpus": PARTS,
    "where.power_usd_per_kwh": Bounds(0, 100),
    "budget.max_usd": Bounds(0, MANY),
    "budget.max_hours": Bounds(0, 100_000, open_low=True),
    "budget.lease_hours": Bounds(0, 100_000, open_low=True),
}


def complaint(name: str, value: Number, bounds: Bounds) -> str:
    """The sentence about a number that lies outside."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    if len(shown) > 24:  # more digits than a line wants
        shown = f"{shown[:20]}…"
    return f"{name} is {shown} and must be {bounds}"
