"""What the forward pass keeps for the backward pass: of each block, of the embedding, and beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from planner.estimators.memory.beside_decoder import encoder_end_bytes, shared_bias_bytes
from planner.estimators.memory.held.offloading import blocks_kept, visits_of
from planner.estimators.memory.scene import Kind, Scene
from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.letters import cut
from planner.estimators.memory.step.numerics import BIASED_SCORES
from planner.estimators.memory.step.operations import FP32, Block
from planner.estimators.memory.step.tape import replay
from planner.methods import METHODS, adapted_names, chosen_layers
from remote.contract import Strategy

EMBEDS_WHOLE: Final = frozenset({"opt"})  # derived: its decoder drops nothing behind its embeddings
BEFORE_BLOCKS: Final = frozenset({"project_in"})  # derived: OPT-350m's, by its decoder's forward
BATCH_BYTES_PER_TOKEN: Final = 24  # derived: int64 token ids, labels and positions (or mask)


def kept_by(scene: Scene, kind: Kind) -> int:
    """Bytes that a block keeps until its backward, outside of it."""
    played = kind.played
    if not scene.checkpointed:
        return played.profile.saved + played.profile.saves_input * scene.hidden_bytes
    attributes = played.attribute_bytes if scene.strategy.gradient_checkpointing == "non_reentrant" else 0
    return attributes + (0 if scene.checkpoints_leave else scene.hidden_bytes)


def kept_by_first(scene: Scene, kind: Kind) -> int:
    """Bytes that a kind's first block keeps until its backward, outside of it."""
    if scene.checkpointed:
        return kept_by(scene, kind) - (0 if scene.checkpoints_leave else scene.hidden_bytes - scene.entering_bytes)
    return kind.first.profile.saved + kind.first.profile.saves_input * scene.entering_bytes


def all_kept(scene: Scene, *, without: Kind | None = None) -> int:
    """What all blocks keep, but for one of a kind; the batch itself, and the embedding where it is held apart."""
    kept = sum(cut(kept_by(scene, kind), scene.num_blocks * kind.num_layers, kind.of) for kind in scene.kinds)
    if without is None or scene.num_blocks > 1:
        kept -= idle_bytes(scene)
    if scene.checkpointed and not scene.checkpoints_leave:
        kept -= scene.narrower_bytes
    return kept - (kept_by(scene, without) if without is not None else 0) + beside_blocks(scene)


def kept_by_decoder(scene: Scene) -> int:
    """What a decoder's blocks keep where an encoder is below them."""
    if scene.architecture.kind != "encoder_decoder":
        return 0
    decoder = scene.kinds[0]
    return cut(kept_by(scene, decoder), scene.num_blocks * decoder.num_layers, decoder.of)


def kept_above(scene: Scene, kind: Kind) -> int:
    """What blocks above the topmost of this kind keep, once they have run: those are all of the other kind."""
    above = scene.architecture.above_last
    if len(scene.kinds) != 2 or len(above) != 2 or scene.num_blocks != scene.architecture.depth:
        return 0
    own = scene.kinds.index(kind)
    return above[own] * kept_by(scene, scene.kinds[1 - own])


def beside_blocks(scene: Scene) -> int:
    """What lies beside the blocks' own: checkpoints in flight, the batch, the embedding."""
    in_flight = 2 * scene.hidden_bytes if scene.checkpoints_leave else 0  # one out, one computing
    around = batch_bytes(scene) + _embedding_bytes(scene) + _before_blocks_bytes(scene) + encoder_end_bytes(scene)
    around += _cached_beside_encoder(scene)
    return in_flight + scene.visited + visited_bytes(scene, scene.strategy) + around


# derived: keys and values of two attentions, which the cache of a prefix lays out anew (DynamicLayer of transformers 5.24)
KEYS_BESIDE_ENCODER: Final = 4


def _cached_beside_encoder(scene: Scene) -> int:
    """What the cache of a prefix holds beside what kernels keep, where a decoder has an encoder."""
    a, n = scene.architecture, scene.numerics
    if a.kind != "encoder_decoder" or not n.prefix:
        return 0
    return KEYS_BESIDE_ENCODER * a.num_layers * n.tokens * a.num_heads * a.head_dim * n.cache


def visited_bytes(scene: Scene, strategy: Strategy, number: Callable[[int], int] = int) -> int:
    """What lies there where one visit of a streamed block serves several micro-batches: every other one's input of each block,
    and what it is at now; and of each what the last blocks saved, where they are not computed again. `strategy`: another than
    the scene's in how blocks are streamed, at the most; `number` puts a batch's numbers in for letters.
    """
    visits, kept = visits_of(strategy), blocks_kept(strategy, scene.num_blocks)
    saved = max(number(kind.played.profile.saved) for kind in scene.kinds) if kept else 0
    waiting = (scene.num_blocks + 1) * number(scene.hidden_bytes) if visits > 1 else 0
    return (visits - 1) * waiting + visits * kept * saved


