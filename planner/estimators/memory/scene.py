"""`Scene`: blocks and head played once, and what lies beside them, for one GPU: all that the instants are made of."""

from __future__ import annotations

from math import ceil, gcd
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.held.offloading import fetched_head_bytes
from planner.estimators.memory.held.sharding import held_of
from planner.estimators.memory.held.share import Share
from planner.estimators.memory.held.weights import Trained, Weights, weights_of
from planner.estimators.memory.step.head import VOCABULARY_TASKS, head_asked
from planner.estimators.memory.step.letters import LETTERS, Sizes, cut, highest
from planner.estimators.memory.step.numerics import Numerics, behind, entered, frozen, has_flash, numerics_of, positions_of
from planner.estimators.memory.step.offloaded import FORWARD_STASH, offloaded
from planner.estimators.memory.step.played import (
    PlayedBlock,
    PlayedEvaluation,
    PlayedHead,
    play_block,
    play_evaluation,
    play_head,
)
from planner.estimators.memory.step.tape import Peak
from planner.methods import carrying_blocks, trained_blocks, trains_embedding
from planner.strategy.as_run import as_run, at_rest
from planner.strategy.stack import Stack
from planner.units import KIB, MIB
from remote.contract import Strategy, Task

NUM_WORKSPACES: Final = 2  # derived: one per thread that calls cuBLAS, forward's and backward's


def workspace_bytes(compute_capability: tuple[int, int] | None) -> int:
    """derived: cuBLAS's default workspace in torch (CublasHandlePool.cpp), :4096:2:16:8 kibibytes, from Hopper on 32 MiB."""
    newer = compute_capability is not None and compute_capability >= (9, 0)
    return 32 * MIB if newer else (2 * 4096 + 8 * 16) * KIB


class MemoryClass(NamedTuple):
    """Cards of one class hold the same tensors; so does a CPU box as its own kind of card."""

    flash: bool
    workspaces: int  # bytes of cuBLAS's
    on_cpu: bool = False


CPU: Final = MemoryClass(flash=True, workspaces=0, on_cpu=True)


def memory_class(gpu: Gpu | None) -> MemoryClass:
    """The class of a card; of a present one where none is named."""
    capability = gpu.compute_capability if gpu is not None else None
    return MemoryClass(has_flash(gpu), NUM_WORKSPACES * workspace_bytes(capability))


class Kind(msgspec.Struct, frozen=True):
    """Blocks of one kind, of which `num_layers` in every `of` keep activations."""

    num_layers: int
    of: int
    played: PlayedBlock
    first: PlayedBlock  # one that backward meets last: frozen where only the top trains, and given what embeddings give
    away: tuple[int, ...] = ()  # saved tensors that wait in host memory


class Scene(msgspec.Struct, frozen=True):
    """Everything that the instants are made of, for one GPU."""

    architecture: Architecture
    strategy: Strategy
    stack: Stack
    numerics: Numerics
    weights: Weights
    trained: Trained
    share: Share
    cast_at_once: int  # bytes of the largest tensor that preparation casts, as it was loaded
    mask_item: int  # bytes per pair of tokens of the mask that the blocks are given: numbers that are added, or yes and no
    kinds: tuple[Kind, ...]
    lowest: tuple[Kind, ...]  # those that the first block may be of
    head: PlayedHead
    evaluation: PlayedEvaluation
    num_blocks: int  # blocks of every kind here that keep activations
    num_below: int  # blocks under the lowest that trains, which backward reaches all the same
    visited: int  # bytes of visits to streamed blocks that are not the plainest: a letter, else counted from the strategy
    in_flight: Peak  # saved tensors on their way to the host and back
    resident: dict[str, int]  # component -> bytes that are alive through the whole step
    fetched_head: int  # bytes of a head that comes from host memory for the loss
    embedding_trains: bool  # whether it gets a gradient of its own size
    writes: bool  # whether the head is one over the vocabulary

    @property
    def hidden_bytes(self) -> int:
        """One residual stream: what a checkpoint keeps."""
        return self.numerics.tokens * self.architecture.hidden_size * self.numerics.residual

    @property
    def entering_bytes(self) -> int:
        """What comes into the first block: of 16 bits also where norms or linears make the stream behind it fp32."""
        return self.numerics.tokens * self.architecture.hidden_size * self.numerics.embedded

    @property
    def narrower_bytes(self) -> int:
        """What the first blocks' inputs take less than others."""
        stacks = 2 if self.architecture.kind == "encoder_decoder" else 1
        return stacks * (self.hidden_bytes - self.entering_bytes)

    def cache_bytes(self, positions: int, item: int) -> int:
        """Keys and values of so many positions, in every block here that has some: a Mamba block has none."""
        depth, attending = self.architecture.depth, (part for part in self.architecture.parts if part.mixer != "mamba")
        return sum(
            cut(2 * positions * part.cached_size * item, self.share.num_layers * part.num_layers, depth) for part in attending
        )

    @property
    def largest_backward_bytes(self) -> Peak:
        """The highest that any block rises in its backward, what it keeps included."""
        return tuple(size for kind in self.kinds for size in kind.played.profile.backward_peak)

    @property
    def checkpoints_leave(self) -> bool:
        """Whether what a checkpoint keeps waits in host memory."""
        return self.strategy.gradient_checkpointing == "offloaded" or (self.checkpointed and self.strategy.activation_offload)

    @property
    def checkpointed(self) -> bool:
        """Whether blocks are computed again in backward."""
        return self.strategy.gradient_checkpointing != "off"


