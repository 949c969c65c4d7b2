"""`Scene`: blocks and head played once, and what lies beside them, for one GPU: all that the instants are made of."""

from __future__ import annotations

from typing import Final

import msgspec

from catalogs.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.held.sharding import share_of
from planner.estimators.memory.held.share import Share
from planner.estimators.memory.held.weights import Trained, Weights, trained_of, weights_of
from planner.estimators.memory.step.head import head_asked
from planner.estimators.memory.step.numerics import Numerics, as_run, frozen, numerics_of
from planner.estimators.memory.step.offloaded import FORWARD_STASH, offloaded
from planner.estimators.memory.step.played import PlayedBlock, PlayedHead, play_block, play_head
from planner.methods import METHODS, trained_blocks
from planner.stack import Stack
from planner.units import KIB, MIB
from remote.contract import Strategy, Task

NUM_WORKSPACES: Final = 2  # derived: one per thread that calls cuBLAS, forward's and backward's


def workspace_bytes(compute_capability: tuple[int, int] | None) -> int:
    """derived: cuBLAS's default workspace in torch (CublasHandlePool.cpp), :4096:2:16:8 kibibytes, from Hopper on 32 MiB."""
    newer = compute_capability is not None and compute_capability >= (9, 0)
    return 32 * MIB if newer else (2 * 4096 + 8 * 16) * KIB


class Kind(msgspec.Struct, frozen=True):
    """Blocks of one kind. `count`: how many there are here that keep activations; a fraction where GPUs share the stack."""

    count: float
    played: PlayedBlock
    first: PlayedBlock  # one that backward meets last: frozen where only the top trains


class Scene(msgspec.Struct, frozen=True):
    """Everything that the instants are made of, for one GPU."""

    architecture: Architecture
    strategy: Strategy
    stack: Stack
    numerics: Numerics
    weights: Weights
    trained: Trained
    share: Share
    mask_item: int  # bytes per pair of tokens of the mask that the blocks are given: numbers that are added, or yes and no
    kinds: tuple[Kind, ...]
    head: PlayedHead
    num_blocks: int  # blocks of every kind here that keep activations
    in_flight: int  # bytes of saved tensors on their way to the host and back
    saved_away: int  # bytes of those that wait there, as they are pinned
    workspaces: int  # of cuBLAS

    @property
    def hidden_bytes(self) -> int:
        """One residual stream: what a checkpoint keeps."""
        return self.numerics.tokens * self.architecture.hidden_size * self.numerics.residual

    @property
    def largest_backward_bytes(self) -> int:
        """The highest that any block rises in its backward, what it keeps included."""
        return max(kind.played.profile.backward_peak for kind in self.kinds)

    @property
    def checkpoints_leave(self) -> bool:
        """Whether what a checkpoint keeps waits in host memory."""
        return self.strategy.gradient_checkpointing == "offloaded" or (self.checkpointed and self.strategy.activation_offload)

    @property
    def checkpointed(self) -> bool:
        """Whether blocks are computed again in backward."""
        return self.strategy.gradient_checkpointing != "off"


def scene_of(
    architecture: Architecture, strategy: Strategy, *, task: Task, gpu: Gpu | None, stack: Stack, on_cpu: bool = False
) -> Scene:
    """Play one block of each kind and the head, and count what lies on the GPU beside them."""
    strategy = as_run(architecture, strategy, stack)
    numerics = tuple(numerics_of(part, strategy, gpu=gpu, stack=stack, on_cpu=on_cpu) for part in architecture.parts)
    weights = weights_of(architecture, strategy, task=task, stack=stack)
    trained = trained_of(architecture, strategy, task=task)
    share = share_of(architecture, strategy, stack, weights=weights, trained=trained)
    checkpointed = strategy.gradient_checkpointing != "off"  # then a gradient goes down to the embedding, whatever trains
    below = tuple(map(frozen, numerics)) if METHODS[strategy.method].top_blocks_only else numerics
    asked = head_asked(strategy, task=task, stack=stack, lm_head_item=weights.lm_head_item)
    num_blocks = share.num_layers if checkpointed else min(share.num_layers, trained_blocks(architecture, strategy))
    output_lives = strategy.gradient_checkpointing == "reentrant"
    kinds = tuple(
        Kind(
            num_blocks * part.num_layers / architecture.depth,
            play_block(part, its_own, output_lives=output_lives),
            play_block(part, underneath if checkpointed else its_own, output_lives=output_lives),
        )
        for part, its_own, underneath in zip(architecture.parts, numerics, below, strict=True)
    )
    in_flight = saved_away = 0
    if strategy.activation_offload and not checkpointed:
        kinds, in_flight, saved_away = _without_saved(architecture, numerics, kinds)
    return Scene(
        architecture=architecture,
        strategy=strategy,
        stack=stack,
        numerics=numerics[0],
        weights=weights,
        trained=trained,
        share=share,
        mask_item=max(each.mask_item for each in numerics),
        kinds=kinds,
        head=play_head(architecture, below[0], asked),
        num_blocks=num_blocks,
        in_flight=in_flight,
        saved_away=saved_away,
        workspaces=0 if on_cpu else NUM_WORKSPACES * workspace_bytes(gpu.compute_capability if gpu else None),
    )


def _without_saved(
    architecture: Architecture, numerics: tuple[Numerics, ...], kinds: tuple[Kind, ...]
) -> tuple[tuple[Kind, ...], int, int]:
    """The kinds with their saved tensors in host memory, and the bytes of those on their way and of those there."""
    left = [offloaded(*each) for each in zip(architecture.parts, numerics, (kind.played for kind in kinds), strict=True)]
    without = tuple(Kind(kind.count, each.block, each.block) for kind, each in zip(kinds, left, strict=True))
    away = round(sum(kind.count * each.pinned for kind, each in zip(kinds, left, strict=True)))
    return without, FORWARD_STASH * max(each.largest for each in left), away