def idle_bytes(scene: Scene) -> int:
    """What the first trained block does not keep, since nothing before it trains. Checkpointing makes its input ask for one."""
    learned = scene.embedding_trains or _learned_in_sequence(scene) or _learned_before(scene) or _norms_learned(scene)
    reached = scene.checkpointed or learned
    stacks = scene.kinds if scene.architecture.kind == "encoder_decoder" else scene.kinds[-1:]
    return 0 if reached else sum(kind.played.idle_bytes for kind in stacks)


def _learned_before(scene: Scene) -> bool:
    """Whether a linear between embedding and first block carries an adapter."""
    before = BEFORE_BLOCKS.intersection(linear.name for linear in scene.architecture.outer_linears)
    return bool(before) and not before.isdisjoint(adapted_names(scene.architecture, scene.strategy))


def _norms_learned(scene: Scene) -> bool:
    """Whether the norm between embedding and first block trains, or its bias alone: with the others, where no blocks are
    chosen. A decoder's first block begins with a norm of its own, and what is learned there is learned in it.
    """
    n, chosen = scene.numerics, chosen_layers(scene.strategy)
    biased = n.trains_biases and scene.architecture.norm == "layer" and scene.architecture.norms_have_biases
    return scene.architecture.normed_embeddings and chosen is None and (n.trains_norms or biased)


def _learned_in_sequence(scene: Scene) -> bool:
    """Whether what comes into the first block is learned itself: a prompt stands in front."""
    prompt = METHODS[scene.strategy.method].prompt
    return prompt is not None and prompt.stands_in == "sequence"


def _embedding_bytes(scene: Scene) -> int:
    """What the embedding's own operations keep, where a gradient reaches them: full training, or checkpointing.

    With a frozen base, checkpointing needs the embedding's output to ask for a gradient. Autograd then holds it as a leaf,
    beside the first block's input wherever something is done to it in between. A norm keeps its input, dropout a mask.
    """
    a, n = scene.architecture, scene.numerics
    leaf = scene.checkpointed and not scene.embedding_trains
    if not leaf and not scene.embedding_trains and not _norms_learned(scene):
        return 0
    embeds_alone = a.rotary or (
        a.scores in BIASED_SCORES and not a.normed_embeddings
    )  # no positions are added, nothing is done
    apart = a.scaled_embeddings or not embeds_alone or _learned_in_sequence(scene)
    normed = n.tokens * a.hidden_size * (FP32 if n.autocast else n.residual)
    normed = normed if a.normed_embeddings else 0
    drops = a.hidden_dropout and not a.rotary and a.model_type not in EMBEDS_WHOLE
    mask = n.tokens * a.hidden_size if drops else 0
    stacks = 2 if a.kind == "encoder_decoder" else 1
    embedded = leaf * apart * n.tokens * (a.embedding_size or a.hidden_size) * scene.weights.lm_head_item
    return stacks * (embedded + normed + mask)


def _before_blocks_bytes(scene: Scene) -> int:
    """What an adapter on the linear between embedding and first block keeps."""
    a, n = scene.architecture, scene.numerics
    if not _learned_before(scene):
        return 0
    block, (module,) = Block(a, n), (each for each in a.outer_linears if each.name in BEFORE_BLOCKS)
    x = block.source(module.in_features, n.kept_weight)
    linear(block, x, module)
    profile = replay(block.tape, x, output_lives=False)
    leaf = scene.checkpointed and not scene.embedding_trains  # counted as such
    return profile.saved + (profile.saves_input and not leaf) * n.tokens * module.in_features * n.kept_weight


def batch_bytes(scene: Scene) -> int:
    """Token ids, labels, positions, the mask of every pair, T5's biases."""
    n = scene.numerics
    shared = shared_bias_bytes(scene) + _relative_positions_bytes(scene)
    return n.tokens * BATCH_BYTES_PER_TOKEN + _num_masks(scene) * n.pairs * scene.mask_item + shared


def _relative_positions_bytes(scene: Scene) -> int:
    """What stands for positions, normed, which every block is given (DeBERTa); and what that norm keeps where it trains."""
    a, n = scene.architecture, scene.numerics
    trains = scene.embedding_trains or n.trains_norms
    return (1 + trains) * a.relative_span * a.hidden_size * (FP32 if n.autocast else n.residual)


def _num_masks(scene: Scene) -> int:
    """Masks of every pair: one, but checkpoints hold that of an encoder, of what is between it and its decoder, and where
    attention is written out, of that. What a decoder reads is told as padded to no kernel.
    """
    n = scene.numerics
    if scene.architecture.kind != "encoder_decoder" or not (n.masked and scene.checkpointed):
        return 1
    return 3 if n.attention == "eager" else 2


def attributes_left(scene: Scene) -> int:
    """Plain attributes of the blocks above the first: backward frees none as it goes, but those of re-entrant checkpoints."""
    above = max(0, scene.num_blocks - 1) if scene.strategy.gradient_checkpointing in ("off", "non_reentrant") else 0
    return sum(cut(kind.played.attribute_bytes, above * kind.num_layers, kind.of) for kind in scene.kinds)