def scene_of(
    architecture: Architecture, strategy: Strategy, *, task: Task, card: MemoryClass, stack: Stack, sizes: Sizes = LETTERS
) -> Scene:
    """Play one block of each kind and the head, and count what lies on the GPU beside them. Bytes in letters, or in numbers
    where `sizes` are.
    """
    given = as_run(architecture, strategy, stack)
    strategy = at_rest(given)
    numerics = tuple(
        numerics_of(part, strategy, flash=card.flash, stack=stack, on_cpu=card.on_cpu, sizes=sizes, part_of=architecture)
        for part in architecture.parts
    )
    weights, trained, share = held_of(architecture, strategy, task=task, stack=stack)
    if strategy.offload == "stream":
        share = share._replace(weights=share.weights + sizes.resident, loaded=share.loaded + sizes.resident)
    carrying = carrying_blocks(architecture, strategy)
    below = tuple(map(frozen, numerics)) if carrying < architecture.depth else numerics
    written = _written(architecture, strategy, below[0] if architecture.outer_linears else behind(below[0]))
    asked = head_asked(architecture, strategy, task=task, stack=stack, lm_head_item=weights.lm_head_item)
    checkpointed = strategy.gradient_checkpointing != "off"  # then a gradient goes down to the embedding, whatever trains
    trained_up = trained_blocks(architecture, strategy)
    num_below = architecture.depth - trained_up if checkpointed else 0
    reached = architecture.depth if checkpointed else trained_up
    play = Playing(architecture, strategy, first=tuple(map(entered, below if num_below else numerics)))
    bare, bearing = _shares(architecture, carrying, reached)
    bare_kinds = play.kinds(below, bare)
    kinds = (*bare_kinds, *play.kinds(numerics, bearing))
    return Scene(
        architecture=architecture,
        strategy=strategy,
        stack=stack,
        numerics=numerics[0],
        weights=weights,
        trained=trained,
        share=share,
        cast_at_once=weights_of(architecture, given, task=task, stack=stack).on(trained.stage).largest_upcast,
        mask_item=max(each.mask_item for each in numerics),
        kinds=kinds,
        lowest=bare_kinds if num_below else kinds,
        head=play_head(architecture, written, asked),
        evaluation=play_evaluation(architecture, written, asked),
        num_blocks=share.num_layers if checkpointed else min(share.num_layers, trained_up),
        num_below=num_below,
        in_flight=highest(FORWARD_STASH * size for kind in kinds for size in kind.away),
        visited=sizes.visited,
        resident=_resident(strategy, share, sizes.workspaces),
        fetched_head=fetched_head_bytes(architecture, strategy, weights),
        embedding_trains=trains_embedding(architecture, strategy),
        writes=task in VOCABULARY_TASKS,
    )


def _written(architecture: Architecture, strategy: Strategy, n: Numerics) -> Numerics:
    """What the head meets: of a decoder beside an encoder its own positions, before which no prompt stands."""
    in_front = positions_of(strategy) - strategy.seq_len if architecture.kind == "encoder_decoder" else 0
    if not in_front:
        return n
    return replace(n, batch=replace(n.batch, tokens=n.tokens - n.batch.sequences * ceil(in_front / 2)))


def _resident(strategy: Strategy, share: Share, workspaces: int) -> dict[str, int]:
    kept = strategy.gradient_accumulation_steps > 1 and not strategy.optimizer_in_backward
    return {
        "weights": share.weights,
        "gathered_weights": share.gathered,
        "adapter": share.added,
        "gradients": share.gradients if kept else 0,
        "optimizer": share.states + share.masters,
        "buckets": share.buckets,
        "workspaces": workspaces,
    }


class Part(NamedTuple):
    """Blocks of one kind: `times` of each `of` that keep activations. All parts of a scene are cut into equally many."""

    times: int
    of: int


def _shares(architecture: Architecture, carrying: int, reached: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Of the blocks that backward reaches, each kind's that carry nothing, and each kind's that do."""
    if architecture.also_first and carrying < architecture.depth:
        top, all_reached = architecture.top_kinds(carrying), architecture.top_kinds(reached)
        bare = tuple(Part(whole - own, reached) for whole, own in zip(all_reached, top, strict=True))
        return bare, tuple(Part(own, reached) for own in top)
    common, depth = gcd(carrying, reached), architecture.depth

    def shares(times: int) -> tuple[Part, ...]:
        return tuple(Part(part.num_layers * times // common, depth * reached // common) for part in architecture.parts)

    return shares(reached - carrying), shares(carrying)


class Playing(NamedTuple):
    """How blocks are played."""

    architecture: Architecture
    strategy: Strategy
    first: tuple[Numerics, ...]  # of the block that backward meets last, for each kind of the architecture

    def kinds(self, numerics: tuple[Numerics, ...], shares: tuple[Part, ...]) -> tuple[Kind, ...]:
        """Blocks with these numerics, so many of each kind that the architecture has."""
        parts = zip(self.architecture.parts, numerics, self.first, shares, strict=True)
        return tuple(self._kind(part, its_own, first, share) for part, its_own, first, share in parts if share.times)

    def _kind(self, part: Architecture, numerics: Numerics, first: Numerics, share: Part) -> Kind:
        checkpointing = self.strategy.gradient_checkpointing
        lives = checkpointing == "reentrant"
        played = play_block(part, numerics, output_lives=lives)
        if self.strategy.activation_offload and checkpointing == "off":
            left = offloaded(part, numerics, played)
            return Kind(*share, left.block, left.block, left.saved)
        return Kind(*share, played, play_block(part, first, output_lives=lives))
