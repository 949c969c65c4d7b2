"""Blocks whose saved tensors wait in host memory: what is left of them on the GPU.

derived: OffloadActivations of torchtune and TRL (`use_streams=True`): a saved tensor leaves as soon as it is saved, at most
`FORWARD_STASH` of them are on their way at once, and backward fetches those of the operation that it is at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.step.blocks.block import record_block
from planner.estimators.memory.step.numerics import Numerics
from planner.estimators.memory.step.played import KEPT, PlayedBlock
from planner.estimators.memory.step.tape import Tape, replay

FORWARD_STASH: Final = 5  # derived: the default of max_fwd_stash_size


class Offloaded(msgspec.Struct, frozen=True):
    """A block whose saved tensors leave. Bytes."""

    block: PlayedBlock
    saved: tuple[int, ...]  # of each of those tensors


@lru_cache(maxsize=KEPT)
def offloaded(architecture: Architecture, numerics: Numerics, played: PlayedBlock) -> Offloaded:
    """The block as `played` has it, with nothing of its own kept on the GPU between forward and backward."""
    written = record_block(architecture, numerics)
    tape = written.tape
    without = Tape(tape.sizes, tape.roots, [msgspec.structs.replace(op, saves=(), keeps=0) for op in tape.ops], tape.outside)
    profile = replay(without, written.source, output_lives=False, adds_up=numerics.adds_up)
    return Offloaded(msgspec.structs.replace(played, profile=profile, idle_bytes=0), _saved_sizes(tape))


def _saved_sizes(tape: Tape) -> tuple[int, ...]:
    """Bytes of each tensor that backward needs: of a storage once, however many operations save it."""
    roots = {tape.roots[tensor] for op in tape.ops for tensor in op.saves}
    return (*(tape.sizes[root] for root in roots), *(op.keeps for op in tape.ops if op.keeps))
