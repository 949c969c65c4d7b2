"""Blocks and heads played on their tapes, each once: a search asks for the same ones under many shardings and optimizers."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.step.blocks.block import record_block
from planner.estimators.memory.step.head import HeadAsked, evaluates_apart, record_head, record_logits, record_loss
from planner.estimators.memory.step.numerics import Numerics
from planner.estimators.memory.step.tape import Peak, Profile, idle_bytes, replay

KEPT: Final = 256  # assumed: a search over one model asks for some dozens


class PlayedBlock(msgspec.Struct, frozen=True):
    """What one block takes. Bytes."""

    profile: Profile
    attribute_bytes: int  # kept as plain attributes: a non-re-entrant checkpoint keeps them for every block
    attributes_again: int  # of them what is there twice once the block is computed again
    idle_bytes: int  # of what is saved, how much is not when nothing before the block trains


class PlayedHead(msgspec.Struct, frozen=True):
    """What the head takes. Bytes, but for the width."""

    profile: Profile
    width: int  # the vocabulary, or the labels of a task
    returned_bytes: int  # of the logits that the model hands back to the loop


class PlayedEvaluation(msgspec.Struct, frozen=True):
    """What the head takes in a pass without gradients. Bytes."""

    model: Peak  # while the model runs
    after: Peak  # once it has handed logits back, and nothing else of it is left


@lru_cache(maxsize=KEPT)
def play_block(architecture: Architecture, numerics: Numerics, *, output_lives: bool) -> PlayedBlock:
    """Write one block and replay it. `output_lives`: its output is alive through its backward (re-entrant checkpointing)."""
    block = record_block(architecture, numerics)
    profile = replay(block.tape, block.source, output_lives=output_lives, adds_up=numerics.adds_up)
    return PlayedBlock(profile, block.attribute_bytes, block.attributes_again, idle_bytes(block.tape))


@lru_cache(maxsize=KEPT)
def play_head(architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> PlayedHead:
    """Write the head and replay it from its loss."""
    head = record_head(architecture, numerics, asked)
    profile = replay(
        head.tape,
        head.source,
        output_lives=False,
        output_gradient=False,
        adds_up=numerics.adds_up and not architecture.tied_embeddings,  # a tied matrix's waits for the embedding's
    )
    return PlayedHead(profile, head.width, head.returned_bytes)


@lru_cache(maxsize=KEPT)
def play_evaluation(architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> PlayedEvaluation:
    """Write the head as evaluation runs it, and replay it."""
    if not evaluates_apart(asked):
        return PlayedEvaluation(play_head(architecture, numerics, asked).profile.plain_peak, (0,))
    logits, loss = (record(architecture, numerics, asked) for record in (record_logits, record_loss))
    made, after = (replay(each.tape, each.source, output_lives=False, output_gradient=False) for each in (logits, loss))
    if architecture.kind == "encoder_decoder":  # its decoder reads labels: it makes a loss of its own as well
        made = play_head(architecture, numerics, asked).profile
    return PlayedEvaluation(made.plain_peak, tuple(logits.returned_bytes + size for size in after.plain_peak))
