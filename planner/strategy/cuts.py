"""What each way to share a job parts among its ranks: one table for all who ask."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from remote.contract import Strategy

Engine = Literal["torch", "fsdp", "deepspeed"]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Of what a rank holds a part only, and who does the sharing."""

    weights: bool = False
    gradients: bool = False
    states: bool = False
    spreads_blocks: bool = False  # whole blocks lie here and there, and one process walks over all GPUs
    engine: Engine = "torch"

    @property
    def keeps_whole(self) -> bool:
        """Whether each GPU has the whole model, with all that belongs to it."""
        return not self.states and not self.spreads_blocks


# derived: torch's FSDP, and the three stages of ZeRO (Rajbhandari et al., arXiv:1910.02054)
CUTS: Final[dict[str, Cut]] = {
    "none": Cut(),
    "device_map": Cut(spreads_blocks=True),
    "ddp": Cut(),
    "fsdp": Cut(weights=True, gradients=True, states=True, engine="fsdp"),
    "zero1": Cut(states=True, engine="deepspeed"),
    "zero2": Cut(states=True, gradients=True, engine="deepspeed"),
    "zero3": Cut(states=True, gradients=True, weights=True, engine="deepspeed"),
}


def cut_of(strategy: Strategy) -> Cut:
    """What the strategy's sharding parts."""
    return CUTS[strategy.sharding]


def cuts_weights(strategy: Strategy) -> bool:
    """Whether each of several GPUs holds a part of every weight."""
    return cut_of(strategy).weights and strategy.num_gpus > 1
